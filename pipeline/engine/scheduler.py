"""Permits: each request waits for an endpoint that is ready and for what the budget allows, all in one line."""

import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count

import anyio

from pipeline.engine.leases import Leases
from pipeline.engine.stages import Clock, RequestState
from pipeline.engine.state import NEVER, EndpointState, Share
from pipeline.engine.stats import RunStats
from pipeline.errors import BudgetReachedError, ErrorKind, VisionBatchError
from pipeline.limits.budget import Amounts, Budget, leased
from pipeline.limits.decision import SUCCESSES, Action, Decision, decide
from pipeline.money import nano_usd
from pipeline.records import Answer, Failure, Usage

BILL_UNKNOWN = frozenset(
    {
        ErrorKind.TIMEOUT,
        ErrorKind.CONNECTION,
        ErrorKind.INVALID_RESPONSE,
        ErrorKind.EMPTY_ANSWER,
        ErrorKind.IMAGE_IGNORED,
    }
)
"""Failures after which the endpoint may have done, and billed, its work."""

CREDITS = 1_000
"""Requests that an endpoint makes up for which others had while its permits were all in use: without them every moment
in which it is full lowers its share. Without a bound it would have all requests for hours after a day of being full.
One that pauses makes up for a single request: it must not be flooded when it is back."""

Lease = Callable[[Amounts], Awaitable[None]]


@dataclass(slots=True)
class Permit:
    """Permission to send one request now: to which endpoint, since when, and what it reserves."""

    endpoint: EndpointState
    state: RequestState
    sent_at: float
    share: Share
    predicted: Amounts
    reserved: Amounts
    is_settled: bool = field(default=False, init=False)


@dataclass(frozen=True, slots=True)
class Settled:
    """What a request came to."""

    decision: Decision
    unknown_nano_usd: int
    """What it may have cost without a bill."""


class PlaceQueue:
    """One at a time, by place: the others wait."""

    def __init__(self) -> None:
        self._is_held = False
        self._waiting: list[tuple[int, anyio.Event]] = []

    def is_ahead(self, place: int) -> bool:
        """Whether a request with a smaller place waits."""
        return bool(self._waiting) and self._waiting[0][0] < place

    @asynccontextmanager
    async def held(self, place: int) -> AsyncIterator[None]:
        if self._is_held:
            await self._wait(place)
        self._is_held = True
        try:
            yield
        finally:
            self._leave()

    async def _wait(self, place: int) -> None:
        waiter = (place, anyio.Event())
        heapq.heappush(self._waiting, waiter)
        try:
            await waiter[1].wait()
        except BaseException:
            if waiter[1].is_set():
                self._leave()
            else:
                self._waiting.remove(waiter)
                heapq.heapify(self._waiting)
            raise

    def _leave(self) -> None:
        """The next one; between the two none can step in."""
        self._is_held = bool(self._waiting)
        if self._waiting:
            heapq.heappop(self._waiting)[1].set()


