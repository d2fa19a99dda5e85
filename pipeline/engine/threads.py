"""Threads of a run, and how the loop waits for what they do."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from math import inf
from queue import SimpleQueue
from threading import get_ident
from time import monotonic
from typing import Any, Self, TypeVar

T = TypeVar("T")

_LOCAL = threading.local()


class StuckError(Exception):
    """The thread stands still in its work. `thread` is its identifier."""

    def __init__(self, thread: int) -> None:
        super().__init__()
        self.thread = thread


@dataclass(slots=True)
class _Doing:
    """What a thread does now."""

    future: "asyncio.Future[Any]"
    thread: int
    since: float
    now: Callable[[], float]


def restart_clock() -> None:
    """The work of this thread begins now: before, it waited for others."""
    doing: _Doing | None = getattr(_LOCAL, "doing", None)
    if doing is not None:
        doing.since = doing.now()


def stop_clock() -> None:
    """The work of this thread has a bound of its own from here on: it does not stand still."""
    doing: _Doing | None = getattr(_LOCAL, "doing", None)
    if doing is not None:
        doing.since = inf


_Work = tuple[Callable[..., Any], tuple[object, ...], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class Threads:
    """Threads that do one piece of work after another.

    Leaving waits for them, unless they are `daemon`: those may stand in a read that never ends (a pipe), or in a
    decoder. Half as much work for the loop as an `Executor`, whose futures are others than the loop's.
    """

    def __init__(
        self, name: str, number: int = 1, *, daemon: bool = True, now: Callable[[], float] = monotonic
    ) -> None:
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._name, self._is_daemon, self._now = name, daemon, now
        self._numbers = count()
        self._doing: dict[int, _Doing] = {}
        self._threads: list[threading.Thread] = []
        for _ in range(number):
            self._start()

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

    def replace_stuck(self, longest_s: float) -> None:
        """Give up threads whose work takes longer, and start others. Who waits for the work gets a StuckError."""
        latest = self._now() - longest_s
        for number, doing in tuple(self._doing.items()):
            if doing.since < latest and self._doing.pop(number, None) is not None:
                _settle(doing.future, None, StuckError(doing.thread))
                self._start()

    def _start(self) -> None:
        number = next(self._numbers)
        thread = threading.Thread(
            target=self._run, args=(number,), name=f"{self._name}_{number}", daemon=self._is_daemon
        )
        self._threads.append(thread)
        thread.start()

    def _run(self, number: int) -> None:
        while (item := self._queue.get()) is not None:
            work, args, loop, future = item
            if future.cancelled():
                continue
            self._doing[number] = _LOCAL.doing = _Doing(future, get_ident(), self._now(), self._now)
            result, error = None, None
            try:
                result = work(*args)
            except BaseException as raised:  # noqa: BLE001 - the future reports it
                error = raised
            if self._doing.pop(number, None) is None:
                return  # it was given up, and another thread has its place
            with suppress(RuntimeError):  # the loop has ended, and nothing waits
                loop.call_soon_threadsafe(_settle, future, result, error)
            _LOCAL.doing = None
            del item, work, args, future, result, error  # they hold an image while the thread waits for the next


def _settle(future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
