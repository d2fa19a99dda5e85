"""JSON lines: one object a row, the columns in their order; money as text, times in ISO 8601 (UTC)."""

import os
from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow as pa

from pipeline import files


def export_jsonl(batches: Iterator[pa.RecordBatch], dest: Path) -> int:
    """Write `dest` as one file, which is renamed into place when it is complete."""
    unfinished = dest.with_name(f".{dest.name}.tmp")
    rows = 0
    try:
        with files.create(unfinished) as file:
            for batch in batches:
                for row in batch.to_pylist():
                    file.write(orjson.dumps(row, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))
                rows += batch.num_rows
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(dest)
    finally:
        unfinished.unlink(missing_ok=True)
    return rows
