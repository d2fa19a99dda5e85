"""What the command line prints, and the questions that it asks."""

import os
import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

import click

from pipeline.cli.references import with_flags
from pipeline.display.colour import coloured, has_colour
from pipeline.display.last_screen import describe
from pipeline.display.logs import event_line
from pipeline.display.progress import say
from pipeline.display.terminal import broken
from pipeline.engine.stats import RunSummary
from pipeline.errors import ResourceError
from pipeline.formatting import json_text, printable_lines

COPIED = re.compile("(next|results): ")
"""Lines for a shell or an editor: a line break in them would be copied too."""


def show(text: str, otherwise: str = "") -> None:
    """Prints on standard output. Each line has been through `printable`. Raises ResourceError where it is full."""
    try:
        click.echo(text)
    except BrokenPipeError:  # the reader has left; the command has done its work all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        raise ResourceError(f"standard output: {error.strerror}{otherwise}") from error


def show_lines(*lines: str, otherwise: str = "") -> None:
    """Prints lines for people: references to settings become flags, controls visible; a terminal gets colour."""
    if not lines:
        return
    text = _fitted(with_flags(printable_lines(lines)), sys.stdout)
    show(coloured(text) if has_colour(sys.stdout) else text, otherwise)


def show_json(value: object) -> None:
    """Prints a value for programs: settings keep their keys."""
    show(json_text(value))


def show_summary(summary: RunSummary, *, as_json: bool, quiet: bool) -> None:
    """Prints what a run did."""
    otherwise = "; the run itself is complete and committed"
    if as_json:
        show(json_text(summary.as_dict()), otherwise)
    elif not quiet:
        show_lines(*describe(summary).split("\n"), otherwise=otherwise)


def complain(*lines: object) -> None:
    """Prints an error on standard error, a line each."""
    text = _fitted(f"vision-batch: {with_flags(printable_lines(map(str, lines)))}", sys.stderr)
    _show_error(coloured(text) if has_colour(sys.stderr) else text)


def log_event(event: str, values: Mapping[str, object]) -> None:
    """Prints a line of JSON on standard error, as `--log-json` does."""
    _show_error(event_line(event, values, datetime.now(UTC)))


def _show_error(text: str) -> None:
    """On standard error. Where that is full or gone, the exit code still says how the command ended."""
    with suppress(OSError, ValueError):
        click.echo(text, err=True)


def note(line: str) -> None:
    """Prints a note of a run on standard error, above what is drawn."""
    say(with_flags(line))


def can_ask() -> bool:
    """Whether a person at a terminal can answer a question."""
    return _is_terminal(sys.stdin) and _is_terminal(sys.stderr)


def confirm(text: str) -> bool:
    """Puts a question to the person at the terminal."""
    try:
        return click.confirm(with_flags(text), err=True)
    except click.Abort:  # standard input has ended
        return False


def _fitted(text: str, stream: TextIO | None) -> str:
    """Lines for a terminal, broken between words where they are longer than it is wide."""
    if not _is_terminal(stream):
        return text
    width = shutil.get_terminal_size().columns
    return "\n".join(line if COPIED.match(line) else broken(line, width) for line in text.split("\n"))


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()  # None: it was closed before the command began
