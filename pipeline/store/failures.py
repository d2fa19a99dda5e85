"""`failures.csv`: the rows of OUT that are not `ok`, with their reasons, for people and spreadsheets."""

import csv
import io
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from pipeline import files
from pipeline.formatting import csv_cell
from pipeline.store import reading
from pipeline.store.outdir import FAILURES_NAME

COLUMNS = (
    "id", "prompt_name", "image", "status", "error_kind", "error_message", "attempts", "answered_at", "run_id",
)  # fmt: skip


def failures(out: Path) -> Iterator[dict[str, Any]]:
    """The rows in `data/` whose status is not `ok`, in the order of the parts.

    Raises InputError where there is no output of a run, ResourceError for a damaged part.
    """
    for batch in reading.scan(out, COLUMNS, "status != 'ok'"):
        yield from batch.to_pylist()


def write_failures(out: Path, *, has_any: bool) -> Path | None:
    """Replace `failures.csv`, or remove it where all rows are `ok`. Returns its path where it is there.

    Raises OSError and ResourceError.
    """
    path = out / FAILURES_NAME
    if not has_any:
        path.unlink(missing_ok=True)
        return None
    with files.replaced(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="")
        write_csv(failures(out), text)
        text.detach()  # flushed, and not closed: `replaced` brings it to the disk
    return path


def write_csv(rows: Iterator[dict[str, Any]], file: TextIO) -> None:
    """Rows of `failures` as CSV with a header. A cell that a spreadsheet would evaluate is defused."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(csv_cell(plain(row[name])) for name in COLUMNS)


def plain(value: object) -> object:
    """A time as ISO 8601, anything else as it is."""
    return value.isoformat() if isinstance(value, datetime) else value
