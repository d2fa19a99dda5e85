"""Whose permit it is: shares by weight, one line, and what the budget allows; by a clock that jumps."""

import heapq
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine.scheduler import CREDITS, Permit, PlaceQueue, Scheduler
from pipeline.engine.stages import Endpoint, EngineConfig, RequestState
from pipeline.engine.state import QUOTA_PAUSE_S, REJECTED, EndpointState
from pipeline.errors import BudgetReachedError, ErrorKind
from pipeline.limits.budget import Amounts, Budget
from pipeline.limits.decision import Action, Decision
from pipeline.money import usd
from pipeline.records import Answer, Failure, PreparedRequest, Status, Usage
from tests.engine.test_state import AWAY, BROKEN, GOOD, START, Hand, fail, never_asked, request_of


@dataclass
class Line:
    """Scheduler over some endpoints, and the hand that moves their clock."""

    scheduler: Scheduler
    hand: Hand
    leases: list[Amounts]
    made: int = field(default=0)
    last: Decision | None = None

    def state(self, number: int | None = None) -> RequestState:
        self.made += 1
        return RequestState(request_of(self.made if number is None else number), START)

    async def next(self, state: RequestState | None = None) -> Permit:
        with anyio.fail_after(10):
            return await self.scheduler.acquire(state or self.state())

    def home(self, permit: Permit, result: Answer | Failure) -> float | None:
        permit.state.add(result)
        self.last = self.scheduler.settle(permit, result).decision
        return None if self.last.is_final else self.last.wait_s

    def action(self) -> Action | None:
        """What the last result led to."""
        return self.last.action if self.last else None

    async def ask(self, state: RequestState | None = None, result: Answer | Failure = GOOD) -> str:
        """One request, from its permit to its answer -> who was asked."""
        permit = await self.next(state)
        self.home(permit, result)
        return permit.endpoint.name

    @asynccontextmanager
    async def waiting(self, state: RequestState | None = None) -> AsyncIterator[list[Permit]]:
        """A request that waits in the line; the list holds the permit as soon as there is one."""
        got = list[Permit]()

        async def wait() -> None:
            got.append(await self.scheduler.acquire(state or self.state()))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                yield got


def line(
    *weights: float,
    concurrency: int | None = 16,
    budgets: list[Budget] | None = None,
    most: Callable[[PreparedRequest], Amounts] = lambda _: Amounts(requests=1),
    config: dict[str, object] | None = None,
) -> Line:
    """Endpoints a, b, c ... of these weights."""
    hand = Hand()
    numbers: dict[str, object] = {"threads": 1, "prepared_bytes": 1 << 20, **(config or {})}
    made = EngineConfig(**numbers)  # type: ignore[arg-type] # by name
    endpoints = [
        EndpointState(
            Endpoint(name=name, ask=never_asked, most=most, concurrency=concurrency, weight=weight), made, hand.clock()
        )
        for name, weight in zip("abcdefgh", weights or (1.0,), strict=False)
    ]
    leases = list[Amounts]()

    async def lease(amounts: Amounts) -> None:
        await anyio.lowlevel.checkpoint()
        leases.append(amounts)

    return Line(Scheduler(endpoints, budgets or [], lease, hand.clock()), hand, leases)


def bill(nano: int | None, tokens: int = 100) -> Answer:
    cost = None if nano is None else usd(nano)
    usage = Usage(prompt_tokens=tokens, completion_tokens=0)
    return Answer(status=Status.OK, caption="x", cost_usd=cost, usage=usage)


# ---------------------------------------------------------------- several endpoints


async def test_requests_are_shared_by_weight() -> None:
    """Over 400 scheduler of two endpoints that are ready, weights 3 and 1: 300 and 100."""
    bench = line(3, 1)
    assert Counter([await bench.ask() for _ in range(400)]) == {"a": 300, "b": 100}


@given(weights=st.lists(st.integers(1, 9), min_size=1, max_size=5), scheduler=st.integers(1, 120))
@settings(max_examples=40)
def test_shares_by_weight_at_any_moment(weights: list[int], scheduler: int) -> None:
    """For any number of endpoints and requests: no endpoint is more than two requests ahead of its share."""

    async def asked() -> Counter[str]:
        bench = line(*weights)
        return Counter([await bench.ask() for _ in range(scheduler)])

    counts = anyio.run(asked)
    for name, weight in zip("abcde", weights, strict=False):
        assert counts[name] <= scheduler * weight / sum(weights) + 2


