"""WebP, read from chunk to chunk.

Sources: RFC 9649, "WebP Image Format" (container, VP8L); RFC 6386, "VP8 Data Format", 9.1 (frame header).
"""

import struct
from collections.abc import Iterator

from pipeline.images.containers import exif
from pipeline.images.containers.values import MAX_PROFILE_BYTES, BrokenFileError, Facts, ends_inside

_RIFF_BYTES, _CHUNK_BYTES = 12, 8
_HEADER_BYTES = 16
"""More than the header of any chunk takes."""
_PROFILE, _ALPHA, _EXIF, _XMP, _ANIMATION = 0x20, 0x10, 0x08, 0x04, 0x02
_FLAGS_AT = _RIFF_BYTES + _CHUNK_BYTES
_PROFILE_AT = _FLAGS_AT + 10
"""Where the profile stands, if there is one: behind the first chunk."""
_PICTURES = frozenset({b"VP8 ", b"VP8L"})
_NEEDED = _PICTURES | {b"VP8X", b"ICCP", b"ALPH", b"ANIM", b"ANMF"}
_SIDE = 0x3FFF
_KEY_FRAME_BITS, _SHOWN, _MAX_PROFILE = 0x11, 0x10, 3
_LOSSLESS_MARK, _KEY_FRAME_MARK = 0x2F, b"\x9d\x01\x2a"


def walk(data: bytes, facts: Facts, *, checked: bool) -> Iterator[tuple[int, int, bool]]:  # noqa: ARG001 - WebP has no checksums
    """See `values.Walk`. The facts are never settled early: EXIF follows the pixels."""
    file_end = 8 + int.from_bytes(data[4:8], "little")
    yield 0, _RIFF_BYTES, True
    seen: set[bytes] = set()
    at = _RIFF_BYTES
    while at < file_end:
        if at + _CHUNK_BYTES > len(data):
            raise ends_inside("a chunk")
        kind, size = struct.unpack_from("<4sI", data, at)
        end = at + _CHUNK_BYTES + size + size % 2
        if end > file_end:
            raise BrokenFileError("a chunk is longer than the file says that it is")
        # The size stands before data that may turn out to be cut.
        stated = size if kind == b"EXIF" else min(size, _HEADER_BYTES)
        _read(kind, size, data[at + _CHUNK_BYTES : at + _CHUNK_BYTES + stated], seen, facts)
        if end > len(data):
            raise ends_inside("a chunk")
        seen.add(kind)
        yield at, end, kind in _NEEDED and not (kind == b"ICCP" and size > MAX_PROFILE_BYTES)
        at = end
    if not seen & _PICTURES and not facts.animated:
        raise BrokenFileError("it has no picture")


def mended(kept: bytes) -> bytes:
    """A file whose EXIF, XMP and profile chunks were left out, with the length and the flags that say so."""
    file = bytearray(kept)
    file[4:8] = (len(file) - 8).to_bytes(4, "little")
    if file[_RIFF_BYTES : _RIFF_BYTES + 4] == b"VP8X":
        file[_FLAGS_AT] &= ~(_EXIF | _XMP)
        if file[_PROFILE_AT : _PROFILE_AT + 4] != b"ICCP":
            file[_FLAGS_AT] &= ~_PROFILE
    return bytes(file)


def _read(kind: bytes, size: int, body: bytes, seen: set[bytes], facts: Facts) -> None:
    try:
        if kind == b"VP8X":
            _read_extended(body, facts)
        elif kind == b"VP8 ":
            _read_size(_lossy_size(body, size), seen, facts)
        elif kind == b"VP8L":
            _read_size(_lossless_size(body, facts), seen, facts)
    except (struct.error, IndexError):
        raise ends_inside("a header") from None
    if kind == b"ALPH":
        facts.alpha = True
    elif kind in (b"ANIM", b"ANMF"):
        facts.animated = True
    elif kind == b"EXIF" and b"EXIF" not in seen:
        facts.orientation = exif.orientation(body)


def _read_extended(body: bytes, facts: Facts) -> None:
    flags, low_width, high_width, low_height, high_height = struct.unpack_from("<B3xHBHB", body)
    facts.width = (low_width | high_width << 16) + 1
    facts.height = (low_height | high_height << 16) + 1
    facts.alpha = bool(flags & _ALPHA)
    facts.animated = bool(flags & _ANIMATION)


def _read_size(size: tuple[int, int], seen: set[bytes], facts: Facts) -> None:
    if seen & _PICTURES:
        raise BrokenFileError("it has two pictures")
    if b"VP8X" in seen and size != (facts.width, facts.height):
        facts.common = False
        return
    facts.width, facts.height = size


def _lossy_size(body: bytes, chunk_bytes: int) -> tuple[int, int]:
    tag = int.from_bytes(body[:3], "little")
    width, height = struct.unpack_from("<HH", body, 6)
    shown_key_frame = tag & _KEY_FRAME_BITS == _SHOWN and tag >> 1 & 7 <= _MAX_PROFILE
    if not shown_key_frame or body[3:6] != _KEY_FRAME_MARK or tag >> 5 >= chunk_bytes:
        raise BrokenFileError("its VP8 header is wrong")
    if not width & _SIDE or not height & _SIDE:
        raise BrokenFileError("its VP8 header gives no size")
    return width & _SIDE, height & _SIDE


def _lossless_size(body: bytes, facts: Facts) -> tuple[int, int]:
    mark, fields = struct.unpack_from("<BI", body)
    if mark != _LOSSLESS_MARK or fields >> 29:
        raise BrokenFileError("its VP8L header is wrong")
    facts.alpha = facts.alpha or bool(fields >> 28 & 1)
    return (fields & _SIDE) + 1, (fields >> 14 & _SIDE) + 1
