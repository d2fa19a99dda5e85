"""Whether requests may go to an endpoint at all: closed, open until a time for a reason, or half-open.

While the circuit is open nothing is sent. After that one request probes (half-open) and the others wait for what it
finds. Times are seconds of one clock.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""A pause without a stated time: doubled from the first to the second; a longer one would miss that all is well."""
LEAST = 0.1
"""Of our own pause, at least, after a probe that failed; else `Retry-After: 1` for an hour would be 3,600 probes."""


class PauseReason(StrEnum):
    """Why sending to an endpoint pauses."""

    THROTTLED = "rate limited"
    UNREACHABLE = "cannot be reached"
    NO_CREDIT = "out of credit"
    FAILING = "answers with errors only"


@dataclass(slots=True)
class Pause:
    """A time in which nothing was sent but probes."""

    reason: PauseReason
    began: float
    ended: float | None = None
    """None while it goes on."""


@dataclass(slots=True)
class Circuit:
    """The circuit breaker of one endpoint."""

    reason: PauseReason | None = None
    """None while it is closed."""
    since: float = 0.0
    """When the first request that failed was sent."""
    failed_at: float = 0.0
    """The last failure: only a request sent after it can show that all is well."""
    until: float = -inf
    rounds: int = 0
    """Pauses in a row without an answer between them."""
    probe_until: float | None = None
    """While it is half-open: how long the others wait for the probe."""
    pauses: list[Pause] = field(default_factory=list)
    """Those that are not noted yet; the last one may go on."""

    @property
    def ready_at(self) -> float:
        """When the next request may go."""
        if self.reason is None:
            return -inf
        return self.until if self.probe_until is None else self.probe_until

    def open(
        self, now: float, reason: PauseReason, stated_s: float | None, sent_at: float, most_s: float = inf
    ) -> bool:
        """Pause after a failure at `now`: as long as stated, else 1, 2, 4 ... seconds, once more at `most_s`.

        Only a throttle may state a longer wait. Failures within one pause belong to one round. A shorter pause never
        shortens a longer one. Returns whether a new round begins.
        """
        is_new = self.reason is not reason or now >= self.until
        if self.reason is None:
            self.since, self.until = sent_at, -inf
        if self.reason is not reason:
            self.since, self.rounds = min(self.since, sent_at), 0
            self._end_pause(now)
            self.pauses.append(Pause(reason, now))
        self.rounds += is_new
        wait_s = _pause_s(self.rounds, stated_s)
        left_s = self.since + most_s - now
        if left_s > 0 and (stated_s is None or reason is not PauseReason.THROTTLED):  # an outage ends when it ends
            wait_s = min(wait_s, left_s)
        self.until = max(self.until, now + wait_s)
        self.reason, self.failed_at, self.probe_until = reason, now, None
        return is_new

    def probe(self, now: float, probe_s: float) -> None:
        """One request goes; the others wait for it, at most `probe_s`."""
        if self.reason is not None:
            self.probe_until = now + probe_s

    def is_closed_by(self, sent_at: float) -> bool:
        """Whether an answer to a request sent at `sent_at` ends a pause."""
        return self.reason is not None and sent_at >= self.failed_at

    def close(self, now: float) -> None:
        self._end_pause(now)
        self.reason, self.until, self.rounds, self.probe_until = None, -inf, 0, None

    def _end_pause(self, now: float) -> None:
        if self.pauses and self.pauses[-1].ended is None:
            self.pauses[-1].ended = now

    def slept(self, asleep_s: float) -> None:
        """The machine slept: its monotonic clock stood still, and the pause went on."""
        self.until = max(self.failed_at, self.until - asleep_s)


def _pause_s(rounds: int, stated_s: float | None) -> float:
    own_s = min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(rounds - 1, 10))
    if stated_s is None or stated_s <= 0:  # "at once" is no answer to a request that was just throttled
        return own_s
    return max(stated_s, LEAST * own_s) if rounds > 1 else stated_s