async def test_an_endpoint_that_was_away_does_not_catch_up() -> None:
    """One endpoint pauses while the other gets a hundred requests; on its return it gets one first."""
    bench = line(1, 1)
    away = next(endpoint for endpoint in bench.scheduler.endpoints if endpoint.name == "b")
    await bench.ask()
    permit = await bench.next()
    assert permit.endpoint is away
    bench.home(permit, fail(ErrorKind.RATE_LIMITED, retry_after_s=60.0))
    assert Counter([await bench.ask() for _ in range(100)]) == {"a": 100}
    bench.hand.now_s += 61
    assert Counter([await bench.ask() for _ in range(21)]) == {"a": 10, "b": 11}


@dataclass
class Source:
    """Records that come at a steady rate and are answered after a while, by the hand's clock."""

    bench: Line
    every_s: float
    takes_s: float
    waiting: int = field(default=0)
    counts: Counter[str] = field(default_factory=Counter)
    out: list[tuple[float, int, Permit]] = field(default_factory=list)

    async def run(self, records: int) -> Counter[str]:
        arrivals = [self.bench.hand.now_s + number * self.every_s for number in range(1, records + 1)]
        while arrivals or self.out:
            if self.out and (not arrivals or self.out[0][0] <= arrivals[0]):
                self.bench.hand.now_s, _, permit = heapq.heappop(self.out)
                self.bench.home(permit, GOOD)
            else:
                self.bench.hand.now_s = arrivals.pop(0)
                self.waiting += 1
            await self.send()
        return self.counts

    async def send(self) -> None:
        while self.waiting and any(
            endpoint.in_flight < endpoint.concurrency for endpoint in self.bench.scheduler.endpoints
        ):
            self.waiting -= 1
            permit = await self.bench.next()
            self.counts[permit.endpoint.name] += 1
            heapq.heappush(self.out, (self.bench.hand.now_s + self.takes_s, sum(self.counts.values()), permit))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((3, 1), {"a": 900, "b": 300}),
        ((1, 1), {"a": 600, "b": 600}),
        ((10, 1), {"a": 1091, "b": 109}),
        ((0.5, 1), {"a": 400, "b": 800}),
        ((3, 2, 1), {"a": 600, "b": 400, "c": 200}),
    ],
)
async def test_shares_by_weight_with_concurrency_that_grows(
    weights: tuple[float, ...], expected: dict[str, int]
) -> None:
    """Proves that the shares are exact where permits grow from four and are all in use at first: 1,200 records, 80 a
    second, answered after 0.2 s. What an endpoint missed while it was full it makes up for.
    """
    source = Source(line(*weights, concurrency=None), every_s=1 / 80, takes_s=0.2)
    assert await source.run(1200) == expected


async def test_with_more_records_than_permits_all_are_in_use() -> None:
    """Proves that a weight holds nothing back: with 320 records a second and 16 permits each, weights 3 and 1, both
    answer all that they can, which is half of it.
    """
    source = Source(line(3, 1, concurrency=16), every_s=1 / 320, takes_s=0.2)
    counts = await source.run(640)
    assert abs(counts["a"] - counts["b"]) <= 16


@pytest.mark.parametrize("others", [1, 300])
async def test_who_was_full_makes_up_for_what_it_missed(others: int) -> None:
    """Proves that an endpoint whose permits were all in use while the other had `others` requests is served first
    until it has its share, and that from then on three of four go there.
    """
    bench = line(3, 1, concurrency=3)
    held = [await bench.next() for _ in range(4)]
    assert Counter(permit.endpoint.name for permit in held) == {"a": 3, "b": 1}
    assert Counter([await bench.ask() for _ in range(others)]) == {"b": others}
    for permit in held:
        bench.home(permit, GOOD)
    assert Counter([await bench.ask() for _ in range(3 * others)]) == {"a": 3 * others}
    assert Counter([await bench.ask() for _ in range(400)]) == {"a": 300, "b": 100}


