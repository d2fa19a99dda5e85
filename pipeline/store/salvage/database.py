"""A damaged ledger as far as it can be read: every page of the database, of its write-ahead log and of its journal.

SQL stops at the first bad page, and SQLite passes over every frame behind a damaged one. Here each page is read for
itself. Older versions of a page and pages that were given up may hold rows that newer ones have replaced: the
reader of these rows decides by their times which one holds.
"""

import mmap
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from pipeline.store.salvage import wal
from pipeline.store.salvage.records import FILE_HEADER_BYTES, BadPageError, Cell, Value, cells, is_btree, values
from pipeline.store.salvage.rows import AnswerRow, LedgerRow, ledger_row

_DEFAULT_PAGE_BYTES = 4096
_PAGE_BYTES = frozenset(1 << power for power in range(9, 17))
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_BEFORE, _MAIN = -1, 0


class Found(NamedTuple):
    """One row, and how new the page is that it was read from."""

    row: LedgerRow
    order: int
    """Higher is newer; 0 is the database file itself."""
    is_sound: bool
    """False where a checksum says that the page was damaged."""


class _Image(NamedTuple):
    """One version of a page."""

    page: int
    order: int
    data: memoryview
    at: int
    is_sound: bool


@dataclass(slots=True)
class Damage:
    """What a reader of a ledger could not read, counted while it reads."""

    pages: int = 0
    """Pages of the database, and older ones of its journal, with entries that lead nowhere, or of no known kind."""
    frames: int = 0
    """Frames of the log whose checksum does not hold."""
    entries: int = 0
    """Records that do not parse, or are not what a table of ours holds."""


