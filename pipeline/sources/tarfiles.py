"""The members of a tar, header by header: nothing is unpacked, and one header is in memory at a time.

The formats are those of POSIX (ustar, pax), of GNU tar (long names, sizes beyond 8 GiB) and the one before both. Only
plain files are members here. Links, devices, folders and sparse files are passed over. Blocks of zeros are skipped, as
`tar -i` does: behind those that end one tar another one may follow.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, Protocol

from pipeline.sources.passed import LINK, SPARSE, SPECIAL, UNKNOWN, PassedOver

BLOCK: Final = 512
_ZEROS: Final = bytes(BLOCK)
_PLAIN: Final = frozenset({b"0", b"\0", b"7"})
_FOLDER: Final = b"5"
_WITHOUT_DATA: Final = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})
"""Links, devices, folders and pipes: whatever size they state, the next header follows at once."""
_LONG_NAME, _SPARSE = b"L", b"S"
_NOT_COUNTED: Final = frozenset({_FOLDER, b"D", b"g", b"K", b"V"})
"""Folders, and headers that say something of the next member or of the whole tar."""
_PASSED: Final = {b"1": LINK, b"2": LINK, b"3": SPECIAL, b"4": SPECIAL, b"6": SPECIAL, _SPARSE: SPARSE}
_PAX: Final = frozenset({b"x", b"X"})
_MOST_META_BYTES: Final = 1 << 20
"""Of a long name, or of pax fields."""
_AHEAD_BYTES: Final = 4096
"""Read at a time: small members that lie between two headers come with them."""
_BASE_256: Final = 0x80
_BLANK: Final = 0x20
"""Stands for each byte of the checksum while it is summed."""
_LARGEST: Final = 1 << 60


class Member(NamedTuple):
    """A plain file in a tar."""

    name: str
    """As the tar has it; bytes that are no UTF-8 stand as surrogate escapes."""
    offset: int
    """Of its bytes in the tar."""
    size: int


class DamagedError(Exception):
    """The tar cannot be read on from `offset`."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(what)
        self.offset = offset


class Stream(Protocol):
    """Where the bytes of a tar come from."""

    def read(self, at: int, count: int) -> bytes:
        """These bytes, or fewer at the end. Raises DamagedError where what lies before them cannot be read."""

    @property
    def size(self) -> int | None:
        """Of the whole tar; None while it is not known."""


class PlainStream:
    """A tar that is not packed."""

    def __init__(self, descriptor: int) -> None:
        self.size: int | None = os.fstat(descriptor).st_size
        self._descriptor = descriptor
        self._start, self._ahead = 0, b""

    def read(self, at: int, count: int) -> bytes:
        inside = at - self._start
        if inside < 0 or inside + count > len(self._ahead):
            self._start, self._ahead, inside = at, os.pread(self._descriptor, max(count, _AHEAD_BYTES), at), 0
        return self._ahead[inside : inside + count]


def members(stream: Stream, passed: PassedOver | None = None) -> Iterator[Member]:
    """The plain files of a tar, in order; `passed` counts the others.

    Raises DamagedError where it cannot be read on.
    """
    at, long_name, pax = 0, b"", dict[bytes, bytes]()
    while (found := _header(stream, at)) is not None:
        at, block = found
        kind, size = block[156:157], _size(block, at)
        data = at + BLOCK
        if kind == _LONG_NAME or kind in _PAX:
            content = _content(stream, at, size)
            if kind == _LONG_NAME:
                long_name = content.partition(b"\0")[0]
            else:
                pax = _pax_fields(content, at)
            at = _next(data, size)
            continue
        name = pax.get(b"path") or long_name or _name(block)
        if b"size" in pax:
            size = _decimal(pax[b"size"], at)
        if kind == _SPARSE:
            data = _behind_sparse_map(stream, block, data)
        kind = _kind_of(kind, name, pax)
        end = _next(data, 0 if kind in _WITHOUT_DATA else size)
        if kind in _PLAIN:
            if stream.size is not None and data + size > stream.size:
                raise DamagedError(at, f"{name.decode(errors='replace')!r} has {size:,} bytes, and the tar ends before")
            yield Member(name.decode("utf-8", "surrogateescape"), data, size)
        elif passed is not None:
            _pass_over(kind, passed)
        at = end
        if kind != b"g":  # fields for all members: none counts here
            long_name, pax = b"", {}


