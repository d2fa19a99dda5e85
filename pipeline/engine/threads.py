"""Threads that the end of a run does not wait for."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_Work = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], "Future[Any]"]


class DaemonThreads(Executor):
    """Threads that may stand in a read which never ends (a pipe) or in a decoder: leaving does not wait for them."""

    def __init__(self, name: str, count: int = 1) -> None:
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._count = count
        for number in range(count):
            threading.Thread(target=self._run, name=f"{name}_{number}", daemon=True).start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        future: Future[T] = Future()
        self._queue.put((fn, args, kwargs, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - Executor's
        for _ in range(self._count):
            self._queue.put(None)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            fn, args, kwargs, future = work
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - the future reports it
                future.set_exception(error)
            del work, fn, args, kwargs, future  # it holds an image while the thread waits for the next


async def in_thread(executor: Executor, work: Callable[..., T], *args: object) -> T:
    """Call `work` in a thread of `executor`."""
    return await asyncio.get_running_loop().run_in_executor(executor, work, *args)
