"""Rows as the ledger stores them (JSON) -> Parquet parts, renamed into place when they are complete.

Parts are read and written in row groups, which are bounded in rows and in bytes, so that no part has to be in memory
whole. What is unfinished bears a leading dot, which readers of Parquet directories (pandas, pyarrow, `datasets`)
pass over. Pages carry checksums, and every reading here verifies them.
"""

import errno
import filecmp
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from pipeline import files
from pipeline.errors import ResourceError
from pipeline.records import record_key
from pipeline.store.salvage import parts as salvage
from pipeline.store.salvage.parts import PartReport, footer_of

ROWS_A_GROUP, GROUP_BYTES = 4_096, 8 << 20
"""A row group has no more rows, and is complete once it takes this much memory: what reading a part takes."""
ROWS_A_TABLE, BATCH_BYTES = 1_000, 4 << 20
"""Rows, and bytes of JSON, that become a table at a time: Arrow reads no block of 2 GiB."""
KEY_COLUMNS = ("id", "prompt_name")
_PART = re.compile(r"part-(\d{5,})\.parquet")

_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("id", pa.string()),
    ("prompt_name", pa.string()),
    ("image", pa.string()),
    ("status", pa.string()),
    ("caption", pa.string()),
    ("captions", pa.list_(pa.string())),
    ("flags", pa.list_(pa.string())),
    ("model", pa.string()),
    ("endpoint", pa.string()),
    ("provider", pa.string()),
    ("finish_reason", pa.string()),
    ("request_id", pa.string()),
    ("prompt_tokens", pa.int64()),
    ("cached_tokens", pa.int64()),
    ("completion_tokens", pa.int64()),
    ("reasoning_tokens", pa.int64()),
    ("total_tokens", pa.int64()),
    ("predicted_prompt_tokens", pa.int64()),
    ("token_rule", pa.string()),
    ("cost_usd", pa.decimal128(18, 9)),
    ("attempts", pa.int32()),
    ("latency_s", pa.float64()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("sent_width", pa.int32()),
    ("sent_height", pa.int32()),
    ("sent_bytes", pa.int32()),
    ("sha256", pa.string()),
    ("request_sha256", pa.string()),
    ("duplicate_of", pa.string()),
    ("error_kind", pa.string()),
    ("error_message", pa.string()),
    ("run_id", pa.string()),
    ("config_hash", pa.string()),
    ("asked_at", pa.timestamp("us", tz="UTC")),
    ("answered_at", pa.timestamp("us", tz="UTC")),
    ("record", pa.string()),
)


def schema(*, n: int = 1) -> pa.Schema:
    """The columns of `data/`, in order. `captions` only where `n` > 1 choices are asked for."""
    fields = [pa.field(name, kind) for name, kind in _COLUMNS if name != "captions" or n > 1]
    return pa.schema(fields, metadata={"vision_batch": "1"})


def known_columns(stored: bytes | None) -> pa.Schema | None:
    """A schema as a ledger keeps it; None where it cannot be read, or has columns that no version of ours has."""
    try:
        columns: pa.Schema = pa.ipc.read_schema(pa.py_buffer(stored or b""))
        kinds = {field.name: field.type for field in columns if field.nullable}  # names are decoded here
    except (pa.ArrowException, OSError, ValueError):
        return None
    ours = dict(_COLUMNS)
    is_ours = all(ours.get(name) == kind for name, kind in kinds.items())
    has_all = set(salvage.NEEDED) | {"error_kind", "asked_at", "answered_at"} <= kinds.keys()
    return columns if is_ours and has_all and len(kinds) == len(columns) else None


def encode_row(row: Mapping[str, object]) -> bytes:
    """A row as JSON: times in UTC with microseconds, money as decimal text.

    Half surrogate pairs, which a model may well answer, become U+FFFD: Parquet takes no other than UTF-8.
    """
    try:
        return orjson.dumps(row, default=str, option=orjson.OPT_NAIVE_UTC)
    except TypeError:
        mended = {name: _mended(value) for name, value in row.items()}
        return orjson.dumps(mended, default=str, option=orjson.OPT_NAIVE_UTC)


def _mended(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_mended(item) for item in value]
    return value