class Scheduler:
    """Gives permits to the records of a run, in their order, over all its endpoints."""

    def __init__(
        self,
        endpoints: Sequence[EndpointState],
        budgets: Sequence[Budget],
        lease: Lease,
        clock: Clock,
        leases: Leases | None = None,
    ) -> None:
        """`lease` publishes, before anything is sent, the most that this process may come to until it is called
        again; it is called only where there is a budget. `leases`: limits and budgets are those of several runs.
        """
        self._leases = leases
        self.endpoints, self.budgets = endpoints, budgets
        self._clock, self._lease = clock, lease
        self._queue, self._places = PlaceQueue(), count()
        self._changed = anyio.Event()
        self._is_waited_for = False
        self.spent = self._reserved = Amounts(0, 0, 0)
        self._leased = leased(budgets, Amounts(0, 0, 0))
        self._virtual_time = 0.0
        self._paced: str | None = None

    @property
    def concurrency(self) -> int:
        """The concurrency limits of all endpoints together."""
        return sum(endpoint.concurrency for endpoint in self.endpoints)

    @property
    def stopped(self) -> str | None:
        """Why the run ends: every endpoint refuses."""
        reasons = [endpoint.stopped for endpoint in self.endpoints]
        if None in reasons:
            return None
        if len(reasons) == 1:
            return reasons[0]
        return "; ".join(f"{endpoint.name}: {endpoint.stopped}" for endpoint in self.endpoints)

    def count_records(self) -> bool:
        """Whether a run that would stop goes on, in that errors count against the last records themselves."""
        failing = [endpoint for endpoint in self.endpoints if endpoint.may_be_records]
        for endpoint in failing:
            endpoint.count_records()
        return bool(failing)

    @property
    def waiting(self) -> str | None:
        """What the whole run waits for: None while one endpoint does not."""
        words = [endpoint.waiting for endpoint in self.endpoints]
        if None in words:
            return self._paced
        return words[0] if len(words) == 1 else "; ".join(filter(None, words))

    @property
    def paused_s(self) -> float:
        """Seconds until one endpoint may be asked again; 0 while one may."""
        now = self._clock.now()
        return max(0.0, min(endpoint.circuit.ready_at for endpoint in self.endpoints) - now)

    def remarks(self) -> list[str]:
        """New lines for the user."""
        lines = [remark for endpoint in self.endpoints for remark in endpoint.remarks]
        notices = [notice for endpoint in self.endpoints for notice in endpoint.notices.take()]
        for endpoint in self.endpoints:
            endpoint.remarks.clear()
        return lines if self.stopped else lines + notices  # the reason why a run ends holds the same words

    async def acquire(self, state: RequestState) -> Permit:
        """Wait until this record's request may be sent. Raises BudgetReachedError where no budget is left for it."""
        state.place = next(self._places) if state.place is None else state.place
        self.notify()  # a record with a later place lets it pass
        permit = None
        while permit is None:
            async with self._queue.held(state.place):
                permit = await self._at_head(state, state.place)
        return permit

    async def _at_head(self, state: RequestState, place: int) -> Permit | None:
        """The same at the head of the line; None where another must pass."""
        while not self._queue.is_ahead(place):
            now = self._clock.now()
            endpoint, ready_at = self._choose(now, state)
            if ready_at > now:
                self._paced = endpoint.pacing(now, ready_at, state.request)
                try:
                    await self._change(ready_at - now)
                finally:
                    self._paced = None
                continue
            predicted = endpoint.endpoint.most(state.request)
            need = max((budget.reservation(predicted) for budget in self.budgets), key=_nano, default=predicted)
            lacking = next((budget for budget in self.budgets if budget.lacks(need)), None)
            if lacking is not None:
                if self._leases is not None and await self._leases.extend(self.budgets, need, self.concurrency):
                    continue
                if not any(each.in_flight for each in self.endpoints):
                    raise _used_up(lacking, need)
                await self._change(NEVER)
                continue
            if self._waits_for_bill():
                await self._change(NEVER)
            elif await self._has_leased(need) and await self._has_permit(endpoint, state):
                return self._begin(endpoint, state, predicted, need)
        return None

    def _waits_for_bill(self) -> bool:
        in_flight = any(each.in_flight for each in self.endpoints)
        return in_flight and any(budget.waits_for_bill for budget in self.budgets)

    async def _has_permit(self, endpoint: EndpointState, state: RequestState) -> bool:
        """Whether the rates that several runs have together let this request go; False after time has passed."""
        if self._leases is None:
            return True
        at, tokens = self.endpoints.index(endpoint), endpoint.tokens_of(state.request)
        wait_s = self._leases.take(at, tokens)
        if wait_s is None:
            return True
        if wait_s > 0:
            await self._change(wait_s)
        else:
            await self._leases.fetch(at, tokens, max(1, endpoint.concurrency - endpoint.in_flight))
        return False

    async def exchange(self, stats: RunStats) -> VisionBatchError | None:
        """Report to where limits of several runs are given out, and apply what comes back; what ends the run."""
        if self._leases is None:
            return None
        reason = await self._leases.exchange(self.endpoints, stats)
        self.notify()
        return reason

    def _choose(self, now: float, state: RequestState) -> tuple[EndpointState, float]:
        """The endpoint that is ready soonest; of several that are ready, the one that is due by weight."""
        endpoints = self._others(state) or self.endpoints
        if len(endpoints) == 1:
            return endpoints[0], endpoints[0].ready_at(now, state.request)
        ready = [(max(now, endpoint.ready_at(now, state.request)), endpoint) for endpoint in endpoints]
        at, endpoint = min(ready, key=lambda one: (one[0], one[1].name == state.failed_on, one[1].virtual_time))
        return endpoint, at

    def _others(self, state: RequestState) -> list[EndpointState]:
        """Once one has rejected this record: those at work beside it. No record waits for one that is not."""
        if state.rejected_by is None:
            return []
        return [each for each in self.endpoints if each.name != state.rejected_by and _is_at_work(each)]

    def _begin(self, endpoint: EndpointState, state: RequestState, predicted: Amounts, need: Amounts) -> Permit:
        now = self._clock.now()
        if len(self.endpoints) > 1:
            self._count(endpoint)
        for budget in self.budgets:
            budget.reserve(need)
        self._reserved += need
        return Permit(endpoint, state, now, endpoint.begin(now, state.request), predicted, need)

    def _count(self, chosen: EndpointState) -> None:
        """Weighted fair queueing: `virtual_time` counts an endpoint's requests, each divided by its weight."""
        self._virtual_time = max(self._virtual_time, chosen.virtual_time)
        for endpoint in self.endpoints:
            credits_ = 1 if endpoint.waiting is not None else CREDITS
            least = self._virtual_time - credits_ / endpoint.endpoint.weight
            endpoint.virtual_time = max(endpoint.virtual_time, least)
        chosen.virtual_time += 1 / chosen.endpoint.weight

    def settle(self, permit: Permit, result: Answer | Failure) -> Settled:
        """The request is over: what it cost is counted, and what follows is decided."""
        unknown = self.release(permit, result)
        endpoint, state = permit.endpoint, permit.state
        known = endpoint.observe(state, permit.share, result)
        if not isinstance(result, Answer):
            known = replace(known, has_other=self._has_other(state, endpoint))
        elif state.request.corrects is not None:
            known = replace(known, is_correction=True)
        decision = decide(result, known)
        if isinstance(result, Answer):
            for each in self.endpoints:
                if each.name == state.rejected_by:
                    each.rejects(state.rejection)
        elif decision.action is Action.OTHER_ENDPOINT:
            state.rejected_by, state.rejection = endpoint.name, result.message
        if state.times_throttled > 1:  # else one record that is always throttled could hold up all others
            state.place = None
        self.notify()
        return Settled(decision, unknown)

    def _has_other(self, state: RequestState, here: EndpointState) -> bool:
        """Whether another endpoint may be asked, once, for what this one rejects."""
        return state.rejected_by is None and any(_is_at_work(each) for each in self.endpoints if each is not here)

    def release(self, permit: Permit, result: Answer | Failure | None) -> int:
        """The request is over (None: it was given up): what it may have cost unbilled, in nano-dollars."""
        cost, unknown = _cost(permit.reserved, result)
        self._end(permit, result, cost)
        self.notify()
        return unknown

    def withdraw(self, permit: Permit) -> None:
        """Nothing was sent after all, so nothing is spent."""
        self._end(permit, None, Amounts())
        self.notify()

    def _end(self, permit: Permit, result: Answer | Failure | None, cost: Amounts) -> None:
        permit.is_settled = True
        permit.endpoint.end(permit.share, permit.state.request, result)
        for budget in self.budgets:
            budget.settle(permit.reserved, cost, permit.predicted)
        self._reserved -= permit.reserved
        self.spent += cost

    def notify(self) -> None:
        """Something has changed that a permit may depend on."""
        if self._is_waited_for:
            self._is_waited_for = False
            self._changed.set()

    async def _has_leased(self, need: Amounts) -> bool:
        """Whether the ledger has leased this much; False after a new lease, since time has passed."""
        wanted = self.spent + self._reserved + need
        if wanted.exceeds(self._leased) is None:
            return True
        ahead = leased(self.budgets, wanted + need.times(self.concurrency), less=self.spent + self._reserved)
        await self._lease(ahead)
        self._leased = ahead
        return False

    async def _change(self, longest_s: float) -> None:
        self._changed, self._is_waited_for = anyio.Event(), True
        if longest_s == NEVER:
            await self._changed.wait()
            return
        async with anyio.create_task_group() as either:
            either.start_soon(self._sleep_then_cancel, longest_s, either.cancel_scope)
            await self._changed.wait()
            either.cancel_scope.cancel()

    async def _sleep_then_cancel(self, wait_s: float, scope: anyio.CancelScope) -> None:
        await self._clock.sleep(wait_s)
        scope.cancel()


