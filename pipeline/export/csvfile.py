"""CSV as spreadsheets read it: a header, lists and structs as JSON, and no cell that is taken for a formula."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import orjson
import pyarrow as pa

from pipeline import files
from pipeline.export.rows import Rows
from pipeline.formatting import defused


def export_csv(rows: Rows, dest: Path) -> int:
    """Write `dest` as one file, which is renamed into place when it is complete."""
    written = 0
    with files.replaced(dest) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(map(defused, rows.names))
        for batch in rows:
            writer.writerows(_cells(batch))
            written += batch.num_rows
        text.detach()
    return written


def _cells(batch: pa.RecordBatch) -> Iterable[tuple[object, ...]]:
    return zip(*map(_column, batch.columns), strict=True)


def _column(column: pa.Array) -> list[object]:
    """Texts that a spreadsheet would evaluate begin with an apostrophe; null is an empty cell."""
    kind, values = column.type, column.to_pylist()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return [value if value is None else defused(value) for value in values]
    if pa.types.is_timestamp(kind):
        return [value if value is None else value.isoformat() for value in values]
    if pa.types.is_nested(kind):
        return [value if value is None else orjson.dumps(value, default=str).decode() for value in values]
    if pa.types.is_boolean(kind):
        return [value if value is None else str(value).lower() for value in values]
    return list(values)