def table_of(rows: Iterable[bytes], columns: pa.Schema) -> pa.Table:
    """Rows from `encode_row` as a table; names that are no column are left out, absent ones are null.

    Raises ArrowInvalid where they are not what `encode_row` writes.
    """
    lines = b"\n".join(rows)
    if not lines:
        return empty(columns)
    # Arrow's JSON reader knows no time zones: times are read as text. One block, so that no row is too long for it.
    as_text = [field.with_type(pa.string()) if pa.types.is_timestamp(field.type) else field for field in columns]
    read = pj.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    parse = pj.ParseOptions(explicit_schema=pa.schema(as_text), unexpected_field_behavior="ignore")
    found = pj.read_json(pa.BufferReader(lines), read_options=read, parse_options=parse).cast(columns)
    found.validate(full=True)  # text that is no UTF-8 is written without a word, and cannot be read again
    return found


def tables_of(rows: Iterable[bytes], columns: pa.Schema) -> Iterator[pa.Table]:
    """The same in tables of `BATCH_BYTES` of JSON, and one row more, at most."""
    held: list[bytes] = []
    size = 0
    for row in rows:
        held.append(row)
        size += len(row)
        if size >= BATCH_BYTES or len(held) == ROWS_A_TABLE:
            yield table_of(held, columns)
            held, size = [], 0
    if held:
        yield table_of(held, columns)


def empty(columns: pa.Schema) -> pa.Table:
    """No rows. (Arrow's own `empty_table` imports pandas, a tenth of a second and 40 MB.)"""
    return pa.Table.from_batches([], schema=columns)


def use_steady_memory() -> None:
    """Let Arrow take its memory from the C library, for the whole process.

    Its own pool (mimalloc) does not give back what sealing took: in 100,000 records of small parts that came to 40 MB,
    in steps. Whoever has chosen a pool (ARROW_DEFAULT_MEMORY_POOL) keeps it.
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())


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
    for table in _batches(folder / part_name(number), names):
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
    """The rows of one part but those of these records, with exactly `columns`; none where there is no such part."""
    if not (folder / part_name(number)).exists():
        return
    for table in _batches(folder / part_name(number), columns.names, columns):
        is_kept = [record_key(name, prompt) not in keys for name, prompt in _keys(table)]
        yield table if all(is_kept) else table.filter(pa.array(is_kept))


def rows_of(folder: Path, number: int, columns: pa.Schema, keys: Collection[bytes]) -> Iterator[dict[str, object]]:
    """The rows of these records in one part."""
    path = folder / part_name(number)
    if not path.exists():
        return
    with _opened(path) as file:
        for group in range(file.num_row_groups):
            found = (names for table in _group(file, group, KEY_COLUMNS) for names in _keys(table))
            if not any(record_key(*names) in keys for names in found):
                continue
            for table in _group(file, group, columns.names, columns):
                for at, names in enumerate(_keys(table)):
                    if record_key(*names) in keys:
                        yield from table.slice(at, 1).to_pylist()


def count_rows(folder: Path, number: int) -> int:
    """The rows of one part, from its footer."""
    path = folder / part_name(number)
    with _readable(path):
        return int(pq.read_metadata(path).num_rows)


def footer(folder: Path, number: int) -> bytes:
    """What the ledger keeps of a part, to read it by where its end is damaged.

    Measured for 100,000 rows: 3 KB with one row group, 19 KB with 25 of them.
    """
    path = folder / part_name(number)
    with _readable(path):
        return footer_of(path)


def check_columns(folder: Path, columns: pa.Schema) -> None:
    """Raise ResourceError where the footer of a part cannot be read, or its rows could not be read as `columns`."""
    for number in part_numbers(folder):
        path = folder / part_name(number)
        with _readable(path):
            there = pq.read_schema(path)
            if missing := [name for name in columns.names if name not in there.names]:
                raise KeyError(f"it has no column {missing[0]}")
            pa.Table.from_batches([], schema=there).select(columns.names).cast(columns)


def size_of(folder: Path, number: int) -> tuple[int, int]:
    """The rows of one part, and their bytes before compression, from its footer."""
    path = folder / part_name(number)
    with _readable(path):
        footer = pq.read_metadata(path)
    return footer.num_rows, sum(footer.row_group(group).total_byte_size for group in range(footer.num_row_groups))


def rows_by_part(folder: Path) -> dict[int, int]:
    """The rows of every part, from their footers; part numbers ascending."""
    return {number: count_rows(folder, number) for number in part_numbers(folder)}


def batches(folder: Path, columns: pa.Schema) -> Iterator[pa.Table]:
    """All rows of all parts in their order, a few thousand at a time, with exactly `columns`."""
    for number in part_numbers(folder):
        yield from _batches(folder / part_name(number), columns.names, columns)


def places(folder: Path) -> Iterator[tuple[bytes, int]]:
    """(key, number of its part) of every row of every part."""
    for number in part_numbers(folder):
        for table in _batches(folder / part_name(number), KEY_COLUMNS):
            for name, prompt in _keys(table):
                yield record_key(name, prompt), number


def answered(folder: Path, number: int, keys: Collection[bytes]) -> Iterator[tuple[bytes, int, datetime | None]]:
    """(key, row counted from 0, when it was answered) of these records in one part."""
    at = 0
    for table in _batches(folder / part_name(number), [*KEY_COLUMNS, "answered_at"]):
        times = table["answered_at"]
        for row, (name, prompt) in enumerate(_keys(table)):
            if (key := record_key(name, prompt)) in keys:
                yield key, at + row, times[row].as_py()
        at += table.num_rows


def drop_rows(folder: Path, number: int, rows: Collection[int]) -> None:
    """Write one part anew without these rows, counted from 0."""
    path = folder / part_name(number)
    with _readable(path):
        columns = pq.read_schema(path)
    write_tables(folder, number, _without_places(path, rows), columns)


def _without_places(path: Path, rows: Collection[int]) -> Iterator[pa.Table]:
    at = 0
    for table in _batches(path, None):
        yield table.filter(pa.array([at + row not in rows for row in range(table.num_rows)]))
        at += table.num_rows


def keys_of(folder: Path, number: int) -> Iterator[list[bytes]]:
    """The keys of all rows of one part, some at a time; all of it is read and its checksums are verified."""
    for table in _batches(folder / part_name(number), None):
        yield [record_key(name, prompt) for name, prompt in _keys(table)]


def column_names(folder: Path) -> list[list[str]]:
    """Of each part whose footer can be read."""
    found = []
    for number in part_numbers(folder) if folder.is_dir() else []:
        with suppress(*salvage.Unreadable):
            found.append(list(pq.read_schema(folder / part_name(number)).names))
    return found


def reports(folder: Path, columns: pa.Schema, footers: Mapping[int, bytes]) -> dict[int, PartReport]:
    """How much of each part can be read; `footers` are the ledger's copies."""
    return {
        number: salvage.report(folder / part_name(number), columns, footers.get(number))
        for number in part_numbers(folder)
    }


