"""A damaged part as far as it is whole: row group by row group, and where its footer is gone, by a copy of that."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import ErrorKind
from pipeline.records import Status
from pipeline.store.columns import COLUMNS

NEEDED = ("id", "prompt_name", "status")
"""Columns without which a row is none."""
ESSENTIAL = frozenset(column.name for column in COLUMNS if column.is_essential)
"""Columns that make the answer: a row that lost one of them is asked again; any other is null."""
NAMED = 20
"""The most ids of lost rows that a report names."""
_MAGIC = b"PAR1"
_TAIL_BYTES = 8
_MOST_ROWS = 10_000_000
_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)

Unreadable = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError, OverflowError, MemoryError)
"""What Arrow raises for bytes that are not what they should be."""


@dataclass(frozen=True, slots=True)
class Group:
    """What one row group gives: rows with exactly the columns asked for, and what it lacks."""

    table: pa.Table
    lost: int = 0
    """Rows of it that cannot be read."""
    lost_ids: tuple[str, ...] = ()
    """Of these, as far as their ids can be read; 20 at most."""
    null_columns: tuple[str, ...] = ()
    """Columns that are null because they are damaged, or of a kind that does not fit."""
    absent: tuple[str, ...] = ()
    """Columns that are null because the part has none of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """How much of a part can be read."""

    rows: int
    lost: int | None
    """Rows that cannot; None where their number is unknown."""
    groups: int = 0
    lost_groups: int = 0
    lost_ids: tuple[str, ...] = ()
    null_columns: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    has_footer: bool = True
    """Whether its own footer can be read."""

    @property
    def loses(self) -> bool:
        """Whether anything that was in it cannot be read."""
        return self.lost != 0 or bool(self.null_columns)

    @property
    def is_whole(self) -> bool:
        return not self.loses and self.has_footer and not self.absent


def footer_of(path: Path) -> bytes:
    """A part's footer as the ledger keeps it: the part's size, and the bytes, compressed.

    Raises OSError where the file cannot be read, ValueError where it ends in no footer.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != _MAGIC or length + _TAIL_BYTES > size:
            raise ValueError(f"{path}: no footer")
        file.seek(size - _TAIL_BYTES - length)
        return size.to_bytes(8) + zlib.compress(file.read(length))


def groups(path: Path, columns: pa.Schema, footer: bytes | None = None) -> Iterator[Group]:
    """What can be read of a part, row group by row group; `footer` is the ledger's copy of its footer, if any.

    Raises ValueError where neither its own footer nor the copy can be read, OSError where the file cannot.
    """
    with path.open("rb"):  # what the disk or the permissions refuse is no damage
        pass
    metadata, _ = _metadata(path, footer)
    with pq.ParquetFile(path, metadata=metadata, page_checksum_verification=True) as file:
        for number in range(metadata.num_row_groups):
            yield _group(file, number, columns, path.stat().st_size)


def report(path: Path, columns: pa.Schema, footer: bytes | None = None) -> PartReport:
    """Read a part to its end. Raises OSError where the disk or the permissions do not allow it."""
    found: list[tuple[int, int]] = []
    ids: list[str] = []
    nulls: dict[str, None] = {}
    absent: tuple[str, ...] = ()
    try:
        for group in groups(path, columns, footer):
            found.append((group.table.num_rows, group.lost))
            ids += group.lost_ids[: NAMED - len(ids)]
            nulls |= dict.fromkeys(group.null_columns)
            absent = group.absent
    except ValueError:
        return PartReport(rows=0, lost=None, has_footer=False)
    return PartReport(
        rows=sum(rows for rows, _ in found),
        lost=sum(lost for _, lost in found),
        groups=len(found),
        lost_groups=sum(lost > 0 for _, lost in found),
        lost_ids=tuple(ids),
        null_columns=tuple(nulls),
        absent=absent,
        has_footer=_metadata(path, footer)[1],
    )


def _metadata(path: Path, footer: bytes | None) -> tuple[pq.FileMetaData, bool]:
    """The metadata to read by, and whether it is the file's own.

    The ledger's copy holds where it is one of a file of this size that says otherwise, or of a longer one that was cut.
    """
    size, copy_size, copy = path.stat().st_size, *_copied(footer)
    try:
        own = pq.read_metadata(path)
    except Unreadable:
        own = None
    if own is not None and (copy is None or copy_size != size or own.equals(copy)):
        return own, True
    if copy is None or size > copy_size:
        raise ValueError(f"{path}: its footer cannot be read")
    return copy, False


def _copied(footer: bytes | None) -> tuple[int, pq.FileMetaData | None]:
    """How large the part was, and the ledger's copy of what its footer says."""
    if footer is None:
        return 0, None
    try:
        body = zlib.decompress(footer[8:])
        whole = _MAGIC + body + len(body).to_bytes(4, "little") + _MAGIC
        return int.from_bytes(footer[:8]), pq.read_metadata(pa.BufferReader(whole))
    except (*Unreadable, zlib.error):
        return 0, None


