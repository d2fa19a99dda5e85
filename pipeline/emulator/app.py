"""The endpoint's routes: chat/completions, responses, OCR, OFR, models, and what the emulator tells about itself."""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp import web

from pipeline.emulator.admission import Admission
from pipeline.emulator.api_errors import ApiError, unrouted
from pipeline.emulator.billing import SERVED
from pipeline.emulator.chat import ChatDesk
from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.ocr import ocr_api
from pipeline.emulator.responses import DroppedError, ErrorDesk, Handler, hang_up, stamp
from pipeline.emulator.responses_api import RESPONSES
from pipeline.emulator.stats import KEPT_REQUESTS, EmulatorStats, RequestLog
from pipeline.emulator.timing import Clock, Sleep, Timing
from pipeline.emulator.vision import vision_api

OWNER = "vision-batch emulator"
_MODELS_CREATED = 1_767_225_600  # 1 January 2026: a model list is dated, and nothing asks by what
_DEFAULT_LAST = 10
_MOST_DIGITS = 18
_STATS_WAIT_S = 1.0
"""The longest that counts are waited for: who asks looks again, and may give up."""


class Emulator:
    """The state behind the routes. All of it belongs to the event loop's thread."""

    def __init__(self, config: EmulatorConfig, timing: Timing) -> None:
        self.config = config
        self.timing = timing
        self.stats = EmulatorStats()
        self.requests = RequestLog()
        self._admission = Admission(config, timing.wall_ns)
        self._errors = ErrorDesk(config.error_style, timing.wall_ns)
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="emulator")
        self.desk = ChatDesk(
            config,
            timing=timing,
            stats=self.stats,
            log=self.requests,
            admission=self._admission,
            errors=self._errors,
            threads=self._threads,
        )

    def reset(self) -> None:
        """Forget all requests, number them from 1 again, and fill the limits. Outages keep their times."""
        self.stats.clear()
        self.requests.clear()
        self._admission.reset()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every error in the shape asked for, and OpenAI's headers on every response."""
        arrived_ns = self.timing.clock_ns()
        try:
            response = await handler(request)
        except DroppedError:
            return hang_up(request)
        except ApiError as error:
            response = self._errors.response(error, request)
        except web.HTTPException as error:
            response = self._errors.response(unrouted(error.status, request.method, request.path), request)
        if not response.prepared:
            stamp(response, self.timing.clock_ns() - arrived_ns)
        return response

    async def list_models(self, request: web.Request) -> web.Response:
        """GET /v1/models."""
        self._let_in(request)
        names = self.config.models or SERVED
        return web.json_response({"object": "list", "data": [_model_card(name) for name in names]})

    async def show_model(self, request: web.Request) -> web.Response:
        """GET /v1/models/NAME."""
        self._let_in(request)
        name = request.match_info["model"]
        if not self.desk.serves(name):
            raise ApiError(404, f"The model '{name}' does not exist", code="model_not_found", param="model")
        return web.json_response(_model_card(name))

    async def show_stats(self, request: web.Request) -> web.Response:
        """GET /emulator/stats, once `requests=N` have arrived, or `in_flight=N` are left at most; or after a second."""
        least, most = (_number(request, name) for name in ("requests", "in_flight"))
        with suppress(TimeoutError):
            async with asyncio.timeout(_STATS_WAIT_S):
                await self.stats.until(
                    lambda: (
                        (least is None or self.stats.requests >= least)
                        and (most is None or self.stats.in_flight <= most)
                    )
                )
        return web.json_response(self.stats.as_dict())

    async def show_requests(self, request: web.Request) -> web.Response:
        """GET /emulator/requests?last=N."""
        last = _number(request, "last")
        return web.json_response(self.requests.last(min(_DEFAULT_LAST if last is None else last, KEPT_REQUESTS)))

    async def do_reset(self, _request: web.Request) -> web.Response:
        """POST /emulator/reset."""
        self.reset()
        return web.json_response({"reset": True})

    def _let_in(self, request: web.Request) -> None:
        self.desk.meet_outage(self.timing.clock_ns())
        self._admission.check_key(request.headers)


EMULATOR = web.AppKey("emulator", Emulator)


def create_app(
    config: EmulatorConfig,
    *,
    clock_ns: Clock = time.monotonic_ns,
    sleep: Sleep = asyncio.sleep,
    wall_ns: Clock = time.time_ns,
) -> web.Application:
    """The endpoint as an aiohttp application; `app[EMULATOR]` holds its state.

    `clock_ns` is monotonic and `wall_ns` Unix time, both in nanoseconds; `sleep` waits seconds. All are for tests.
    """
    emulator = Emulator(config, Timing.starting(clock_ns, wall_ns, sleep))

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await emulator.middleware(request, handler)

    async def close(_app: web.Application) -> None:
        emulator.close()

    app = web.Application(middlewares=[middleware], client_max_size=int(config.max_body_mb * 1_000_000))
    app[EMULATOR] = emulator
    for prefix in ("/v1", ""):
        app.router.add_post(f"{prefix}/chat/completions", emulator.desk.handle)
        app.router.add_post(f"{prefix}/responses", partial(emulator.desk.handle, api=RESPONSES))
        app.router.add_post(f"{prefix}/ocr", partial(emulator.desk.handle, api=ocr_api(config.usd_per_page)))
        app.router.add_post(f"{prefix}/vision", partial(emulator.desk.handle, api=vision_api(config.usd_per_page)))
        app.router.add_get(f"{prefix}/models", emulator.list_models)
        app.router.add_get(prefix + "/models/{model:.+}", emulator.show_model)
    app.router.add_get("/emulator/stats", emulator.show_stats)
    app.router.add_get("/emulator/requests", emulator.show_requests)
    app.router.add_post("/emulator/reset", emulator.do_reset)
    app.on_cleanup.append(close)
    return app


def _model_card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _MODELS_CREATED, "owned_by": OWNER}


def _number(request: web.Request, name: str) -> int | None:
    """A number in a query; None where it is not there."""
    stated = request.query.get(name)
    if stated is None:
        return None
    if not stated.isdecimal() or len(stated) > _MOST_DIGITS:
        raise ApiError(400, f"Invalid '{name}': expected a number, got '{stated[:50]}'.", param=name)
    return int(stated)
