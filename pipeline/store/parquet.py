"""Parquet parts: written under a dotted name, and renamed into place when they are complete.

Parts are read and written in row groups, which are bounded in rows and in bytes, so that no part has to fit in memory.
Readers of Parquet directories (pandas, pyarrow, `datasets`) pass over dotted names. Pages carry checksums, and every
reading here verifies them.
"""

import errno
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import files
from pipeline.errors import ResourceError
from pipeline.records import record_key
from pipeline.store.columns import KEY_NAMES
from pipeline.store.salvage.parts import footer_of

ROWS_A_GROUP, GROUP_BYTES = 4_096, 8 << 20
"""A row group has no more rows, and is complete once it takes this much memory: what reading a part takes."""
_PART = re.compile(r"part-(\d{5,})\.parquet")


def part_name(number: int) -> str:
    return f"part-{number:05d}.parquet"


def part_numbers(folder: Path) -> list[int]:
    """The complete parts in `folder`, ascending."""
    names = (_PART.fullmatch(entry.name) for entry in folder.iterdir())
    return sorted(int(name[1]) for name in names if name)


def is_ours(name: str) -> bool:
    """Whether a file of this name is a part, complete or not."""
    return bool(_PART.fullmatch(name.removeprefix(".").removesuffix(".tmp")))


