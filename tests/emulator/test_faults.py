"""Every fault, as a client meets it, and whether it was billed."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import openai
import pytest

from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.faults import BadAnswer, Fault
from pipeline.emulator.server import serve

Picture = Callable[..., bytes]
Body = Callable[..., dict[str, Any]]


async def _ask(fault: Fault, body: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any], dict[str, Any]]:
    """Status, headers, body and statistics of one request that shows `fault`."""
    async with (
        serve(EmulatorConfig(faults={fault: 1})) as server,
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/chat/completions", json=body) as response,
    ):
        headers = {name.lower(): value for name, value in response.headers.items()}
        return response.status, headers, await response.json(), server.stats.as_dict()


@pytest.mark.parametrize(
    ("fault", "status", "code", "kind"),
    [
        (Fault.RATE_LIMITED, 429, "rate_limit_exceeded", "requests"),
        (Fault.RATE_LIMITED_BARE, 429, "rate_limit_exceeded", "requests"),
        (Fault.INSUFFICIENT_QUOTA, 429, "insufficient_quota", "insufficient_quota"),
        (Fault.BAD_KEY, 401, "invalid_api_key", "invalid_request_error"),
        (Fault.SERVER_ERROR, 500, None, "server_error"),
        (Fault.OVERLOADED, 503, None, "service_unavailable_error"),
    ],
)
async def test_errors_by_status(chat_body: Body, fault: Fault, status: int, code: str, kind: str) -> None:
    """Each has OpenAI's shape, nothing is billed, and only one 429 says how long to wait."""
    got, headers, body, stats = await _ask(fault, chat_body())
    assert (got, body["error"]["code"], body["error"]["type"]) == (status, code, kind)
    told = {name: value for name, value in headers.items() if name.startswith("retry-after")}
    assert told == ({"retry-after-ms": "1000", "retry-after": "1"} if fault is Fault.RATE_LIMITED else {})
    assert (stats["billed"], stats["rate_limited"]) == (0, 0)
    assert stats["faults"] == {fault: 1}
    assert stats["statuses"] == {str(status): 1}


