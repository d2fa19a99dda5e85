"""Rows as the ledger stores them (JSON) and as tables.

A row becomes JSON when it is committed, and part of an Arrow table when it is sealed.
"""

from collections.abc import Iterable, Iterator, Mapping

import orjson
import pyarrow as pa
import pyarrow.json as pj

ROWS_A_TABLE, BATCH_BYTES = 1_000, 4 << 20
"""Rows, and bytes of JSON, that become one table: Arrow reads no block of 2 GiB."""


def encode_row(row: Mapping[str, object]) -> bytes:
    """A row as JSON: times in UTC with microseconds, money as decimal text.

    Lone surrogates, which an answer may contain, become U+FFFD: Parquet stores UTF-8 only.
    """
    try:
        return orjson.dumps(row, default=str, option=orjson.OPT_NAIVE_UTC)
    except TypeError:
        repaired = {name: _repaired(value) for name, value in row.items()}
        return orjson.dumps(repaired, default=str, option=orjson.OPT_NAIVE_UTC)


def _repaired(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_repaired(item) for item in value]
    if isinstance(value, dict):
        return {name: _repaired(item) for name, item in value.items()}
    return value


def table_of(rows: Iterable[bytes], columns: pa.Schema) -> pa.Table:
    """Rows from `encode_row` as a table; a column that a row lacks is null.

    Raises ValueError where a row has a name that is no column, ArrowInvalid where a column cannot hold a value.
    """
    rows = list(rows)
    lines = b"\n".join(rows)
    if not lines:
        return empty(columns)
    # Arrow's JSON reader has no time zones: times are read as text. One block, so that no row is too long for it.
    as_text = [field.with_type(pa.string()) if pa.types.is_timestamp(field.type) else field for field in columns]
    read = pj.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    parse = pj.ParseOptions(explicit_schema=pa.schema(as_text), unexpected_field_behavior="error")
    try:
        found = pj.read_json(pa.BufferReader(lines), read_options=read, parse_options=parse).cast(columns)
    except pa.ArrowInvalid:
        _check_names(rows, columns)
        raise
    found.validate(full=True)  # text that is not UTF-8 would be written without an error, and could not be read again
    return found


def _check_names(rows: Iterable[bytes], columns: pa.Schema) -> None:
    known = set(columns.names)
    for row in rows:
        if unknown := [name for name in orjson.loads(row) if name not in known]:
            raise ValueError(f"a row has the name {unknown[0]!r}, which is no column of this output directory")


def tables_of(rows: Iterable[bytes], columns: pa.Schema) -> Iterator[pa.Table]:
    """Rows from `encode_row` as tables, each of at most `BATCH_BYTES` of JSON and one row."""
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
