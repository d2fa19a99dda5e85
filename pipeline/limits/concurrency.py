"""How many requests may be in flight: found by trying, as arithmetic on the times of answers.

Slow start doubles the number while that brings nearly twice the answers a second. From then on every number that was
tried has its throughput remembered; the smallest that gives nearly the most is used, and now and then its
neighbours are tried, since an endpoint changes. A refusal takes a third of the slots away at once.
By Little's law throughput = in flight / mean latency, so that nothing but latencies is measured, of all requests
sent in one span (those that come home first are the quick ones).
Source of the shape: Chiu and Jain, "Analysis of the increase and decrease algorithms for congestion avoidance".
"""

from bisect import bisect_left
from dataclasses import dataclass
from math import sqrt

START, MOST = 4, 512
STEP = 1.12
"""Between two numbers that are tried, about."""
ENOUGH = 32
"""Requests at least that a mean latency is taken of, once slow start is over; with few slots, four for each."""
MEMORY = 160
"""Requests after which an older latency counts for little."""
NO_GAIN = 1.4
"""Twice the requests in flight that bring less than this many times the answers: the knee is passed."""
NEARLY = 0.95
"""The smallest number of slots with this share of the best throughput is as good as the best."""
SURPRISE = 0.3
"""A throughput that differs by so much from what is remembered (and from chance): the endpoint has changed."""
NOISY = 0.1
"""A mean latency whose standard error is larger than this share of it says little."""
EXPLORED_EVERY = 4
"""Rounds between two looks at a neighbour, above and below in turn."""
AFTER_REFUSAL = 0.7
REFUSED_LEAST, REFUSED_SHARE = 3, 0.2
"""So many refusals, and so many of what came back, are too many."""


def _grid(most: int) -> list[int]:
    numbers = [1]
    while numbers[-1] < most:
        numbers.append(min(most, max(numbers[-1] + 1, round(numbers[-1] * STEP))))
    return numbers


@dataclass(slots=True)
class _Tried:
    """What one number of slots has brought: answers a second, from so many latencies."""

    per_s: float = 0.0
    weight: float = 0.0

    def add(self, per_s: float, count: int) -> None:
        self.weight = min(self.weight + count, MEMORY)
        self.per_s += (per_s - self.per_s) * min(1.0, count / self.weight)


@dataclass(slots=True)
class _Cohort:
    """All requests sent from `since` on, until there are `size`."""

    since: float | None
    """None: from the first one on."""
    size: int
    sent: int = 0
    until: float = float("inf")
    home: int = 0
    sum_s: float = 0.0
    squares: float = 0.0
    later: int = 0
    """Answers to requests sent after all of it."""
    peak: int = 0
    refused: int = 0

    def add(self, latency_s: float) -> None:
        self.home += 1
        self.sum_s += latency_s
        self.squares += latency_s * latency_s

    def is_whole(self) -> bool:
        """All are home; the last few are not waited for longer than another round takes."""
        return self.sent >= self.size and (self.home >= self.sent or self.later >= self.size)

    def mean_s(self, now: float) -> float:
        """Those still out have taken at least until now."""
        out = self.sent - self.home
        return (self.sum_s + (out * (now - (self.since or now)) if out else 0.0)) / self.sent

    def chance(self) -> float:
        """The standard error of the mean, relative."""
        mean = self.sum_s / max(1, self.home)
        variance = max(0.0, self.squares / max(1, self.home) - mean * mean)
        return sqrt(variance) / mean / sqrt(self.sent) if mean > 0 else 0.0


