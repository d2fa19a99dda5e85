"""How many requests may be in flight: the smaller of what throughput calls for and what throttles leave.

Throughput: doubled while that brings nearly twice the answers a second; from then on, now and then, a quarter more or
less is tried, and kept where it pays. By Little's law throughput = in flight / mean latency, so that only latencies
are measured, of all requests that were sent in one cohort.

Throttles: a throttle beside more requests than were ever let in gives the number that is. It is kept to for a while;
then one more is tried, two, four.
"""

from dataclasses import dataclass
from enum import Enum
from math import inf

START, MOST = 4, 512
"""At first: enough that a doubling shows. At most: what one process can decode and hold."""
COHORT = 64
"""Requests in a cohort, at least (eight for each in flight, where that is less); the mean of fewer is too noisy."""
GAIN = 1.4
"""A doubling that brings less has passed the knee; without it a queue would grow to `MOST`."""
STEP = 0.25
"""A step up or down; a smaller one cannot be told from chance, a larger one costs more where it is wrong."""
WORTH = 0.25
"""A step up is kept for this share of what it would bring in proportion; less is chance, and only adds latency."""
CRUISE = 6
"""Cohorts between two steps; without them half of the time would be spent on steps that fail."""
CHANGED = 0.6
"""Of the throughput before: below this the endpoint has changed, and the search starts again from that share; without
it a server that lost most of its slots would thrash for minutes.
"""
FULL = 0.9
"""Of the limit in use, at least, for a cohort to count; else something else is slower."""
HOLD_S, LONGEST_HOLD_S = 2.0, 180.0
"""After a throttle no more are tried for this long, doubled each time that trying is throttled."""
RUN, GAP = 4, 3
"""Throttles in a row, of different records, beside numbers that were let in, each at most `GAP` requests after the
last, are no chance: it is a rate, or, beside nearly the limit, the limit is a little too large.
"""


class Cause(Enum):
    """What explains a throttle."""

    NUMBER = "more in flight than are let in"
    RATE = "several in a row, of different records"
    CHANCE = "a single one"


@dataclass(frozen=True, slots=True)
class Sent:
    """One request at the moment in which it was sent."""

    at: float
    number: int
    """In order of sending."""
    beside: int
    """Other requests in flight."""
    cohort: int


