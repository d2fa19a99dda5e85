"""`vision-batch export`."""

from pathlib import Path
from typing import Any, get_args

import click

from pipeline.api import exports
from pipeline.cli.options import JSON, QUIET, Option, command, out_argument
from pipeline.cli.output import complain, show_json, show_lines
from pipeline.engine.progress import counted
from pipeline.errors import InputError
from pipeline.export.formats import EXPORTERS
from pipeline.export.options import IfExists, ImagesAs, ReviewsAs
from pipeline.export.report import ExportReport
from pipeline.interrupts import Interruption, unwinding

_SHOWN = 5
"""Ids of each reason on the screen."""
_ROWS, _TEXTS, _FILES = "Rows", "Texts", "Files"


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


OPTIONS = (
    out_argument("A run may be at work on it."),
    click.Argument(
        ["dest"],
        metavar="[DEST]",
        required=False,
        type=click.Path(path_type=Path),
        help="The file or the folder to write. Without one, txt goes beside the images.",
    ),
    Option("--to", metavar="FORMAT", help=f"One of {', '.join(EXPORTERS)}."),
    Option("--prompt-name", metavar="NAME", panel=_ROWS, help="Only answers to this prompt."),
    Option(
        "--where",
        metavar="EXPR",
        panel=_ROWS,
        help="Only rows where an SQL condition over the columns is true.",
    ),
    Option(
        "--status",
        metavar="STATUS,...",
        default="ok",
        show_default=True,
        panel=_ROWS,
        help="Only rows that ended so; `all` for all of them.",
    ),
    Option(
        "--exclude-flags",
        metavar="FLAG,...",
        panel=_ROWS,
        help="Leave rows with one of these flags out.",
    ),
    Option("--since", metavar="RUN_ID", panel=_ROWS, help="Only rows of runs after this one: new and changed."),
    Option(
        "--reviews",
        type=click.Choice(get_args(ReviewsAs)),
        default="apply",
        show_default=True,
        panel=_ROWS,
        help="apply: corrected captions, and no answer that was marked bad. good: only good and corrected ones.",
    ),
    Option("--columns", metavar="NAME,...", panel=_ROWS, help="Only these columns, or these beside the text."),
    Option(
        "--template",
        metavar="TEXT",
        panel=_TEXTS,
        help="What a text is made of: 'sks, {{ caption }}'. [default: the caption]",
    ),
    Option(
        "--if-exists",
        type=click.Choice(get_args(IfExists)),
        panel=_TEXTS,
        help="What becomes of texts that are there, with other words. [default: error]",
    ),
    Option(
        "--caption-extension",
        metavar="SUFFIX",
        panel=_TEXTS,
        help="The suffix of texts. [default: .txt]",
    ),
    Option("--caption-column", metavar="NAME", panel=_TEXTS, help="The column of texts. [default: text]"),
    Option(
        "--images",
        type=click.Choice(get_args(ImagesAs)),
        panel=_FILES,
        help="How images come into DEST. [default: copy; none for txt]",
    ),
    Option(
        "--relative-to",
        metavar="PREFIX",
        panel=_FILES,
        help="What ids begin with that is no part of the names below DEST.",
    ),
    JSON,
    QUIET,
)


@command("export", OPTIONS)
def export(*, out: Path, dest: Path | None, to: str | None, as_json: bool, quiet: bool, **options: Any) -> int:  # noqa: ANN401 - of click
    """Write the answers as other tools read them: texts beside images, datasets for training, tables, requests."""
    if to is None:
        raise InputError(f"`to=FORMAT` is missing; formats: {', '.join(EXPORTERS)}")
    status = options.pop("status")
    given: Any = {name: value for name, value in options.items() if value is not None}
    given |= {name: _listed(given[name]) for name in ("exclude_flags", "columns") if name in given}
    try:
        with unwinding():
            report = exports.export(out, to, dest, status=None if status == "all" else _listed(status), **given)
    except Interruption as interruption:
        complain("interrupted; no file is half written, and the same command writes the rest")
        return interruption.exit_code
    if as_json:
        show_json(report.as_dict())
    elif not quiet:
        show_lines(*_lines(report))
    elif report.left_out:
        complain(*_left_out(report))
    return 0


def _lines(report: ExportReport) -> list[str]:
    beside = "beside the shards" if report.to == "webdataset" else "beside the images"
    where = beside if report.dest is None else f"in {report.dest}"
    unchanged = f", {report.unchanged:,} of them as before" if report.unchanged else ""
    lines = [f"{report.out}: {counted(report.rows, 'text' if report.to == 'txt' else 'row')} {where}{unchanged}"]
    lines += [*_left_out(report), *(f"note: {note}" for note in report.notes)]
    if report.to == "parquet" and report.newest_run is not None:
        lines.append(f"next time, what is new since then: `since={report.newest_run}`")
    return lines


def _left_out(report: ExportReport) -> list[str]:
    """How many rows were left out, why, and some of their ids."""
    if not report.left_out:
        return []
    lines = [f"left out: {counted(sum(report.left_out.values()), 'row')}"]
    for reason, count in report.left_out.items():
        ids = report.examples.get(reason, [])
        some = ", ".join(ids[:_SHOWN]) + (" ..." if count > _SHOWN else "")
        lines.append(f"  {reason} ({count:,})" + (f": {some}" if ids else ""))
    return lines
