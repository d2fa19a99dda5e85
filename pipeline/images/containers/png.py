"""PNG, read from chunk to chunk. Source: W3C, "Portable Network Graphics (PNG) Specification (Third Edition)"."""

import struct
import zlib
from collections.abc import Iterator

from pipeline.images.containers import exif
from pipeline.images.containers.values import MAX_PARTS, BrokenFileError, Facts, Header, ends_inside

_SIGNATURE_BYTES = 8
_CHUNK_BYTES = 12
"""Of a chunk without data: length, type, checksum."""
_MAX_LENGTH = 2**31 - 1
_MAX_COLOUR_BYTES, _MAX_NAME_BYTES = 1024, 80
MAX_UNPACKED_BYTES = 1 << 20
"""Of a profile or a text: Pillow, with which many servers decode, refuses a file that has a longer one."""
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_COLOUR = frozenset(
    {
        b"cHRM",
        b"gAMA",
        b"iCCP",
        b"sBIT",
        b"sRGB",
        b"cICP",
        b"mDCV",
        b"cLLI",
        b"bKGD",
        b"hIST",
        b"tRNS",
        b"pHYs",
    }
)
_NEEDED = _CRITICAL | _COLOUR
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE = 3
_COLOUR_TYPE_AT = 25


def walk(data: bytes, facts: Facts, *, checked: bool) -> Iterator[tuple[int, int, bool]]:
    """See `values.Walk`. `facts` are never settled early: EXIF may follow the pixels."""
    yield 0, _SIGNATURE_BYTES, True
    seen: set[bytes] = set()
    at = _SIGNATURE_BYTES
    while b"IEND" not in seen:
        kind, end = _chunk(data, at, first=at == _SIGNATURE_BYTES)
        if checked and zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise BrokenFileError(f"the checksum of {kind.decode()} is wrong")
        _read(kind, data[at + 8 : end - 4] if kind in (b"IHDR", b"eXIf") else b"", seen, facts)
        if kind == b"IDAT" and data[_COLOUR_TYPE_AT] == _PALETTE and b"PLTE" not in seen:
            raise BrokenFileError("it has no palette")
        is_first = kind not in seen
        seen.add(kind)
        yield at, end, kind in _NEEDED and (kind in _CRITICAL or (is_first and _is_small(kind, data, at + 8, end - 4)))
        at = end


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end) of the data of each chunk; of the last one, where the file breaks off, as far as it goes."""
    at = _SIGNATURE_BYTES
    for _ in range(MAX_PARTS):
        if at + _CHUNK_BYTES - 4 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        if not kind.isalpha():
            return
        yield kind, at + 8, min(at + 8 + length, len(data))
        at += _CHUNK_BYTES + length


def has_packed(data: bytes) -> bool:
    """Whether it has a packed text, or a profile that is too large once it is unpacked."""
    return any(_is_packed(kind, data, start, end) for kind, start, end in chunks(data))


def _is_packed(kind: bytes, data: bytes, start: int, end: int) -> bool:
    if kind == b"iTXt":
        name = data.find(b"\0", start, min(start + _MAX_NAME_BYTES, end))
        return data[name + 1 : name + 2] == b"\1"
    return kind == b"zTXt" or (kind == b"iCCP" and not _is_small(kind, data, start, end))


def row_bytes(header: Header) -> int:
    """Of a row as it is packed, at most: with its filters, which interlaced files have two of for each row."""
    return 4 + -(-header.width * header.bits * header.components // 8)


def _chunk(data: bytes, at: int, *, first: bool) -> tuple[bytes, int]:
    """(type, end) of the chunk at `at`."""
    if at + _CHUNK_BYTES > len(data):
        raise ends_inside("a chunk")
    length, kind = struct.unpack_from(">I4s", data, at)
    if length > _MAX_LENGTH or not kind.isalpha():
        raise BrokenFileError("there is no chunk where one should begin")
    if first != (kind == b"IHDR"):
        raise BrokenFileError("IHDR is not its first chunk" if first else "it has two IHDR chunks")
    end = at + _CHUNK_BYTES + length
    if end > len(data):
        raise ends_inside(kind.decode())
    return kind, end


def _is_small(kind: bytes, data: bytes, start: int, end: int) -> bool:
    """Whether a chunk about colours takes no more than decoders allow it to: a profile once it is unpacked."""
    if kind != b"iCCP":
        return end - start <= _MAX_COLOUR_BYTES
    packed = data.find(b"\0", start, min(start + _MAX_NAME_BYTES, end)) + 2
    try:
        unpacking = zlib.decompressobj()
        unpacking.decompress(memoryview(data)[packed:end], MAX_UNPACKED_BYTES)
    except zlib.error:
        return False
    return packed > 1 and unpacking.eof


def _read(kind: bytes, body: bytes, seen: set[bytes], facts: Facts) -> None:
    if kind == b"IHDR":
        _read_header(body, facts)
    elif kind == b"eXIf" and b"eXIf" not in seen:
        facts.orientation = exif.orientation(body)
    elif kind == b"acTL":
        facts.animated = True
    elif kind == b"tRNS":
        facts.alpha = True
    elif kind == b"IEND" and b"IDAT" not in seen:
        raise BrokenFileError("it has no pixels")
    elif kind[:1].isupper() and kind not in _CRITICAL:
        raise BrokenFileError(f"its chunk {kind.decode()} is none of the PNG specification")


def _read_header(body: bytes, facts: Facts) -> None:
    try:
        width, height, bits, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", body)
    except struct.error:
        raise BrokenFileError("IHDR has the wrong length") from None
    if not width or not height or max(width, height) > _MAX_LENGTH:
        raise BrokenFileError("IHDR gives no size")
    if bits not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise BrokenFileError("IHDR names a coding that is none of the PNG specification")
    facts.width, facts.height, facts.bits, facts.components = width, height, bits, _CHANNELS[colour]
    facts.alpha = colour in (4, 6)
    facts.common = bits <= 8  # noqa: PLR2004 - 16-bit samples are not read everywhere
