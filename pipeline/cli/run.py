"""`vision-batch run`."""

from pathlib import Path
from typing import Any, cast

import click

from pipeline.api import runs
from pipeline.cli.hooks import load_hook
from pipeline.cli.options import (
    AGAIN,
    CONFIG,
    EMULATOR,
    IMAGES,
    JSON,
    LIMIT,
    LIMITS,
    PANELS,
    PROMPT_FILE,
    QUIET,
    SET,
    SOURCES,
    YES,
    Option,
    command,
    setting_options,
    settings_of,
)
from pipeline.cli.output import can_ask, confirm, note, show, show_summary
from pipeline.errors import InputError
from pipeline.formatting import json_text

OPTIONS = (
    SOURCES,
    Option(
        "out",
        "-o",
        "--out",
        metavar="OUT",
        type=click.Path(path_type=Path),
        help="The output directory. Run again on it, and only what is missing is asked.",
    ),
    Option(
        "dry_run",
        "--dry-run",
        is_flag=True,
        help="Show the first request and what it may cost; send and write nothing.",
    ),
    SET,
    JSON,
    QUIET,
    CONFIG,
    EMULATOR,
    *setting_options(),
    PROMPT_FILE,
    Option(
        "max_failed",
        "--max-failed",
        metavar="N|P%",
        default="0",
        show_default=True,
        panel=LIMITS,
        help="The number or share of rows without an answer above which the exit code is 1.",
    ),
    YES,
    LIMIT,
    Option(
        "sample",
        "--sample",
        metavar="N",
        type=int,
        panel=IMAGES,
        help="Ask N random images, spread over all sizes. Later runs ask the rest.",
    ),
    Option(
        "seed", "--seed", metavar="S", type=int, default=0, show_default=True, panel=IMAGES, help="Draw another sample."
    ),
    Option(
        "hook",
        "--hook",
        metavar="MODULE:FUNCTION",
        panel=PANELS["request"],
        help="Call this Python function with every answer before its row is written; it may change it or ask again.",
    ),
    Option(
        "retry_failed",
        "--retry-failed",
        is_flag=True,
        panel=AGAIN,
        help="Rows without an answer: failed, invalid, or truncated before any text.",
    ),
    Option(
        "retry_kind", "--retry-kind", metavar="KIND,...", panel=AGAIN, help="Rows with one of these error_kind values."
    ),
    Option(
        "retry_status",
        "--retry-status",
        metavar="STATUS,...",
        panel=AGAIN,
        help="Rows with one of these status values, for example refused,truncated.",
    ),
    Option(
        "retry_where",
        "--retry-where",
        metavar="EXPR",
        panel=AGAIN,
        help='Rows for which this SQL condition over the columns is true, for example "cost_usd > 0.01".',
    ),
    Option(
        "only",
        "--only",
        metavar="LIST",
        panel=AGAIN,
        help="No other records than these: a file with one id a line, - for standard input. Alone: all of them.",
    ),
    Option("refresh", "--refresh", is_flag=True, panel=AGAIN, help="All rows."),
    Option(
        "refresh_changed",
        "--refresh-changed",
        is_flag=True,
        panel=AGAIN,
        help="Rows of files whose size or time has changed.",
    ),
    Option(
        "on_config_change",
        "--on-config-change",
        metavar="refuse|keep|refresh",
        default="refuse",
        show_default=True,
        panel=AGAIN,
        help="What to do where OUT has answers to other settings.",
    ),
)


@command("run", OPTIONS)
def run(*, sources: tuple[str, ...], out: Path | None, dry_run: bool, as_json: bool, quiet: bool, **given: Any) -> int:  # noqa: ANN401 - of click
    """Ask about every image of the sources. Answers, tokens and cost go to OUT/data as Parquet."""
    settings = settings_of(given)
    if dry_run:
        most = min((n for n in (given["limit"], given["sample"]) if n is not None), default=None)
        first = runs.rehearsal(sources, config=given["config"], emulator=given["emulator"], limit=most, **settings)
        show(json_text(first.as_dict()) if as_json else str(first))
        return 0
    if out is None:
        raise InputError("name an output directory with -o OUT")
    hook = given.pop("hook")
    given["on_answer"] = None if hook is None else load_hook(hook)
    options = cast("runs.RunOptions", {**given, **settings, "quiet": quiet, "on_note": None if quiet else note})
    options["confirm"] = confirm if not quiet and can_ask() else None
    summary = runs.run(sources, out=out, **options)
    show_summary(summary, as_json=as_json, quiet=quiet)
    return summary.exit_code
