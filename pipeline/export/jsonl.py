"""JSON lines: one object a row, the columns in their order; money as text, times in ISO 8601 (UTC)."""

from collections.abc import Iterable
from pathlib import Path

import orjson
import pyarrow as pa

from pipeline import files


def export_jsonl(batches: Iterable[pa.RecordBatch], dest: Path) -> int:
    """Write `dest` as one file, which is renamed into place when it is complete."""
    rows = 0
    with files.replaced(dest) as file:
        for batch in batches:
            file.writelines(map(_line, batch.to_pylist()))
            rows += batch.num_rows
    return rows


def _line(row: dict[str, object]) -> bytes:
    return orjson.dumps(row, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