async def test_who_was_full_for_a_day_makes_up_for_a_bounded_number() -> None:
    """Proves that after 5,000 requests of the other one it is served first for `CREDITS` of them, and no longer."""
    bench = line(1, 1, concurrency=1)
    held = await bench.next()
    assert Counter([await bench.ask() for _ in range(5000)]) == {"b": 5000}
    bench.home(held, GOOD)
    asked = [await bench.ask() for _ in range(CREDITS + 10)]
    assert CREDITS <= asked.index("b") <= CREDITS + 2


@pytest.mark.parametrize(("weights", "expected"), [((3, 1), 30), ((1, 1), 20), ((10, 1), 36), ((0.5, 1), 13)])
async def test_who_was_away_is_not_flooded(weights: tuple[float, ...], expected: int) -> None:
    """Proves that an endpoint that paused while the other had 300 requests has its share of the next 40, and at most
    two more.
    """
    bench = line(*weights)
    permit = await bench.next()
    bench.home(permit, fail(ErrorKind.RATE_LIMITED, retry_after_s=60.0))
    assert Counter([await bench.ask() for _ in range(300)]) == {"b": 300}
    bench.hand.now_s += 61
    counts = Counter([await bench.ask() for _ in range(40)])
    assert expected <= counts["a"] <= expected + 2


async def test_who_is_full_lets_the_other_go_first() -> None:
    """Weights are shares of what is possible: with all permits of one endpoint taken, the other gets the request."""
    bench = line(100, 1, concurrency=2)
    scheduler = [await bench.next() for _ in range(4)]
    assert Counter(permit.endpoint.name for permit in scheduler) == {"a": 2, "b": 2}


async def test_after_a_failure_another_endpoint_is_asked() -> None:
    """A record that failed at one endpoint goes to the other, whose permit it is not."""
    bench = line(1, 1)
    for _ in range(4):
        state = bench.state()
        failed = await bench.ask(state, BROKEN)
        assert await bench.ask(state) != failed


async def test_one_endpoint_without_credit_does_not_stop_the_others() -> None:
    """It is left out for five minutes, then tried once; the run goes on all the while."""
    bench = line(1, 1)
    assert await bench.ask(result=fail(ErrorKind.QUOTA_EXHAUSTED)) == "a"
    assert bench.scheduler.stopped is None
    assert bench.scheduler.waiting is None
    assert Counter([await bench.ask() for _ in range(10)]) == {"b": 10}
    bench.hand.now_s += QUOTA_PAUSE_S
    probe = await bench.next()
    assert probe.endpoint.name == "a"
    assert await bench.ask() == "b"
    bench.home(probe, GOOD)
    assert {await bench.ask() for _ in range(4)} == {"a", "b"}


async def test_all_endpoints_without_credit_stop_the_run() -> None:
    """When the last one refuses, the reason names each, with its own words."""
    bench = line(1, 1)
    await bench.ask(result=fail(ErrorKind.QUOTA_EXHAUSTED))
    await bench.ask(result=fail(ErrorKind.AUTHENTICATION))
    reasons = str(bench.scheduler.stopped).split("; ")
    assert "a: because quota_exhausted" in str(bench.scheduler.stopped)
    assert "b: because authentication" in str(bench.scheduler.stopped)
    assert reasons[0].startswith("a: ")


async def test_one_endpoint_alone_speaks_for_itself() -> None:
    """Without a name before its words."""
    bench = line()
    await bench.ask(result=fail(ErrorKind.AUTHENTICATION))
    assert str(bench.scheduler.stopped).startswith("because authentication")


async def test_all_endpoints_that_pause_are_waited_for() -> None:
    """The one that is ready first gets the request, at that time and no sooner; the bar tells of both."""
    bench = line(1, 1)
    await bench.ask(result=fail(ErrorKind.RATE_LIMITED, retry_after_s=60.0))
    await bench.ask(result=fail(ErrorKind.OVERLOADED, retry_after_s=20.0))
    assert str(bench.scheduler.waiting).count("rate limited until") == 2
    before_s = bench.hand.now_s
    permit = await bench.next()
    assert permit.endpoint.name == "b"
    assert permit.sent_at - before_s == 20.0


