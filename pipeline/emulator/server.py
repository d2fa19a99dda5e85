"""An emulator that listens: inside a test, or as a process of its own."""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from PIL import Image

from pipeline.emulator.app import EMULATOR, Emulator, create_app
from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.door import Door, keep_outages
from pipeline.emulator.schedule import OutageKind
from pipeline.emulator.stats import KEPT_REQUESTS, EmulatorStats
from pipeline.emulator.timing import Clock, Sleep
from pipeline.quiet import quiet_decoders

_SHUTDOWN_S = 0.5
_CLIENTS_MISTAKES = (HttpProcessingError, web.RequestPayloadError, ConnectionError)
_LOG = logging.getLogger(__name__)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a line is about more than a client that speaks no HTTP, or hangs up: that is answered with 400."""
    return record.exc_info is None or not isinstance(record.exc_info[1], _CLIENTS_MISTAKES)


_LOG.addFilter(_is_ours)
_OF_CONNECTIONS = frozenset({OutageKind.RESET, OutageKind.REFUSE})


@dataclass(frozen=True, slots=True)
class RunningEmulator:
    """An emulator that listens at `url`, which ends in `/v1`."""

    url: str
    _emulator: Emulator

    @property
    def stats(self) -> EmulatorStats:
        """The live counts, the same as `GET /emulator/stats`."""
        return self._emulator.stats

    def requests(self, last: int = KEPT_REQUESTS) -> list[dict[str, Any]]:
        """The newest requests, the same as `GET /emulator/requests`."""
        return self._emulator.requests.last(last)

    def reset(self) -> None:
        """The same as `POST /emulator/reset`."""
        self._emulator.reset()


@asynccontextmanager
async def serve(
    config: EmulatorConfig | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    clock_ns: Clock = time.monotonic_ns,
    sleep: Sleep = asyncio.sleep,
    wall_ns: Clock = time.time_ns,
) -> AsyncIterator[RunningEmulator]:
    """Listen while the block runs; port 0 takes a free one.

    Raises InputError where host and port cannot be listened on.
    """
    app = create_app(config or EmulatorConfig(), clock_ns=clock_ns, sleep=sleep, wall_ns=wall_ns)
    emulator = app[EMULATOR]
    runner = web.AppRunner(app, access_log=None, logger=_LOG, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    door = Door(runner)
    try:
        await door.open(host, port)
        url = _url(runner)
        async with _outages(door, emulator):
            yield RunningEmulator(url, emulator)
    finally:
        door.give_up()
        await runner.cleanup()


@asynccontextmanager
async def _outages(door: Door, emulator: Emulator) -> AsyncIterator[None]:
    config = emulator.config
    if not config.outages or config.outage_kind not in _OF_CONNECTIONS:
        yield
        return
    watch = asyncio.create_task(keep_outages(door, config.outages, config.outage_kind, emulator.timing))
    try:
        yield
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch


def run_forever(
    config: EmulatorConfig,
    host: str,
    port: int,
    *,
    announce: Callable[[str], None],
    until_eof: bool = False,
) -> None:
    """Listen until SIGINT or SIGTERM, and with `until_eof` until standard input ends.

    `announce` is given one line, "listening on URL", as soon as the port is open. Blocks; belongs in a
    process of its own. Raises InputError where host and port cannot be listened on.
    """
    quiet_decoders()
    # What Pillow only warns of, a decompression bomb, is refused like the larger ones.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve_until_stopped(config, host, port, announce, until_eof=until_eof))


async def _serve_until_stopped(
    config: EmulatorConfig, host: str, port: int, announce: Callable[[str], None], *, until_eof: bool
) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stopped.set)
    async with serve(config, host, port) as server:
        announce(f"listening on {server.url}")
        sys.stdout.flush()
        if until_eof:
            watch = threading.Thread(target=_wait_for_eof, args=(loop, stopped), daemon=True)
            watch.start()
        await stopped.wait()


def _wait_for_eof(loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
    # Not sys.stdin: its lock, held by a daemon thread, would abort the interpreter's shutdown.
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    with suppress(RuntimeError):  # the loop is closed already
        loop.call_soon_threadsafe(stopped.set)


def _url(runner: web.AppRunner) -> str:
    host, port, *_ = runner.addresses[0]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 -- not on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop
