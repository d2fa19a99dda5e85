"""Rate limits as arithmetic: token bucket, fixed window and sliding window, with the time passed in.

All three count anything that comes in whole amounts (requests, tokens) and have one protocol. Time is in
nanoseconds of a clock that does not run backwards; where it does, it counts as standing still. Providers do
not document which kind they use; a client must get on with each of them.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Protocol

MINUTE_NS = 60_000_000_000


class LimitKind(StrEnum):
    """How a limit of N a minute is counted."""

    BUCKET = "bucket"
    """A token bucket: evenly refilled, a burst at once after a pause."""
    FIXED = "fixed"
    """All of a minute's allowance anew at each full minute of the emulator's clock."""
    SLIDING = "sliding"
    """At most the allowance in any 60 seconds."""


class CountTokens(StrEnum):
    """What counts against a limit of tokens."""

    ESTIMATE = "estimate"
    """OpenAI's way: the prompt and `max_tokens`, taken at admission and not given back."""
    BILLED = "billed"
    """The prompt at admission, what was billed beyond it once the answer is made."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What would be granted at a moment, and the nanoseconds until the whole allowance is there again."""

    remaining: int
    reset_ns: int


class Limit(Protocol):
    """Grants amounts up to N a minute."""

    def ask(self, amount: int, now_ns: int) -> int:
        """Take `amount` and return 0, or take nothing and return the nanoseconds until it would be granted."""

    def charge(self, amount: int, now_ns: int) -> None:
        """Take what cannot be refused any more; the limit may be overdrawn by it."""

    def give_back(self, amount: int, at_ns: int, now_ns: int) -> None:
        """Return what `ask` took at `at_ns`, or a part of it."""

    def standing(self, now_ns: int) -> Standing:
        """How much is left."""


def make_limit(kind: LimitKind, per_minute: float, burst: int) -> Limit:
    """A limit that has granted nothing yet; `burst` is for the bucket alone."""
    if kind is LimitKind.FIXED:
        return FixedWindow(int(per_minute))
    if kind is LimitKind.SLIDING:
        return SlidingWindow(int(per_minute))
    return TokenBucket(Fraction(per_minute).limit_denominator(1_000_000), burst)


class TokenBucket:
    """Grants `capacity` at once, and `per_minute` more a minute, evenly.

    In any t minutes at most capacity + t x per_minute are granted, exactly. An amount beyond the capacity
    is granted by a full bucket, which then owes the rest: else it could never be.
    """

    __slots__ = ("_cost", "_credit", "_full", "_gain", "_now_ns")

    def __init__(self, per_minute: Fraction, capacity: int) -> None:
        # Credit is counted so that both what one costs and what a nanosecond brings are whole numbers.
        self._gain = per_minute.numerator
        self._cost = MINUTE_NS * per_minute.denominator
        self._full = capacity * self._cost
        self._credit = self._full
        self._now_ns: int | None = None

    def ask(self, amount: int, now_ns: int) -> int:
        self._refill(now_ns)
        lacking = min(amount * self._cost, self._full) - self._credit
        if lacking > 0:
            return -(-lacking // self._gain)
        self._credit -= amount * self._cost
        return 0

    def charge(self, amount: int, now_ns: int) -> None:
        self._refill(now_ns)
        self._credit -= amount * self._cost

    def give_back(self, amount: int, at_ns: int, now_ns: int) -> None:  # noqa: ARG002 -- a bucket forgets when
        self._refill(now_ns)
        self._credit = min(self._full, self._credit + amount * self._cost)

    def standing(self, now_ns: int) -> Standing:
        self._refill(now_ns)
        return Standing(max(0, self._credit // self._cost), -(-(self._full - self._credit) // self._gain))

    def _refill(self, now_ns: int) -> None:
        if self._now_ns is None:
            self._now_ns = now_ns
        elif now_ns > self._now_ns:
            self._credit = min(self._full, self._credit + (now_ns - self._now_ns) * self._gain)
            self._now_ns = now_ns


class FixedWindow:
    """Grants `per_minute` in each minute of the clock; what a minute owes is forgotten at its end."""

    __slots__ = ("_limit", "_minute", "_used")

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._minute = 0
        self._used = 0

    def ask(self, amount: int, now_ns: int) -> int:
        self._begin_minute(now_ns)
        if self._used + amount > self._limit:
            return self._left_ns(now_ns)
        self._used += amount
        return 0

    def charge(self, amount: int, now_ns: int) -> None:
        self._begin_minute(now_ns)
        self._used += amount

    def give_back(self, amount: int, at_ns: int, now_ns: int) -> None:
        self._begin_minute(now_ns)
        if at_ns // MINUTE_NS == self._minute:
            self._used = max(0, self._used - amount)

    def standing(self, now_ns: int) -> Standing:
        self._begin_minute(now_ns)
        return Standing(max(0, self._limit - self._used), self._left_ns(now_ns) if self._used else 0)

    def _begin_minute(self, now_ns: int) -> None:
        if now_ns // MINUTE_NS > self._minute:
            self._minute = now_ns // MINUTE_NS
            self._used = 0

    def _left_ns(self, now_ns: int) -> int:
        return (self._minute + 1) * MINUTE_NS - now_ns


class SlidingWindow:
    """Grants `per_minute` in any 60 seconds, exactly. Costs about 100 bytes a grant of the last minute."""

    __slots__ = ("_at_ns", "_limit", "_taken", "_used")

    def __init__(self, per_minute: int) -> None:
        self._limit = per_minute
        self._at_ns: deque[int] = deque()
        self._taken: dict[int, int] = {}
        self._used = 0

    def ask(self, amount: int, now_ns: int) -> int:
        now_ns = self._expire(now_ns)
        lacking = self._used + amount - self._limit
        if lacking <= 0:
            self._take(amount, now_ns)
            return 0
        for at_ns in self._at_ns:
            lacking -= self._taken[at_ns]
            if lacking <= 0:
                return at_ns + MINUTE_NS - now_ns
        return MINUTE_NS

    def charge(self, amount: int, now_ns: int) -> None:
        self._take(amount, self._expire(now_ns))

    def give_back(self, amount: int, at_ns: int, now_ns: int) -> None:
        self._expire(now_ns)
        back = min(amount, self._taken.get(at_ns, 0))
        if back:
            self._taken[at_ns] -= back
            self._used -= back
            self._forget_empty()

    def standing(self, now_ns: int) -> Standing:
        now_ns = self._expire(now_ns)
        reset_ns = self._at_ns[-1] + MINUTE_NS - now_ns if self._at_ns else 0
        return Standing(max(0, self._limit - self._used), reset_ns)

    def _take(self, amount: int, now_ns: int) -> None:
        if not amount:
            return
        if now_ns not in self._taken:
            self._at_ns.append(now_ns)
        self._taken[now_ns] = self._taken.get(now_ns, 0) + amount
        self._used += amount

    def _expire(self, now_ns: int) -> int:
        """Drop what is older than a minute; the time that counts."""
        if self._at_ns:
            now_ns = max(now_ns, self._at_ns[-1])
        while self._at_ns and self._at_ns[0] <= now_ns - MINUTE_NS:
            self._used -= self._taken.pop(self._at_ns.popleft())
        return now_ns

    def _forget_empty(self) -> None:
        while self._at_ns and not self._taken[self._at_ns[-1]]:
            del self._taken[self._at_ns.pop()]
