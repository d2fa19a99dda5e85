"""One attempt over loopback HTTP: what is sent, what comes back, and that nothing is raised."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pipeline.config.sections import EndpointConfig
from pipeline.endpoints.transfer import MAX_ANSWER_BYTES
from pipeline.errors import ErrorKind, InputError
from pipeline.http.session import open_session
from pipeline.records import Answer, Failure, Status
from tests.clients import ChatClient

KEY = "secret-key-0123456789"
COMPLETION = {
    "id": "chatcmpl-1",
    "model": "gpt-4o",
    "choices": [{"index": 0, "message": {"content": "A red boat."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 780, "completion_tokens": 5, "total_tokens": 785},
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A server whose every path answers as `handler` says; yields its base URL."""
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("/v1"))


@asynccontextmanager
async def chatting(handler: Handler, key: str | None = KEY, **settings: object) -> AsyncIterator[ChatClient]:
    """A client of such a server, with a clock that advances a second each time it is read."""
    async with serving(handler) as base_url:
        endpoint = EndpointConfig.model_validate({"base_url": base_url, **settings})
        ticks = count()
        async with open_session(endpoint, 4) as session:
            yield ChatClient(session, endpoint, key, clock=lambda: float(next(ticks)))


def always(status: int, body: object, **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response(body, status=status, headers=headers)

    return handler


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8", "utf-8"),
        ("utf-8", "iso-8859-1"),  # a server's default, and untrue
        ("iso-8859-1", "ISO-8859-1"),
        ("utf-16", "utf-16"),
        ("utf-16", None),
        ("shift_jis", '"shift_jis"'),
    ],
)
async def test_a_body_in_another_charset(encoding: str, declared: str | None) -> None:
    """The text of the answer is whole: it is paid for."""
    caption = "緑の野原" if encoding == "shift_jis" else "Ein grünes Feld."
    choice = {"index": 0, "message": {"content": caption}, "finish_reason": "stop"}
    body = json.dumps({**COMPLETION, "choices": [choice]}, ensure_ascii=False).encode(encoding)
    kind = "application/json" + (f"; charset={declared}" if declared else "")

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Type": kind})

    async with chatting(handler) as chat:
        result = await chat.ask(b"{}")
    assert isinstance(result, Answer)
    assert result.caption == caption


async def test_an_answer() -> None:
    """One POST of the body as given; the answer's fields, and the time between sending and the last byte."""
    seen: list[tuple[str, str, bytes]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, await request.read()))
        return web.json_response(COMPLETION, headers={"x-request-id": "req_1"})

    async with chatting(handler) as chat:
        result = await chat.ask(b'{"model": "gpt-4o"}')
    assert seen == [("POST", "/v1/chat/completions", b'{"model": "gpt-4o"}')]
    assert isinstance(result, Answer)
    assert (result.status, result.caption, result.request_id) == (Status.OK, "A red boat.", "req_1")
    assert result.latency_s == 1.0


async def test_headers_of_other_endpoints() -> None:
    """Azure's `api-key` bears the key alone; configured headers are added, and beat the key's."""
    seen: list[Mapping[str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers)
        return web.json_response(COMPLETION)

    async with chatting(handler, api_key_header="api-key", headers={"HTTP-Referer": "https://me.test"}) as chat:
        await chat.ask(b"{}")
    async with chatting(handler, headers={"authorization": "Custom abc"}) as chat:
        await chat.ask(b"{}")
    async with chatting(handler, key=None) as chat:
        await chat.ask(b"{}")
    assert seen[0]["api-key"] == KEY
    assert "Authorization" not in seen[0]
    assert seen[0]["HTTP-Referer"] == "https://me.test"
    assert seen[1]["Authorization"] == "Custom abc"
    assert KEY not in seen[1].values()
    assert "Authorization" not in seen[2]


async def test_the_address_keeps_its_query() -> None:
    """Azure's `api-version` stands behind the path, for both addresses."""
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.path_qs)
        return web.json_response({"data": []} if request.method == "GET" else COMPLETION)

    async with serving(handler) as base_url:
        endpoint = EndpointConfig(base_url=f"{base_url}/deployments/my%20one/?api-version=2026-01-01")
        async with open_session(endpoint, 1) as session:
            chat = ChatClient(session, endpoint, KEY)
            await chat.ask(b"{}")
            await chat.models()
    assert chat.url == f"{base_url}/deployments/my%20one/chat/completions?api-version=2026-01-01"
    assert seen == [
        "/v1/deployments/my%20one/chat/completions?api-version=2026-01-01",
        "/v1/deployments/my%20one/models?api-version=2026-01-01",
    ]


