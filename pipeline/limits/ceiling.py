"""How many requests in flight are too many for an endpoint that says so by refusing, and tells no time to wait.

It is found by what follows a refusal. An endpoint that has room again once somebody came home limits what is in
flight: that number is kept to, and after a while one more is tried, then two, four. One that refuses fewer as well
limits something else, and one that refuses by chance lets the next try through.
"""

from dataclasses import dataclass

NONE = float("inf")
FEW = 3
"""No more requests than these between two refusals: the second is no accident."""
FIRST_HOLD_S, LONGEST_HOLD_S = 2.0, 60.0
"""How long no more are tried: doubled each time that trying was refused."""
MISSES = 3
"""Refusals in a row beside fewer than before, with no answer to what was sent since: the number is not the matter."""


@dataclass(slots=True)
class Ceiling:
    """Times in seconds of one clock."""

    _full: float = NONE
    """In flight, beside a request that was refused."""
    _step: int = 1
    """How many more are tried next,"""
    _tried_at: float | None = None
    """and since when they are."""
    _hold_s: float = 0.0
    _until: float = -NONE
    _is_waiting: bool = False
    """Until somebody comes home."""
    _sent: int = 0
    """Requests since the last refusal."""
    _refused_at: float = -NONE
    _is_telling: bool = False
    """Whether the last refusals are beside more than were known to be let in."""
    _misses: int = 0

    def held(self, now: float) -> float:
        """The most in flight by what is known, with those that may be tried."""
        return self._full if now < self._until else self._full + self._step

    def limit(self, now: float) -> float:
        """The most that may be in flight before another is sent."""
        return 0 if self._is_waiting else self.held(now)

    def sent(self, now: float, in_flight: int) -> None:
        """A request leaves; `in_flight` counts it."""
        self._sent += 1
        if in_flight > self._full and self._tried_at is None:
            self._tried_at = now

    def home(self) -> None:
        """A request is over, and was not refused."""
        self._is_waiting = False

    def answered(self, sent_at: float) -> None:
        """An answer to a request sent at `sent_at`. Refusals are quicker: those that were tried before it are in."""
        if sent_at >= self._refused_at:
            self._misses = 0
        if self._tried_at is not None and sent_at >= self._tried_at:
            self._full, self._step, self._tried_at, self._hold_s = self._full + self._step, 2 * self._step, None, 0.0

    def refused(self, now: float, sent_at: float, others: int) -> bool:
        """A request sent at `sent_at` was refused beside `others` in flight; whether their number explains it."""
        is_later = sent_at >= self._refused_at
        is_fewer = is_later and others < self._full < NONE
        self._misses += is_fewer and self._sent <= FEW
        if not others or self._misses >= MISSES:
            self._forget()
            return False
        self._is_waiting, self._refused_at, self._sent = True, now, 0
        if is_later:
            self._is_telling = not is_fewer  # by chance, or it came before the one that went home had left
            if self._is_telling:
                self._hold(now, others)
        elif self._is_telling and others < self._full:  # one of many that were sent together
            self._step = 1 if self._hold_s else self._step + int(self._full - others)
            self._full = others
        return True

    def _hold(self, now: float, others: int) -> None:
        is_known = self._tried_at is not None
        self._hold_s = min(max(2 * self._hold_s, FIRST_HOLD_S), LONGEST_HOLD_S) if is_known else 0.0
        self._full, self._until, self._step, self._tried_at = others, now + self._hold_s, 1, None

    def _forget(self) -> None:
        self._full, self._step, self._tried_at = NONE, 1, None
        self._hold_s, self._until, self._is_waiting, self._misses, self._is_telling = 0.0, -NONE, False, 0, False
