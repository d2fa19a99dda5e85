"""A run in a log: plain lines with their time, or JSON lines."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TextIO

from pipeline.display.figures import joined, left, money, projected_usd, work
from pipeline.display.outlook import Observer, Outlook
from pipeline.engine.stats import RunStats
from pipeline.formatting import printable
from pipeline.money import usd_text

LINE_EVERY_S, LATER_EVERY_S = 10.0, 60.0
"""Between two lines, in the first minute and later: a night is no thousand lines."""
FIRST_S = 60.0


@dataclass(slots=True)
class Times:
    """The clocks of a log, and when its next line is due."""

    now: Callable[[], float] = monotonic
    utc: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    _began: float = field(init=False)
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._last = self.now()

    def is_due(self) -> bool:
        """Whether it is time for a line; then the next one is due later."""
        now = self.now()
        every_s = LINE_EVERY_S if now - self._began <= FIRST_S else LATER_EVERY_S
        if now - self._last < every_s:
            return False
        self._last = now
        return True


def stamp(at: datetime) -> str:
    """`2026-11-22T07:35:06Z`"""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


class Lines:
    """Plain lines: every ten seconds the counts, at once what is said and the first answers."""

    def __init__(self, stream: TextIO, times: Times | None = None) -> None:
        self._stream, self._times = stream, times or Times()
        self._observer = Observer()

    def show(self, stats: RunStats) -> None:
        for name, text in self._observer.look(self._times.now(), stats):
            self.say(f"answer: {printable(name)}: {printable(text)}")
        if self._times.is_due():
            outlook = self._observer.outlook(stats)
            self.say(f"{_count(stats)}  {joined([work(stats, outlook), money(stats), left(outlook)])}")

    def survey(self, seen: int, total: int | None) -> None: ...

    def say(self, line: str) -> None:
        print(f"{stamp(self._times.utc())} {line}", file=self._stream, flush=True)

    def close(self) -> None: ...


class JsonLines:
    """The same as JSON, an event a line: `time`, `event`, and its values."""

    def __init__(self, stream: TextIO, times: Times | None = None) -> None:
        self._stream, self._times = stream, times or Times()
        self._observer = Observer()

    def show(self, stats: RunStats) -> None:
        for name, text in self._observer.look(self._times.now(), stats):
            self._write("answer", {"id": name, "text": text})
        if self._times.is_due():
            self._write("progress", progress_values(stats, self._observer.outlook(stats)))

    def survey(self, seen: int, total: int | None) -> None: ...

    def say(self, line: str) -> None:
        self._write("note", {"message": line.removeprefix("note: ")})

    def close(self) -> None: ...

    def _write(self, event: str, values: Mapping[str, object]) -> None:
        print(event_line(event, values, self._times.utc()), file=self._stream, flush=True)


def event_line(event: str, values: Mapping[str, object], at: datetime) -> str:
    """One line of JSON, in ASCII: no terminal and no reader of lines finds anything to act on in it."""
    return json.dumps({"time": stamp(at), "event": event, **values}, default=str)


def progress_values(stats: RunStats, outlook: Outlook) -> dict[str, object]:
    """The counts of a run as plain values; money as text."""
    return {
        "done": stats.done,
        "total": stats.total,
        "asked": stats.asked,
        "by_status": {status.value: rows for status, rows in stats.by_status.items()},
        "failed": stats.bad,
        "retried": stats.retried,
        "in_flight": stats.in_flight,
        "waiting": stats.waiting,
        "per_s": None if outlook.per_s is None else round(outlook.per_s, 2),
        "left_s": None if outlook.left_s is None else round(outlook.left_s),
        "prompt_tokens": stats.prompt_tokens,
        "completion_tokens": stats.completion_tokens,
        "cost_usd": usd_text(stats.known_cost_usd),
        "cost_unknown_usd": usd_text(stats.cost_unknown_usd),
        "projected_usd": usd_text(projected_usd(stats)),
        "granted_usd": usd_text(stats.granted_usd),
    }


def _count(stats: RunStats) -> str:
    if not stats.total:
        return f"{stats.done:,} {stats.unit}s"
    return f"{stats.done:,}/{stats.total:,} ({100 * stats.done / stats.total:.0f} %)"