async def test_the_circuit_of_one_endpoint_leaves_the_other_alone() -> None:
    """One host cannot be reached for three minutes: it is only probed, everything is answered by the other."""
    bench = line(1, 1)
    answered = Counter[str]()
    began_s = bench.hand.now_s
    await bench.ask()
    while bench.hand.now_s < began_s + 180:
        state = bench.state()
        permit = await bench.next(state)
        while permit.endpoint.name == "b":
            assert bench.home(permit, AWAY) == 0.0
            permit = await bench.next(state)
        bench.home(permit, GOOD)
        answered["a"] += 1
        assert state.failures == 0
        bench.hand.now_s += 0.25
    assert bench.scheduler.endpoints[1].requests <= 40
    assert answered["a"] == 720


# ---------------------------------------------------------------- one line


async def test_first_come_first_served() -> None:
    """Twenty wait for a single slot: they get it in the order in which they came."""
    bench = line(concurrency=1)
    order = list[str]()

    async def live(number: int) -> None:
        permit = await bench.scheduler.acquire(bench.state(number))
        order.append(permit.state.request.record.id)
        await anyio.lowlevel.checkpoint()
        bench.home(permit, GOOD)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(live, number)
    assert order == [str(number) for number in range(20)]


async def test_a_large_request_is_not_overtaken_for_ever() -> None:
    """One that needs nearly a minute's tokens is sent once it is the first, although smaller ones would fit before."""
    bench = line()
    bench.scheduler.endpoints[0].limits.tokens.stated = 1000
    await bench.ask()
    large = RequestState(request_of(7, prompt_tokens=690), START)
    began_s = bench.hand.now_s
    await bench.ask(large)
    assert 59 <= bench.hand.now_s - began_s <= 61


async def test_a_request_that_was_asked_to_wait_notices_an_answer() -> None:
    """All permits taken: the next in line goes in the moment that one is free."""
    bench = line(concurrency=1)
    permit = await bench.next()
    async with bench.waiting() as got:
        assert got == []
        bench.home(permit, GOOD)
        await anyio.wait_all_tasks_blocked()
        assert len(got) == 1


async def test_who_gives_up_its_place_holds_nobody_up() -> None:
    """A request that waits first in line is cancelled: the second takes its place."""
    bench = line(concurrency=1)
    permit = await bench.next()
    with anyio.move_on_after(0.01):
        await bench.scheduler.acquire(bench.state())
    async with bench.waiting() as got:
        bench.home(permit, GOOD)
        await anyio.wait_all_tasks_blocked()
        assert len(got) == 1


async def test_a_request_is_due_after_what_answers_take() -> None:
    """Twenty answers of 5 s make it 20 s, twice that for a record that took too long once."""
    bench = line()
    for _ in range(20):
        permit = await bench.next()
        bench.hand.now_s += 5
        bench.home(permit, GOOD)
    state = bench.state()
    permit = await bench.next(state)
    assert permit.endpoint.timeout.timeout_s(permit.state.timeouts) == 20.0
    bench.home(permit, fail(ErrorKind.TIMEOUT))
    permit = await bench.next(state)
    assert permit.endpoint.timeout.timeout_s(permit.state.timeouts) == 40.0


# ---------------------------------------------------------------- the budget


def dear(_: PreparedRequest) -> Amounts:
    """At most 60 nano-dollars and 100 tokens."""
    return Amounts(60, 100, 1)


async def test_the_budget_waits_for_what_is_in_flight_and_then_stops() -> None:
    """Two reservations do not fit; the bill of the first makes room for the second, and then there is none."""
    budget = Budget(Amounts(nano_usd=100))
    bench = line(budgets=[budget], most=dear)
    permit = await bench.next()
    async with bench.waiting() as got:
        assert got == []
        bench.home(permit, bill(40))
        await anyio.wait_all_tasks_blocked()
        assert len(got) == 1
    bench.home(got[0], bill(1))
    assert budget.spent.nano_usd == 41
    with pytest.raises(BudgetReachedError, match="nano_usd"):
        await bench.next()


@pytest.mark.parametrize(("limit", "name"), [(Amounts(requests=7), "requests"), (Amounts(tokens=700), "tokens")])
async def test_requests_and_tokens_are_budgets_too(limit: Amounts, name: str) -> None:
    """Seven requests of a hundred tokens each, and not one more."""
    bench = line(budgets=[Budget(limit)], most=dear)
    for _ in range(7):
        await bench.ask(result=bill(None))
    with pytest.raises(BudgetReachedError, match=name):
        await bench.next()


