"""The server, from the moment that it listens to Ctrl-C."""

import asyncio
import errno
import logging
import os
import signal
import sys
import webbrowser
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from pipeline.errors import InputError
from pipeline.images.prepare import warm_up
from pipeline.viewer.app import Site
from pipeline.viewer.comparison import Comparison
from pipeline.viewer.gallery import Gallery
from pipeline.viewer.guard import Guard

LOOPBACK: Final = "127.0.0.1"
_SHUTDOWN_S: Final = 0.5
_LOG = logging.getLogger(__name__)
_LOG.addFilter(
    lambda record: record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError | ConnectionError)
)


@dataclass(frozen=True, slots=True)
class Viewer:
    """A server that listens."""

    url: str
    url_once: str
    """Leads to `url`, once."""
    gallery: Gallery


@asynccontextmanager
async def serve(out: Path, port: int = 0, *, other: Path | None = None, seed: int = 0) -> AsyncIterator[Viewer]:
    """Listen on this machine while the block runs; port 0 takes a free one. `other` is compared with `out`.

    Raises InputError where there is no output directory, or the port is in use.
    """
    gallery, guard = Gallery(out), Guard()
    site = Site(gallery, guard, None if other is None else Comparison(gallery, Gallery(other), seed))
    runner = web.AppRunner(site.app(), access_log=None, logger=_LOG, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, LOOPBACK, port).start()
        except OSError as error:
            raise InputError(_why(port, error)) from None
        base = f"http://{LOOPBACK}:{runner.addresses[0][1]}"
        yield Viewer(base + guard.path, base + guard.path_once, gallery)
    finally:
        site.close()
        await runner.cleanup()


def _why(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"`port={port}` is in use; name another port, or none to take a free one"
    return f"`port={port}`: {os.strerror(error.errno or 0)}"


def run_forever(
    out: Path, port: int, *, other: Path | None, seed: int, announce: Callable[[str], None], opens_browser: bool
) -> int:
    """Listen until Ctrl-C or SIGTERM. The number of rows that were reviewed."""
    warm_up()
    with asyncio.Runner() as runner:
        return runner.run(
            _until_stopped(serve(out, port, other=other, seed=seed), announce, opens_browser=opens_browser)
        )


async def _until_stopped(
    serving: AbstractAsyncContextManager[Viewer], announce: Callable[[str], None], *, opens_browser: bool
) -> int:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stopped.set)
    async with serving as viewer:
        announce(f"{viewer.gallery.out}: {viewer.gallery.snapshot().rows:,} rows at {viewer.url}")
        announce("Only this machine can open the address. Ctrl-C ends the viewer.")
        sys.stdout.flush()
        if opens_browser and has_browser():
            await asyncio.to_thread(webbrowser.open, viewer.url_once)
        await stopped.wait()
        return len(viewer.gallery.reviewed)


def has_browser() -> bool:
    """Whether there is a screen for one: without, a text browser would take over the terminal."""
    names = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME")
    return sys.platform == "darwin" or any(map(os.environ.get, names))