def _kind_of(kind: bytes, name: bytes, pax: Mapping[bytes, bytes]) -> bytes:
    """What a header stands for: old programs write folders as plain files, and pax writes sparse files so."""
    if kind not in _PLAIN:
        return kind
    if kind == b"\0" and name.endswith(b"/"):
        return _FOLDER
    return _SPARSE if any(key.startswith(b"GNU.sparse") for key in pax) else kind


def _pass_over(kind: bytes, passed: PassedOver) -> None:
    if kind not in _NOT_COUNTED:
        passed.add(_PASSED.get(kind, UNKNOWN))


def _header(stream: Stream, at: int) -> tuple[int, bytes] | None:
    """Where the next header is, and its bytes; None at the end of the file."""
    while (block := stream.read(at, BLOCK)) == _ZEROS:
        at += BLOCK
    if len(block) < BLOCK:
        if not at:
            raise DamagedError(0, "the file is empty" if not block else "the file is too short for a tar")
        if block.strip(b"\0") or (stream.size is not None and at > stream.size):
            raise DamagedError(at, "the tar is cut short")
        return None
    stated, total = _octal(block[148:156]), sum(block) - sum(block[148:156]) + 8 * _BLANK
    if stated is None or (stated != total and not _is_signed_sum(block, stated)):
        raise DamagedError(at, "no header of a tar stands here" if at else "this is no tar")
    return at, block


def _is_signed_sum(block: bytes, stated: int) -> bool:
    """Whether this is the sum that some old programs wrote, of bytes with a sign."""
    rest = block[:148] + block[156:]
    return stated == 8 * _BLANK + sum(byte - 256 if byte & 0x80 else byte for byte in rest)


def _size(block: bytes, at: int) -> int:
    field = block[124:136]
    # GNU: a number in base 256.
    size = int.from_bytes(field[1:], "big") if field[0] == _BASE_256 else _octal(field)
    if size is None or size > _LARGEST:
        raise DamagedError(at, "a header states no size")
    return size


def _octal(field: bytes) -> int | None:
    """A number in octal digits, which a NUL or blanks end; 0 where there are none, None for anything else."""
    try:
        return int(field.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        return None


def _name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _content(stream: Stream, at: int, size: int) -> bytes:
    if size > _MOST_META_BYTES:
        raise DamagedError(at, f"a name or its fields take {size:,} bytes")
    content = stream.read(at + BLOCK, size)
    if len(content) < size:
        raise DamagedError(at, "the tar is cut short")
    return content


def _pax_fields(content: bytes, header: int) -> dict[bytes, bytes]:
    """Lines such as `12 size=1234`, each with its own length."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(content) and content[at]:
        length, blank, _ = content[at : at + 20].partition(b" ")
        end = at + _decimal(length, header)
        if not blank or end <= at + len(length) + 1 or end > len(content):
            raise DamagedError(header, "the fields of a member cannot be read")
        key, _, value = content[at + len(length) + 1 : end - 1].partition(b"=")
        found[key] = value
        at = end
    return found


def _decimal(text: bytes, at: int) -> int:
    number = int(text) if text.isdigit() and len(text) < len(str(_LARGEST)) else None
    if number is None:
        raise DamagedError(at, "the fields of a member cannot be read")
    return number


def _behind_sparse_map(stream: Stream, block: bytes, at: int) -> int:
    """Where the bytes of a sparse file begin: its map may go on in further blocks."""
    more = block[482]
    while more:
        block = stream.read(at, BLOCK)
        if len(block) < BLOCK:
            raise DamagedError(at, "the tar is cut short")
        at, more = at + BLOCK, block[504]
    return at


def _next(data: int, size: int) -> int:
    """Where the next header is: members fill whole blocks."""
    return data + -(-size // BLOCK) * BLOCK
