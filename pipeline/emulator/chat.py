"""POST chat/completions, and the other APIs of `apis`.

A request is counted at its arrival, takes its place in the limit of requests, is read, met by whatever fault
its number has drawn, takes its tokens, and is worked on. Buffers: a body of at most `max_body_mb` a
connection; clients bound the number of connections.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import orjson
from aiohttp import web

from pipeline.emulator.admission import Admission
from pipeline.emulator.answers import answer_text, bill, pages_bill, reply
from pipeline.emulator.api_errors import (
    ApiError,
    LimitError,
    body_too_large,
    early_error,
    no_capacity,
    overloaded,
    prompt_blocked,
    server_error,
)
from pipeline.emulator.apis import CHAT, Api, Made
from pipeline.emulator.chance import choose_fault, delay_ms, draw
from pipeline.emulator.chat_request import ChatRequest
from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.error_styles import blocks_prompts
from pipeline.emulator.faults import UNANSWERED, Fault
from pipeline.emulator.hangup import wait_for_hangup
from pipeline.emulator.limits import CountTokens
from pipeline.emulator.reasoning import reasoning_tokens
from pipeline.emulator.responses import DroppedError, ErrorDesk, hang_up, stamp
from pipeline.emulator.schedule import OutageKind, in_outage, latency_at
from pipeline.emulator.seeing import Seen, see
from pipeline.emulator.stats import EmulatorStats, RequestLog
from pipeline.emulator.streaming import send_events
from pipeline.emulator.timing import Timing
from pipeline.emulator.workers import Workers

_MILLISECOND_NS = 1_000_000


@dataclass(slots=True)
class _Visit:
    """A request on its way: when it came, what it took, and what its response says of the limits."""

    number: int
    arrived_ns: int
    api: Api
    limits: Mapping[str, str] = field(default_factory=dict)
    admitted_ns: int = 0
    tokens: int = 0
    fault: Fault | None = None


class ChatDesk:
    """Answers chat requests. All of its state belongs to the event loop's thread."""

    def __init__(
        self,
        config: EmulatorConfig,
        *,
        timing: Timing,
        stats: EmulatorStats,
        log: RequestLog,
        admission: Admission,
        errors: ErrorDesk,
        threads: Executor,
    ) -> None:
        self._config = config
        self._billing = config.billing
        self._timing = timing
        self._stats = stats
        self._log = log
        self._admission = admission
        self._errors = errors
        self._threads = threads
        self._max_body_bytes = int(config.max_body_mb * 1_000_000)
        self._workers = None if config.slots is None else Workers(config.slots, config.thrash, stats, config.queue)

    async def handle(self, request: web.Request, *, api: Api = CHAT) -> web.StreamResponse:
        """POST to the path of an API."""
        with self._stats.flight() as number:
            try:
                response = await self._respond(request, number, api)
            except DroppedError:
                self._stats.dropped += 1
                return hang_up(request)
            except (ConnectionError, web.RequestPayloadError):
                self._stats.aborted += 1
                return self._errors.response(ApiError(400, "The body of your request did not arrive whole."), request)
            self._stats.statuses[str(response.status)] += 1
            return response

    def meet_outage(self, now_ns: int) -> None:
        """Raise what a request meets while an outage goes on: ApiError, or DroppedError."""
        config = self._config
        if not config.outages or not in_outage(config.outages, self._timing.elapsed_s(now_ns)):
            return
        if config.outage_kind is OutageKind.UNAVAILABLE:
            raise overloaded()
        if config.outage_kind is OutageKind.SERVER_ERROR:
            raise server_error()
        raise DroppedError

    def serves(self, model: str) -> bool:
        """Whether a model of that name is served."""
        if self._config.models:
            return model in self._config.models
        return not model.startswith("unknown-")

    async def _respond(self, request: web.Request, number: int, api: Api) -> web.StreamResponse:
        visit = _Visit(number, self._timing.clock_ns(), api)
        try:
            refused = self._at_the_door(request, visit)
            body = await self._read(request)
            if refused is not None:
                raise refused
            response = await self._serve(request, body, visit)
        except ApiError as error:
            response = self._errors.response(error, request)
        if visit.limits and not response.prepared:
            response.headers.update(visit.limits)
        return response

    def _at_the_door(self, request: web.Request, visit: _Visit) -> ApiError | None:
        """Why the request will be refused, once its body is read."""
        try:
            self._check_outage(visit)
            self._admission.check_key(request.headers)
            self._admit_request(visit)
        except ApiError as error:
            return error
        return None

    def _check_outage(self, visit: _Visit) -> None:
        try:
            self.meet_outage(visit.arrived_ns)
        except (ApiError, DroppedError):
            self._stats.in_outage += 1
            raise

    def _admit_request(self, visit: _Visit) -> None:
        second = self._timing.second(visit.arrived_ns)
        try:
            self._admission.admit_request(visit.arrived_ns)
            self._stats.second(second).requests += 1
        except LimitError as error:
            self._stats.refuse(error.limit, second)
            raise
        finally:
            self._tell_limits(visit, visit.arrived_ns)

    def _check_capacity(self, asked: ChatRequest, visit: _Visit) -> None:
        shortage = self._config.tier_shortage if asked.options.tier == "flex" else 0
        if shortage and draw(self._config.seed, "tier", visit.number) < shortage:
            self._stats.no_capacity += 1
            raise no_capacity()

    def _check_queue(self, visit: _Visit) -> None:
        if self._workers is None:
            return
        try:
            self._workers.check_queue()
        except LimitError as error:
            second = self._timing.second(visit.arrived_ns)
            self._stats.second(second).requests -= 1
            self._stats.refuse(error.limit, second)
            raise

    def _admit_tokens(self, asked: ChatRequest, prompt: tuple[int, int], visit: _Visit) -> None:
        visit.tokens = sum(prompt)
        if self._config.count_tokens is CountTokens.ESTIMATE:
            visit.tokens += asked.max_tokens or 0
        now_ns = self._timing.clock_ns() if self._config.tpm else visit.arrived_ns
        visit.admitted_ns = now_ns
        second = self._timing.second(now_ns)
        try:
            self._admission.admit_tokens(asked.model, visit.tokens, visit.arrived_ns, now_ns)
            self._stats.admit_tokens(visit.tokens, second)
        except LimitError as error:
            self._stats.second(self._timing.second(visit.arrived_ns)).requests -= 1
            self._stats.refuse(error.limit, second)
            raise
        finally:
            self._tell_limits(visit, now_ns)

    def _tell_limits(self, visit: _Visit, now_ns: int) -> None:
        if self._admission.limited:
            visit.limits = self._admission.headers(now_ns)

    async def _serve(self, request: web.Request, body: bytes, visit: _Visit) -> web.StreamResponse:
        visit.fault = fault = _fault_of(self._config, visit.number)
        if fault is Fault.STALL:
            await self._stall(request, fault)
        self._fail_early(fault)
        seen = await self._see(body, visit.api)
        self._log.add(visit.number, request.path, request.headers, seen.body)
        if seen.error is not None:
            raise seen.error
        asked = cast("ChatRequest", seen.request)  # where there is no error
        self._check_capacity(asked, visit)
        self._check_queue(visit)
        self._admit_tokens(asked, seen.prompt, visit)
        await self._work(visit)
        return await self._answer(request, asked, seen, visit)

    async def _read(self, request: web.Request) -> bytes:
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise body_too_large(self._max_body_bytes) from None

    async def _stall(self, request: web.Request, fault: Fault) -> None:
        self._count(fault)
        await wait_for_hangup(request, self._timing.sleep(self._config.stall_s))
        raise DroppedError

    def _fail_early(self, fault: Fault | None) -> None:
        if fault is Fault.DISCONNECT:
            self._count(fault)
            raise DroppedError
        if fault not in UNANSWERED:
            return
        error = early_error(fault, self._admission.retry_after(self._config.fault_retry_after_ms * _MILLISECOND_NS))
        if error is not None:
            self._count(fault)
            raise error

    async def _see(self, body: bytes, api: Api) -> Seen:
        config = self._config
        how = {"decode": config.decode, "fetch": config.fetch_urls}
        looking = partial(see, body, api, self.serves, **how, billing=self._billing)
        if not any(how.values()):
            return looking()
        return await asyncio.get_running_loop().run_in_executor(self._threads, looking)

    async def _work(self, visit: _Visit) -> None:
        if self._workers is None:
            gone_ms = (self._timing.clock_ns() - visit.arrived_ns) / _MILLISECOND_NS
            await self._sleep_ms(_due_ms(self._config, visit, self._timing.elapsed_s(visit.arrived_ns)) - gone_ms)
            return
        async with self._workers.worker() as slowdown:
            await self._sleep_ms(
                _due_ms(self._config, visit, self._timing.elapsed_s(self._timing.clock_ns())) * slowdown
            )

    async def _sleep_ms(self, left_ms: float) -> None:
        if left_ms > 0:
            await self._timing.sleep(left_ms / 1e3)

    async def _answer(self, request: web.Request, asked: ChatRequest, seen: Seen, visit: _Visit) -> web.StreamResponse:
        fault = visit.fault
        self._count(fault)
        if fault is Fault.ERROR_IN_200:
            return await self._error_in_200(request, asked, visit)
        if fault is Fault.CONTENT_FILTER and blocks_prompts(self._config.error_style):
            raise prompt_blocked()
        completed = self._complete(asked, seen, visit)
        if asked.options.stream:
            sent, spent_ns = _stream_of(completed, asked, visit), self._timing.clock_ns() - visit.arrived_ns
            return await send_events(request, sent, visit.limits, spent_ns, breaks=fault is Fault.DISCONNECT_MID)
        body = orjson.dumps(completed)
        if fault is Fault.DISCONNECT_MID:
            return await self._send_half(request, body, visit)
        if fault is Fault.BROKEN_JSON:
            body = body[: len(body) // 2]
        return web.Response(body=body, content_type="application/json", status=visit.api.status(asked))

    async def _error_in_200(self, request: web.Request, asked: ChatRequest, visit: _Visit) -> web.StreamResponse:
        if not asked.options.stream:
            return web.json_response(visit.api.failed)
        return await send_events(request, visit.api.failed_events(), visit.limits, 0, breaks=False)

    def _complete(self, asked: ChatRequest, seen: Seen, visit: _Visit) -> dict[str, Any]:
        looks, hashes = ((), ()) if visit.fault is Fault.IMAGE_IGNORED else (seen.looks, seen.hashes)
        text = answer_text(asked, looks, seen.hashes, visit.fault)
        family, options = self._billing.family(asked.model), asked.options
        thought = reasoning_tokens(family, asked.model, options, self._config.seed, b"".join(seen.hashes))
        answer = reply(text, asked.max_tokens, visit.fault, thought=thought, stop=options.stop)
        billed = bill(asked, seen.prompt, answer, visit.fault) if visit.api.bills_tokens else pages_bill(looks)
        self._stats.charge(billed, asked.n, hashes)
        if self._config.count_tokens is CountTokens.BILLED:
            self._settle(visit, billed.prompt_tokens + billed.completion_tokens)
        payload = cast("Mapping[str, Any]", seen.body)  # where it could be read
        return visit.api.body(Made(asked, payload, answer, billed, visit.fault, looks))

    def _settle(self, visit: _Visit, billed: int) -> None:
        now_ns = self._timing.clock_ns()
        more = self._admission.settle(visit.tokens, billed, visit.admitted_ns, now_ns)
        self._stats.admit_tokens(more, self._timing.second(now_ns))

    async def _send_half(self, request: web.Request, body: bytes, visit: _Visit) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json", **visit.limits})
        response.content_length = len(body)
        stamp(response, self._timing.clock_ns() - visit.arrived_ns)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return response

    def _count(self, fault: Fault | None) -> None:
        if fault is not None:
            self._stats.meet(str(fault))


def _fault_of(config: EmulatorConfig, number: int) -> Fault | None:
    fault = choose_fault(config.faults, config.seed, number)
    if config.goes_bad_after is None or number <= config.goes_bad_after or fault in UNANSWERED:
        return fault
    return Fault(config.goes_bad)


def _due_ms(config: EmulatorConfig, visit: _Visit, elapsed_s: float) -> float:
    latency_ms = config.latency_ms
    if config.latency_schedule:
        latency_ms = latency_at(config.latency_schedule, elapsed_s, latency_ms)
    if config.jitter_ms:
        latency_ms = delay_ms(latency_ms, config.jitter_ms, config.seed, visit.number)
    return latency_ms + config.slow_ms if visit.fault is Fault.SLOW else latency_ms


def _stream_of(completed: dict[str, Any], asked: ChatRequest, visit: _Visit) -> list[bytes]:
    """The events of an answer, as far as its fault lets them come."""
    sent = visit.api.events(completed, asked)
    half = sent[: len(sent) // 2]
    return half if visit.fault in {Fault.DISCONNECT_MID, Fault.BROKEN_JSON} else sent