def _is_at_work(endpoint: EndpointState) -> bool:
    return endpoint.stopped is None and endpoint.waiting is None


def _used_up(budget: Budget, need: Amounts) -> BudgetReachedError:
    what = budget.lacks(need) or ""
    return BudgetReachedError(f"no {what} are left", what=what, budget=budget.name, need=getattr(need, what))


def _nano(amounts: Amounts) -> int:
    return amounts.nano_usd or 0


def _cost(reserved: Amounts, result: Answer | Failure | None) -> tuple[Amounts, int]:
    """What a request has cost, and how much of that is not billed: then it counts as all that it reserved."""
    usage = (None if result is None else result.usage) or Usage()
    known = usage.billed_tokens
    stated = None if result is None else nano_usd(result.cost_usd)
    if stated is None and isinstance(result, Failure) and not _may_be_billed(result):
        return Amounts(0, known or 0, 1), 0
    least = max(usage.prompt_tokens or 0, usage.completion_tokens or 0)
    tokens = max(reserved.tokens or 0, least) if known is None else known
    if stated is not None:
        return Amounts(stated, tokens, 1), 0
    unknown = reserved.nano_usd or 0
    if reserved.tokens and tokens > reserved.tokens:
        unknown = -(-unknown * tokens // reserved.tokens)
    return Amounts(unknown, tokens, 1), unknown


def _may_be_billed(failure: Failure) -> bool:
    """Whether the endpoint may have done its work: nothing came back, or an answer that broke off or was useless."""
    broke_off = failure.kind is ErrorKind.SERVER_ERROR and failure.status in SUCCESSES
    return failure.kind in BILL_UNKNOWN or broke_off
