"""One run's part of limits and budgets that it has together with others: what its scheduler asks before a request.

`Limiter` is the one place that gives out, in another process; it may be slow, and it may die and come back without
what it had in memory. A run that cannot reach it sends nothing that it has no permit for.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from signal import Signals
from typing import Protocol, TypeVar

from pipeline.engine.stages import Clock
from pipeline.engine.state import EndpointState
from pipeline.engine.stats import RunStats
from pipeline.errors import InterruptedRunError, VisionBatchError
from pipeline.limits.budget import NAMES, Amounts, Budget
from pipeline.limits.circuit import PauseReason
from pipeline.limits.cluster import LATE_S, LEASE_S, EndpointReport, Orders, Permits

T = TypeVar("T")
EXCHANGE_S = 1.0
"""Between two reports."""
AGAIN_S = 0.5
"""Until a place that could not be reached, or had nothing to give, is asked again."""
CLUSTER = "cluster"
"""The budget of all shards."""
UNBOUNDED = Amounts()
AHEAD = 2
"""A run takes a part of the budget for this many times its requests in flight; more would lie idle."""


class Limiter(Protocol):
    """The calls of a `ClusterLimits` in another process. Each may raise what is in `unreachable` of `SharedLimits`."""

    async def register(self, name: str, holds: Amounts, sent: Sequence[tuple[float, float]] | None) -> Orders: ...
    async def leave(self, name: str, spent: Amounts) -> None: ...
    async def exchange(self, name: str, reports: Sequence[EndpointReport], stats: RunStats | None) -> Orders: ...
    async def take(self, name: str, at: int, tokens: float, most: int) -> Permits: ...
    async def more(
        self, name: str, need: Amounts, wanted: Amounts, *, is_idle: bool
    ) -> tuple[Amounts | None, bool]: ...


@dataclass(slots=True)
class _Permit:
    """May be used from one time until another, for a request of at most this many tokens."""

    at: float
    tokens: float


@dataclass(slots=True)
class _Of:
    """What is known of one endpoint."""

    is_limited: bool = True
    permits: deque[_Permit] = field(default_factory=deque)
    not_before: float = -inf
    corrected: float = 0.0
    """Of its tokens, as reported."""
    requests: int = 0
    """That were sent without a permit since the last report."""
    tokens: float = 0.0


class SharedLimits:
    """The `Leases` of one run."""

    def __init__(
        self,
        limiter: Limiter,
        name: str,
        endpoints: int,
        clock: Clock,
        *,
        bounds: Amounts = UNBOUNDED,
        unreachable: tuple[type[Exception], ...] = (),
    ) -> None:
        """`bounds`: which amounts have a budget. `unreachable`: what calls of the limiter raise where it is away."""
        self._bounds = bounds
        self._limiter, self._name, self._clock = limiter, name, clock
        self._unreachable = unreachable
        self.holds = Amounts(0, 0, 0)
        """What may be spent: before the first request, what the ledger of the run's shard counts."""
        self._endpoints = [_Of() for _ in range(endpoints)]
        self._states: Sequence[EndpointState] = ()
        self._budget: Budget | None = None
        self._is_registered = self._has_begun = False
        self._heard_at = self._exchanged_at = -inf
        self._was_paused = False
        self.lost = 0
        """Permits that were not used in time."""

    def begin(self, spent: Amounts) -> list[Budget]:
        self.holds = spent
        if self._bounds == UNBOUNDED:
            return []
        self._budget = Budget(bounded_as(self._bounds, spent), CLUSTER, spent)
        return [self._budget]

    async def leave(self) -> None:
        """The run is over: what it has not spent goes to the others."""
        if self._is_registered:
            spent = self.holds if self._budget is None else self._budget.spent
            await self._try(lambda: self._limiter.leave(self._name, spent))

    # ---------------------------------------------------------------- rates

    def take(self, endpoint: int, tokens: float) -> float | None:
        of, now = self._endpoints[endpoint], self._clock.now()
        if not self._is_registered or self._heard_at + LEASE_S < now:
            return AGAIN_S / 5
        if not self._is_limited(endpoint):
            of.requests, of.tokens = of.requests + 1, of.tokens + tokens
            return None
        while of.permits and (of.permits[0].at + LATE_S < now or of.permits[0].tokens < tokens):
            of.permits.popleft()
            self.lost += 1
        if of.permits:
            wait_s = of.permits[0].at - now
            if wait_s > 0:
                return wait_s
            of.permits.popleft()
            return None
        return max(0.0, of.not_before - now)

    def _is_limited(self, endpoint: int) -> bool:
        limits = self._states[endpoint].limits
        is_advertised = limits.requests.per_minute is not None or limits.tokens.per_minute is not None
        return self._endpoints[endpoint].is_limited or is_advertised

    async def fetch(self, endpoint: int, tokens: float, places: int) -> None:
        of, now = self._endpoints[endpoint], self._clock.now()
        if not of.is_limited:  # its headers have just stated a limit: what was sent until now counts
            await self._report(self._states, None)
        found = await self._try(lambda: self._limiter.take(self._name, endpoint, tokens, places))
        if found is None or found.is_unknown:
            self._is_registered = self._is_registered and found is None
            of.not_before = now + AGAIN_S
            return
        now = self._clock.now()
        of.permits.extend(_Permit(now + after_s, tokens) for after_s in found.after_s)
        of.not_before = now + found.wait_s

    # ---------------------------------------------------------------- budget

    async def extend(self, budgets: Sequence[Budget], need: Amounts, requests: int) -> bool:
        """The whole of the cluster's budget stands in one budget here, whose limit grows."""
        budget, wanted = budgets[0], need.times(max(1, AHEAD * requests))
        is_idle = not any(state.in_flight for state in self._states)
        lacking = _lacking(budget, need)
        found = await self._try(lambda: self._limiter.more(self._name, lacking, wanted, is_idle=is_idle))
        if found is not None and found[0] is not None:
            self.holds = found[0]
            budget.limit = bounded_as(budget.limit, self.holds)
            return True
        if found is not None and not found[1]:
            return False
        await self._clock.sleep(AGAIN_S)
        return True

    # ---------------------------------------------------------------- reports

    async def exchange(self, endpoints: Sequence[EndpointState], stats: RunStats) -> VisionBatchError | None:
        self._states = endpoints
        now, is_paused = self._clock.now(), any(_paused_s(one, self._clock.now()) > 0 for one in endpoints)
        if not self._is_registered:
            await self._register()
        elif now < self._exchanged_at + EXCHANGE_S and not (is_paused and not self._was_paused):
            return None
        self._exchanged_at, self._was_paused = now, is_paused
        return await self._report(endpoints, stats)

    async def _report(self, endpoints: Sequence[EndpointState], stats: RunStats | None) -> VisionBatchError | None:
        now = self._clock.now()
        reports = [self._of(at, state, now) for at, state in enumerate(endpoints)]
        orders = await self._try(lambda: self._limiter.exchange(self._name, reports, stats))
        return None if orders is None else self._apply(orders)

    def _of(self, at: int, state: EndpointState, now: float) -> EndpointReport:
        corrected, of = state.limits.corrected, self._endpoints[at]
        more, of.corrected = corrected - of.corrected, corrected
        sent, of.requests, of.tokens = (of.requests, of.tokens), 0, 0.0
        return EndpointReport(
            in_flight=state.in_flight,
            paused_s=_paused_s(state, now),
            rpm=state.limits.requests.advertised,
            tpm=state.limits.tokens.advertised,
            corrected=more,
            sent=sent,
        )

    async def _register(self) -> None:
        now = self._clock.now()
        sent = [(one.limits.requests.sent_lately(now), one.limits.tokens.sent_lately(now)) for one in self._states]
        said = sent if self._has_begun else None
        orders = await self._try(lambda: self._limiter.register(self._name, self.holds, said))
        if orders is not None:
            self._is_registered = self._has_begun = True
            self._apply(orders)

    def _apply(self, orders: Orders) -> VisionBatchError | None:
        now = self._clock.now()
        self._heard_at = now
        if orders.is_unknown:
            self._is_registered = False
            return None
        for at, state in enumerate(self._states):
            self._endpoints[at].is_limited = orders.limited[at]
            state.most_in_flight = orders.concurrency[at]
            state.held_until = now + orders.paused_s[at] if orders.paused_s[at] > 0 else -inf
        if not orders.stop:
            return None
        number = Signals(orders.stop)
        return InterruptedRunError(f"interrupted by {number.name}. The same command goes on where it stopped", number)

    async def _try(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """The reply; None where there is none."""
        try:
            return await call()
        except self._unreachable:
            return None


def bounded_as(limit: Amounts, amounts: Amounts) -> Amounts:
    """Those of the amounts that `limit` bounds."""
    return Amounts(*(None if getattr(limit, name) is None else getattr(amounts, name) for name in NAMES))


def _lacking(budget: Budget, need: Amounts) -> Amounts:
    """What a budget has too little for a reservation."""
    used, limit = budget.spent + budget.reserved + need, budget.limit
    return Amounts(*(max(0, (getattr(used, name) or 0) - (getattr(limit, name) or 0)) for name in NAMES))


def _paused_s(state: EndpointState, now: float) -> float:
    """How long the others pause too; what only this machine meets is no matter of theirs."""
    return state.circuit.until - now if state.circuit.reason is PauseReason.THROTTLED else 0.0
