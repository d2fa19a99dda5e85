"""The endpoint's routes: chat/completions, models, and what the emulator tells about itself.

A chat request is counted at its arrival, takes its place in the rate limit, is read, then met by
whatever fault its number has drawn. Buffers: a body of at most `max_body_mb` a connection; clients
bound the number of connections.
"""

import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from pipeline.emulator.answers import ERROR_IN_200, FINGERPRINT, bill, caption, completion, reply
from pipeline.emulator.api_errors import (
    ApiError,
    body_too_large,
    early_error,
    unreadable_image,
    unrouted,
    unsupported_image,
)
from pipeline.emulator.billing import SERVED
from pipeline.emulator.chance import choose_fault, delay_ms
from pipeline.emulator.chat_request import ChatRequest, SentImage, parse_chat_request, parse_json
from pipeline.emulator.config import EmulatorConfig, Fault
from pipeline.emulator.gate import Gate
from pipeline.emulator.pixels import Look, UnreadableImageError, UnsupportedImageError, look_at
from pipeline.emulator.stats import KEPT_REQUESTS, EmulatorStats, RequestLog, image_hash

OWNER = "vision-batch emulator"
_MODELS_CREATED = 1_767_225_600  # 1 January 2026: a model list is dated, and nothing asks by what
_CLIENT_GONE = 499
_DEFAULT_LAST = 10
_TOO_MANY = 429

