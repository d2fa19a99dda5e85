"""Limits of requests and tokens as the official client meets them."""

from collections.abc import Callable
from typing import Any

import openai
import pytest

from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.headers import HeaderStyle, RetryAfter
from pipeline.emulator.limits import CountTokens, LimitKind
from pipeline.emulator.server import RunningEmulator, serve
from pipeline.endpoints.errors import read_failure
from pipeline.errors import ErrorKind

Picture = Callable[..., bytes]
Body = Callable[..., dict[str, Any]]
SECOND_NS = 10**9
PROMPT = 12
"""What `chat_body()` without an image is billed."""


def _client(server: RunningEmulator) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=server.url, api_key="sk-test", max_retries=0)


async def _refused(client: openai.AsyncOpenAI, body: dict[str, Any]) -> openai.RateLimitError:
    with pytest.raises(openai.RateLimitError) as raised:
        await client.chat.completions.create(**body)
    return raised.value


async def test_tokens_are_limited_and_advertised(chat_body: Body) -> None:
    """The prompt and `max_tokens` are taken at admission; the refusal says which limit, how long, and what is left."""
    body = chat_body(max_tokens=100)
    config = EmulatorConfig(rpm=600, tpm=1200)
    async with serve(config, clock_ns=lambda: 0) as server, _client(server) as client:
        raw = await client.chat.completions.with_raw_response.create(**body)
        error = await _refused(client, body)
        stats = server.stats
        assert raw.headers["x-ratelimit-limit-tokens"] == "1200"
        assert raw.headers["x-ratelimit-remaining-tokens"] == "8"
        assert raw.headers["x-ratelimit-reset-tokens"] == "5.6s"
        assert (error.code, error.type) == ("rate_limit_exceeded", "tokens")
        assert "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 1200, Requested 112." in error.message
        assert "Please try again in 5.2s" in error.message
        headers = error.response.headers
        assert (headers["retry-after-ms"], headers["retry-after"]) == ("5200", "6")
        assert headers["x-ratelimit-remaining-tokens"] == "8"
        assert headers["x-ratelimit-remaining-requests"] == "59", "the refused request's place was given back"
        assert (stats.rate_limited, stats.rate_limited_by, stats.tokens_admitted) == (1, {"tokens": 1}, 112)
        assert stats.timeline == [{"second": 0, "requests": 1, "tokens": 112, "rate_limited": 1}]


async def test_an_image_counts_with_its_tokens(picture: Picture, chat_body: Body) -> None:
    """A picture of 1024 x 1024 is 765 tokens of the limit."""
    async with serve(EmulatorConfig(tpm=100_000), clock_ns=lambda: 0) as server, _client(server) as client:
        raw = await client.chat.completions.with_raw_response.create(**chat_body(picture(1024, 1024)))
    assert raw.headers["x-ratelimit-remaining-tokens"] == str(10_000 - 765 - PROMPT)


async def test_a_request_refused_by_its_number_takes_no_tokens(chat_body: Body) -> None:
    """The limit of requests is met first, and the tokens stay."""
    config = EmulatorConfig(rpm=60, burst=1, tpm=60_000)
    async with serve(config, clock_ns=lambda: 0) as server, _client(server) as client:
        await client.chat.completions.create(**chat_body(max_tokens=88))
        error = await _refused(client, chat_body(max_tokens=88))
        assert server.stats.rate_limited_by == {"requests": 1}
        assert server.stats.tokens_admitted == 100
    assert error.type == "requests"
    assert error.response.headers["x-ratelimit-remaining-tokens"] == "900"


async def test_more_than_a_minute_grants_is_rejected(chat_body: Body) -> None:
    """OpenAI's words and code, no wait that would help, and nothing taken."""
    config = EmulatorConfig(rpm=600, tpm=1200, limit_kind=LimitKind.SLIDING)
    async with serve(config, clock_ns=lambda: 0) as server, _client(server) as client:
        error = await _refused(client, chat_body(max_tokens=1200))
        raw = await client.chat.completions.with_raw_response.create(**chat_body(max_tokens=1188))
        assert server.stats.rate_limited_by == {"too_large": 1}
    assert (error.code, error.type) == ("rate_limit_exceeded", "tokens")
    words = "Request too large for gpt-4o on tokens per min (TPM): Limit 1200, Requested 1212."
    assert words in error.message
    assert not [name for name in error.response.headers if name.startswith("retry-after")]
    assert raw.headers["x-ratelimit-remaining-requests"] == "599"
    assert raw.headers["x-ratelimit-remaining-tokens"] == "0"


@pytest.mark.parametrize(
    ("kind", "wait", "reset"),
    [(LimitKind.FIXED, "30s", "30s"), (LimitKind.SLIDING, "40s", "40s"), (LimitKind.BUCKET, "20s", "1s")],
)
async def test_the_kinds_of_limit_differ_in_when(chat_body: Body, kind: LimitKind, wait: str, reset: str) -> None:
    """Three a minute, asked at 10 s and at 30 s: a full minute, a minute after the first, or by and by."""
    now_ns = [10 * SECOND_NS]
    config = EmulatorConfig(rpm=3, limit_kind=kind, burst=3)
    async with serve(config, clock_ns=lambda: now_ns[0]) as server, _client(server) as client:
        for _ in range(3):
            await client.chat.completions.create(**chat_body())
        now_ns[0] = 30 * SECOND_NS
        if kind is LimitKind.BUCKET:
            raw = await client.chat.completions.with_raw_response.create(**chat_body())
            assert raw.headers["x-ratelimit-reset-requests"] == "1m0s"
            now_ns[0] = 89 * SECOND_NS
            raw = await client.chat.completions.with_raw_response.create(**chat_body())
            assert raw.headers["x-ratelimit-reset-requests"] == "21s"
            return
        error = await _refused(client, chat_body())
        assert f"Please try again in {wait}." in error.message
        assert error.response.headers["x-ratelimit-reset-requests"] == reset


