"""Limits and budgets that several processes have together: what each holder may use now. Times of one clock.

A holder takes requests in slices: some permits with the times at which they may be used, evenly spread over all
holders. What a holder was given and did not use in time is lost, so that the sum never exceeds a limit. A part of the
budget belongs to a shard until the shard's next holder states what was spent: its ledger shows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from pipeline.limits.budget import NAMES, Amounts
from pipeline.limits.rate_window import MINUTE_S, RateLimits, Taken

LEASE_S = 15.0
"""A holder that is silent for this long has lost what it held; it stops on its own before that."""
AHEAD_S = 1.0
"""Permits are given for this time at most; those of a holder that dies are lost."""
SLICE_S = 0.25
"""A slice is what one holder's share of this time comes to, at least one request."""
LATE_S = 0.5
"""A permit may be used this much later than its time; without it a slow machine would use none."""
SLACK_S = LATE_S + 0.2
"""Of the window in which requests are counted, beyond a minute: permits are used late, and requests travel."""
POLL_S = 2.0
"""A holder that has to wait for longer asks again after this."""
PART = 8
"""A holder takes no more than this part of a budget's remainder, so that several can go on until it is used up."""


@dataclass(frozen=True, slots=True)
class EndpointLimits:
    """What is set for one endpoint, of all holders together."""

    rpm: float | None = None
    tpm: float | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class EndpointReport:
    """What a holder has seen of one endpoint."""

    in_flight: int = 0
    paused_s: float = 0.0
    """How long it pauses from now on, because it was throttled."""
    rpm: float | None = None
    """As the endpoint's headers state."""
    tpm: float | None = None
    corrected: float = 0.0
    """Tokens that were billed beyond the predicted ones, since the last report."""
    sent: tuple[int, float] = (0, 0.0)
    """Requests without a permit since the last report, and their tokens."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a holder is to keep to, for each endpoint."""

    is_unknown: bool = False
    """It has to register first: this process is new, or has given it up."""
    paused_s: tuple[float, ...] = ()
    """The longest pause of the others."""
    concurrency: tuple[float, ...] = ()
    limited: tuple[bool, ...] = ()
    """Whether requests need a permit from here."""
    stop: int = 0
    """The number of the signal that ends the run; 0: it goes on."""


@dataclass(frozen=True, slots=True)
class Permits:
    """A slice: seconds from now until each request may be sent. Without any: ask again after `wait_s`."""

    after_s: tuple[float, ...] = ()
    wait_s: float = 0.0
    is_unknown: bool = False


@dataclass(slots=True)
class _Holder:
    """One process at work."""

    seen_at: float
    pauses: list[float]
    places: list[float]
    """Requests that it may have in flight, where that is a number of all, as it was last ordered."""
    held: list[float]
    """The same, and what it may still have of an earlier order: no other holder is given these."""
    last: list[Taken | None]
    waits: bool = False
    """For the budget, with nothing in flight: it gives nothing back until it ends."""
    stats: Any = None


@dataclass(slots=True)
class _Endpoint:
    """One endpoint, of all holders."""

    limits: EndpointLimits
    rates: RateLimits = field(init=False)

    def __post_init__(self) -> None:
        self.rates = RateLimits(self.limits.rpm, self.limits.tpm, slack_s=SLACK_S)

    @property
    def is_limited(self) -> bool:
        return self.rates.requests.per_minute is not None or self.rates.tokens.per_minute is not None