@pytest.mark.parametrize(
    ("fault", "content", "refusal", "finish_reason"),
    [
        (Fault.EMPTY, "", None, "stop"),
        (Fault.REFUSAL, None, "I'm sorry, I can't assist with that.", "stop"),
        (Fault.CONTENT_FILTER, "", None, "content_filter"),
        (Fault.TRUNCATE, "A landscape-format image, 64 x 48 pixels, almost", None, "length"),
    ],
)
async def test_answers_that_are_none(
    picture: Picture,
    chat_body: Body,
    fault: Fault,
    content: str | None,
    refusal: str | None,
    finish_reason: str,
) -> None:
    """Refused, filtered, empty and cut answers look like OpenAI's and are billed."""
    status, _, body, stats = await _ask(fault, chat_body(picture()))
    choice = body["choices"][0]
    assert (status, choice["finish_reason"]) == (200, finish_reason)
    assert (choice["message"]["content"], choice["message"]["refusal"]) == (content, refusal)
    assert body["usage"]["completion_tokens"] == -(-len(content or refusal or "") // 4)
    assert (stats["answered"], stats["billed"], stats["prompt_tokens"]) == (1, 1, 255 + 12)


async def test_reasoning_may_use_up_the_answer(picture: Picture, chat_body: Body) -> None:
    """No text is left: all of `max_tokens` is billed as reasoning."""
    status, _, body, stats = await _ask(Fault.REASONING_EXHAUSTED, chat_body(picture(), max_tokens=77))
    choice = body["choices"][0]
    assert (status, choice["finish_reason"], choice["message"]["content"]) == (200, "length", "")
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 77
    assert body["usage"]["completion_tokens"] == stats["completion_tokens"] == 77


async def test_an_image_may_be_ignored(picture: Picture, chat_body: Body) -> None:
    """The answer speaks of no image, and none is billed."""
    status, _, body, stats = await _ask(Fault.IMAGE_IGNORED, chat_body(picture()))
    assert status == 200
    assert "this request holds none" in body["choices"][0]["message"]["content"]
    assert body["usage"]["prompt_tokens"] == stats["prompt_tokens"] == 12
    assert body["usage"]["prompt_tokens_details"]["image_tokens"] == 0
    assert stats["distinct_images"] == 0


async def test_gibberish_repeats_itself(chat_body: Body) -> None:
    """One word until `max_tokens` ends it."""
    _, _, body, _ = await _ask(Fault.GIBBERISH, chat_body(max_tokens=5))
    choice = body["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("the the the the the ", "length")


async def test_a_stall_lasts_until_the_client_gives_up(chat_body: Body) -> None:
    """Nothing is answered; once the client has closed the connection the request is over, and the next is served."""
    async with serve(EmulatorConfig(faults={Fault.STALL: 1})) as server, aiohttp.ClientSession() as session:
        for number in (1, 2):
            asking = asyncio.create_task(session.post(f"{server.url}/chat/completions", json=chat_body()))
            await server.stats.until(lambda n=number: server.stats.faults["stall"] == n)  # type: ignore[misc]  # bound now
            assert server.stats.in_flight == 1
            asking.cancel()
            await server.stats.until(lambda: server.stats.in_flight == 0)
        assert (server.stats.dropped, server.stats.billed, server.stats.statuses) == (2, 0, {})


async def test_a_stall_ends_in_a_reset(chat_body: Body, caplog: pytest.LogCaptureFixture) -> None:
    """After `stall_s` the connection is reset."""
    slept_s: list[float] = []

    async def sleep(seconds: float) -> None:
        slept_s.append(seconds)

    config = EmulatorConfig(faults={Fault.STALL: 1})
    async with (
        serve(config, sleep=sleep) as server,
        openai.AsyncOpenAI(base_url=server.url, api_key="x", max_retries=0) as client,
    ):
        with pytest.raises(openai.APIConnectionError):
            await client.chat.completions.create(**chat_body())
        assert (server.stats.dropped, server.stats.in_flight) == (1, 0)
    assert slept_s == [3600]
    assert not caplog.records


@pytest.mark.parametrize(
    ("bad", "content"), [(BadAnswer.EMPTY, ""), (BadAnswer.REFUSAL, None), (BadAnswer.GIBBERISH, "the the")]
)
async def test_a_model_goes_bad_in_the_middle(chat_body: Body, bad: BadAnswer, content: str | None) -> None:
    """The first three answers are good, all later ones bad; errors go on as before."""
    config = EmulatorConfig(
        goes_bad_after=3, goes_bad=bad, seed=1, faults={Fault.SERVER_ERROR: 0.3, Fault.TRUNCATE: 0.4}
    )
    said, statuses = [], []
    async with serve(config) as server, aiohttp.ClientSession() as session:
        for _ in range(12):
            async with session.post(f"{server.url}/chat/completions", json=chat_body()) as response:
                statuses.append(response.status)
                if response.status == 200:
                    said.append((await response.json())["choices"][0]["message"]["content"])
        good = 3 - statuses[:3].count(500)
        assert all("emulator" in words for words in said[:good])
        assert all(words == content or (content and words.startswith(content)) for words in said[good:])
        assert 0 < statuses.count(500) < 12
        assert server.stats.faults[str(bad)] == len(said) - good


async def test_empty_choices_bill_the_prompt(chat_body: Body) -> None:
    """`choices` is empty, the usage is there."""
    status, _, body, stats = await _ask(Fault.EMPTY_CHOICES, chat_body())
    assert (status, body["choices"]) == (200, [])
    assert body["usage"] == body["usage"] | {"prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 12}
    assert (stats["billed"], stats["completion_tokens"]) == (1, 0)


async def test_an_error_in_a_200_is_not_billed(chat_body: Body) -> None:
    """The body is OpenRouter's error object: no choices, an integer code."""
    status, _, body, stats = await _ask(Fault.ERROR_IN_200, chat_body())
    assert (status, body["error"]["code"], "choices" in body) == (200, 502, False)
    assert (stats["answered"], stats["billed"]) == (0, 0)


async def test_wrong_usage_contradicts_itself(chat_body: Body) -> None:
    """What is reported is ten times what was billed, and the total gives it away."""
    _, _, body, stats = await _ask(Fault.WRONG_USAGE, chat_body())
    usage = body["usage"]
    assert (usage["prompt_tokens"], stats["prompt_tokens"]) == (120, 12)
    assert usage["total_tokens"] == 12 + usage["completion_tokens"]


async def test_broken_json_arrives_whole(chat_body: Body) -> None:
    """The response is complete as HTTP, and its JSON ends in the middle."""
    async with serve(EmulatorConfig(faults={Fault.BROKEN_JSON: 1})) as server:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="x", max_retries=0) as client:
            with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
                await client.chat.completions.create(**chat_body())
        assert server.stats.billed == 1


async def test_disconnects_are_connection_errors_to_the_client(
    chat_body: Body, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK sees a connection error; nothing was billed, and the emulator's log stays empty."""
    async with serve(EmulatorConfig(faults={Fault.DISCONNECT: 1})) as server:
        async with openai.AsyncOpenAI(base_url=server.url, api_key="x", max_retries=0) as client:
            with pytest.raises(openai.APIConnectionError):
                await client.chat.completions.create(**chat_body())
        assert (server.stats.dropped, server.stats.billed, server.stats.statuses) == (1, 0, {})
    assert not caplog.records


async def test_a_disconnect_in_the_body_loses_a_paid_answer(chat_body: Body, caplog: pytest.LogCaptureFixture) -> None:
    """Status 200 and half the body arrive, then the connection ends; the answer was billed."""
    async with serve(EmulatorConfig(faults={Fault.DISCONNECT_MID: 1})) as server:
        async with aiohttp.ClientSession() as session:
            response = await session.post(f"{server.url}/chat/completions", json=chat_body())
            assert response.status == 200
            assert response.headers["x-request-id"].startswith("req_")
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        assert (server.stats.billed, server.stats.statuses) == (1, {"200": 1})
    assert not caplog.records


async def test_slow_answers_come_late(chat_body: Body) -> None:
    """`slow` adds its delay to the latency; the answer is the usual one."""
    slept_s: list[float] = []

    async def sleep(seconds: float) -> None:
        slept_s.append(seconds)

    config = EmulatorConfig(latency_ms=200, slow_ms=3000, faults={Fault.SLOW: 1})
    async with (
        serve(config, clock_ns=lambda: 0, sleep=sleep) as server,
        openai.AsyncOpenAI(base_url=server.url, api_key="x", max_retries=0) as client,
    ):
        assert (await client.chat.completions.create(**chat_body())).choices
    assert slept_s == [3.2]


async def test_a_fault_is_shown_at_its_rate_and_repeats_after_a_reset(chat_body: Body) -> None:
    """The same seed shows the same faults again, exactly as many as the draws say."""
    config = EmulatorConfig(seed=5, faults={Fault.SERVER_ERROR: 0.3})
    seen: list[list[int]] = []
    async with serve(config) as server, aiohttp.ClientSession() as session:
        for _ in range(2):
            statuses = []
            for _ in range(20):
                async with session.post(f"{server.url}/chat/completions", json=chat_body()) as response:
                    statuses.append(response.status)
            seen.append(statuses)
            assert server.stats.faults == {"500": statuses.count(500)}
            async with session.post(server.url.replace("/v1", "/emulator/reset")) as response:
                assert await response.json() == {"reset": True}
    assert seen[0] == seen[1]
    assert seen[0].count(500) == 6