def _is_within(group: pq.RowGroupMetaData, size: int) -> bool:
    """Whether a row group lies within the file: damaged numbers may ask for any amount of memory."""
    if not 0 <= group.num_rows <= _MOST_ROWS:
        return False
    for at in range(group.num_columns):
        chunk = group.column(at)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        if start < 0 or chunk.total_compressed_size < 0 or start + chunk.total_compressed_size > size:
            return False
    return True


def _group(file: pq.ParquetFile, number: int, columns: pa.Schema, size: int) -> Group:
    rows = max(0, file.metadata.row_group(number).num_rows)
    there = set(file.schema_arrow.names)
    if not there.issuperset(NEEDED) or not _is_within(file.metadata.row_group(number), size):
        return Group(_none(columns), lost=rows)
    try:
        table = file.read_row_group(number, columns=[name for name in columns.names if name in there])
        table.validate(full=True)
        table = table.cast(pa.schema([columns.field(name) for name in table.column_names]))
        nulls: tuple[str, ...] = ()
    except Unreadable:
        table, nulls = _by_columns(file, number, [field for field in columns if field.name in there], rows)
    if not ESSENTIAL.isdisjoint(nulls):
        return Group(_none(columns), lost=rows, lost_ids=_ids(file, number))
    absent = tuple(name for name in columns.names if name not in there)
    whole = pa.table([_column(table, field) for field in columns], schema=columns)
    good = whole.filter(_is_row(whole))
    return Group(good, lost=rows - good.num_rows, lost_ids=_bad_ids(whole, good), null_columns=nulls, absent=absent)


def _by_columns(
    file: pq.ParquetFile, number: int, fields: Sequence[pa.Field], rows: int
) -> tuple[pa.Table, tuple[str, ...]]:
    """A row group column by column, and the names of those that cannot be read."""
    read: dict[str, pa.ChunkedArray] = {}
    for field in fields:
        try:
            table = file.read_row_group(number, columns=[field.name])
            table.validate(full=True)
            column = table[field.name].cast(field.type)
        except Unreadable:
            continue
        if len(column) == rows:
            read[field.name] = column
    table = pa.table(read) if read else pa.table({"id": pa.nulls(rows, pa.string())})
    return table, tuple(field.name for field in fields if field.name not in read)


def _none(columns: pa.Schema) -> pa.Table:
    return pa.Table.from_batches([], schema=columns)


def _column(table: pa.Table, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    return table[field.name] if field.name in table.column_names else pa.nulls(table.num_rows, field.type)


def _is_row(table: pa.Table) -> pa.ChunkedArray:
    """Which rows hold what a row has to: an id, a status, a kind of error that there is, times that can be."""
    good = pc.is_in(table["status"], value_set=pa.array([status.value for status in Status]))
    kinds = pa.array([None, *(kind.value for kind in ErrorKind)], pa.string())
    good = pc.and_(good, pc.is_in(table["error_kind"], value_set=kinds))
    for name in NEEDED:
        good = pc.and_(good, pc.is_valid(table[name]))
    for name in ("asked_at", "answered_at"):
        kind = table.schema.field(name).type
        within = pc.and_(
            pc.greater_equal(table[name], pa.scalar(_EARLIEST, kind)),
            pc.less_equal(table[name], pa.scalar(_LATEST, kind)),
        )
        good = pc.and_(good, pc.fill_null(within, fill_value=True))
    return good


def _bad_ids(whole: pa.Table, good: pa.Table) -> tuple[str, ...]:
    if whole.num_rows == good.num_rows:
        return ()
    kept = set(good["id"].to_pylist())
    return tuple(str(name) for name in whole["id"].to_pylist() if name and name not in kept)[:NAMED]


def _ids(file: pq.ParquetFile, number: int) -> tuple[str, ...]:
    try:
        column = file.read_row_group(number, columns=["id"])["id"]
        column.validate(full=True)
        return tuple(str(name) for name in column[:NAMED].to_pylist())
    except Unreadable:
        return ()
