"""The pages of a TIFF file, from directory to directory. Source: TIFF 6.0, section 2; BigTIFF."""

import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from pipeline.images.containers.values import BrokenFileError, Read, ends_inside, reader_of

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


class _Directory(NamedTuple):
    number: int
    """In the file, from 0 on."""
    at: int
    entries: bytes
    order: str
    is_big: bool

    def value(self, wanted: int) -> int:
        """Of a tag that is one number; 0 where there is none."""
        for entry in range(0, len(self.entries), 20 if self.is_big else 12):
            tag, kind = struct.unpack_from(f"{self.order}HH", self.entries, entry)
            if tag == wanted:
                form = f"{self.order}{'H' if kind == _SHORT else 'I'}"
                found: int = struct.unpack_from(form, self.entries, entry + (12 if self.is_big else 8))[0]
                return found
        return 0

    @property
    def is_page(self) -> bool:
        return not self.value(_SUBFILE_TYPE) & _NO_PAGE


def page_offsets(data: bytes) -> list[int]:
    """Where the directory of each page stands; of a file that breaks off, of the pages before."""
    pages: list[int] = []
    with suppress(BrokenFileError):
        pages.extend(one.at for one in _directories(reader_of(data)) if one.is_page)
    return pages


def first_page(read: Read) -> int | None:
    """Where the directory of the first page stands, if others are before it: thumbnails, or masks.

    Raises BrokenFileError where the file breaks off before there is a page.
    """
    sent = _sent(read)
    return sent.at if sent is not None and sent.number else None


def with_first_page(data: bytes, offset: int) -> bytes:
    """The file with the page at this offset as its first. `data` may be the beginning of a file."""
    order, is_big = layout(data)
    packed = struct.pack(f"{order}{'Q' if is_big else 'I'}", offset)
    at = 8 if is_big else 4
    return data[:at] + packed + data[at + len(packed) :]


def packing_not_read(read: Read) -> str | None:
    """What the pixels that are sent are packed with, where it is known and no reader here unpacks it."""
    with suppress(BrokenFileError):
        sent = _sent(read)
        return None if sent is None else _NOT_READ.get(sent.value(_COMPRESSION))
    return None


def layout(data: bytes) -> tuple[str, bool]:
    """The order of bytes, and whether offsets have 64 bits."""
    return "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")


def _sent(read: Read) -> _Directory | None:
    """The first page; of a file that has none the first directory."""
    first = None
    for directory in _directories(read):
        if directory.is_page:
            return directory
        first = first or directory
    return first


def _directories(read: Read) -> Iterator[_Directory]:
    """Raises BrokenFileError where the file breaks off."""
    order, is_big = layout(read(0, 4))
    offset, count, size = (f"{order}Q", f"{order}Q", 20) if is_big else (f"{order}I", f"{order}H", 12)
    seen: set[int] = set()
    try:
        (at,) = _unpacked(read, offset, 8 if is_big else 4)
        while at and at not in seen and len(seen) < _MOST_PAGES:
            (entries,) = _unpacked(read, count, at)
            first = at + struct.calcsize(count)
            table = read(first, min(entries, _MOST_ENTRIES) * size)
            if len(table) < min(entries, _MOST_ENTRIES) * size:
                raise ends_inside("a directory")
            yield _Directory(len(seen), at, table, order, is_big)
            seen.add(at)
            (at,) = _unpacked(read, offset, first + entries * size)
    except (struct.error, OverflowError):
        raise ends_inside("a directory") from None


def _unpacked(read: Read, form: str, at: int) -> tuple[int, ...]:
    return struct.unpack(form, read(at, struct.calcsize(form)))
