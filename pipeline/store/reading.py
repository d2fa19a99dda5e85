"""Reads the rows of an output directory, also while a run is at work on it."""

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError, ResourceError
from pipeline.store import parquet
from pipeline.store.filters import to_arrow
from pipeline.store.flattening import flat_names, flattened, stored_name
from pipeline.store.layout import DATA_NAME
from pipeline.store.schemas import schema

if TYPE_CHECKING:
    import pandas as pd

_ROWS_A_BATCH = 4_096
_INT64 = 2**63
_READ_AHEAD = 2
"""Batches that Arrow decodes before they are asked for: this bounds the memory."""


def scan(out: Path, columns: Sequence[str] | None = None, where: str | None = None) -> Iterator[pa.RecordBatch]:
    """The rows in batches, as they are stored: all columns, or these; all rows, or those where `where` is true.

    Raises InputError, before the first batch, where there is no output directory, for an unknown column, and for a
    `where` that cannot be read; ResourceError where a part cannot be read.
    """
    folder, schema = _opened(out)
    names = _checked(columns, schema)
    condition = None if where is None else to_arrow(where, schema)
    return _batches(folder, schema, names, condition)


def scan_flat(
    out: Path, columns: Sequence[str] | None = None, where: str | None = None
) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    """The same with labels as columns of their own, `labels.x`, which `columns` may name too; and their names.

    Raises what `scan` raises.
    """
    folder, schema = _opened(out)
    named = None if columns is None else [columns] if isinstance(columns, str) else list(columns)
    known = flat_names(schema.names, schema)
    if unknown := [name for name in named or () if not flat_names([name], schema)]:
        raise InputError(f"no column {unknown[0]!r}; known: {', '.join(known)}")
    names = known if named is None else flat_names(named, schema)
    stored = list(dict.fromkeys(stored_name(name) for name in names))
    condition = None if where is None else to_arrow(where, schema)
    return names, (flattened(batch, names) for batch in _batches(folder, schema, stored, condition))


def read(out: Path, columns: Sequence[str] | None = None, where: str | None = None) -> "pd.DataFrame":
    """The rows as a DataFrame: money as float, the manifest's columns in place of `record`, labels as `labels.x`.

    Raises what `scan` raises.
    """
    import pandas as pd  # noqa: PLC0415 - a tenth of a second, which a run does not need

    _, schema = _opened(out)
    names, batches = scan_flat(out, columns, where)
    nothing = flattened(pa.RecordBatch.from_pylist([], schema=schema), names)
    frame: pd.DataFrame = pa.Table.from_batches(batches, schema=nothing.schema).to_pandas()
    if "cost_usd" in names:
        frame["cost_usd"] = frame["cost_usd"].map(_as_float, na_action="ignore").astype("float64")
    if "record" not in names:
        return frame
    rows = [json.loads(text) if isinstance(text, str) else {} for text in frame.pop("record")]
    extra = pd.DataFrame(rows, index=frame.index)
    for name in extra.columns[extra.isna().any()]:  # a missing integer makes a column of floats, which joins with none
        values = [row.get(name) for row in rows]
        if all(value is None or type(value) is int for value in values):
            extra[name] = pd.Series(values, frame.index, _integers(values))
    renamed = extra.rename(columns={name: f"record.{name}" for name in extra.columns if name in frame.columns})
    return frame.join(renamed)


def _integers(values: Sequence[int | None]) -> str:
    """Pandas's type of integers that may be missing."""
    known = [value for value in values if value is not None]
    if min(known, default=0) >= -_INT64 and max(known, default=0) < _INT64:
        return "Int64"
    return "UInt64" if min(known) >= 0 and max(known) < 2 * _INT64 else "object"


def _as_float(amount: Decimal) -> float:
    return float(amount)


def schema_of(out: Path) -> pa.Schema:
    """The columns of an output directory. Raises what `scan` raises."""
    return _opened(out)[1]


def _opened(out: Path) -> tuple[Path, pa.Schema]:
    """The folder of parts, and their schema; that of new output directories where there is no part yet."""
    folder = out / DATA_NAME
    if not folder.is_dir():
        raise InputError(f"{out}: no vision-batch output here (there is no {folder})")
    numbers = parquet.part_numbers(folder)
    if not numbers:
        return folder, schema()
    path = folder / parquet.part_name(numbers[0])
    with parquet.readable(path):
        return folder, pq.read_schema(path)


def _checked(columns: Sequence[str] | None, schema: pa.Schema) -> list[str]:
    if columns is None:
        return list(schema.names)
    names = [columns] if isinstance(columns, str) else list(columns)
    if unknown := [name for name in names if name not in schema.names]:
        raise InputError(f"no column {unknown[0]!r}; known: {', '.join(schema.names)}")
    return names


def _batches(folder: Path, schema: pa.Schema, names: list[str], condition: object) -> Iterator[pa.RecordBatch]:
    import pyarrow.dataset as ds  # noqa: PLC0415 - a run does not need it

    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    file_format = ds.ParquetFileFormat(default_fragment_scan_options=options)
    for number in parquet.part_numbers(folder):
        path = folder / parquet.part_name(number)
        if not path.exists():
            raise ResourceError(f"{path}: it was replaced while it was read (`vision-batch compact`?); read again")
        with parquet.readable(path):
            part = ds.dataset(str(path), format=file_format, schema=schema)
            yield from part.to_batches(
                columns=names, filter=condition, batch_size=_ROWS_A_BATCH, batch_readahead=_READ_AHEAD
            )
