"""When a request may be sent, as arithmetic over a given time (seconds of a monotonic clock).

An endpoint may count what it grants in a token bucket, in fixed minutes or in the last sixty seconds; it seldom
says which. What is spread evenly and never exceeds the allowance in any sixty seconds suits all three.
"""

from collections import deque
from dataclasses import dataclass, replace

from pipeline.records import Quota, RateLimitInfo

WINDOW_S = 60.0
SLACK_S = 0.1
"""How much a request may be slower on its way than one that was sent a minute later."""
SLICE_S = 0.05
"""Requests within so short a span are counted together."""
CATCH_UP_S = 0.25
"""How much of a delay (of this machine) is made up for by requests that follow each other faster."""
TIGHT = 0.8
LONG_S = 90.0
"""A quota that takes longer than this to come back is no quota of a minute."""


@dataclass(slots=True)
class Slice:
    """What was taken within one slice of time."""

    at: float
    amount: float


class Allowance:
    """So much a minute of one thing. Without a limit it counts all the same: the endpoint may tell one later."""

    def __init__(self, per_minute: float | None = None) -> None:
        self.own = per_minute
        """What the user allows."""
        self.told: float | None = None
        """What the endpoint says that it grants."""
        self._slices: deque[Slice] = deque()
        self._used = 0.0
        self._next_at = float("-inf")

    @property
    def per_minute(self) -> float | None:
        """The smaller of both: what the endpoint tells tightens, and never loosens."""
        known = [limit for limit in (self.own, self.told) if limit is not None]
        return min(known, default=None)

    def ready_at(self, now: float, amount: float) -> float:
        """When `amount` may be taken: `now`, or later. What is larger than a whole minute waits for an empty one."""
        limit = self.per_minute
        if limit is None:
            return now
        self._forget(now)
        at = max(now, self._next_at - CATCH_UP_S)
        excess = self._used + min(amount, limit) - limit
        for slice_ in self._slices:
            if excess <= _ROUNDING * limit:
                break
            excess -= slice_.amount
            at = max(at, slice_.at + WINDOW_S + SLACK_S)
        return at

    def take(self, now: float, amount: float) -> Slice:
        """Count `amount` as sent; what comes back is for `correct`."""
        self._forget(now)
        limit = self.per_minute
        if limit is not None:
            self._next_at = max(now, self._next_at) + amount * WINDOW_S / limit
        self._used += amount
        if not self._slices or self._slices[-1].at < now:
            self._slices.append(Slice(now + SLICE_S, 0.0))
        self._slices[-1].amount += amount
        return self._slices[-1]

    def correct(self, slice_: Slice, difference: float) -> None:
        """The request counted there was larger, or smaller, than had been thought."""
        if not self._slices or slice_.at < self._slices[0].at:  # a minute ago
            return
        slice_.amount += difference
        self._used += difference
        if self.per_minute is not None:
            # A minute after the last request nothing of the window is used, whatever was billed.
            latest = self._slices[-1].at + WINDOW_S
            self._next_at = min(self._next_at + difference * WINDOW_S / self.per_minute, max(latest, self._next_at))

    def is_tight(self, now: float) -> bool:
        """Whether nearly all of the last minute's is used."""
        self._forget(now)
        limit = self.per_minute
        return limit is not None and self._used >= TIGHT * limit

    def _forget(self, now: float) -> None:
        while self._slices and self._slices[0].at + WINDOW_S + SLACK_S <= now:
            self._used -= self._slices.popleft().amount
        if not self._slices:
            self._used = 0.0


_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Taken:
    """One request's share of an endpoint's limits."""

    tokens: float
    slice_: Slice