class ClusterLimits:
    """The one place that gives out what all holders have together."""

    def __init__(
        self,
        now: float,
        endpoints: Sequence[EndpointLimits],
        budget: Amounts,
        granted: Mapping[str, Amounts],
        awaited: Sequence[str] = (),
    ) -> None:
        """`granted` is what each shard may spend, as it was when an earlier process gave it out.

        `awaited` held permits of that one: until each has registered, or a minute is over, nothing is sent that a rate
        counts.
        """
        self._endpoints = [_Endpoint(one) for one in endpoints]
        self._budget = budget
        self.granted = dict(granted)
        self._holders: dict[str, _Holder] = {}
        self._awaited, self._quiet_until = set(awaited), now + MINUTE_S + SLACK_S
        self.stop = 0
        self.given = 0
        """Permits."""

    @property
    def holders(self) -> list[str]:
        return list(self._holders)

    def stats(self) -> dict[str, Any]:
        """What each holder has last reported of its work."""
        return {name: holder.stats for name, holder in self._holders.items()}

    # ---------------------------------------------------------------- holders

    def register(self, now: float, name: str, holds: Amounts, sent: Sequence[tuple[float, float]] | None) -> Orders:
        """A holder begins, or has lost its place. `holds`: what it may spend until now; at first what its shard spent.

        `sent`: requests and tokens of its last minute, for each endpoint; None where it begins.
        """
        count = len(self._endpoints)
        is_new = name not in self._holders
        none = [0.0] * count
        self._holders[name] = _Holder(now, [-inf] * count, none, none.copy(), [None] * count)
        if sent is not None:
            self._awaited.discard(name)
        for endpoint, (requests, tokens) in zip(self._endpoints, sent or (), strict=sent is not None):
            if is_new and requests:
                endpoint.rates.requests.take(now, requests)
                endpoint.rates.tokens.take(now, tokens)
        for at in range(count):
            self._place(at, name, 0)
        if self._budget != Amounts():
            self.granted[name] = holds
        return self._orders(now, name)

    def leave(self, name: str, spent: Amounts) -> None:
        """A holder has ended; what it has not spent goes to the others."""
        self._holders.pop(name, None)
        if self._budget != Amounts():
            self.granted[name] = spent

    def exchange(self, now: float, name: str, reports: Sequence[EndpointReport], stats: object = None) -> Orders:
        """A holder lives, and reports; what it is to keep to."""
        self._forget(now)
        holder = self._holders.get(name)
        if holder is None:
            return Orders(is_unknown=True)
        holder.seen_at, holder.stats = now, holder.stats if stats is None else stats
        for at, (endpoint, report) in enumerate(zip(self._endpoints, reports, strict=True)):
            holder.pauses[at] = now + report.paused_s if report.paused_s > 0 else -inf
            rates, last = endpoint.rates, holder.last[at]
            rates.requests.advertised = report.rpm or rates.requests.advertised
            rates.tokens.advertised = report.tpm or rates.tokens.advertised
            if report.sent[0]:
                rates.requests.take(now, report.sent[0])
                rates.tokens.take(now, report.sent[1])
            if report.corrected and last is not None:
                rates.tokens.correct(last.slice_, report.corrected)
            self._place(at, name, report.in_flight)
        return self._orders(now, name)

    def _orders(self, now: float, name: str) -> Orders:
        others = [holder for each, holder in self._holders.items() if each != name]
        pauses = (max((one.pauses[at] for one in others), default=-inf) for at in range(len(self._endpoints)))
        return Orders(
            paused_s=tuple(max(0.0, until - now) for until in pauses),
            concurrency=tuple(
                inf if endpoint.limits.concurrency is None else self._holders[name].places[at]
                for at, endpoint in enumerate(self._endpoints)
            ),
            limited=tuple(endpoint.is_limited for endpoint in self._endpoints),
            stop=self.stop,
        )

    def _place(self, at: int, name: str, in_flight: int) -> None:
        """Order a holder's part of a number in flight: no more than the others leave, which give theirs back first."""
        most, holder = self._endpoints[at].limits.concurrency, self._holders[name]
        if most is None:
            return
        names = list(self._holders)
        own = most // len(names) + (names.index(name) < most % len(names))
        left = most - sum(other.held[at] for each, other in self._holders.items() if each != name)
        ordered_before = holder.places[at]  # which it keeps to until this order has reached it
        holder.places[at] = max(0.0, min(own, left))
        holder.held[at] = max(holder.places[at], ordered_before, in_flight)

    def _forget(self, now: float) -> None:
        for name in [name for name, holder in self._holders.items() if holder.seen_at + LEASE_S < now]:
            del self._holders[name]

    # ---------------------------------------------------------------- rates

    def take(self, now: float, name: str, at: int, tokens: float, most: int) -> Permits:
        """A slice of requests of this many tokens, `most` at most."""
        holder, endpoint = self._holders.get(name), self._endpoints[at]
        if holder is None:
            return Permits(is_unknown=True)
        holder.seen_at = now
        until = self._quiet_until if self._awaited else now
        until = max(until, *(one.pauses[at] for one in self._holders.values()))
        if until > now:
            return Permits(wait_s=min(POLL_S, until - now))
        found: list[float] = []
        for _ in range(min(most, self._slice(endpoint))):
            ready_at = endpoint.rates.ready_at(now, tokens)
            if ready_at > now + AHEAD_S:
                break
            holder.last[at] = endpoint.rates.take(max(now, ready_at), tokens)
            found.append(ready_at - now)
        self.given += len(found)
        wait_s = 0.0 if found else min(POLL_S, endpoint.rates.ready_at(now, tokens) - now)
        return Permits(tuple(found), wait_s)

    def _slice(self, endpoint: _Endpoint) -> int:
        per_minute = endpoint.rates.requests.per_minute
        a_second = 200.0 if per_minute is None else per_minute / MINUTE_S
        return max(1, int(a_second * SLICE_S / len(self._holders)))

    # ---------------------------------------------------------------- budget

    def more(
        self, now: float, name: str, need: Amounts, wanted: Amounts, *, is_idle: bool
    ) -> tuple[Amounts | None, bool]:
        """What a shard may spend from now on: `need` more, up to `wanted` where there is enough.

        Without any: whether another holder may give some back. `is_idle`: this one has nothing in flight.
        """
        self._forget(now)
        holder = self._holders.get(name)
        if holder is not None:
            holder.seen_at, holder.waits = now, False
        total = sum(self.granted.values(), Amounts(0, 0, 0))
        own = self.granted.get(name, Amounts(0, 0, 0))
        added = [self._part(total, each, need, wanted) for each in NAMES]
        if None in added:
            if holder is not None:
                holder.waits = is_idle
            return None, any(each != name and not one.waits for each, one in self._holders.items())
        self.granted[name] = own + Amounts(*added)
        return self.granted[name], True

    def _part(self, total: Amounts, name: str, need: Amounts, wanted: Amounts) -> int | None:
        """Of one of the amounts; None where `need` is more than is left."""
        most, least = getattr(self._budget, name), getattr(need, name) or 0
        if most is None:
            return 0
        left = most - (getattr(total, name) or 0)
        return None if least > left else max(least, min(getattr(wanted, name) or 0, left // PART))
