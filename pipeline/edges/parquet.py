"""Rows as the ledger stores them (JSON) -> Parquet parts, renamed into place when they are complete.

A part is read or written whole, one at a time. What is unfinished bears a leading dot, which readers of
Parquet directories (pandas, pyarrow, `datasets`) pass over.
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
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

from pipeline import files
from pipeline.errors import ResourceError
from pipeline.records import record_key
from pipeline.salvage import parts as salvage
from pipeline.salvage.parts import PartReport, footer_of

_ROWS_A_BATCH = 10_000
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
    """Rows from `encode_row` as a table; names that are no column are left out, absent ones are null."""
    lines = b"\n".join(rows)
    if not lines:
        return empty(columns)
    # Arrow's JSON reader knows no time zones: times are read as text. One block, so that no row is too long for it.
    as_text = [field.with_type(pa.string()) if pa.types.is_timestamp(field.type) else field for field in columns]
    read = pj.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    parse = pj.ParseOptions(explicit_schema=pa.schema(as_text), unexpected_field_behavior="ignore")
    return pj.read_json(pa.BufferReader(lines), read_options=read, parse_options=parse).cast(columns)


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
    """The rows of one part, of these columns only. Raises OSError where it cannot be read."""
    try:
        with pq.ParquetFile(folder / part_name(number)) as file:
            for batch in file.iter_batches(_ROWS_A_BATCH, columns=list(names)):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise OSError(f"{folder / part_name(number)}: {error}") from None


def remove_unfinished(folder: Path) -> None:
    """Delete what a crash left half written."""
    for file in folder.glob(".part-*.tmp"):
        file.unlink()


def write_part(folder: Path, number: int, table: pa.Table, step: Callable[[str], None] = lambda _: None) -> None:
    """Write or replace one part: a reader sees the old file or the new one, whole.

    When this returns, the part survives a power cut. `step` is told each step once it is done.
    """
    final = folder / part_name(number)
    unfinished = folder / f".{final.name}.tmp"
    with files.create(unfinished) as file:
        with pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
            if table.num_rows:  # a row group of no rows is what `datasets` cannot read
                writer.write_table(table)
        file.flush()
        step("tmp-written")
        os.fsync(file.fileno())
    step("tmp-synced")
    unfinished.replace(final)
    step("renamed")
    sync_folder(folder)
    step("folder-synced")


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or deleted in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_part(folder: Path, number: int, columns: pa.Schema) -> pa.Table:
    """One part with exactly `columns`; an empty table where it does not exist yet."""
    path = folder / part_name(number)
    if not path.exists():
        return empty(columns)
    with _readable(path), pq.ParquetFile(path) as file:  # `read_table` imports pandas
        return file.read(columns.names).select(columns.names).cast(columns)


def count_rows(folder: Path, number: int) -> int:
    """The rows of one part, from its footer."""
    path = folder / part_name(number)
    with _readable(path):
        return int(pq.read_metadata(path).num_rows)


def footer(folder: Path, number: int) -> bytes:
    """What the ledger keeps of a part, to read it by where its end is damaged. Measured: 4 KB for a row group."""
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
        for table in _batches(folder / part_name(number), ["id", "prompt_name"]):
            for name, prompt in _keys(table):
                yield record_key(name, prompt), number


def answered(folder: Path, number: int, keys: Collection[bytes]) -> Iterator[tuple[bytes, int, datetime | None]]:
    """(key, row counted from 0, when it was answered) of these records in one part."""
    at = 0
    for table in _batches(folder / part_name(number), ["id", "prompt_name", "answered_at"]):
        times = table["answered_at"]
        for row, (name, prompt) in enumerate(_keys(table)):
            if (key := record_key(name, prompt)) in keys:
                yield key, at + row, times[row].as_py()
        at += table.num_rows


def drop_rows(folder: Path, number: int, rows: Collection[int]) -> None:
    """Write one part anew without these rows, counted from 0."""
    path = folder / part_name(number)
    with _readable(path), pq.ParquetFile(path) as file:
        table = file.read()
    write_part(folder, number, table.filter(pa.array([row not in rows for row in range(table.num_rows)])))


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
    tables = [group.table for group in salvage.groups(folder / part_name(number), columns, footer)]
    write_part(folder, number, pa.concat_tables([empty(columns), *tables]))


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
    with _readable(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS_A_BATCH, columns=names):
            table = pa.Table.from_batches([batch])
            yield table if columns is None else table.select(columns.names).cast(columns)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        if getattr(error, "errno", None) in {errno.EMFILE, errno.ENFILE}:  # nothing is wrong with the part
            raise ResourceError(
                f"{path}: no file handle left to read it: raise the limit (ulimit -n 4096) or lower --concurrency"
            ) from error
        raise ResourceError(
            f"{path}: this part cannot be read ({error}). Put it back from a copy, or let "
            f"`vision-batch rebuild {path.parent.parent} --drop-unreadable` move it aside: its records are asked again"
        ) from error


def merge(old: pa.Table, new: pa.Table) -> pa.Table:
    """`old` without the rows whose (id, prompt_name) is in `new`, then `new`. Merging twice changes nothing.

    Where `new` has a key twice, the later row holds.
    """
    keys = list(_keys(new))
    last = {key: at for at, key in enumerate(keys)}
    if len(last) < len(keys):
        new = new.take(pa.array(sorted(last.values())))
    again = pc.is_in(old["id"], value_set=new["id"].combine_chunks())
    if pc.any(again).as_py():
        old = old.filter(pa.array([key not in last for key in _keys(old)]))
    return pa.concat_tables([old, new])


def rows_of(table: pa.Table, keys: Collection[bytes]) -> list[dict[str, object]]:
    """The rows of these records."""
    at = [place for place, (name, prompt) in enumerate(_keys(table)) if record_key(name, prompt) in keys]
    rows: list[dict[str, object]] = table.take(pa.array(at, pa.int64())).to_pylist()
    return rows


def _keys(table: pa.Table) -> Iterator[tuple[str, str]]:
    return zip(table["id"].to_pylist(), table["prompt_name"].to_pylist(), strict=True)