async def test_large_bodies() -> None:
    """Several megabytes are sent as they are, without a warning."""
    sizes: list[int] = []

    async def handler(request: web.Request) -> web.Response:
        sizes.append(len(await request.read()))
        return web.json_response(COMPLETION)

    async with chatting(handler) as chat:
        assert isinstance(await chat.ask(b" " * 5_000_000), Answer)
    assert sizes == [5_000_000]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 429, 500, 503])
async def test_a_refusal_is_one_attempt_and_no_exception(status: int) -> None:
    """One request, one value with the status; nothing is retried and nothing raised."""
    requests: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        requests.append(request.path)
        told = {"error": {"message": f"words, {request.headers['Authorization']}", "type": None, "code": None}}
        return web.json_response(told, status=status, headers={"retry-after": "3"})

    async with chatting(handler) as chat:
        result = await chat.ask(b"{}")
    assert isinstance(result, Failure)
    assert len(requests) == 1
    assert (result.status, result.retry_after_s) == (status, 3)
    assert "words" in result.message
    assert KEY not in result.message


async def test_redirects_are_not_followed() -> None:
    """The key never reaches the new address; the message names it."""
    visits: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        visits.append(request.path)
        return web.json_response(COMPLETION)

    async with serving(elsewhere) as other:

        async def moved(_: web.Request) -> web.Response:
            return web.Response(status=307, headers={"location": f"{other}/chat/completions"})

        async with chatting(moved) as chat:
            asked, listed = await chat.ask(b"{}"), await chat.models()
    assert isinstance(asked, Failure)
    assert isinstance(listed, Failure)
    assert asked.kind is ErrorKind.MODEL_NOT_FOUND
    assert f"{other}/chat/completions" in asked.message
    assert visits == []


async def test_an_endless_body() -> None:
    """More than any answer holds is given up, as an invalid response."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        piece = b" " * (1 << 20)
        try:
            for _ in range(2 * MAX_ANSWER_BYTES // len(piece)):
                await response.write(piece)
        except ConnectionError:
            pass
        return response

    async with chatting(handler) as chat:
        result = await chat.ask(b"{}")
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.INVALID_RESPONSE


async def test_an_answer_in_pieces() -> None:
    """A chunked body is read to its end."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        text = json.dumps(COMPLETION).encode()
        for start in range(0, len(text), 7):
            await response.write(text[start : start + 7])
        return response

    async with chatting(handler) as chat:
        result = await chat.ask(b"{}")
    assert isinstance(result, Answer)
    assert result.caption == "A red boat."


