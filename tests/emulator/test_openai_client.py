"""The official client is the test that the emulator is an OpenAI endpoint."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest

from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.server import RunningEmulator, serve

Picture = Callable[..., bytes]
Body = Callable[..., dict[str, Any]]


def _client(server: RunningEmulator, **options: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=server.url, **{"api_key": "sk-test", "max_retries": 0, **options})


@pytest.fixture
async def server() -> AsyncIterator[RunningEmulator]:
    async with serve() as running:
        yield running


@pytest.fixture
async def client(server: RunningEmulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with _client(server) as opened:
        yield opened


async def test_an_image_is_captioned_and_billed(
    server: RunningEmulator, client: openai.AsyncOpenAI, picture: Picture, chat_body: Body
) -> None:
    """A data URL comes back as a caption, with the tokens of the published rule, and says who answers."""
    completion = await client.chat.completions.create(**chat_body(picture(1024, 1024), detail="high"))
    choice = completion.choices[0]
    assert choice.message.content == (
        "A square image, 1024 x 1024 pixels, almost entirely blue, very dark, with almost no detail."
    )
    assert (choice.finish_reason, choice.message.refusal) == ("stop", None)
    assert (completion.model, completion.object) == ("gpt-4o", "chat.completion")
    assert completion.system_fingerprint == "vision-batch-emulator"
    usage = completion.usage
    assert usage is not None
    assert usage.prompt_tokens == 765 + 5 + 4 + 3
    assert usage.completion_tokens == -(-len(choice.message.content) // 4)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert server.stats.prompt_tokens == usage.prompt_tokens
    assert server.stats.completion_tokens == usage.completion_tokens


@pytest.mark.parametrize(
    ("size", "options", "image_tokens"),
    [
        ((1024, 1024), {"model": "gpt-4o", "detail": "high"}, 765),
        ((2048, 4096), {"model": "gpt-4o", "detail": "high"}, 1105),
        ((2048, 4096), {"model": "gpt-4o", "detail": "low"}, 85),
        ((2048, 4096), {"model": "gpt-4o-mini"}, 36835),
    ],
)
async def test_published_examples_are_billed(
    client: openai.AsyncOpenAI,
    picture: Picture,
    chat_body: Body,
    size: tuple[int, int],
    options: dict[str, str],
    image_tokens: int,
) -> None:
    """The worked examples of OpenAI's and Azure's pages, as `usage` reports them."""
    usage = (await client.chat.completions.create(**chat_body(picture(*size), **options))).usage
    assert usage is not None
    assert usage.prompt_tokens == image_tokens + 12
    details = usage.prompt_tokens_details
    assert details is not None
    assert details.model_dump()["image_tokens"] == image_tokens


async def test_without_an_image_it_says_what_it_is(client: openai.AsyncOpenAI) -> None:
    """Who asks the emulator a question learns that it is no model."""
    completion = await client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "Who are you?"}]
    )
    assert "no model" in (completion.choices[0].message.content or "")


async def test_several_images_and_choices(
    server: RunningEmulator, client: openai.AsyncOpenAI, picture: Picture, chat_body: Body
) -> None:
    """Every image is described; `n` choices bill the prompt once and the answer n times."""
    body = chat_body(picture(), picture(colour="white"), n=3)
    completion = await client.chat.completions.create(**body)
    texts = [choice.message.content or "" for choice in completion.choices]
    assert len(texts) == 3
    assert texts[0].startswith("Image 1: A landscape-format image, 64 x 48 pixels, almost entirely blue")
    assert "Image 2: A landscape-format image, 64 x 48 pixels, almost entirely white" in texts[0]
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 3 * -(-len(texts[0]) // 4)
    assert completion.usage.prompt_tokens == 2 * 255 + 12
    assert (server.stats.answered, server.stats.billed, server.stats.distinct_images) == (1, 3, 2)


@pytest.mark.parametrize(
    ("model", "field"),
    [("gpt-4o", "max_tokens"), ("gpt-4o", "max_completion_tokens"), ("gpt-5.1", "max_completion_tokens")],
)
async def test_an_answer_ends_at_its_limit(
    client: openai.AsyncOpenAI, picture: Picture, chat_body: Body, model: str, field: str
) -> None:
    """Either field cuts the answer, which says so."""
    completion = await client.chat.completions.create(**chat_body(picture(), model=model, **{field: 3}))
    assert completion.choices[0].message.content == "A landscape-"
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 3


async def test_models_are_listed_and_shown(server: RunningEmulator, client: openai.AsyncOpenAI) -> None:
    """The list names models, each of them can be asked for, and the owner is no vendor."""
    models = [model async for model in client.models.list()]
    assert "gpt-4o" in {model.id for model in models}
    assert {model.owned_by for model in models} == {"vision-batch emulator"}
    assert (await client.models.retrieve("openai/gpt-4o")).id == "openai/gpt-4o"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("unknown-model")
    assert server.stats.requests == 0


async def test_a_server_of_named_models_knows_no_others(chat_body: Body) -> None:
    """With `models` the list is exactly these, and another name is OpenAI's 404."""
    async with serve(EmulatorConfig(models=("a", "b"))) as server, _client(server) as client:
        assert [model.id async for model in client.models.list()] == ["a", "b"]
        with pytest.raises(openai.NotFoundError) as raised:
            await client.chat.completions.create(**chat_body())
    assert raised.value.code == "model_not_found"