async def test_of_two_budgets_the_smaller_counts() -> None:
    """The budget of one run and that of all runs on OUT are both kept."""
    run, total = Budget(Amounts(nano_usd=1000)), Budget(Amounts(nano_usd=1000), spent=Amounts(nano_usd=900))
    bench = line(budgets=[run, total], most=dear)
    await bench.ask(result=bill(60))
    with pytest.raises(BudgetReachedError):
        await bench.next()
    assert (run.spent.nano_usd, total.spent.nano_usd) == (60, 960)


@pytest.mark.parametrize(
    ("result", "cost", "unknown"),
    [
        (bill(5), 5, 0),
        (bill(None), 60, 60),
        (None, 60, 60),
        (fail(ErrorKind.TIMEOUT), 60, 60),
        (fail(ErrorKind.CONNECTION), 60, 60),
        (fail(ErrorKind.INVALID_RESPONSE, status=200), 60, 60),
        (fail(ErrorKind.INVALID_RESPONSE, status=200, cost_usd=Decimal("7e-9")), 7, 0),
        (fail(ErrorKind.SERVER_ERROR, status=500), 0, 0),
        (fail(ErrorKind.RATE_LIMITED, status=429), 0, 0),
        (fail(ErrorKind.UNREACHABLE), 0, 0),
        (fail(ErrorKind.EMPTY_ANSWER, status=200, cost_usd=Decimal("9e-9")), 9, 0),
    ],
)
async def test_what_a_request_counts_as(result: Answer | Failure | None, cost: int, unknown: int) -> None:
    """The bill where there is one; nothing where the endpoint refused; all that was reserved where that is unknown."""
    budget = Budget(Amounts(nano_usd=1000))
    bench = line(budgets=[budget], most=dear)
    permit = await bench.next()
    assert bench.scheduler.release(permit, result) == unknown
    assert budget.spent.nano_usd == cost
    assert budget.spent.requests == 1
    assert budget.reserved.nano_usd == 0


@given(costs=st.lists(st.integers(0, 60) | st.none(), min_size=1, max_size=40), limit=st.integers(60, 900))
@settings(max_examples=40)
def test_nothing_is_sent_that_the_ledger_does_not_know_of(costs: list[int | None], limit: int) -> None:
    """Before each request the lease covers all that may be spent with it, and the budget is never passed."""

    async def spend() -> None:
        budget = Budget(Amounts(nano_usd=limit), is_proven=True)
        bench = line(budgets=[budget], most=dear, concurrency=3)
        flying = list[Permit]()
        for cost in costs:
            while flying and (len(flying) == 3 or budget.lacks(Amounts(60, 100, 1))):
                bench.home(flying.pop(0), bill(cost))
            if budget.lacks(Amounts(60, 100, 1)):
                break
            flying.append(await bench.next())
            outstanding = budget.spent + budget.reserved
            assert (outstanding.nano_usd or 0) <= limit
            assert (bench.leases[-1].nano_usd or 0) >= (outstanding.nano_usd or 0)

    anyio.run(spend)


@pytest.mark.parametrize("limit", [Amounts(nano_usd=10_000), Amounts(tokens=100_000)])
async def test_the_first_bill_is_waited_for(limit: Amounts) -> None:
    """Until something is billed one request goes at a time; then all, reserved at what the bill has shown."""
    bench = line(budgets=[Budget(limit)], most=dear)
    for result in (Failure(kind=ErrorKind.SERVER_ERROR, message="busy", status=500), bill(600, 1000)):
        permit = await bench.next()
        async with bench.waiting() as got:
            assert got == []
            bench.home(permit, result)
            await anyio.wait_all_tasks_blocked()
            assert len(got) == 1
        bench.scheduler.withdraw(got[0])
    together = [await bench.next() for _ in range(3)]
    assert all((one.reserved.tokens or 0) >= 1000 for one in together)


@pytest.mark.parametrize(
    ("budget", "most"),
    [
        (Budget(Amounts(requests=9)), Amounts(60, 100, 1)),
        (Budget(Amounts(nano_usd=1000), is_proven=True), Amounts(60, 100, 1)),
    ],
)
async def test_no_bill_is_waited_for(budget: Budget, most: Amounts) -> None:
    """Where only requests are bounded, or earlier answers have shown what predictions are worth."""
    bench = line(budgets=[budget], most=lambda _: most)
    assert len([await bench.next() for _ in range(4)]) == 4


