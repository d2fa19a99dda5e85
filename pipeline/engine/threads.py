"""Threads of a run, and how the loop waits for what they do."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Self, TypeVar

T = TypeVar("T")
_Work = tuple[Callable[..., Any], tuple[object, ...], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class Threads:
    """Threads that do one piece of work after another.

    Leaving waits for them, unless they are `daemon`: those may stand in a read that never ends (a pipe), or in a
    decoder. Half as much work for the loop as an `Executor`, whose futures are others than the loop's.
    """

    def __init__(self, name: str, count: int = 1, *, daemon: bool = True) -> None:
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._is_daemon = daemon
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}_{number}", daemon=daemon) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """No more work comes; what has come is done."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in () if self._is_daemon else self._threads:
            thread.join()

    def call(self, work: Callable[..., T], *args: object) -> "asyncio.Future[T]":
        """Call `work` in one of the threads. Cancelled before it began, it is not called."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put((work, args, loop, future))
        return future

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            work, args, loop, future = item
            if future.cancelled():
                continue
            result, error = None, None
            try:
                result = work(*args)
            except BaseException as raised:  # noqa: BLE001 - the future reports it
                error = raised
            with suppress(RuntimeError):  # the loop has ended, and nothing waits
                loop.call_soon_threadsafe(_settle, future, result, error)
            del item, work, args, future, result, error  # they hold an image while the thread waits for the next


def _settle(future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
