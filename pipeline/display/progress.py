"""How a run is shown: a block on a terminal, lines in a log, or nothing."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from shutil import get_terminal_size
from time import monotonic
from typing import Protocol, TextIO

from pipeline.display.figures import block
from pipeline.display.logs import JsonLines, Lines, Times, stamp
from pipeline.display.outlook import Observer
from pipeline.display.printed import printed_above
from pipeline.display.terminal import Terminal, broken
from pipeline.engine.stats import RunStats
from pipeline.formatting import printable

APPEARS_S = 0.4
"""A run that is done sooner shows no block: it would only flash."""
DRAW_EVERY_S = 0.25
"""Headers are read by the thousand in a second, and drawn a few times."""


class Progress(Protocol):
    """Where a run is shown."""

    def show(self, stats: RunStats) -> None:
        """The counts as they are now; called several times a second."""

    def survey(self, seen: int, total: int | None) -> None:
        """Images that were looked at before the run."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def close(self) -> None:
        """The run is over."""


class Quiet:
    """Shows nothing."""

    def show(self, stats: RunStats) -> None: ...
    def survey(self, seen: int, total: int | None) -> None: ...
    def say(self, line: str) -> None: ...
    def close(self) -> None: ...


class Block:
    """The counts on a terminal, and the first answers above them."""

    def __init__(self, stream: TextIO, now: Callable[[], float] = monotonic) -> None:
        self._terminal, self._now = Terminal(stream), now
        self._observer = Observer()
        self._began: float | None = None
        self._drawn_at = now()
        self._printed: ExitStack | None = None

    def show(self, stats: RunStats) -> None:
        now = self._now()
        self._began = now if self._began is None else self._began
        for name, text in self._observer.look(now, stats):
            self.say(f"answer: {printable(name)}: {printable(text)}")
        if now - self._began >= APPEARS_S:
            self._printed = printed_above(self.say) if self._printed is None else self._printed
            terminal, outlook = self._terminal, self._observer.outlook(stats)
            terminal.draw(block(stats, outlook, terminal.width, colour=terminal.has_colour, is_plain=terminal.is_plain))

    def survey(self, seen: int, total: int | None) -> None:
        if self._now() - self._drawn_at < DRAW_EVERY_S:
            return
        self._drawn_at = self._now()
        of = "" if total is None else f" of {total:,}"
        self._terminal.draw([f"looked at {seen:,}{of} images"[: self._terminal.width]])

    def say(self, line: str) -> None:
        self._terminal.print(line)

    def close(self) -> None:
        if self._printed is not None:
            self._printed.close()
        self._terminal.clear()


class Surviving:
    """Another display. A closed terminal, or a full disk behind it, ends no run."""

    def __init__(self, shown: Progress) -> None:
        self.shown: Progress = shown

    def show(self, stats: RunStats) -> None:
        self._try(lambda: self.shown.show(stats))

    def survey(self, seen: int, total: int | None) -> None:
        self._try(lambda: self.shown.survey(seen, total))

    def say(self, line: str) -> None:
        self._try(lambda: self.shown.say(line))

    def close(self) -> None:
        if self in _open:
            _open.remove(self)
        with suppress(OSError, ValueError):
            self.shown.close()

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (OSError, ValueError):
            self.shown = Quiet()


_open: list[Surviving] = []
"""The displays on standard error, the newest last: `say` writes above it."""


def say(line: str) -> None:
    """One line on standard error, above what a run shows there; with a time where that is no terminal."""
    shown = printable(line)
    if _open:
        _open[-1].say(shown)
    elif sys.stderr is not None:
        with suppress(OSError, ValueError):
            is_terminal = sys.stderr.isatty()
            fitted = broken(shown, get_terminal_size().columns) if is_terminal else f"{stamp(Times().utc())} {shown}"
            sys.stderr.write(f"{fitted}\n")


def make_progress(stream: TextIO | None = None, *, quiet: bool = False, log_json: bool = False) -> Progress:
    """What shows a run on `stream`, standard error by default."""
    stream = sys.stderr if stream is None else stream
    if quiet or stream is None:  # closed
        return Quiet()
    made = Surviving(_display(stream, log_json=log_json))
    _open.append(made)
    return made


def _display(stream: TextIO, *, log_json: bool) -> Progress:
    if log_json:
        return JsonLines(stream)
    has_cursor = stream.isatty() and os.environ.get("TERM") != "dumb"
    return Block(stream) if has_cursor else Lines(stream)