async def test_a_wrong_prediction_is_wrong_once() -> None:
    """A request that costs three times its reservation makes the next one wait until three times as much is free."""
    budget = Budget(Amounts(nano_usd=400))
    bench = line(budgets=[budget], most=dear)
    await bench.ask(result=bill(180))
    permit = await bench.next()
    assert 180 <= (permit.reserved.nano_usd or 0) <= 181
    bench.home(permit, bill(180))
    with pytest.raises(BudgetReachedError):
        await bench.next()
    assert budget.spent.nano_usd == 360


async def test_what_was_not_sent_costs_nothing() -> None:
    """A run that stops between a permit and its request: neither budget, slot nor lease knows of it afterwards."""
    budget = Budget(Amounts(requests=5))
    requests = line(1, budgets=[budget])
    permit = await requests.next()
    requests.scheduler.withdraw(permit)
    assert (permit.is_settled, permit.endpoint.in_flight) == (True, 0)
    assert budget.left.requests == 5
    assert requests.scheduler.spent.requests == 0


async def test_concurrency_is_that_of_all_endpoints() -> None:
    """As many workers and write credits are made."""
    assert line(1, 1, 1, concurrency=5).scheduler.concurrency == 15


# ---------------------------------------------------------------- what is shown


async def test_a_long_wait_for_the_limits_is_shown() -> None:
    """One request a minute: while the second waits its time is shown; with the answer it is over."""
    bench = line()
    bench.scheduler.endpoints[0].limits.requests.stated = 1.0
    await bench.ask()
    seen = list[str | None]()
    sleep = bench.hand.sleep

    async def looking(wait_s: float) -> None:
        seen.append(bench.scheduler.waiting)
        await sleep(wait_s)

    bench.scheduler._clock = replace(bench.scheduler._clock, sleep=looking)
    await bench.ask()
    assert str(seen[0]).startswith("`limits.rpm` allows 1 request a minute: next at ")
    assert bench.scheduler.waiting is None


async def test_one_that_refuses_everything_is_asked_no_more() -> None:
    """Eight records in a row that it refuses and another answers: it is left out, and the user learns why, once."""
    bench = line(1, 1)
    refusal = fail(ErrorKind.BAD_REQUEST, status=400)
    refused = 0
    for _ in range(60):
        state = bench.state()
        permit = await bench.next(state)
        if permit.endpoint.name == "a":
            refused += 1
            bench.home(permit, refusal)
            assert bench.action() is Action.OTHER_ENDPOINT
            permit = await bench.next(state)
        bench.home(permit, GOOD)
    assert refused == REJECTED
    assert bench.scheduler.remarks() == ["a refuses what others answer, and is asked no more: because bad_request"]
    assert bench.scheduler.remarks() == []
    assert bench.scheduler.stopped is None
    assert "refuses what others answer" in str(bench.scheduler.endpoints[0].stopped)


async def test_one_that_answers_now_and_then_is_asked_on() -> None:
    """Its smaller limits are its own: with an answer between them, refusals prove nothing against it."""
    bench = line(1, 1)
    refusal = fail(ErrorKind.REQUEST_TOO_LARGE, status=413)
    asked = 0
    for _ in range(80):
        state = bench.state()
        permit = await bench.next(state)
        if permit.endpoint.name == "a":
            asked += 1
            if asked % REJECTED:
                bench.home(permit, refusal)
                assert bench.action() is Action.OTHER_ENDPOINT
                permit = await bench.next(state)
        bench.home(permit, GOOD)
    assert bench.scheduler.endpoints[0].stopped is None
    assert asked > 3 * REJECTED


async def order_of(bench: Line, states: Sequence[RequestState]) -> list[str]:
    """The ids of these records in the order in which they get permits; they begin to wait in this one."""
    order = list[str]()

    async def stand(state: RequestState) -> None:
        permit = await bench.scheduler.acquire(state)
        order.append(permit.state.request.record.id)
        bench.home(permit, GOOD)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for state in states:
                tasks.start_soon(stand, state)
    return order