def read_columns(folder: Path, number: int, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of one part, of these columns only. Raises ResourceError where it cannot be read."""
    for table in tables_in(folder / part_name(number), names):
        yield from table.to_pylist()


def remove_unfinished(folder: Path) -> None:
    """Delete what a crash left half written."""
    for file in folder.glob(".part-*.tmp"):
        file.unlink()


def write_part(folder: Path, number: int, table: pa.Table, step: Callable[[str], None] = lambda _: None) -> None:
    """Write or replace one part with the rows of `table`; see `write_tables`."""
    write_tables(folder, number, [table], table.schema, step)


def write_tables(
    folder: Path,
    number: int,
    tables: Iterable[pa.Table],
    columns: pa.Schema,
    step: Callable[[str], None] = lambda _: None,
) -> int:
    """Write or replace one part: a reader sees the old file or the new one, whole. The number of its rows.

    When this returns, the part survives a power cut. `tables` may be read from the part that is replaced, and
    are in memory one row group at a time. `step` is called with the name of each step that is done.
    """
    final = folder / part_name(number)
    unfinished = folder / f".{final.name}.tmp"
    rows = 0
    with files.create(unfinished) as file:
        with pq.ParquetWriter(file, columns, compression="zstd", write_page_checksum=True) as writer:
            for group in grouped(tables):
                writer.write_table(group)
                rows += group.num_rows
        file.flush()
        step("tmp-written")
        os.fsync(file.fileno())
    step("tmp-synced")
    unfinished.replace(final)
    step("renamed")
    sync_folder(folder)
    step("folder-synced")
    return rows


def grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in row groups: none is empty, which `datasets` cannot read."""
    held: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        rest = table
        while rest.num_rows:
            piece = rest.slice(0, ROWS_A_GROUP - rows)
            rest = rest.slice(piece.num_rows)
            held.append(piece)
            rows, size = rows + piece.num_rows, size + piece.nbytes
            if rows == ROWS_A_GROUP or size >= GROUP_BYTES:
                yield pa.concat_tables(held)
                held, rows, size = [], 0, 0
    if held:
        yield pa.concat_tables(held)


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or deleted in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rows_without(folder: Path, number: int, columns: pa.Schema, keys: Collection[bytes]) -> Iterator[pa.Table]:
    """The rows of one part without those of these records, with exactly `columns`; none where there is no such part."""
    if not (folder / part_name(number)).exists():
        return
    for table in tables_in(folder / part_name(number), columns.names, columns):
        is_kept = [record_key(name, prompt) not in keys for name, prompt in _keys(table)]
        yield table if all(is_kept) else table.filter(pa.array(is_kept))


def rows_of(folder: Path, number: int, columns: pa.Schema, keys: Collection[bytes]) -> Iterator[dict[str, object]]:
    """The rows of these records in one part."""
    path = folder / part_name(number)
    if not path.exists():
        return
    with _opened(path) as file:
        for group in range(file.num_row_groups):
            found = (names for table in _group(file, group, KEY_NAMES) for names in _keys(table))
            if not any(record_key(*names) in keys for names in found):
                continue
            for table in _group(file, group, columns.names, columns):
                for at, names in enumerate(_keys(table)):
                    if record_key(*names) in keys:
                        yield from table.slice(at, 1).to_pylist()


def count_rows(folder: Path, number: int) -> int:
    """The rows of one part, from its footer."""
    path = folder / part_name(number)
    with readable(path):
        return int(pq.read_metadata(path).num_rows)


def footer(folder: Path, number: int) -> bytes:
    """The copy of a part's footer that the ledger stores, to read the part where its own is damaged.

    Measured for 100,000 rows: 3 KB with one row group, 19 KB with 25 of them.
    """
    path = folder / part_name(number)
    with readable(path):
        return footer_of(path)


def check_columns(folder: Path, columns: pa.Schema) -> None:
    """Raise ResourceError where the footer of a part cannot be read, or its rows could not be read as `columns`."""
    for number in part_numbers(folder):
        path = folder / part_name(number)
        with readable(path):
            there = pq.read_schema(path)
            if missing := [name for name in columns.names if name not in there.names]:
                raise KeyError(f"it has no column {missing[0]}")
            pa.Table.from_batches([], schema=there).select(columns.names).cast(columns)


def size_of(folder: Path, number: int) -> tuple[int, int]:
    """The rows of one part, and their bytes before compression, from its footer."""
    path = folder / part_name(number)
    with readable(path):
        footer = pq.read_metadata(path)
    return footer.num_rows, sum(footer.row_group(group).total_byte_size for group in range(footer.num_row_groups))


def rows_by_part(folder: Path) -> dict[int, int]:
    """The rows of every part, from their footers; part numbers ascending."""
    return {number: count_rows(folder, number) for number in part_numbers(folder)}


def batches(folder: Path, columns: pa.Schema) -> Iterator[pa.Table]:
    """All rows of all parts in their order, a few thousand at a time, with exactly `columns`."""
    for number in part_numbers(folder):
        yield from tables_in(folder / part_name(number), columns.names, columns)


def places(folder: Path) -> Iterator[tuple[bytes, int]]:
    """(key, number of its part) of every row of every part."""
    for number in part_numbers(folder):
        for table in tables_in(folder / part_name(number), KEY_NAMES):
            for name, prompt in _keys(table):
                yield record_key(name, prompt), number


def answered(folder: Path, number: int, keys: Collection[bytes]) -> Iterator[tuple[bytes, int, datetime | None]]:
    """(key, row counted from 0, when it was answered) of these records in one part."""
    at = 0
    for table in tables_in(folder / part_name(number), [*KEY_NAMES, "answered_at"]):
        times = table["answered_at"]
        for row, (name, prompt) in enumerate(_keys(table)):
            if (key := record_key(name, prompt)) in keys:
                yield key, at + row, times[row].as_py()
        at += table.num_rows


def keys_of(folder: Path, number: int) -> Iterator[list[bytes]]:
    """The keys of all rows of one part, some at a time; all of it is read and its checksums are verified."""
    for table in tables_in(folder / part_name(number), None):
        yield [record_key(name, prompt) for name, prompt in _keys(table)]


def tables_in(path: Path, names: Sequence[str] | None, columns: pa.Schema | None = None) -> Iterator[pa.Table]:
    """The rows of a part in bounded tables, of these columns (None: all), with exactly the schema `columns`."""
    with _opened(path) as file:
        for group in range(file.num_row_groups):
            yield from _group(file, group, names, columns)


def _group(
    file: pq.ParquetFile, group: int, names: Sequence[str] | None, columns: pa.Schema | None = None
) -> Iterator[pa.Table]:
    """The rows of one row group, in tables bounded in rows and bytes, whichever program wrote it."""
    found = file.metadata.row_group(group)
    rows = max(1, min(ROWS_A_GROUP, found.num_rows * GROUP_BYTES // max(1, found.total_byte_size)))
    wanted = None if names is None else list(names)
    for batch in file.iter_batches(rows, row_groups=[group], columns=wanted, use_threads=False):
        table = pa.Table.from_batches([batch])
        yield table if columns is None else table.select(columns.names).cast(columns)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    with readable(path), pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
        yield file


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise ResourceError, with the way out, where a part cannot be read."""
    try:
        yield
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        if getattr(error, "errno", None) in {errno.EMFILE, errno.ENFILE}:  # nothing is wrong with the part
            raise ResourceError(
                f"{path}: no file handle left to read it: raise the limit (ulimit -n 4096) "
                "or lower `limits.concurrency`"
            ) from error
        raise ResourceError(
            f"{path}: this part cannot be read ({error}). Put it back from a copy, or let "
            f"`vision-batch rebuild {path.parent.parent} --drop-unreadable` move it aside: its records are asked again"
        ) from error


def _keys(table: pa.Table) -> Iterator[tuple[str, str]]:
    return zip(table["id"].to_pylist(), table["prompt_name"].to_pylist(), strict=True)