Clock = Callable[[], int]
Sleep = Callable[[float], Awaitable[None]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _DroppedError(Exception):
    """A fault resets this connection."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A request as read, its images looked at, or the error that it gets."""

    body: object
    request: ChatRequest | None = None
    looks: tuple[Look, ...] = ()
    hashes: tuple[bytes, ...] = ()
    error: ApiError | None = None


class Emulator:
    """The state behind the routes. All of it belongs to the event loop's thread."""

    def __init__(self, config: EmulatorConfig, clock_ns: Clock, sleep: Sleep) -> None:
        self.config = config
        self.stats = EmulatorStats()
        self.requests = RequestLog()
        self._max_body_bytes = int(config.max_body_mb * 1_000_000)
        self._clock_ns = clock_ns
        self._sleep = sleep
        self._gate = Gate(config.api_key, config.rpm, config.burst)
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="emulator")

    def reset(self) -> None:
        """Forget all requests, number them from 1 again, and fill the rate limit."""
        self.stats.clear()
        self.requests.clear()
        self._gate.open_anew()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every error in OpenAI's shape, and OpenAI's headers on every response."""
        arrived_ns = self._clock_ns()
        try:
            response = await handler(request)
        except ApiError as error:
            response = _error_response(error)
        except web.HTTPException as error:
            response = _error_response(unrouted(error.status, request.method, request.path))
        if not response.prepared:
            self._stamp(response, arrived_ns)
        return response

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        with self.stats.flight() as number:
            try:
                response = await self._chat(request, number)
            except _DroppedError:
                self.stats.dropped += 1
                return _hang_up(request)
            except (ConnectionError, web.RequestPayloadError):
                self.stats.aborted += 1
                return _error_response(ApiError(400, "The body of your request did not arrive whole."))
            self.stats.statuses[str(response.status)] += 1
            return response

    async def list_models(self, request: web.Request) -> web.Response:
        """GET /v1/models."""
        self._gate.check_key(request.headers)
        names = self.config.models or SERVED
        return web.json_response({"object": "list", "data": [_model_card(name) for name in names]})

    async def show_model(self, request: web.Request) -> web.Response:
        """GET /v1/models/NAME."""
        self._gate.check_key(request.headers)
        name = request.match_info["model"]
        if not self._serves(name):
            raise ApiError(404, f"The model '{name}' does not exist", code="model_not_found", param="model")
        return web.json_response(_model_card(name))

    async def show_stats(self, _request: web.Request) -> web.Response:
        """GET /emulator/stats."""
        return web.json_response(self.stats.as_dict())

    async def show_requests(self, request: web.Request) -> web.Response:
        """GET /emulator/requests?last=N."""
        wanted = request.query.get("last", str(_DEFAULT_LAST))
        if not wanted.isdecimal():
            raise ApiError(400, f"Invalid 'last': expected a number, got '{wanted[:50]}'.", param="last")
        return web.json_response(self.requests.last(min(int(wanted), KEPT_REQUESTS)))

    async def do_reset(self, _request: web.Request) -> web.Response:
        """POST /emulator/reset."""
        self.reset()
        return web.json_response({"reset": True})

    async def _chat(self, request: web.Request, number: int) -> web.StreamResponse:
        arrived_ns = self._clock_ns()
        refused, limits = self._gate.admit(request.headers, arrived_ns)
        self.stats.rate_limited += refused is not None and refused.status == _TOO_MANY
        try:
            body = await self._read(request)
            if refused is not None:
                raise refused
            response = await self._serve(request, body, number, arrived_ns)
        except ApiError as error:
            response = _error_response(error)
        if not response.prepared:
            response.headers.update(limits)
        return response

    async def _serve(self, request: web.Request, body: bytes, number: int, arrived_ns: int) -> web.StreamResponse:
        fault = choose_fault(self.config.faults, self.config.seed, number)
        self._fail_early(fault)
        seen = await self._see(body)
        self.requests.add(number, request.path, request.headers, seen.body)
        if seen.error is not None:
            raise seen.error
        await self._wait(arrived_ns, number, fault)
        return await self._answer(request, seen, fault, arrived_ns)

    async def _read(self, request: web.Request) -> bytes:
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise body_too_large(self._max_body_bytes) from None

    def _fail_early(self, fault: Fault | None) -> None:
        if fault is Fault.DISCONNECT:
            self._count(fault)
            raise _DroppedError
        error = early_error(fault, self.config.fault_retry_after_ms)
        if error is not None:
            self._count(fault)
            raise error

    async def _see(self, body: bytes) -> _Seen:
        if not self.config.decode:
            return _see(body, self._serves, decode=False)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: _see(body, self._serves, decode=True))

    async def _wait(self, arrived_ns: int, number: int, fault: Fault | None) -> None:
        config = self.config
        due_ms = delay_ms(config.latency_ms, config.jitter_ms, config.seed, number)
        if fault is Fault.SLOW:
            due_ms += config.slow_ms
        left_s = due_ms / 1e3 - (self._clock_ns() - arrived_ns) / 1e9
        if left_s > 0:
            await self._sleep(left_s)

    async def _answer(
        self, request: web.Request, seen: _Seen, fault: Fault | None, arrived_ns: int
    ) -> web.StreamResponse:
        self._count(fault)
        if fault is Fault.ERROR_IN_200:
            return web.json_response(ERROR_IN_200)
        body = orjson.dumps(self._complete(seen, fault))
        if fault is Fault.DISCONNECT_MID:
            return await self._send_half(request, body, arrived_ns)
        if fault is Fault.BROKEN_JSON:
            body = body[: len(body) // 2]
        return web.Response(body=body, content_type="application/json")

    def _complete(self, seen: _Seen, fault: Fault | None) -> dict[str, Any]:
        asked = seen.request
        if asked is None:
            raise AssertionError("a request without an error was read")
        answer = reply(caption(seen.looks), asked.max_tokens, fault)
        billed = bill(asked, seen.looks, answer, fault)
        self.stats.charge(billed, asked.n, seen.hashes)
        answer_id = f"chatcmpl-{uuid.uuid4().hex}"
        return completion(asked, answer, billed, fault, answer_id=answer_id, created=int(time.time()))

    async def _send_half(self, request: web.Request, body: bytes, arrived_ns: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(body)
        self._stamp(response, arrived_ns)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return response

    def _count(self, fault: Fault | None) -> None:
        if fault is not None:
            self.stats.faults[str(fault)] += 1

    def _serves(self, model: str) -> bool:
        if self.config.models:
            return model in self.config.models
        return not model.startswith("unknown-")

    def _stamp(self, response: web.StreamResponse, arrived_ns: int) -> None:
        spent_ms = (self._clock_ns() - arrived_ns) // 1_000_000
        response.headers["x-request-id"] = f"req_{uuid.uuid4().hex}"
        response.headers["openai-processing-ms"] = str(spent_ms)
        response.headers["openai-version"] = "2020-10-01"
        response.headers["Server"] = FINGERPRINT


EMULATOR = web.AppKey("emulator", Emulator)


def create_app(
    config: EmulatorConfig, *, clock_ns: Clock = time.monotonic_ns, sleep: Sleep = asyncio.sleep
) -> web.Application:
    """The endpoint as an aiohttp application; `app[EMULATOR]` holds its state.

    `clock_ns` is monotonic, in nanoseconds; `sleep` waits seconds. Both are for tests.
    """
    emulator = Emulator(config, clock_ns, sleep)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await emulator.middleware(request, handler)

    async def close(_app: web.Application) -> None:
        emulator.close()

    app = web.Application(middlewares=[middleware], client_max_size=int(config.max_body_mb * 1_000_000))
    app[EMULATOR] = emulator
    for prefix in ("/v1", ""):
        app.router.add_post(f"{prefix}/chat/completions", emulator.chat)
        app.router.add_get(f"{prefix}/models", emulator.list_models)
        app.router.add_get(prefix + "/models/{model:.+}", emulator.show_model)
    app.router.add_get("/emulator/stats", emulator.show_stats)
    app.router.add_get("/emulator/requests", emulator.show_requests)
    app.router.add_post("/emulator/reset", emulator.do_reset)
    app.on_cleanup.append(close)
    return app


def _see(body: bytes, serves: Callable[[str], bool], *, decode: bool) -> _Seen:
    payload: object = None
    try:
        payload = parse_json(body)
        asked = parse_chat_request(payload, serves)
        looks = tuple(_look(image, decode=decode) for image in asked.images)
    except ApiError as error:
        return _Seen(payload, error=error)
    return _Seen(payload, asked, looks, tuple(map(image_hash, asked.images)))


def _look(image: SentImage, *, decode: bool) -> Look:
    try:
        return look_at(image.data, decode=decode)
    except UnsupportedImageError:
        raise unsupported_image(image.param) from None
    except UnreadableImageError as error:
        raise unreadable_image(image.param, str(error)) from None


def _error_response(error: ApiError) -> web.Response:
    return web.json_response(error.body, status=error.status, headers=error.headers)


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=_CLIENT_GONE)


def _model_card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _MODELS_CREATED, "owned_by": OWNER}
