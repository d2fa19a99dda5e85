"""Pages of a SQLite database as records, each page for itself: no tree, no schema, no other page is needed.

Source: "Database File Format", https://www.sqlite.org/fileformat2.html, sections 1.6 (b-tree pages) and 2.1 (records).
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF = 0x02, 0x05, 0x0A, 0x0D
FILE_HEADER_BYTES = 100
"""What page 1 has before its own header."""
_HEADER_BYTES = {INDEX_INTERIOR: 12, INDEX_LEAF: 8, TABLE_LEAF: 8}
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)
_FLOAT, _ZERO, _ONE, _BLOB = 7, 8, 9, 12
_MOST_COLUMNS = 100
_GOES_ON = 0x80

Value = int | float | str | bytes | None


class Cell(NamedTuple):
    """One entry of a page: its payload, or the beginning of it where it goes on in overflow pages."""

    rowid: int | None
    """None in an index, which a WITHOUT ROWID table is."""
    local: bytes
    payload_bytes: int
    overflow: int
    """The page where the payload goes on; 0 where `local` is all of it."""


class BadPageError(ValueError):
    """These bytes are no record or no page that holds any."""


def is_btree(page: bytes, number: int) -> bool:
    """Whether a page says that it is one of a table or an index."""
    at = FILE_HEADER_BYTES if number == 1 else 0
    return page[at] in {INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF}


def cells(page: bytes, number: int, usable: int) -> Iterator[Cell | None]:
    """The entries of one page that hold records; None for each one that leads out of the page."""
    start = FILE_HEADER_BYTES if number == 1 else 0
    header = _HEADER_BYTES.get(page[start])
    if header is None:
        return
    kind = page[start]
    count = min(int.from_bytes(page[start + 3 : start + 5]), (usable - start - header) // 2)
    for at in range(start + header, start + header + 2 * count, 2):
        try:
            yield _cell(page, int.from_bytes(page[at : at + 2]), kind, usable)
        except (BadPageError, IndexError):
            yield None


def _cell(page: bytes, at: int, kind: int, usable: int) -> Cell:
    at += 4 if kind == INDEX_INTERIOR else 0  # the page to its left
    size, at = varint(page, at)
    rowid = None
    if kind == TABLE_LEAF:
        rowid, at = varint(page, at)
    here = _local_bytes(size, usable, is_table=kind == TABLE_LEAF)
    end = at + here
    if not size or end + (4 if here < size else 0) > usable:
        raise BadPageError
    overflow = int.from_bytes(page[end : end + 4]) if here < size else 0
    return Cell(rowid, page[at:end], size, overflow)


def _local_bytes(size: int, usable: int, *, is_table: bool) -> int:
    """How much of a payload lies on its own page."""
    most = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (usable - 12) * 32 // 255 - 23
    wanted = least + (size - least) % (usable - 4)
    return wanted if wanted <= most else least


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends."""
    value = 0
    for place in range(at, at + 8):
        byte = data[place]
        value = value << 7 | byte & 0x7F
        if byte < _GOES_ON:
            return value, place + 1
    value = value << 8 | data[at + 8]
    return value - (1 << 64) if value >= 1 << 63 else value, at + 9


def values(payload: bytes) -> list[Value]:
    """The columns of a record. Raises BadPageError where the bytes are none: its lengths have to fit exactly."""
    try:
        end, at = varint(payload, 0)
        if not at <= end <= len(payload):
            raise BadPageError
        body = end
        found: list[Value] = []
        while at < end and len(found) < _MOST_COLUMNS:
            kind, at = varint(payload, at)
            value, body = _value(payload, body, kind)
            found.append(value)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise BadPageError from error
    if at != end or body != len(payload):
        raise BadPageError
    return found


def _value(payload: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind == 0:
        return None, at
    if kind in {_ZERO, _ONE}:
        return kind - _ZERO, at
    if kind == _FLOAT:
        return struct.unpack_from(">d", payload, at)[0], at + 8
    if 0 < kind < _FLOAT:
        end = at + _INTEGER_BYTES[kind]
        return int.from_bytes(payload[at:end], signed=True), end
    end = at + (kind - _BLOB) // 2
    if kind < _BLOB or end > len(payload):
        raise BadPageError
    return (payload[at:end].decode() if kind % 2 else payload[at:end]), end