class DatabaseFiles:
    """The files of one ledger; any may be absent or damaged. Nothing is written."""

    def __init__(self, path: Path) -> None:
        self.damage = Damage()
        self._files = ExitStack()
        self._main = self._open(path)
        log = self._open(path.with_name(f"{path.name}-wal"))
        self._journal = self._open(path.with_name(f"{path.name}-journal"))
        self._log = log
        self.page_bytes = self._header_page_bytes() or wal.page_bytes_of(bytes(log[:32])) or _DEFAULT_PAGE_BYTES
        self.log = wal.read_frames(log, self.page_bytes)
        self._usable = self.page_bytes  # nothing of ours reserves bytes at the end of each page
        self._orders, self._ends = self._log_orders()
        self._versions: defaultdict[int, list[_Image]] = defaultdict(list)
        for image in self._images():
            if image.order != _MAIN:
                self._versions[image.page].append(image)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._versions.clear()
        self._main = self._log = self._journal = memoryview(b"")
        with suppress(BufferError):  # a caller still holds a row; the map ends with it
            self._files.close()

    def _open(self, path: Path) -> memoryview:
        if not path.is_file() or not path.stat().st_size:
            return memoryview(b"")
        file = self._files.enter_context(path.open("rb"))
        mapped = self._files.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return memoryview(mapped)

    def _header_page_bytes(self) -> int:
        """The size in the database's own header; 0 where that cannot be."""
        if len(self._main) < FILE_HEADER_BYTES or bytes(self._main[:15]) != b"SQLite format 3":
            return 0
        size = int.from_bytes(self._main[16:18])
        size = 1 << 16 if size == 1 else size
        return size if size in _PAGE_BYTES and len(self._main) % size == 0 else 0

    def _log_orders(self) -> tuple[list[int], list[int]]:
        """Of each frame how new it is, and how new the last one of its transaction is."""
        frames = self.log.frames
        older = sum(not frame.is_current for frame in frames)
        orders, before = [], _BEFORE - older
        for at, frame in enumerate(frames):
            orders.append(at + 1 if frame.is_current else before)
            before += not frame.is_current
        ends = list(orders)
        for at in range(len(frames) - 2, -1, -1):
            if not frames[at].is_commit and frames[at].is_current == frames[at + 1].is_current:
                ends[at] = ends[at + 1]
        return orders, ends

    def rows(self, newer_than: int | None = None) -> Iterator[Found]:
        """Every row of our tables that can still be read, those of older versions of a page among them.

        With `newer_than` only those of frames of the log behind that one.
        """
        self.damage.frames = sum(frame.is_current and not frame.is_sound for frame in self.log.frames)
        images = self._images() if newer_than is None else self._frames(newer_than)
        for image in images:
            whole = True
            page = bytes(image.data)
            for cell in cells(page, image.page, self._usable):
                row = None if cell is None else self._row(cell, image)
                whole = whole and cell is not None
                if row is not None:
                    yield Found(row, image.order, image.is_sound)
            if image.order <= _MAIN and not (whole and self._is_known(page, image.page)):
                self.damage.pages += 1

    def _is_known(self, page: bytes, number: int) -> bool:
        """Whether a page may be one of a tree, an overflow page, a free one or one of the pointer map."""
        return page[0] == 0 or is_btree(page, number) or number == 1 or self._is_pointer_map(number)

    def _is_pointer_map(self, number: int) -> bool:
        """Source: section 1.8; of a file with auto_vacuum, as ours are, page 2 and further ones at a fixed distance."""
        return number >= 2 and (number - 2) % (self._usable // 5 + 1) == 0  # noqa: PLR2004 - the second page

    def _images(self) -> Iterator[_Image]:
        size = self.page_bytes
        for page, at in self._journaled():
            yield _Image(page, _BEFORE, self._journal[at : at + size], at, is_sound=True)
        for number, at in enumerate(range(0, len(self._main) - size + 1, size), start=1):
            if not self._is_pointer_map(number):
                yield _Image(number, _MAIN, self._main[at : at + size], at, is_sound=True)
        yield from self._frames(0)

    def _frames(self, start: int) -> Iterator[_Image]:
        size = self.page_bytes
        for number, frame in enumerate(self.log.frames[start:], start):
            data = self._log[frame.at : frame.at + size]
            yield _Image(
                frame.page, self._orders[number], data, number, is_sound=frame.is_sound or not frame.is_current
            )

    def _journaled(self) -> Iterator[tuple[int, int]]:
        """(page, where it begins) of a rollback journal; source: section 3."""
        at = 0
        while bytes(self._journal[at : at + 8]) == _JOURNAL_MAGIC and at + 28 <= len(self._journal):
            count, _, _, sector, size = (
                int.from_bytes(self._journal[at + place : at + place + 4]) for place in range(8, 28, 4)
            )
            if size != self.page_bytes or sector not in _PAGE_BYTES:
                return
            at += sector
            stride = size + 8
            for _ in range(min(count, (len(self._journal) - at) // stride)):
                yield int.from_bytes(self._journal[at : at + 4]), at + 4
                at += stride
            at += -at % sector

    def _row(self, cell: Cell, image: _Image) -> LedgerRow | None:
        for payload in self._payloads(cell, image):
            try:
                row = ledger_row(cell.rowid, found := values(payload))
            except BadPageError:
                continue
            if row is not None or not _may_be_ours(cell.rowid, found):
                return row
        self.damage.entries += 1
        return None

    def _payloads(self, cell: Cell, image: _Image) -> Iterator[bytes]:
        """The whole payload: as it was when its page was written, else by other versions of its overflow pages."""
        if not cell.overflow:
            yield cell.local
            return
        if cell.payload_bytes > len(self._main) + len(self._log) + len(self._journal):
            return
        end = self._ends[image.at] if image.order not in {_MAIN, _BEFORE} else image.order
        for upto, behind in ((end, 0), (len(self.log.frames) + 1, 0), (end, 1)):
            payload = self._chained(cell, upto, behind)
            if payload is not None:
                yield payload

    def _chained(self, cell: Cell, upto: int, behind: int) -> bytes | None:
        payload, page = bytearray(cell.local), cell.overflow
        while page and len(payload) < cell.payload_bytes:
            data = self._version(page, upto, behind)
            if data is None:
                return None
            page = int.from_bytes(data[:4])
            payload += data[4 : min(self._usable, 4 + cell.payload_bytes - len(payload))]
        return bytes(payload) if len(payload) == cell.payload_bytes else None

    def _version(self, page: int, upto: int, behind: int) -> memoryview | None:
        """The page as it was then, or `behind` versions before; the first one there is where it is younger."""
        at = (page - 1) * self.page_bytes
        main = [_Image(page, _MAIN, self._main[at : at + self.page_bytes], at, is_sound=True)]
        there = main if page > 0 and at + self.page_bytes <= len(self._main) else []
        known: list[_Image] = sorted([*there, *self._versions.get(page, ())], key=lambda image: image.order)
        if not known:
            return None
        place = bisect_right([image.order for image in known], upto) - 1 - behind
        return known[max(0, place)].data


_WITH_ROWID, _WITHOUT = 5, frozenset({3, 6})
"""How many columns our tables with answers, runs and sums have. Where there is a rowid, the first is null."""


def _may_be_ours(rowid: int | None, found: Sequence[Value]) -> bool:
    return len(found) in _WITHOUT if rowid is None else len(found) == _WITH_ROWID and found[0] is None


def unread_answers(path: Path) -> list[AnswerRow]:
    """The last answer of each record in those of the newest frames of the log that SQLite does not read."""
    with DatabaseFiles(path) as database:
        rows = (found.row for found in database.rows(database.log.readable) if found.order > _MAIN)
        last = {row.key: row for row in rows if isinstance(row, AnswerRow)}
    return list(last.values())
