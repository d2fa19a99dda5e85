"""An emulator that listens: inside a test, or as a process of its own."""

import asyncio
import errno
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
from PIL import Image

from pipeline.emulator.app import EMULATOR, Clock, Emulator, Sleep, create_app
from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.stats import KEPT_REQUESTS, EmulatorStats
from pipeline.errors import InputError

_SHUTDOWN_S = 0.5
_BACKLOG = 2048


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
) -> AsyncIterator[RunningEmulator]:
    """Listen while the block runs; port 0 takes a free one.

    Raises InputError where host and port cannot be listened on.
    """
    app = create_app(config or EmulatorConfig(), clock_ns=clock_ns, sleep=sleep)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        await _listen(runner, host, port)
        yield RunningEmulator(_url(runner), app[EMULATOR])
    finally:
        await runner.cleanup()


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


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
    except OverflowError:
        raise InputError(f"port {port} is no port: expected 0 to 65535 (0 takes a free one)") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} on {host} is in use: choose another with --port, or 0 for a free one"
        else:
            message = f"cannot listen on {host}, port {port}: {error.strerror or error}"
        raise InputError(message) from None


def _url(runner: web.AppRunner) -> str:
    host, port, *_ = runner.addresses[0]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 -- not on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop
