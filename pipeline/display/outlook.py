"""What follows from the counts of a run and the time: its pace, the time left, and which answers are new."""

from dataclasses import dataclass, field

from pipeline.display.pace import Pace
from pipeline.engine.stats import STOPPING, RunStats


@dataclass(frozen=True, slots=True)
class Outlook:
    """Rows per second, and seconds until the end; None where too little was seen."""

    per_s: float | None
    left_s: float | None


@dataclass(slots=True)
class Observer:
    """Looks at the counts as they grow."""

    _pace: Pace = field(default_factory=Pace)
    _answers: int = 0

    def look(self, now: float, stats: RunStats) -> list[tuple[str, str]]:
        """Take note of the counts -> (id, text) of the first answers that were not there before."""
        self._pace.add(now, stats.asked, stats.paused_s)
        new = stats.first_answers[self._answers :]
        self._answers += len(new)
        return new

    def outlook(self, stats: RunStats) -> Outlook:
        is_open = stats.total is None or stats.waiting == STOPPING
        remaining = None if is_open else max(0, (stats.total or 0) - stats.done)
        return Outlook(self._pace.per_s(stats.asked), self._pace.left_s(stats.asked, remaining, stats.paused_s))
