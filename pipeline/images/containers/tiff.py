"""The pages of a TIFF file, from directory to directory. Source: TIFF 6.0, section 2; BigTIFF."""

import struct
from collections.abc import Iterator
from typing import Final

from pipeline.images.containers.values import Read

_MOST_PAGES: Final = 10_000
_MOST_ENTRIES: Final = 1_000
_SUBFILE_TYPE: Final = 254
_COMPRESSION: Final = 259
_NO_PAGE: Final = 0b101
"""A smaller copy of another image, or a mask."""
_SHORT: Final = 3
_NOT_READ: Final = {
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34712: "JPEG 2000",
    34887: "LERC",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
"""What pixels may be packed with that no reader here unpacks."""


def page_offsets(data: bytes) -> list[int]:
    """Where the directory of each page stands; of a file that breaks off, of the pages before."""
    return [at for at, is_page in _directories(_reader_of(data)) if is_page]


def first_page(read: Read) -> int | None:
    """Where the directory of the first page stands, if others are before it: thumbnails, or masks."""
    for number, (at, is_page) in enumerate(_directories(read)):
        if is_page:
            return at if number else None
    return None


def with_first_page(data: bytes, offset: int) -> bytes:
    """The file with the page at this offset as its first. `data` may be the beginning of a file."""
    order, is_big = layout(data)
    packed = struct.pack(f"{order}{'Q' if is_big else 'I'}", offset)
    at = 8 if is_big else 4
    return data[:at] + packed + data[at + len(packed) :]


def packing_not_read(data: bytes) -> str | None:
    """What the pixels of the first directory are packed with, where it is known and no reader here unpacks it."""
    read = _reader_of(data)
    order, is_big = layout(data)
    at = next((at for at, _ in _directories(read)), None)
    try:
        return None if at is None else _NOT_READ.get(_number(read, order, at, _COMPRESSION, is_big=is_big))
    except (struct.error, OverflowError):
        return None


def layout(data: bytes) -> tuple[str, bool]:
    """The order of bytes, and whether offsets have 64 bits."""
    return "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")


def _directories(read: Read) -> Iterator[tuple[int, bool]]:
    """Offset, and whether it is a page; up to where the file breaks off."""
    order, is_big = layout(read(0, 4))
    offset = f"{order}{'Q' if is_big else 'I'}"
    seen: set[int] = set()
    try:
        (at,) = _unpacked(read, offset, 8 if is_big else 4)
        while at and at not in seen and len(seen) < _MOST_PAGES:
            seen.add(at)
            (entries,) = _unpacked(read, f"{order}{'Q' if is_big else 'H'}", at)
            end = at + (8 + entries * 20 if is_big else 2 + entries * 12)
            following = _unpacked(read, offset, end)
            yield at, not _number(read, order, at, _SUBFILE_TYPE, is_big=is_big) & _NO_PAGE
            (at,) = following
    except (struct.error, OverflowError):
        pass


def _number(read: Read, order: str, at: int, wanted: int, *, is_big: bool) -> int:
    """The value of a tag that is one number; 0 where the directory at `at` has none."""
    (entries,) = _unpacked(read, f"{order}{'Q' if is_big else 'H'}", at)
    first, step = (at + 8, 20) if is_big else (at + 2, 12)
    table = read(first, min(entries, _MOST_ENTRIES) * step)
    for entry in range(0, len(table), step):
        tag, kind = struct.unpack_from(f"{order}HH", table, entry)
        if tag == wanted:
            value = entry + (12 if is_big else 8)
            found: int = struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", table, value)[0]
            return found
    return 0


def _unpacked(read: Read, form: str, at: int) -> tuple[int, ...]:
    return struct.unpack(form, read(at, struct.calcsize(form)))


def _reader_of(data: bytes) -> Read:
    return lambda at, count: data[at : at + count]
