"""How fast rows come, and how long the remaining ones take."""

from collections import deque
from dataclasses import dataclass, field
from math import ceil

WINDOW_S = 60.0
"""The pace is that of the last minute: an older one says little about an endpoint's limits."""
LEAST_S = 5.0
"""Of work, before a pace is shown: the first seconds open connections and find the concurrency."""
LONG_PAUSE_S = 10.0
"""A longer pause is no part of the pace. Shorter ones are: an endpoint that throttles does so again."""
MARK_EVERY_S = 0.5
"""Without it a day of marks would be kept for one minute's pace."""


@dataclass(slots=True)
class Pace:
    """Rows per second of work. Times are seconds of one clock."""

    _marks: deque[tuple[float, int]] = field(default_factory=deque)
    """(seconds of work, rows) of the last minute."""
    _worked_s: float = 0.0
    _at: float | None = None
    _was_paused: bool = False

    def add(self, now: float, rows: int, paused_s: float) -> None:
        """At `now` there were `rows` rows of this run, and nothing may be sent for another `paused_s`."""
        if self._at is not None and not self._was_paused:
            self._worked_s += now - self._at
        self._at, self._was_paused = now, paused_s > (0 if self._was_paused else LONG_PAUSE_S)
        if not self._marks or self._worked_s - self._marks[-1][0] >= MARK_EVERY_S or rows < self._marks[-1][1]:
            self._marks.append((self._worked_s, rows))
        window_s = min(WINDOW_S, max(LEAST_S, self._worked_s / 2))  # of a short run its later half
        while len(self._marks) > 1 and self._marks[1][0] <= self._worked_s - window_s:
            self._marks.popleft()

    def per_s(self, rows: int) -> float | None:
        """None as long as too little was seen."""
        since_s, before = self._marks[0] if self._marks else (0.0, 0)
        if self._worked_s < LEAST_S or rows <= before:
            return None
        return (rows - before) / (self._worked_s - since_s)

    def left_s(self, rows: int, remaining: int | None, paused_s: float) -> float | None:
        """Seconds until `remaining` further rows are there; None where that cannot be known yet."""
        rate = self.per_s(rows)
        return None if rate is None or remaining is None else remaining / rate + paused_s


def duration(seconds: float) -> str:
    """As exact as a forecast is: `about 40 s`, `about 12 min`, `about 3 h 20 min`, `about 2 d 4 h`."""
    if seconds < 90:  # noqa: PLR2004 - here `min` begins
        return f"about {max(5, 5 * ceil(seconds / 5))} s"
    minutes = ceil(seconds / 60)
    if minutes < 90:  # noqa: PLR2004 - here `h` begins
        return f"about {minutes} min"
    if minutes < 48 * 60:
        hours, rest = divmod(10 * ceil(minutes / 10), 60)
        return f"about {hours} h {rest} min" if rest else f"about {hours} h"
    days, hours = divmod(ceil(minutes / 60), 24)
    return f"about {days} d {hours} h" if hours else f"about {days} d"
