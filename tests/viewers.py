"""The viewer for tests: in a thread of this process, with the real server on a real port."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.viewer.server import Viewer, serve


@contextmanager
def viewed(out: Path | str, other: Path | None = None) -> Iterator[Viewer]:
    """A viewer of `out` for the length of the block, or of its comparison with another one."""
    started, stopped = threading.Event(), asyncio.Event()
    found: list[Viewer | BaseException] = []
    loop = asyncio.new_event_loop()

    async def run() -> None:
        try:
            async with serve(Path(out), other=other) as viewer:
                found.append(viewer)
                started.set()
                await stopped.wait()
        except BaseException as error:  # noqa: BLE001 - it is raised in the test
            found.append(error)
            started.set()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    started.wait(20)
    try:
        if isinstance(found[0], BaseException):
            raise found[0]
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(20)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