async def test_an_unknown_model_is_404(client: openai.AsyncOpenAI, chat_body: Body) -> None:
    """Names that begin with `unknown-` rehearse a wrong model."""
    with pytest.raises(openai.NotFoundError, match="does not exist or you do not have access") as raised:
        await client.chat.completions.create(**chat_body(model="unknown-model"))
    assert raised.value.code == "model_not_found"


async def test_a_wrong_key_is_401_and_costs_no_place(picture: Picture, chat_body: Body) -> None:
    """A refused key is an AuthenticationError, shows no key, and takes nothing from the rate limit."""
    async with serve(EmulatorConfig(api_key="sk-right", rpm=1)) as server:
        async with _client(server, api_key="sk-wrong") as client:
            with pytest.raises(openai.AuthenticationError) as raised:
                await client.chat.completions.create(**chat_body(picture()))
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
        async with _client(server, api_key="sk-right") as client:
            await client.chat.completions.create(**chat_body(picture()))
        assert server.stats.statuses == {"401": 1, "200": 1}
    assert raised.value.code == "invalid_api_key"
    assert "sk-" not in str(raised.value)


async def test_azures_header_carries_the_key(chat_body: Body) -> None:
    """`api-key: KEY` is accepted as Azure accepts it."""
    config = EmulatorConfig(api_key="sk-right")
    headers = {"Authorization": "", "api-key": "sk-right"}
    async with serve(config) as server, _client(server, default_headers=headers) as client:
        await client.chat.completions.create(**chat_body())


async def test_max_tokens_is_refused_where_openai_refuses_it(client: openai.AsyncOpenAI, chat_body: Body) -> None:
    """gpt-5 wants `max_completion_tokens`, and the error says so."""
    with pytest.raises(openai.BadRequestError, match="Use 'max_completion_tokens' instead") as raised:
        await client.chat.completions.create(**chat_body(model="gpt-5", max_tokens=10))
    assert (raised.value.code, raised.value.param) == ("unsupported_parameter", "max_tokens")


