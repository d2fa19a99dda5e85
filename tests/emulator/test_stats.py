"""What the emulator counts is exact."""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.faults import Fault
from pipeline.emulator.server import serve
from pipeline.emulator.stats import TIMELINE_S, EmulatorStats

Picture = Callable[..., bytes]
Body = Callable[..., dict[str, Any]]


async def test_a_mixed_load_adds_up(picture: Picture, chat_body: Body) -> None:
    """Every request ends as one status or as a drop, and answers, images and tokens match what clients got."""
    rates = {Fault.SERVER_ERROR: 0.2, Fault.DISCONNECT: 0.2, Fault.EMPTY: 0.1}
    pictures = [picture(64 + size, 48) for size in range(5)]
    async with serve(EmulatorConfig(seed=1, faults=rates)) as server, aiohttp.ClientSession() as session:
        got = await asyncio.gather(
            *(_tokens(session, server.url, chat_body(pictures[number % 5])) for number in range(60))
        )
        async with session.get(server.url.replace("/v1", "/emulator/stats")) as response:
            stats = await response.json()
    answers = [tokens for tokens in got if tokens]
    assert stats["requests"] == 60 == sum(stats["statuses"].values()) + stats["dropped"]
    assert stats["statuses"] == {"200": len(answers), "500": stats["faults"]["500"]}
    assert stats["dropped"] == stats["faults"]["disconnect"] > 0
    assert stats["answered"] == stats["billed"] == len(answers)
    assert stats["distinct_images"] == 5
    assert (stats["prompt_tokens"], stats["completion_tokens"]) == (
        sum(prompt for prompt, _ in answers),
        sum(completion for _, completion in answers),
    )
    assert (stats["in_flight"], stats["rate_limited"], stats["aborted"]) == (0, 0, 0)


async def _tokens(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> tuple[int, int] | None:
    try:
        async with session.post(f"{url}/chat/completions", json=body) as response:
            if response.status != 200:
                return None
            usage = (await response.json())["usage"]
            return usage["prompt_tokens"], usage["completion_tokens"]
    except aiohttp.ClientConnectionError:
        return None


async def test_peak_concurrency_is_the_number_in_flight_together(chat_body: Body) -> None:
    """Twelve requests that wait for one another are twelve in flight; a reset keeps what still flies."""
    everyone = asyncio.Event()

    async def sleep(_: float) -> None:
        if server.stats.in_flight == 12:
            server.reset()
            assert (server.stats.requests, server.stats.peak_concurrency) == (12, 12)
            everyone.set()
        await everyone.wait()

    async with serve(EmulatorConfig(latency_ms=1), clock_ns=lambda: 0, sleep=sleep) as server:
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(_tokens(session, server.url, chat_body()) for _ in range(12)))
        assert (server.stats.peak_concurrency, server.stats.in_flight) == (12, 0)
        assert (server.stats.requests, server.stats.answered) == (12, 12)
        server.reset()
        assert (server.stats.requests, server.stats.peak_concurrency, server.stats.statuses) == (0, 0, {})