class Limits:
    """Requests and tokens a minute of one endpoint."""

    def __init__(self, rpm: float | None = None, tpm: float | None = None) -> None:
        self.requests, self.tokens = Allowance(rpm), Allowance(tpm)
        self._granted_tokens = 0.0
        """The largest request that was answered."""
        self._is_doubted = False

    def ready_at(self, now: float, tokens: float) -> float:
        """When a request of so many tokens may be sent: `now`, or later."""
        return max(self.requests.ready_at(now, 1), self.tokens.ready_at(now, tokens))

    def take(self, now: float, tokens: float) -> Taken:
        self.requests.take(now, 1)
        tokens = min(tokens, self.tokens.per_minute or tokens)
        return Taken(tokens, self.tokens.take(now, tokens))

    def settle(self, taken: Taken, tokens: float) -> None:
        """What the request came to, now that it is known."""
        self.tokens.correct(taken.slice_, tokens - taken.tokens)

    def learn(self, told: RateLimitInfo, granted_tokens: float = 0.0) -> str | None:
        """What a response's headers say; an answer to a request of so many tokens came with them.

        A minute that has no room for what was granted in one request is disbelieved: the first time in words.
        """
        self._granted_tokens = max(self._granted_tokens, granted_tokens)
        _learn(self.requests, told.requests)
        _learn(self.tokens, told.tokens)
        most = self.tokens.told
        if most is None or most >= self._granted_tokens:
            return None
        self.tokens.told = None
        if self._is_doubted:
            return None
        self._is_doubted = True
        return f"a limit of {most:,.0f} tokens a minute, and granted {self._granted_tokens:,.0f} to a single request"

    def words(self, now: float, tokens: float) -> str:
        """Which of them a request of so many tokens waits for."""
        by_tokens = self.tokens.ready_at(now, tokens) > self.requests.ready_at(now, 1)
        allowance, what, flag = (
            (self.tokens, "token", "`limits.tpm`") if by_tokens else (self.requests, "request", "`limits.rpm`")
        )
        limit = allowance.per_minute or 0.0
        whose = flag if limit == allowance.own else "the endpoint"
        number = f"{limit:,.0f}" if limit >= 1 else f"{limit:g}"
        return f"{whose} allows {number} {what}{'' if number == '1' else 's'} a minute"

    def is_tight(self, now: float) -> bool:
        """Whether a known allowance is nearly used up: then it is what a refusal is about."""
        return self.requests.is_tight(now) or self.tokens.is_tight(now)

    def allows(self, tokens: float) -> bool:
        """Whether a request of so many tokens can ever be granted."""
        return self.tokens.told is None or tokens <= self.tokens.told


def back_in_s(told: RateLimitInfo | None) -> float | None:
    """Seconds until what is used up, by a refusal's own headers, is back; None where they do not say so."""
    quotas = () if told is None else (told.requests, told.tokens)
    spent = [quota.reset_s for quota in quotas if quota is not None and quota.remaining == 0]
    spent += [] if told is None else [told.reset_s]
    return max((reset_s for reset_s in spent if reset_s is not None), default=None)


def _learn(allowance: Allowance, quota: Quota | None) -> None:
    if quota is None or quota.limit < 1:  # nobody grants less than one a minute
        return
    if quota.reset_s is not None and quota.reset_s > LONG_S:  # a day's quota: its end is told by a refusal
        allowance.told = None
    else:
        allowance.told = quota.limit


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
    probe_until: float | None = None
    """Once the pause is over: so long the others wait for what the first request finds."""

    @property
    def over_at(self) -> float:
        """When the next request may go."""
        return self.until if self.probe_until is None else self.probe_until

    @classmethod
    def after(
        cls, before: "Cooldown | None", now: float, told_s: float | None, since: float | None = None
    ) -> "Cooldown":
        """The pause after a refusal at `now`: as long as told, else 1, 2, 4 ... seconds a round.

        Refusals that arrive within one pause belong to one round. `since` is when the first refused request was sent.
        """
        if before is None:
            return cls(now if since is None else since, now, now + _pause_s(1, told_s))
        rounds = before.rounds + 1 if now >= before.until else before.rounds
        until = max(before.until, now + _pause_s(rounds, told_s))
        return cls(before.since, now, until, rounds)

    def probing(self, now: float, probe_s: float) -> "Cooldown":
        """The pause is over for one request; the others wait for what it finds."""
        return replace(self, probe_until=now + probe_s)

    def joined(self, earlier: "Cooldown | None") -> "Cooldown":
        """With what another trouble had told to wait, and since when there has been no answer."""
        if earlier is None:
            return self
        return replace(self, since=min(self.since, earlier.since), until=max(self.until, earlier.until))

    def slept(self, asleep_s: float) -> "Cooldown":
        """The same after a sleep of this machine, in which its monotonic clock stood still and the pause went on."""
        return replace(self, until=max(self.refused_at, self.until - asleep_s))

    def no_longer_than(self, until: float) -> "Cooldown":
        """The same, over by `until` at the latest."""
        return replace(self, until=min(self.until, until))

    def ended_by(self, sent_at: float) -> bool:
        """Whether an answer to a request sent at `sent_at` shows that the trouble is over."""
        return sent_at >= self.refused_at


def _pause_s(rounds: int, told_s: float | None, longest_s: float = 60.0) -> float:
    own_s = min(longest_s, 2.0 ** min(rounds - 1, 10))
    if told_s is None or told_s <= 0:  # "at once" is no answer to somebody who was just refused
        return own_s
    return max(told_s, own_s / 10) if rounds > 1 else told_s
