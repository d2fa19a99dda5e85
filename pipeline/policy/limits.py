"""When a request may be sent, as arithmetic over a given time (seconds of a monotonic clock)."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Pace:
    """Requests spaced evenly over the minute, so that no burst is ever refused."""

    interval_s: float = 0.0
    """Between two requests; 0 where nothing limits them."""
    next_at: float = float("-inf")

    @classmethod
    def per_minute(cls, rpm: float | None) -> "Pace":
        return cls(60.0 / rpm if rpm else 0.0)

    def take(self, now: float) -> tuple["Pace", float]:
        """The pace after one more request, and how long that request waits (seconds)."""
        at = max(now, self.next_at)
        return replace(self, next_at=at + self.interval_s), at - now


@dataclass(frozen=True, slots=True)
class Cooldown:
    """A pause that all requests share, begun by an endpoint that is busy or away."""

    since: float
    """When the trouble began."""
    refused_at: float
    """The last refusal: only a request sent after it can tell that all is well."""
    until: float
    rounds: int = 1
    """Pauses in a row without an answer between them."""

    @classmethod
    def after(cls, before: "Cooldown | None", now: float, told_s: float | None) -> "Cooldown":
        """The pause after a refusal at `now`: as long as told, else 1, 2, 4 ... seconds a round.

        Refusals that arrive within one pause belong to one round.
        """
        if before is None:
            return cls(now, now, now + _pause_s(1, told_s))
        rounds = before.rounds + 1 if now >= before.until else before.rounds
        until = max(before.until, now + _pause_s(rounds, told_s))
        return cls(before.since, now, until, rounds)

    def probing(self, now: float, probe_s: float) -> "Cooldown":
        """The pause is over for one request; the others wait for what it finds."""
        return replace(self, until=now + probe_s)

    def ended_by(self, sent_at: float) -> bool:
        """Whether an answer to a request sent at `sent_at` shows that the trouble is over."""
        return sent_at >= self.refused_at


def _pause_s(rounds: int, told_s: float | None, longest_s: float = 60.0) -> float:
    return min(longest_s, 2.0 ** min(rounds - 1, 10)) if told_s is None else told_s