async def test_a_client_that_leaves_before_its_body_is_not_billed(chat_body: Body) -> None:
    """A request that is cut off in its body is counted as aborted, and the next one is served."""
    async with serve() as server, aiohttp.ClientSession() as session:
        _, writer = await asyncio.open_connection(urlsplit(server.url).hostname, urlsplit(server.url).port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        await server.stats.until(lambda: server.stats.in_flight == 1)
        writer.close()
        await writer.wait_closed()
        await server.stats.until(lambda: server.stats.in_flight == 0)
        assert await _tokens(session, server.url, chat_body())
        assert (server.stats.requests, server.stats.aborted, server.stats.billed) == (2, 1, 1)
        assert server.stats.statuses == {"200": 1}


async def test_counts_are_waited_for(chat_body: Body) -> None:
    """A look at the counts comes back when N requests have arrived, or are left."""
    gone = asyncio.Event()

    async def sleep(_: float) -> None:
        await gone.wait()

    async with serve(EmulatorConfig(latency_ms=1), clock_ns=lambda: 0, sleep=sleep) as server:
        stats = f"{server.url.removesuffix('/v1')}/emulator/stats"

        async def seen(query: str) -> tuple[int, int]:
            async with session.get(f"{stats}?{query}") as response:
                found = await response.json()
                return found["requests"], found["in_flight"]

        async with aiohttp.ClientSession() as session:
            waiting = asyncio.create_task(seen("requests=2"))
            asking = [asyncio.create_task(_tokens(session, server.url, chat_body())) for _ in range(2)]
            assert await waiting == (2, 2)
            waiting = asyncio.create_task(seen("requests=1&in_flight=0"))
            gone.set()
            await asyncio.wait(asking)
            assert await waiting == (2, 0)
            async with session.get(f"{stats}?requests=-1") as response:
                assert response.status == 400


async def test_a_client_that_leaves_while_it_waits_is_billed(chat_body: Body) -> None:
    """As with a provider: what was asked is paid for, although the client is gone."""
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def sleep(_: float) -> None:
        arrived.set()
        await gone.wait()

    async with serve(EmulatorConfig(latency_ms=1), clock_ns=lambda: 0, sleep=sleep) as server:
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(_tokens(session, server.url, chat_body()))
            await arrived.wait()
            asking.cancel()
            await asyncio.wait([asking])
        gone.set()
        await server.stats.until(lambda: server.stats.in_flight == 0)
        assert (server.stats.answered, server.stats.billed) == (1, 1)


async def test_jobs_that_need_no_limit_show_none(chat_body: Body) -> None:
    """Without `rpm` no rate-limit header is sent, and latency 0 never sleeps."""

    async def sleep(_: float) -> None:
        raise AssertionError("slept")

    async with (
        serve(sleep=sleep) as server,
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/chat/completions", json=chat_body()) as response,
    ):
        assert not [name for name in response.headers if name.lower().startswith("x-ratelimit")]


async def test_latency_counts_from_the_arrival(chat_body: Body) -> None:
    """What reading and decoding took is part of the latency, not added to it."""
    ticks_ns = iter(range(0, 10**12, 10_000_000))
    slept_s: list[float] = []

    async def sleep(seconds: float) -> None:
        slept_s.append(seconds)

    config = EmulatorConfig(latency_ms=200)
    async with (
        serve(config, clock_ns=lambda: next(ticks_ns), sleep=sleep) as server,
        aiohttp.ClientSession() as session,
    ):
        await _tokens(session, server.url, chat_body())
    assert slept_s == [0.19]


async def test_the_timeline_tells_each_second(chat_body: Body) -> None:
    """Requests, tokens and refusals stand in the second in which they came, counted from the start."""
    now_s = [100.0]
    config = EmulatorConfig(rpm=60, burst=2)
    async with (
        serve(config, clock_ns=lambda: int(now_s[0] * 1e9)) as server,
        aiohttp.ClientSession() as session,
    ):
        for now_s[0] in (100.0, 100.1, 100.2, 103.5):
            await _tokens(session, server.url, chat_body(max_tokens=88))
        async with session.get(server.url.replace("/v1", "/emulator/stats")) as response:
            stats = await response.json()
    assert stats["timeline"] == [
        {"second": 0, "requests": 2, "tokens": 200, "rate_limited": 1},
        {"second": 3, "requests": 1, "tokens": 100, "rate_limited": 0},
    ]
    assert (stats["rate_limited_by"], stats["tokens_admitted"]) == ({"requests": 1}, 300)


def test_the_timeline_forgets_what_is_long_ago() -> None:
    """Twenty minutes are kept, however long it goes on."""
    stats = EmulatorStats()
    for at in range(0, 10_000, 2):
        stats.second(at).requests += 1
    kept = [entry["second"] for entry in stats.timeline]
    assert kept == list(range(8_800, 10_000, 2))
    assert len(stats._seconds) == TIMELINE_S
