"""The pages of a TIFF file, from directory to directory. Source: TIFF 6.0, section 2; BigTIFF."""

import struct
from typing import Final

_MOST_PAGES: Final = 10_000
_MOST_ENTRIES: Final = 1_000
_SUBFILE_TYPE: Final = 254
_NO_PAGE: Final = 0b101
"""A smaller copy of another image, or a mask."""
_SHORT: Final = 3


def page_offsets(data: bytes) -> list[int]:
    """Where the directory of each page stands; of a file that breaks off, of the pages before."""
    order, is_big = layout(data)
    pages: list[int] = []
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(f"{order}Q", data, 8) if is_big else struct.unpack_from(f"{order}I", data, 4)
        while at and at not in seen and len(seen) < _MOST_PAGES:
            seen.add(at)
            (entries,) = struct.unpack_from(f"{order}{'Q' if is_big else 'H'}", data, at)
            first, step = (at + 8, 20) if is_big else (at + 2, 12)
            end = first + entries * step
            following = struct.unpack_from(f"{order}{'Q' if is_big else 'I'}", data, end)
            if not _subfile_type(data, order, first, step, min(entries, _MOST_ENTRIES)) & _NO_PAGE:
                pages.append(at)
            (at,) = following
    except (struct.error, OverflowError):
        pass
    return pages


def with_first_page(data: bytes, offset: int) -> bytes:
    """The file with the page at this offset as its first."""
    order, is_big = layout(data)
    packed = struct.pack(f"{order}{'Q' if is_big else 'I'}", offset)
    at = 8 if is_big else 4
    return data[:at] + packed + data[at + len(packed) :]


def layout(data: bytes) -> tuple[str, bool]:
    """The order of bytes, and whether offsets have 64 bits."""
    return "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")


def _subfile_type(data: bytes, order: str, first: int, step: int, entries: int) -> int:
    for entry in range(entries):
        tag, kind = struct.unpack_from(f"{order}HH", data, first + entry * step)
        if tag == _SUBFILE_TYPE:
            at = first + entry * step + (12 if step == 20 else 8)  # noqa: PLR2004 - BigTIFF's entries
            found: int = struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", data, at)[0]
            return found
    return 0
