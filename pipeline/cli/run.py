"""`vision-batch run`."""

from pathlib import Path
from typing import Any, cast

import click

from pipeline.api import runs
from pipeline.cli.ending import Ending
from pipeline.cli.hooks import load_hook
from pipeline.cli.on_exit import run_on_exit
from pipeline.cli.options import (
    AGAIN,
    CONFIG,
    EMULATOR,
    IMAGES,
    JSON,
    LIMIT,
    LIMITS,
    LOG_JSON,
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
from pipeline.cli.output import can_ask, confirm, note, show
from pipeline.commands.preview import NOTHING_TO_ASK
from pipeline.errors import InputError, VisionBatchError
from pipeline.formatting import json_text

OPTIONS = (
    SOURCES,
    Option(
        "-o",
        "--out",
        metavar="OUT",
        type=click.Path(),
        help="The output directory, or s3://, gs://, az://. Run again on it, and only what is missing is asked.",
    ),
    Option(
        "state",
        "--state",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Where the live ledger lies while OUT is in a bucket. [default: a directory in the user's cache]",
    ),
    Option(
        "--dry-run",
        is_flag=True,
        help="Show the first request that OUT lacks and what it may cost; send and write nothing.",
    ),
    SET,
    JSON,
    QUIET,
    LOG_JSON,
    CONFIG,
    EMULATOR,
    *setting_options(),
    PROMPT_FILE,
    Option(
        "--max-failed",
        metavar="N|P%",
        default="0",
        show_default=True,
        panel=LIMITS,
        help="The number or share of rows without an answer above which the exit code is 1.",
    ),
    Option(
        "--fail-on-any",
        is_flag=True,
        panel=LIMITS,
        help="Exit with 1 while any row of OUT has no answer, as `status --check` does.",
    ),
    YES,
    LIMIT,
    Option(
        "--sample",
        metavar="N",
        type=int,
        panel=IMAGES,
        help="Ask N random images, spread over all sizes. Later runs ask the rest.",
    ),
    Option("--seed", metavar="S", type=int, default=0, show_default=True, panel=IMAGES, help="Draw another sample."),
    Option(
        "--hook",
        metavar="MODULE:FUNCTION",
        panel=PANELS["request"],
        help="Call this Python function with every answer before its row is written; it may change it or ask again.",
    ),
    Option(
        "--on-exit",
        metavar="CMD",
        help="Run this shell command at the end, with VISION_BATCH_EXIT_CODE and other variables of the run.",
    ),
    Option(
        "--retry-failed",
        is_flag=True,
        panel=AGAIN,
        help="Rows without an answer: failed, invalid, or truncated before any text.",
    ),
    Option("--retry-kind", metavar="KIND,...", panel=AGAIN, help="Rows with one of these error_kind values."),
    Option(
        "--retry-status",
        metavar="STATUS,...",
        panel=AGAIN,
        help="Rows with one of these status values, for example refused,truncated.",
    ),
    Option(
        "--retry-where",
        metavar="EXPR",
        panel=AGAIN,
        help='Rows for which this SQL condition over the columns is true, for example "cost_usd > 0.01".',
    ),
    Option(
        "--only",
        metavar="LIST",
        panel=AGAIN,
        help="No other records than these: a file with one id a line, - for standard input. Alone: all of them.",
    ),
    Option("--refresh", is_flag=True, panel=AGAIN, help="All rows."),
    Option(
        "--refresh-changed",
        is_flag=True,
        panel=AGAIN,
        help="Rows of files whose size or time has changed.",
    ),
    Option(
        "--on-config-change",
        metavar="refuse|keep|refresh",
        default="refuse",
        show_default=True,
        panel=AGAIN,
        help="What to do where OUT has answers to other settings.",
    ),
)


@command("run", OPTIONS)
def run(*, on_exit: str | None, **given: Any) -> int:  # noqa: ANN401 - of click
    """Ask about every image of the sources. Answers, tokens and cost go to OUT/data as Parquet."""
    if on_exit is None or given["dry_run"]:
        return _run(Ending.of(given), **given)
    ending = Ending.of(given)
    try:
        ending.code = _run(ending, **given)
    finally:
        run_on_exit(on_exit, given["out"], ending.code, ending.summary, ending.complain)
    return ending.code


def _run(ending: Ending, *, sources: tuple[str, ...], out: str | None, dry_run: bool, **given: Any) -> int:  # noqa: ANN401 - of click
    try:
        options = _options(given)
        if dry_run:
            show_first(sources, out, options, as_json=ending.as_json)
            return 0
        if out is None:
            raise InputError("name an output directory with -o OUT")
        return ending.done(runs.run(sources, out=out, **options))
    except VisionBatchError as error:
        return ending.failed(error)


def _options(given: dict[str, Any]) -> runs.RunOptions:
    """The keywords of `pipeline.run` that the options come to."""
    quiet, settings, hook = given["quiet"], settings_of(given), given.pop("hook")
    given.pop("as_json")
    given["on_answer"] = None if hook is None else load_hook(hook)
    given["confirm"] = confirm if not quiet and can_ask() else None
    return cast("runs.RunOptions", {**given, **settings, "on_note": None if quiet else note})


def show_first(sources: tuple[str, ...], out: str | None, options: runs.RunOptions, *, as_json: bool) -> None:
    """`--dry-run`"""
    first = runs.rehearsal(sources, out=out, **options)
    plain = NOTHING_TO_ASK if first is None else str(first)
    show(json_text({"requests": 0} if first is None else first.as_dict()) if as_json else plain)
