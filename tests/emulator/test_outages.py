"""Outages at their times, on real sockets."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import uvloop

from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.schedule import (
    LatencyStep,
    Outage,
    OutageKind,
    in_outage,
    latency_at,
    parse_latency_schedule,
    parse_outages,
)
from pipeline.emulator.server import RunningEmulator, serve
from pipeline.errors import InputError

Body = Callable[..., dict[str, Any]]
Run = Callable[[Coroutine[Any, Any, None]], None]


class Stage:
    """A clock that stands, and sleeps that end when the next scene is called."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._asleep: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()
        self._waiting: asyncio.Event | None = None

    def clock_ns(self) -> int:
        return int(self.now_s * 1e9)

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._asleep.put_nowait((self.now_s + seconds, woken))
        await woken.wait()

    async def next_sleep(self) -> float:
        """Until the next sleep begins; when it will end."""
        end_s, self._waiting = await self._asleep.get()
        return end_s

    def end_sleep(self, now_s: float) -> None:
        assert self._waiting is not None
        self.now_s = now_s
        self._waiting.set()


async def _post(session: aiohttp.ClientSession, server: RunningEmulator, body: dict[str, Any]) -> int:
    async with session.post(f"{server.url}/chat/completions", json=body) as response:
        return response.status


async def _connect(server: RunningEmulator) -> bool:
    try:
        _, writer = await asyncio.open_connection(urlsplit(server.url).hostname, urlsplit(server.url).port)
    except ConnectionRefusedError:
        return False
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return True


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_nobody_listens_and_then_somebody_does_again(run: Run, chat_body: Body) -> None:
    """Twice the port refuses connections, open ones are reset, and afterwards the same port answers."""
    run(_refuse_twice(chat_body()))


async def _refuse_twice(body: dict[str, Any]) -> None:
    stage = Stage()
    config = EmulatorConfig(outages=(Outage(10, 5), Outage(30, 5)), outage_kind=OutageKind.REFUSE)
    async with serve(config, clock_ns=stage.clock_ns, sleep=stage.sleep) as server, aiohttp.ClientSession() as session:
        for start_s in (10, 30):
            assert await stage.next_sleep() == start_s
            assert await _post(session, server, body) == 200
            stage.end_sleep(start_s)
            assert await stage.next_sleep() == start_s + 5
            with pytest.raises(aiohttp.ClientConnectionError):
                await _post(session, server, body)
            assert not await _connect(server)
            stage.end_sleep(start_s + 5)
            while not await _connect(server):
                pass
        assert await _post(session, server, body) == 200
        assert (server.stats.answered, server.stats.requests) == (3, 3)


async def test_an_end_during_an_outage_is_quiet(chat_body: Body) -> None:
    """An emulator that is stopped while it refuses leaves no socket behind."""
    stage = Stage()
    config = EmulatorConfig(outages=(Outage(10, 5),), outage_kind=OutageKind.REFUSE)
    async with serve(config, clock_ns=stage.clock_ns, sleep=stage.sleep) as server:
        await stage.next_sleep()
        stage.end_sleep(10)
        await stage.next_sleep()
        assert not await _connect(server)


async def test_connections_are_reset(chat_body: Body) -> None:
    """What is in flight at the beginning is reset, and so is every request until the end; both count as asked."""
    stage = Stage()
    config = EmulatorConfig(outages=(Outage(10, 5),), outage_kind=OutageKind.RESET, latency_ms=20_000)
    async with serve(config, clock_ns=stage.clock_ns, sleep=stage.sleep) as server, aiohttp.ClientSession() as session:
        assert await stage.next_sleep() == 10
        outage = stage._waiting
        asking = asyncio.create_task(_post(session, server, chat_body()))
        assert await stage.next_sleep() == 20
        working, stage._waiting = stage._waiting, outage
        stage.end_sleep(10)
        with pytest.raises(aiohttp.ClientConnectionError):
            await asking
        with pytest.raises(aiohttp.ClientConnectionError):
            await _post(session, server, chat_body())
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"{server.url}/models")
        stats = server.stats
        assert (stats.requests, stats.dropped, stats.in_outage) == (2, 1, 1)
        assert working is not None
        working.set()


@pytest.mark.parametrize(("kind", "status"), [(OutageKind.UNAVAILABLE, 503), (OutageKind.SERVER_ERROR, 500)])
async def test_an_outage_with_a_status(chat_body: Body, kind: OutageKind, status: int) -> None:
    """Every request and every list of models gets it, nothing is taken from the limit, and then all is well."""
    stage = Stage()
    config = EmulatorConfig(outages=(Outage(10, 5),), outage_kind=kind, rpm=20, burst=2)
    async with serve(config, clock_ns=stage.clock_ns, sleep=stage.sleep) as server, aiohttp.ClientSession() as session:
        seen = []
        for stage.now_s in (9.9, 10, 14.9, 15):
            seen.append(await _post(session, server, chat_body()))
            async with session.get(f"{server.url}/models") as response:
                assert response.status == seen[-1]
        assert seen == [200, status, status, 200]
        assert server.stats.in_outage == 2
        async with session.get(server.url.replace("/v1", "/emulator/stats")) as response:
            assert (await response.json())["statuses"] == {"200": 2, str(status): 2}


def test_outages_and_schedules_are_written_in_seconds() -> None:
    """`60+30` begins after a minute and lasts half of one; `0:200,60:1000` are steps."""
    assert parse_outages(["60+30", "300+0.5"]) == (Outage(60, 30), Outage(300, 0.5))
    assert parse_latency_schedule("0:200, 60:1000") == (LatencyStep(0, 200), LatencyStep(60, 1000))
    assert parse_latency_schedule(None) == ()


@pytest.mark.parametrize("setting", ["60", "60-30", "a+b", "-1+5", "1+nan", "+"])
def test_an_outage_that_makes_no_sense_is_refused(setting: str) -> None:
    """The message shows how it is written."""
    with pytest.raises(InputError, match=r"expected START\+LENGTH"):
        parse_outages([setting])


def test_a_step_that_makes_no_sense_is_refused() -> None:
    """The message names the step."""
    with pytest.raises(InputError, match=r"'x:1': expected SECONDS:MILLISECONDS"):
        parse_latency_schedule("0:200,x:1")


def test_an_outage_has_its_first_moment_and_not_its_last() -> None:
    """From the start on, until the end."""
    outages = (Outage(1, 1), Outage(5, 1))
    assert [in_outage(outages, moment) for moment in (0.9, 1, 1.9, 2, 5.5, 6)] == [
        False,
        True,
        True,
        False,
        True,
        False,
    ]


def test_the_last_step_that_has_begun_counts() -> None:
    """Before the first it is the plain latency."""
    steps = (LatencyStep(1, 10), LatencyStep(2, 20))
    assert [latency_at(steps, moment, 5) for moment in (0, 1, 1.9, 2, 99)] == [5, 10, 10, 20, 20]