async def test_cancellation_passes_through() -> None:
    """A cancelled attempt ends at once, as cancelled, and the session goes on."""
    arrived, gate = asyncio.Event(), asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        arrived.set()
        await gate.wait()
        return web.json_response(COMPLETION)

    async with chatting(handler) as chat:
        task = asyncio.create_task(chat.ask(b"{}"))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        assert isinstance(await chat.ask(b"{}"), Answer)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"object": "list", "data": [{"id": "b"}, {"id": "a"}]}, ("b", "a")),
        ({"models": [{"name": "llava:7b"}]}, ("llava:7b",)),
        ([{"id": "a"}, "b", {"id": None}, 7], ("a", "b")),
        ({"data": []}, ()),
    ],
)
async def test_models(body: object, names: tuple[str, ...]) -> None:
    """OpenAI's list, Ollama's, and a bare one, in the endpoint's order."""
    async with chatting(always(200, body)) as chat:
        assert await chat.models() == names


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ({"root": "/models/Qwen2.5-VL-7B/", "owned_by": "vllm"}, ("/models/Qwen2.5-VL-7B",)),
        ({"canonical_slug": "openai/gpt-4o", "hugging_face_id": None}, ("openai/gpt-4o",)),
        ({"root": "m", "parent": "base"}, ("base",)),
        ({"owned_by": "openai"}, ()),
    ],
)
async def test_what_a_private_name_stands_for(entry: Mapping[str, object], names: tuple[str, ...]) -> None:
    """The path of the weights from vLLM, OpenRouter's names, of this model alone; who owns it says nothing."""
    listed = {"data": [{"id": "other", "root": "gpt-4o"}, {"id": "m", **entry}]}
    async with chatting(always(200, listed)) as chat:
        assert await chat.also_known_as("m") == names
        assert await chat.also_known_as("absent") == ()
    async with chatting(always(404, {})) as chat:
        assert await chat.also_known_as("m") == ()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"error": {"message": f"bad key {KEY}"}}, ErrorKind.AUTHENTICATION),
        (404, {}, ErrorKind.MODEL_NOT_FOUND),
        (200, {"status": "up"}, ErrorKind.INVALID_RESPONSE),
        (200, "hello", ErrorKind.INVALID_RESPONSE),
    ],
)
async def test_models_that_are_not_listed(status: int, body: object, kind: ErrorKind) -> None:
    """Refused, missing, or something else at that address."""
    async with chatting(always(status, body)) as chat:
        result = await chat.models()
    assert isinstance(result, Failure)
    assert result.kind is kind
    assert KEY not in result.message


@pytest.mark.parametrize("key", ["abc\ndef", "schlüssel", ""])
async def test_a_key_that_no_header_may_hold(key: str) -> None:
    """A line break from a copied key is an input error that names the variable, not the key."""
    endpoint = EndpointConfig(base_url="http://127.0.0.1:9", api_key_env="MY_KEY")
    async with open_session(endpoint, 1) as session:
        with pytest.raises(InputError, match="MY_KEY") as caught:
            ChatClient(session, endpoint, key)
    assert "abc" not in str(caught.value)


async def test_headers_that_may_not_be_sent() -> None:
    """A configured header with a line break is refused by its name."""
    endpoint = EndpointConfig(base_url="http://127.0.0.1:9", headers={"X-Team": "a\r\nHost: b"})
    async with open_session(endpoint, 1) as session:
        with pytest.raises(InputError, match="X-Team"):
            ChatClient(session, endpoint, None)


async def test_an_address_with_a_login() -> None:
    """It would be written into rows and logs: refused even past the configuration, without being shown."""
    endpoint = EndpointConfig.model_construct(base_url="https://me:hidden@api.test/v1")
    async with open_session(endpoint, 1) as session:
        with pytest.raises(InputError, match="login") as caught:
            ChatClient(session, endpoint, None)
    assert "hidden" not in str(caught.value)


async def test_a_date_counts_against_our_clock_where_the_response_has_none() -> None:
    """`Retry-After` as an HTTP date, and no `Date`: half a minute from now, by this machine's clock."""
    raw = (
        b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n"
        b"Retry-After: Fri, 20 Nov 2026 10:00:30 GMT\r\n"
        b"x-ratelimit-limit-requests: 5\r\nx-ratelimit-reset-requests: 2026-11-20T10:00:12Z\r\n\r\n{}"
    )

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(raw)
        await writer.drain()
        writer.close()

    now = datetime(2026, 11, 20, 10, tzinfo=UTC).timestamp()
    async with await asyncio.start_server(reply, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        endpoint = EndpointConfig(base_url=f"http://127.0.0.1:{port}/v1")
        async with open_session(endpoint, 1) as session:
            result = await ChatClient(session, endpoint, None, epoch=lambda: now).ask(b"{}")
    assert isinstance(result, Failure)
    assert result.retry_after_s == 30
    assert result.limits is not None
    assert result.limits.requests is not None
    assert result.limits.requests.reset_s == 12


async def test_a_list_of_models_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and says nothing is not waited for as long as for an answer; the words name `--model`."""
    monkeypatch.setattr("pipeline.endpoints.models.NEEDED_S", 0.05)

    given_up = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        await given_up.wait()
        return web.json_response({"data": []})

    async with chatting(handler) as chat:
        result = await chat.models()
        given_up.set()
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.TIMEOUT
    assert "within 0.05 s" in result.message
    assert "gives no list within 0.05 s" in result.message