async def test_who_was_refused_goes_first() -> None:
    """One waits at the head of the line for the end of a pause; who was refused comes later, and is sent before it."""
    bench = line(1)
    await bench.ask(result=fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=20.0))
    refused = bench.state()
    permit = await bench.next(refused)
    bench.home(permit, fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=20.0))
    order = await order_of(bench, [bench.state(7), bench.state(8), refused])
    assert order == [refused.request.record.id, "7", "8"]


async def test_a_record_that_is_always_throttled_holds_up_nobody() -> None:
    """Proves that a record throttled once goes first after the pause, and throttled again, after those that wait."""
    bench = line(1)
    poison = bench.state()
    for number in range(2):
        permit = await bench.next(poison)
        bench.home(permit, fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=20.0))
        assert (poison.place is None) == (number == 1)

    order = await order_of(bench, [bench.state(7), bench.state(8), poison])
    assert order == ["7", "8", poison.request.record.id]


async def test_429s_are_counted_by_endpoint() -> None:
    """Proves that 429s of one endpoint do not end a record that another has not throttled."""
    bench = line(1, 1)
    state = bench.state()
    asked = Counter[str]()
    for _ in range(12):
        permit = await bench.next(state)
        asked[permit.endpoint.name] += 1
        assert bench.home(permit, fail(ErrorKind.RATE_LIMITED, status=429)) is not None
        bench.hand.now_s += 61
        for _ in range(4):
            await bench.ask()
    assert state.throttles == asked
    assert max(asked.values()) < 10


async def _served(places: list[int], cancelled: int | None = None) -> list[int]:
    """Who was served, of some that come while one is, by their places."""
    queue, served = PlaceQueue(), list[int]()

    async def stand(number: int, place: int, scope: anyio.CancelScope) -> None:
        with scope:
            async with queue.held(place):
                served.append(number)
                await anyio.lowlevel.checkpoint()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            async with queue.held(5):
                scopes = [anyio.CancelScope() for _ in places]
                for number, place in enumerate(places):
                    tasks.start_soon(stand, number, place, scopes[number])
                await anyio.wait_all_tasks_blocked()
                assert queue.is_ahead(5) == (min(places) < 5)
                if cancelled is not None:
                    scopes[cancelled].cancel()
                    await anyio.wait_all_tasks_blocked()
            if cancelled == 0:  # and once more in the very moment in which it is called
                scopes[1].cancel()
    async with queue.held(0):  # all have left
        return served


async def test_a_queue_serves_by_place() -> None:
    """Proves that the smallest place is next, in whatever order they come."""
    assert await _served([7, 3, 9, 4]) == [1, 3, 0, 2]


async def test_who_leaves_a_queue_holds_up_nobody() -> None:
    """One goes while it waits: the rest are served. One that goes when it has just been called is served as well."""
    assert await _served([11, 12, 13, 14], cancelled=2) == [0, 1, 3]
    assert await _served([11, 12, 13, 14], cancelled=0) == [1, 2, 3]


async def test_the_lease_ends_at_the_budget() -> None:
    """A budget of 200 with reservations of 60 leases no more than 200."""
    bench = line(budgets=[Budget(Amounts(nano_usd=200))], most=dear)
    await bench.ask(result=bill(10))
    await bench.ask(result=bill(10))
    assert max(lease.nano_usd or 0 for lease in bench.leases) <= 200


async def test_nobody_waits_for_an_endpoint_that_is_away() -> None:
    """What one of two refuses is asked at the other only while that one is at work; the line would wait for it."""
    bench = line(1, 1)
    bench.home(away := await bench.next(), AWAY)
    refused = await bench.next()
    assert refused.endpoint is not away.endpoint
    assert bench.home(refused, fail(ErrorKind.BAD_REQUEST, status=400)) is None
    assert bench.action() is Action.FAIL


async def test_a_refusal_is_referred_once() -> None:
    """A 400 of the first is asked at the second, whatever the shares; a 400 there is the last word."""
    bench, refusal = line(9, 1), fail(ErrorKind.BAD_REQUEST, status=400)
    state = bench.state()
    first = await bench.next(state)
    bench.home(first, refusal)
    assert bench.action() is Action.OTHER_ENDPOINT
    second = await bench.next(state)
    assert {first.endpoint.name, second.endpoint.name} == {"a", "b"}
    bench.home(second, refusal)
    assert bench.action() is Action.FAIL