async def test_a_damaged_image_is_a_bad_request(client: openai.AsyncOpenAI, picture: Picture, chat_body: Body) -> None:
    """Half a JPEG is OpenAI's `image_parse_error`."""
    data = picture(800, 600)
    with pytest.raises(openai.BadRequestError) as raised:
        await client.chat.completions.create(**chat_body(data[: len(data) // 2]))
    assert raised.value.code == "image_parse_error"


async def test_without_decoding_the_header_is_billed(picture: Picture, chat_body: Body) -> None:
    """`decode=False` sees the real size and no damage."""
    data = picture(800, 600)
    async with serve(EmulatorConfig(decode=False)) as server, _client(server) as client:
        completion = await client.chat.completions.create(**chat_body(data[: len(data) // 2]))
    assert completion.choices[0].message.content == "A landscape-format image, 800 x 600 pixels."
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == 85 + 4 * 170 + 12


async def test_the_client_rides_the_rate_limit_by_itself(chat_body: Body) -> None:
    """A 429 tells the SDK to wait 20 ms; by then, on a clock that each 429 moves, it is granted."""
    interval_ns = 20_000_000
    running: list[RunningEmulator] = []

    def clock_ns() -> int:
        return interval_ns * sum(server.stats.rate_limited for server in running)

    config = EmulatorConfig(rpm=3000, burst=1)
    async with serve(config, clock_ns=clock_ns) as server, _client(server, max_retries=1) as client:
        running.append(server)
        await client.chat.completions.create(**chat_body())
        raw = await client.chat.completions.with_raw_response.create(**chat_body())
        assert raw.retries_taken == 1
        assert raw.headers["x-ratelimit-limit-requests"] == "3000"
        assert raw.headers["x-ratelimit-remaining-requests"] == "0"
        assert raw.headers["x-ratelimit-reset-requests"] == "20ms"
        assert server.stats.statuses == {"200": 2, "429": 1}


async def test_a_refusal_tells_how_long_to_wait(chat_body: Body) -> None:
    """The 429 of the limit has OpenAI's body, `retry-after-ms`, `retry-after` and the limit's headers."""
    config = EmulatorConfig(rpm=40, burst=2)
    async with serve(config, clock_ns=lambda: 0) as server, _client(server) as client:
        for _ in range(2):
            await client.chat.completions.create(**chat_body())
        with pytest.raises(openai.RateLimitError, match=r"Please try again in 1\.5s") as raised:
            await client.chat.completions.create(**chat_body())
        assert (server.stats.rate_limited, server.stats.answered) == (1, 2)
    assert (raised.value.code, raised.value.type) == ("rate_limit_exceeded", "requests")
    headers = raised.value.response.headers
    assert (headers["retry-after-ms"], headers["retry-after"]) == ("1500", "2")
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "3s"


async def test_errors_tell_the_limit_too(chat_body: Body) -> None:
    """A 400 took its place in the limit, and its headers say what is left."""
    async with serve(EmulatorConfig(rpm=600), clock_ns=lambda: 0) as server, _client(server) as client:
        with pytest.raises(openai.BadRequestError) as raised:
            await client.chat.completions.create(**chat_body(b"no image"))
    assert raised.value.response.headers["x-ratelimit-remaining-requests"] == "59"


async def test_every_response_has_openais_headers(client: openai.AsyncOpenAI, chat_body: Body) -> None:
    """Request id, processing time and date stand on answers and on errors; ids never repeat."""
    raw = await client.chat.completions.with_raw_response.create(**chat_body())
    with pytest.raises(openai.NotFoundError) as raised:
        await client.chat.completions.create(**chat_body(model="unknown-x"))
    for headers in (raw.headers, raised.value.response.headers):
        assert {"x-request-id", "openai-processing-ms", "date"} <= set(headers)
    assert raw.headers["x-request-id"] != raised.value.request_id


async def test_paths_without_v1_answer_too(server: RunningEmulator, chat_body: Body) -> None:
    """A base URL without `/v1` is as good."""
    bare = server.url.removesuffix("/v1")
    async with openai.AsyncOpenAI(base_url=bare, api_key="sk-test", max_retries=0) as client:
        await client.chat.completions.create(**chat_body())
        assert [model async for model in client.models.list()]
        with pytest.raises(openai.NotFoundError, match=r"Invalid URL \(POST /embeddings\)"):
            await client.embeddings.create(model="x", input="y", encoding_format="float")


async def test_a_body_beyond_the_limit_is_413(picture: Picture, chat_body: Body) -> None:
    """Too large a request is an error in OpenAI's shape, counted, and the next one is served."""
    async with serve(EmulatorConfig(max_body_mb=0.01)) as server, _client(server) as client:
        with pytest.raises(openai.APIStatusError) as raised:
            await client.chat.completions.create(**chat_body(picture() + bytes(20_000)))
        await client.chat.completions.create(**chat_body(picture()))
        assert server.stats.statuses == {"413": 1, "200": 1}
    assert (raised.value.status_code, raised.value.code) == (413, "request_too_large")
