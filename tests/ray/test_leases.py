"""One run's side of limits that it has with others: what it may send, and what it does while no reply comes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from signal import SIGTERM
from typing import Any

from pipeline.engine.stages import Clock, Endpoint, EngineConfig
from pipeline.engine.state import EndpointState
from pipeline.engine.stats import RunStats
from pipeline.errors import InterruptedRunError
from pipeline.limits.budget import Amounts
from pipeline.limits.cluster import LEASE_S, ClusterLimits, EndpointLimits, EndpointReport, Orders, Permits
from pipeline.ray.leases import SharedLimits
from pipeline.records import Answer, Failure, PreparedRequest


class AwayError(Exception):
    """The limiter does not answer."""


@dataclass
class Direct:
    """A limiter in this process, which may be away."""

    limits: ClusterLimits
    now: Callable[[], float]
    is_away: bool = False
    calls: list[str] = field(default_factory=list)

    def _call(self, name: str, *words: Any, **named: Any) -> Any:
        self.calls.append(name)
        if self.is_away:
            raise AwayError
        return getattr(self.limits, name)(*words, **named)

    async def register(self, name: str, holds: Amounts, sent: Sequence[tuple[float, float]] | None) -> Orders:
        found: Orders = self._call("register", self.now(), name, holds, sent)
        return found

    async def leave(self, name: str, spent: Amounts) -> None:
        self._call("leave", name, spent)

    async def exchange(self, name: str, reports: Sequence[EndpointReport], stats: RunStats | None) -> Orders:
        found: Orders = self._call("exchange", self.now(), name, reports, stats)
        return found

    async def take(self, name: str, at: int, tokens: float, most: int) -> Permits:
        found: Permits = self._call("take", self.now(), name, at, tokens, most)
        return found

    async def more(self, name: str, need: Amounts, wanted: Amounts, *, is_idle: bool) -> tuple[Amounts | None, bool]:
        found: tuple[Amounts | None, bool] = self._call("more", self.now(), name, need, wanted, is_idle=is_idle)
        return found


async def ask(_: PreparedRequest) -> Answer | Failure:
    raise NotImplementedError


class Bench:
    """One holder, its endpoint, and a clock that stands still."""

    def __init__(self, rpm: float | None = None, budget: Amounts | None = None) -> None:
        self.time = 0.0
        budget = budget or Amounts()
        self.limits = ClusterLimits(0.0, [EndpointLimits(rpm=rpm, concurrency=8)], budget, {})
        self.limiter = Direct(self.limits, lambda: self.time)
        clock = Clock(now=lambda: self.time, utc=lambda: datetime.now(UTC), sleep=self.sleep, random=Random(1))
        self.state = EndpointState(Endpoint(name="e", ask=ask), EngineConfig(threads=1, prepared_bytes=1), clock)
        self.leases = SharedLimits(self.limiter, "0/2", 1, clock, bounds=budget, unreachable=(AwayError,))

    async def sleep(self, seconds: float) -> None:
        self.time += seconds

    def do(self, work: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await work

        return asyncio.run(awaited())

    def exchange(self) -> Any:
        return self.do(self.leases.exchange([self.state], RunStats()))


def test_a_request_waits_for_its_permit_and_uses_it_once() -> None:
    bench = Bench(rpm=60)
    assert bench.leases.take(0, 100.0)  # before it is registered
    assert bench.exchange() is None
    assert bench.state.most_in_flight == 8
    assert bench.leases.take(0, 100.0) == 0
    bench.do(bench.leases.fetch(0, 100.0, 4))
    assert [bench.leases.take(0, 100.0) for _ in range(2)] == [None, 0]
    bench.do(bench.leases.fetch(0, 100.0, 4))
    assert bench.leases.take(0, 100.0) == 0.75
    assert bench.leases.take(0, 200.0) == 0  # a larger request than the permit is for
    bench.time = 2.0
    bench.do(bench.leases.fetch(0, 100.0, 4))
    bench.time = 3.0
    assert bench.leases.take(0, 100.0) == 0  # too late
    assert bench.leases.lost == 2


def test_without_limits_nothing_is_asked_until_a_header_states_one() -> None:
    bench = Bench()
    bench.exchange()
    assert [bench.leases.take(0, 10.0) for _ in range(30)] == [None] * 30
    bench.state.limits.requests.advertised = 60
    assert bench.leases.take(0, 10.0) == 0
    bench.do(bench.leases.fetch(0, 10.0, 4))
    assert bench.limiter.calls == ["register", "exchange", "exchange", "take"]
    bench.limits.register(0.0, "1/2", Amounts(0, 0, 0), None)
    assert len(bench.limits.take(31.0, "1/2", 0, 1.0, 100).after_s) <= 30


def test_a_limiter_that_is_away_stops_what_needs_it_and_is_registered_with_again() -> None:
    bench = Bench(rpm=6_000)
    bench.exchange()
    bench.limiter.is_away = True
    bench.do(bench.leases.fetch(0, 10.0, 4))
    assert bench.leases.take(0, 10.0)
    bench.time = LEASE_S + 1
    assert bench.exchange() is None
    assert bench.leases.take(0, 10.0)
    bench.limiter.is_away, bench.limiter.limits = False, ClusterLimits(0.0, [EndpointLimits(rpm=60)], Amounts(), {})
    bench.time += 2
    bench.exchange()  # is not known there
    bench.exchange()
    assert bench.leases.take(0, 10.0) == 0
    bench.limiter.limits.stop = SIGTERM
    bench.time += 2
    stopped = bench.exchange()
    assert isinstance(stopped, InterruptedRunError)
    assert stopped.exit_code == 143


def test_a_budget_grows_in_parts_and_what_is_left_goes_back() -> None:
    bench = Bench(budget=Amounts(10_000, None, None))
    (budget,) = bench.leases.begin(Amounts(1_000, 5, 5))
    bench.exchange()
    need = Amounts(2_000, 50, 1)
    assert budget.limit == Amounts(1_000, None, None)
    assert bench.do(bench.leases.extend([budget], need, 1))
    assert budget.lacks(need) is None
    budget.reserve(need)
    budget.settle(need, Amounts(500, 50, 1), need)
    for _ in range(3):
        bench.do(bench.leases.extend([budget], need, 1))
        budget.reserve(need)
        budget.settle(need, need, need)
    assert not bench.do(bench.leases.extend([budget], Amounts(3_000, 0, 1), 1))
    bench.limits.register(0.0, "1/2", Amounts(0, 0, 0), None)
    assert bench.do(bench.leases.extend([budget], Amounts(3_000, 0, 1), 1))  # a holder may give some back
    bench.do(bench.leases.leave())
    assert bench.limits.granted["0/2"].nano_usd == 7_500
