"""CSV as spreadsheets read it: a header, lists and structs as JSON, and no cell that is taken for a formula."""

import csv
import io
from collections.abc import Iterable
from datetime import datetime
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


def _cells(batch: pa.RecordBatch) -> Iterable[list[object]]:
    columns = [column.to_pylist() for column in batch.columns]
    return ([_cell(value) for value in row] for row in zip(*columns, strict=True))


def _cell(value: object) -> object:
    """Texts that a spreadsheet would evaluate begin with an apostrophe; null is an empty cell."""
    if isinstance(value, str):
        return defused(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return orjson.dumps(value, default=str).decode()
    return value
