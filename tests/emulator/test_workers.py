"""A server that works on N requests at a time, and how long each takes."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.faults import Fault
from pipeline.emulator.schedule import LatencyStep
from pipeline.emulator.server import RunningEmulator, serve
from pipeline.emulator.workers import slowdown

Body = Callable[..., dict[str, Any]]


class Sleeps:
    """A sleep that ends on demand: each call waits for a `wake`, the first come first."""

    def __init__(self) -> None:
        self.asked_s: list[float] = []
        self._asked = asyncio.Condition()
        self._asleep: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._asleep.put_nowait(woken)
        async with self._asked:
            self.asked_s.append(round(seconds, 9))
            self._asked.notify_all()
        await woken.wait()

    async def asked(self, count: int) -> None:
        """Wait for the last of this many calls."""
        async with self._asked:
            await self._asked.wait_for(lambda: len(self.asked_s) == count)

    async def wake(self) -> None:
        (await self._asleep.get()).set()


async def _post(session: aiohttp.ClientSession, server: RunningEmulator, body: dict[str, Any]) -> int:
    async with session.post(f"{server.url}/chat/completions", json=body) as response:
        return response.status


async def _answered(server: RunningEmulator, count: int) -> None:
    await server.stats.until(lambda: server.stats.answered == count)


async def test_what_comes_beyond_the_slots_queues(chat_body: Body) -> None:
    """Of five requests two are worked on, three wait their turn, and each turn takes the whole latency."""
    sleeps = Sleeps()
    config = EmulatorConfig(slots=2, latency_ms=100)
    async with serve(config, clock_ns=lambda: 0, sleep=sleeps.sleep) as server, aiohttp.ClientSession() as session:
        asking = [asyncio.create_task(_post(session, server, chat_body())) for _ in range(5)]
        await server.stats.until(lambda: server.stats.queue_peak == 3)
        await sleeps.asked(2)
        for done in range(1, 6):
            await sleeps.wake()
            await _answered(server, done)
            await sleeps.asked(min(5, 2 + done))
        assert await asyncio.gather(*asking) == [200] * 5
        assert sleeps.asked_s == [0.1] * 5
        assert (server.stats.peak_concurrency, server.stats.queue_peak) == (5, 3)


async def test_what_may_not_wait_is_refused(chat_body: Body) -> None:
    """Two are worked on, one waits; the others get a 429 that tells no time, and are counted."""
    sleeps = Sleeps()
    config = EmulatorConfig(slots=2, queue=1, latency_ms=100)
    async with serve(config, clock_ns=lambda: 0, sleep=sleeps.sleep) as server, aiohttp.ClientSession() as session:
        asking = [asyncio.create_task(_post(session, server, chat_body())) for _ in range(5)]
        await server.stats.until(lambda: server.stats.rate_limited == 2)
        async with session.post(f"{server.url}/chat/completions", json=chat_body()) as response:
            assert (response.status, response.headers.get("Retry-After")) == (429, None)
        for done in range(1, 4):
            await sleeps.wake()
            await _answered(server, done)
        assert sorted(await asyncio.gather(*asking)) == [200, 200, 200, 429, 429]
        assert server.stats.rate_limited_by == {"slots": 3}


async def test_too_much_at_once_slows_the_work(chat_body: Body) -> None:
    """The longer the queue, the longer the work of each; without a queue it takes as long as alone."""
    sleeps = Sleeps()
    config = EmulatorConfig(slots=2, latency_ms=100, thrash=1)
    async with serve(config, clock_ns=lambda: 0, sleep=sleeps.sleep) as server, aiohttp.ClientSession() as session:
        asking = [asyncio.create_task(_post(session, server, chat_body())) for _ in range(5)]
        await server.stats.until(lambda: server.stats.queue_peak == 3)
        for begun in (3, 4, 5, 5, 5):
            await sleeps.wake()
            await sleeps.asked(begun)
        assert await asyncio.gather(*asking) == [200] * 5
    assert sleeps.asked_s == [0.1, 0.1, 0.2, 0.15, 0.1]


@pytest.mark.parametrize(("in_flight", "times"), [(1, 1.0), (8, 1.0), (9, 1.0625), (16, 1.5), (64, 4.5)])
def test_the_knee_is_at_the_slots(in_flight: int, times: float) -> None:
    """Up to the slots nothing is lost; at twice as many, with thrash 0.5, work takes half as long again."""
    assert slowdown(in_flight, 8, 0.5) == times


async def test_service_time_changes_on_a_schedule(chat_body: Body) -> None:
    """Each request takes what the schedule says at its time, the plain latency before the first step."""
    now_s, slept_s = [0], []

    async def sleep(seconds: float) -> None:
        slept_s.append(seconds)

    def clock_ns() -> int:
        return now_s[0] * 10**9

    config = EmulatorConfig(latency_ms=50, latency_schedule=(LatencyStep(10, 200), LatencyStep(60, 1000)))
    async with serve(config, clock_ns=clock_ns, sleep=sleep) as server, aiohttp.ClientSession() as session:
        for now_s[0] in (0, 9, 10, 59, 60, 1000):
            assert await _post(session, server, chat_body()) == 200
    assert slept_s == [0.05, 0.05, 0.2, 0.2, 1.0, 1.0]


async def test_the_schedule_holds_for_slots_and_slow_ones(chat_body: Body) -> None:
    """With slots too, and the fault `slow` comes on top."""
    slept_s = []

    async def sleep(seconds: float) -> None:
        slept_s.append(seconds)

    config = EmulatorConfig(slots=1, latency_schedule=(LatencyStep(0, 200),), slow_ms=300, faults={Fault.SLOW: 1})
    async with serve(config, clock_ns=lambda: 0, sleep=sleep) as server, aiohttp.ClientSession() as session:
        assert await _post(session, server, chat_body()) == 200
    assert slept_s == [0.5]