def rewrite(folder: Path, number: int, columns: pa.Schema, footer: bytes | None) -> None:
    """Write one part anew with the rows of it that can be read."""
    groups = salvage.groups(folder / part_name(number), columns, footer)
    write_tables(folder, number, (group.table for group in groups), columns)


def copy_aside(folder: Path, number: int, to: Path) -> Path:
    """Copy a damaged part into the folder `to`, under a dotted name that is free; where the copy lies."""
    source = folder / part_name(number)
    named = to / f".unreadable-{part_name(number)}"
    for again in count():
        path = named if not again else named.with_name(f"{named.name}.{again}")
        if not os.path.lexists(path):
            with source.open("rb") as file:
                files.copy(file, path)
            return path
        if not files.is_odd(path) and filecmp.cmp(path, source, shallow=False):  # by a rebuild that was cut off
            return path
    raise AssertionError


def _batches(path: Path, names: Sequence[str] | None, columns: pa.Schema | None = None) -> Iterator[pa.Table]:
    with _opened(path) as file:
        for group in range(file.num_row_groups):
            yield from _group(file, group, names, columns)


def _group(
    file: pq.ParquetFile, group: int, names: Sequence[str] | None, columns: pa.Schema | None = None
) -> Iterator[pa.Table]:
    """The rows of one row group. It is one table, but for parts of earlier versions, which are one group each."""
    found = file.metadata.row_group(group)
    rows = max(1, min(ROWS_A_GROUP, found.num_rows * GROUP_BYTES // max(1, found.total_byte_size)))
    wanted = None if names is None else list(names)
    for batch in file.iter_batches(rows, row_groups=[group], columns=wanted, use_threads=False):
        table = pa.Table.from_batches([batch])
        yield table if columns is None else table.select(columns.names).cast(columns)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    with _readable(path), pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
        yield file


@contextmanager
def _readable(path: Path) -> Iterator[None]:
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
