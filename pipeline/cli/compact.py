"""`vision-batch compact`."""

from pathlib import Path

import click

from pipeline.api import datasets
from pipeline.cli.options import JSON, Option, command, out_argument
from pipeline.cli.output import show_json, show_lines
from pipeline.engine.progress import counted

OPTIONS = (
    out_argument("No run may be at work on it."),
    Option(
        "--rows-per-part",
        metavar="N",
        type=click.IntRange(1),
        help="Rows per Parquet file. [default: output.rows_per_part of the last run]",
    ),
    JSON,
)


@command("compact", OPTIONS)
def compact(*, out: Path, rows_per_part: int | None, as_json: bool) -> int:
    """Rewrite the rows as parts of equal size, and the ledger without its gaps."""
    report = datasets.compact(out, rows_per_part=rows_per_part)
    if as_json:
        show_json(report.as_dict())
        return 0
    show_lines(
        f"{out}: {counted(report.records, 'record')} in {counted(report.parts_after, 'part')} "
        f"(before: {report.parts_before:,}); "
        f"data {report.bytes_before:,} -> {report.bytes_after:,} bytes, "
        f"ledger {report.ledger_bytes_before:,} -> {report.ledger_bytes_after:,} bytes"
    )
    return 0
