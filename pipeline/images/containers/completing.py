"""A file that breaks off -> a whole one with as many pixels as there are, as browsers show them.

What is missing of a JPEG is grey, or as coarse as the scans before; of a PNG it is black, or transparent. Other formats
are not completed: their decoders give nothing before the end.
"""

import struct
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from pipeline.images.containers.png import chunks, row_bytes
from pipeline.images.containers.values import BrokenFileError, Format, Header

_END_OF_JPEG: Final = b"\xff\xd9"
_PIECE_BYTES: Final = 1 << 20


def completed(data: bytes, header: Header) -> bytes | None:
    """None where the format has no such thing, or the file no pixels."""
    complete = _COMPLETIONS.get(header.format)
    return None if complete is None else complete(data, header)


def completing_bytes(header: Header) -> int:
    """Of memory, at most, besides the file: what a PNG file inflates to, and the file that is made of it."""
    return 2 * row_bytes(header) * header.height if header.format is Format.PNG else 0


def _jpeg(data: bytes, _: Header) -> bytes:
    return data.rstrip(b"\xff") + _END_OF_JPEG


def _png(data: bytes, header: Header) -> bytes | None:
    """Its rows as far as they inflate, then empty ones, packed anew."""
    parts, packed = [data[:8]], b""
    with suppress(BrokenFileError):
        for kind, start, end in chunks(data):
            body = data[start:end]
            if kind == b"IDAT":
                packed += body
            elif not packed and end + 4 <= len(data):
                parts.append(data[start - 8 : end + 4])
    wanted = row_bytes(header) * header.height
    rows = _inflated(packed, wanted)
    if not rows:
        return None
    return b"".join([*parts, _chunk(b"IDAT", zlib.compress(rows.ljust(wanted, b"\0"), 1)), _chunk(b"IEND", b"")])


def _inflated(packed: bytes, wanted: int) -> bytes:
    inflater, rows = zlib.decompressobj(), bytearray()
    with suppress(zlib.error):
        while packed and len(rows) < wanted:
            rows += inflater.decompress(packed, min(_PIECE_BYTES, wanted - len(rows)))
            packed = inflater.unconsumed_tail
    return bytes(rows)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


_COMPLETIONS: Final[Mapping[Format, Callable[[bytes, Header], bytes | None]]] = {
    Format.JPEG: _jpeg,
    Format.PNG: _png,
}