class ConcurrencyLimit:
    """The number in flight that follows what an endpoint can take. Times in seconds of one clock."""

    def __init__(self, start: int = START, most: int = MOST, *, is_adaptive: bool = True) -> None:
        self._most, self._is_adaptive, self._is_starting = most, is_adaptive, True
        self._base = self._limit = min(start, most)
        self._per_s, self._cohorts, self._goes_up, self._is_repeated = 0.0, 0, True, False
        self._number = self._cohort = 0
        self._ramp = self._limit
        self._let_in, self._cap, self._stride = 0, inf, 1
        self._paused_at = -inf
        self.latency_s = self._hold_s = 0.0
        self._hold_until, self._tried_at, self._first_cut_at = -inf, inf, -inf
        self._run, self._last = set[str](), -inf
        self._size = self._out = self._home = self._peak = 0
        self._sum_s = 0.0
        self._go(self._limit)

    def limit(self, now: float) -> int:
        """The most that may be in flight."""
        cap = self._cap if now < self._hold_until else self._cap + self._stride
        return int(min(self._ramp, cap))

    def paused(self, now: float) -> None:
        """A pause begins: after it one request goes first, and the answer to each that follows admits one more."""
        self._ramp, self._paused_at = 1, now

    def sent(self, now: float, others: int) -> Sent:
        """A request is sent beside `others`."""
        if others >= self._cap:
            self._tried_at = min(self._tried_at, now)
        self._peak = max(self._peak, others + 1)
        self._number += 1
        is_counted = self._ramp >= self._limit and self._out + self._home < self._size
        self._out += is_counted
        return Sent(now, self._number, others, self._cohort if is_counted else -1)

    def answered(self, now: float, sent: Sent) -> None:
        self.admit(sent)
        self.latency_s = now - sent.at
        self._let_in = max(self._let_in, sent.beside + 1)
        if sent.at < self._first_cut_at and sent.beside >= self._cap:  # the first burst of a fixed number was let in
            self._cap = sent.beside + 1
        if sent.at >= self._tried_at:  # throttles are quicker than answers: all that were tried are in
            self._cap, self._stride, self._tried_at = self._cap + self._stride, 2 * self._stride, inf
            self._hold_s /= 2
        if sent.cohort == self._cohort:
            self._out, self._home, self._sum_s = self._out - 1, self._home + 1, self._sum_s + now - sent.at
            if self._home >= FULL * self._size:  # the last few are not waited for
                self._conclude()

    def admit(self, sent: Sent) -> None:
        """An answer, or a rejection: one more may be in flight, up to the limit."""
        if sent.at >= self._paused_at:
            self._ramp = min(self._limit, self._ramp + 1)

    def lost(self, sent: Sent) -> None:
        """The request had no answer whose latency says anything."""
        self._out -= sent.cohort == self._cohort

    def throttled(self, now: float, sent: Sent, record: str, *, has_wait: bool, again: bool = False) -> Cause:
        """What explains a throttle of `record`.

        `again` says that it was throttled before: it may be throttled whatever the number in flight is.
        """
        known = min(self._let_in, self._cap)
        if not again and sent.beside >= known and (sent.beside or not known):
            self._hold(now, sent)
            return Cause.NUMBER
        is_near = sent.beside > 0 and sent.beside + 1 >= FULL * known
        if sent.number - self._last > GAP:
            self._run.clear()
        self._run.add(record)
        self._last = max(self._last, sent.number)
        is_run = len(self._run) >= (RUN if sent.beside else RUN // 2)
        if is_run:
            self._run.clear()
        if is_near and (is_run or (has_wait and not again)):
            self._hold(now, sent)
            return Cause.NUMBER
        return Cause.RATE if is_run else Cause.CHANCE

    def _hold(self, now: float, sent: Sent) -> None:
        is_test = sent.at >= self._tried_at
        self._hold_s = min(LONGEST_HOLD_S, max(HOLD_S, self.latency_s, self._hold_s * (2 if is_test else 1)))
        self._first_cut_at = now if self._cap == inf and not self._is_adaptive else self._first_cut_at
        self._cap = max(1, sent.beside if is_test else min(self._cap, sent.beside))
        self._stride, self._tried_at = 1, inf
        self._hold_until = now + self._hold_s

    def _conclude(self) -> None:
        per_s = self._limit * self._home / max(self._sum_s, 1e-9)
        if self._peak < FULL * self._limit or not self._is_adaptive:
            self._go(self._limit)
        elif self._is_starting:
            self._double(per_s)
        elif self._limit == self._base:
            self._cruise(per_s)
        elif per_s > self._per_s * (1 + WORTH * (self._limit / self._base - 1)):
            self._base, self._per_s = self._limit, per_s  # and another one the same way
            self._step()
        else:
            self._goes_up, self._cohorts = not self._goes_up, 0
            self._go(self._base)

    def _cruise(self, per_s: float) -> None:
        if per_s < CHANGED * self._per_s:
            self._is_starting = True
            self._base = max(1, round(self._base * per_s / self._per_s))
            self._per_s = self._cohorts = 0
            self._go(self._base)
            return
        self._cohorts += 1
        self._per_s = per_s if self._cohorts == CRUISE else self._per_s + (per_s - self._per_s) / self._cohorts
        self._go(self._base) if self._cohorts < CRUISE else self._step()

    def _double(self, per_s: float) -> None:
        gain = per_s / self._per_s if self._per_s else 2.0
        if gain >= GAIN and self._limit < self._most:
            self._base, self._per_s = self._limit, per_s
            self._go(min(self._most, 2 * self._limit))
            return
        if gain < GAIN and self._base == START and not self._is_repeated:
            # Eight requests show little where latencies vary: both are measured once more, by twice as many. Without
            # it one start in five would end at 4.
            self._is_repeated, self._per_s = True, 0.0
            self._go(self._base)
            return
        self._is_starting = False
        self._cohorts, self._goes_up = CRUISE - 1, gain >= GAIN  # past the knee: fewer are tried next
        self._base = self._limit if gain >= GAIN else round(self._base * max(1.0, gain))
        self._go(self._base)

    def _step(self) -> None:
        size = max(1, round(STEP * self._base))
        limit = min(self._most, self._base + size) if self._goes_up else max(1, self._base - size)
        if limit == self._base:
            self._goes_up, self._cohorts = not self._goes_up, 0
        self._go(limit)

    def _go(self, limit: int) -> None:
        self._limit, self._cohort = limit, self._cohort + 1
        self._ramp = min(self._ramp, limit)
        self._size = (
            max(limit, 2 * START) << self._is_repeated if self._is_starting else max(min(COHORT, 8 * limit), 2 * limit)
        )
        self._out = self._home = self._peak = 0
        self._sum_s = 0.0