async def test_what_is_billed_settles_what_was_admitted(chat_body: Body) -> None:
    """With `billed` the prompt is taken first, and the answer once it is made: it shows at the next request."""
    config = EmulatorConfig(tpm=1200, limit_kind=LimitKind.FIXED, count_tokens=CountTokens.BILLED)
    async with serve(config, clock_ns=lambda: 0) as server, _client(server) as client:
        raw = await client.chat.completions.with_raw_response.create(**chat_body(max_tokens=1000))
        assert raw.headers["x-ratelimit-remaining-tokens"] == str(1200 - PROMPT)
        usage = raw.parse().usage
        assert usage is not None
        raw = await client.chat.completions.with_raw_response.create(**chat_body())
        assert raw.headers["x-ratelimit-remaining-tokens"] == str(1200 - usage.total_tokens - PROMPT)
        billed = server.stats.prompt_tokens + server.stats.completion_tokens
        assert server.stats.tokens_admitted == billed == 2 * usage.total_tokens
        assert server.stats.timeline[0]["tokens"] == billed


async def test_an_answer_that_is_cheaper_than_admitted_gives_back(picture: Picture, chat_body: Body) -> None:
    """Where an image is ignored its tokens return to the limit of what is billed."""
    config = EmulatorConfig(
        tpm=10_000, limit_kind=LimitKind.SLIDING, count_tokens=CountTokens.BILLED, faults=_always("image_ignored")
    )
    async with serve(config, clock_ns=lambda: 0) as server, _client(server) as client:
        usage = (await client.chat.completions.create(**chat_body(picture(1024, 1024)))).usage
        assert usage is not None
        assert usage.prompt_tokens == PROMPT
        raw = await client.chat.completions.with_raw_response.create(**chat_body())
        assert raw.headers["x-ratelimit-remaining-tokens"] == str(10_000 - usage.total_tokens - PROMPT)


def _always(name: str) -> dict[Any, float]:
    return {name: 1.0}


@pytest.mark.parametrize("kind", list(LimitKind))
async def test_a_client_that_waits_as_stated_is_let_in(chat_body: Body, kind: LimitKind) -> None:
    """On a clock that the waits move, no request is refused twice by the same limit."""
    now_ns = [0]
    config = EmulatorConfig(rpm=6, tpm=1000, limit_kind=kind)
    async with serve(config, clock_ns=lambda: now_ns[0]) as server, _client(server) as client:
        for number in range(20):
            refused_by: list[str | None] = []
            while server.stats.answered == number:
                try:
                    await client.chat.completions.create(**chat_body(max_tokens=288 if number < 10 else 8))
                except openai.RateLimitError as error:
                    refused_by.append(error.type)
                    now_ns[0] += int(error.response.headers["retry-after-ms"]) * 1_000_000
            assert len(refused_by) == len(set(refused_by))
        assert set(server.stats.rate_limited_by) == {"requests", "tokens"}


@pytest.mark.parametrize("style", list(HeaderStyle))
async def test_the_style_of_headers_reaches_the_client(chat_body: Body, style: HeaderStyle) -> None:
    """Each style's own headers stand on the answer, and no other's."""
    config = EmulatorConfig(rpm=600, header_style=style)
    async with serve(config, clock_ns=lambda: 0) as server, _client(server) as client:
        raw = await client.chat.completions.with_raw_response.create(**chat_body())
    names = {name for name in raw.headers if "ratelimit" in name.lower()}
    first = {
        HeaderStyle.OPENAI: "x-ratelimit-limit-requests",
        HeaderStyle.OPENAI_COMMAS: "x-ratelimit-limit-requests",
        HeaderStyle.AZURE: "x-ratelimit-renewalperiod-requests",
        HeaderStyle.OPENROUTER: "x-ratelimit-reset",
        HeaderStyle.ANTHROPIC: "anthropic-ratelimit-requests-limit",
        HeaderStyle.MISTRAL: "x-ratelimit-remaining",
    }
    assert first[style] in names if style in first else not names


@pytest.mark.parametrize("style", list(RetryAfter))
async def test_the_client_of_this_package_reads_every_wait(chat_body: Body, style: RetryAfter) -> None:
    """A 429 is read as a rate limit, with the stated wait, or none where none is stated."""
    config = EmulatorConfig(rpm=20, burst=1, retry_after=style)
    noon_ns = 1_767_268_800 * SECOND_NS
    async with serve(config, clock_ns=lambda: 0, wall_ns=lambda: noon_ns) as server, _client(server) as client:
        await client.chat.completions.create(**chat_body())
        error = await _refused(client, chat_body())
    failure = read_failure(429, error.response.headers, error.response.content)
    assert failure.kind is ErrorKind.RATE_LIMITED
    assert failure.retry_after_s == (None if style is RetryAfter.NONE else 3.0)


async def test_a_reset_fills_both_limits(chat_body: Body) -> None:
    """After it all is granted as at the start, and the counts begin anew."""
    config = EmulatorConfig(rpm=10, burst=1, tpm=1000, limit_kind=LimitKind.BUCKET)
    async with serve(config, clock_ns=lambda: 0) as server, _client(server) as client:
        await client.chat.completions.create(**chat_body(max_tokens=88))
        await _refused(client, chat_body())
        server.reset()
        await client.chat.completions.create(**chat_body(max_tokens=88))
        assert (server.stats.rate_limited, server.stats.rate_limited_by, server.stats.tokens_admitted) == (0, {}, 100)