class Climb:
    """The number of slots, `limit`, that follows what an endpoint can take. Times in seconds of one clock."""

    def __init__(self, start: int = START, most: int = MOST) -> None:
        self._numbers = _grid(most)
        self._cap = float("inf")
        self._at = self._target = self._nearest(min(start, most))
        self._tried: dict[int, _Tried] = {}
        self._slow_start = True
        self._before: int | None = None
        self._round, self._stride = 0, 1
        self._is_filling = self._is_surprised = False
        self._cohort = _Cohort(None, self._size())

    @property
    def limit(self) -> int:
        return int(min(self._numbers[self._at], self._cap))

    def sent(self, now: float, in_flight: int) -> None:
        """A request leaves; `in_flight` counts it."""
        cohort = self._cohort
        cohort.since = now if cohort.since is None else cohort.since
        cohort.peak = max(cohort.peak, in_flight)
        if cohort.sent < cohort.size:
            cohort.sent += 1
            cohort.until = now

    def answered(self, now: float, sent_at: float) -> None:
        """An answer came at `now` to a request sent at `sent_at`."""
        cohort = self._cohort
        if cohort.since is None or sent_at < cohort.since:
            return
        if self._is_filling:  # the first requests of another number met the queue that the last one left
            self._is_filling, self._cohort = False, _Cohort(now, cohort.size)
            return
        if sent_at <= cohort.until and cohort.home < cohort.sent:
            cohort.add(now - sent_at)
        else:
            cohort.later += 1
        if cohort.is_whole():
            self._conclude(now, cohort)

    def lost(self, now: float, sent_at: float) -> None:
        """A request sent at `sent_at` had no answer whose time would say anything: an error, a refusal, a stall."""
        cohort = self._cohort
        if cohort.since is not None and cohort.since <= sent_at <= cohort.until and cohort.sent > cohort.home:
            cohort.sent, cohort.size = cohort.sent - 1, max(1, cohort.size - (cohort.sent >= cohort.size))
            if cohort.sent and cohort.is_whole():
                self._conclude(now, cohort)

    def refused(self, now: float, sent_at: float) -> None:
        """The endpoint had no room for a request sent at `sent_at`. A refusal now and then is no sign of too many."""
        cohort = self._cohort
        if cohort.since is None or sent_at < cohort.since:
            return
        cohort.refused += 1
        if cohort.refused >= REFUSED_LEAST and cohort.refused > REFUSED_SHARE * (cohort.home + cohort.refused):
            self._slow_start = False
            self._tried.clear()
            self._target = self._nearest(int(self.limit * AFTER_REFUSAL))
            self._go_to(now, self._target)

    def capped(self, now: float, most: float) -> None:
        """No more than `most` are granted for now (infinity: nothing is known of that any more)."""
        if most == self._cap:
            return
        self._cap = most
        if self._at > self._last:
            self._slow_start = False
            self._tried = {at: tried for at, tried in self._tried.items() if at < self._last}
            self._target = self._last
            self._go_to(now, self._last)

    @property
    def _last(self) -> int:
        """The largest that may be tried: a cap between two numbers counts as the upper one."""
        return min(bisect_left(self._numbers, self._cap), len(self._numbers) - 1)

    def _conclude(self, now: float, cohort: _Cohort) -> None:
        if cohort.peak < 0.9 * self.limit:  # something else is slower: the disk, this machine, a rate limit
            self._go_to(now, self._at)
            return
        per_s = self.limit / max(cohort.mean_s(now), 1e-6)
        known = self._tried.get(self._at)
        if known is not None and known.weight >= ENOUGH:
            ratio = per_s / known.per_s
            if abs(ratio - 1) > max(SURPRISE, 4 * cohort.chance()):
                self._is_surprised, was_surprised = True, self._is_surprised
                self._begin_anew(now, ratio) if was_surprised else self._go_to(now, self._at)  # once is chance
                return
        self._is_surprised = False
        self._tried.setdefault(self._at, _Tried()).add(per_s, cohort.sent)
        self._go_to(now, self._doubled(cohort.chance()) if self._slow_start else self._next())

    def _begin_anew(self, now: float, ratio: float) -> None:
        """The endpoint has changed: slow start again, from what would be enough were it to have lost slots."""
        self._tried.clear()
        self._before, self._slow_start, self._is_surprised = None, True, False
        self._go_to(now, self._nearest(round(self.limit * min(1.0, ratio))))

    def _doubled(self, chance: float) -> int:
        before, now = self._before, self._tried[self._at]
        gain = 2.0 if before is None else now.per_s / self._tried[before].per_s
        if gain < NO_GAIN and chance > NOISY and now.weight < 2 * self._size():
            return self._at  # too few answers to tell: once more
        self._before = self._at
        if gain >= NO_GAIN and self._at < self._last:
            return min(self._nearest(2 * self.limit), self._last)
        self._slow_start = False
        self._target = self._at
        if before is not None and gain < NO_GAIN:  # the knee lies between the two
            del self._tried[self._at]  # measured while its queue was still filling
            self._target = self._nearest(round(self._numbers[before] * max(1.0, gain)))
        return self._target

    def _next(self) -> int:
        """The best known, and every other time a neighbour: above, below, in turn."""
        best = max(tried.per_s for tried in self._tried.values())
        target = min(at for at, tried in self._tried.items() if tried.per_s >= NEARLY * best)
        # What turned out better is followed at once, in larger strides.
        moved, self._target = target - self._target, target
        self._stride = 2 * self._stride if moved else 1
        self._round += 1
        above, below = min(target + self._stride, self._last), max(target - self._stride, 0)
        if moved:
            return above if moved > 0 else below
        if above not in self._tried and self._at == target:
            return above
        if below not in self._tried and self._at == target:
            return below
        return {0: above, EXPLORED_EVERY: below}.get(self._round % (2 * EXPLORED_EVERY), target)

    def _go_to(self, now: float, at: int) -> None:
        self._is_filling = at != self._at and not self._slow_start
        self._cohort = _Cohort(now, self._size(at))
        self._at = at

    def _size(self, at: int | None = None) -> int:
        limit = self.limit if at is None else self._numbers[at]
        return max(limit, 2 * START if self._slow_start else min(ENOUGH, 4 * limit))

    def _nearest(self, number: int) -> int:
        above = min(bisect_left(self._numbers, max(1, number)), len(self._numbers) - 1)
        return min(max(0, above - 1), above, key=lambda at: (abs(self._numbers[at] - number), -at))
