"""An event loop whose clock jumps to the next timer, once no thread of a run works."""

import asyncio
import selectors
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeVar

import anyio

from pipeline.engine.stages import Clock
from pipeline.engine.threads import Threads

T = TypeVar("T")

BEGAN_S = 1000.0
"""What the clock of a loop shows at first."""
LONGEST_S = 60.0
"""Of real time, for what a thread does: then a test is broken."""

_LOCAL = threading.local()


class JumpingSelector(selectors.DefaultSelector):
    """Waits for threads that work, and for nothing else: the time of its loop jumps instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGAN_S
        self.threads: list[WatchedThreads] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if any(threads.are_working for threads in self.threads):
            found = super().select(LONGEST_S)
            assert found, "a thread has worked for a minute"
        elif timeout is None:
            raise RuntimeError("nothing will ever happen")
        else:
            self.now += timeout
        return found


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock shows the time of the next timer at once."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def watch(self, threads: "WatchedThreads") -> None:
        """Time stands still while they work."""
        self._jumping.threads.append(threads)


def running_loop() -> JumpingLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    return loop


def jumping_clock() -> Clock:
    """The time of the loop. Its date stands still."""
    utc = datetime(2026, 1, 1, tzinfo=UTC)
    return Clock(now=running_loop().time, utc=lambda: utc, sleep=anyio.sleep, random=Random(7))


@dataclass(eq=False)
class _Call:
    """A piece of work for a thread, until the loop has its result."""

    threads: "WatchedThreads"

    def __call__(self, work: Callable[..., T], *args: object) -> T:
        _LOCAL.call = self
        return work(*args)


class WatchedThreads(Threads):
    """Threads of a run, which the loop asks whether they work."""

    def __init__(self, name: str, number: int = 1, **how: Any) -> None:
        self.loop = running_loop()
        self.loop.watch(self)
        self._number = number
        self._calls = set[_Call]()
        self._standing = set[_Call]()
        super().__init__(name, number, **how)

    @property
    def are_working(self) -> bool:
        """Whether there is work that a thread does, or is free to begin."""
        return len(self._calls) > len(self._standing) < self._number

    def call(self, work: Callable[..., T], *args: object) -> "asyncio.Future[T]":
        call = _Call(self)
        self._calls.add(call)
        future = super().call(call, work, *args)
        future.add_done_callback(lambda _: self._end(call))
        return future

    def stand(self, call: _Call) -> None:
        """It waits at a latch from here on."""
        if call in self._calls:  # else it was given up
            self._standing.add(call)

    def go_on(self, call: _Call) -> None:
        self._standing.discard(call)

    def _end(self, call: _Call) -> None:
        """It has its result, or was given up where it stands."""
        self._calls.discard(call)
        self._standing.discard(call)


class Latch:
    """Where threads of a run stand until it is opened, while time goes on."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.reached = anyio.Event()
        """Set with the first that stands at it."""
        self._lock, self._opened, self._standing = threading.Lock(), threading.Event(), set[_Call]()
        if is_open:
            self._opened.set()

    def close(self) -> None:
        self._opened.clear()

    def open(self) -> None:
        """From the loop."""
        with self._lock:
            for call in self._standing:
                call.threads.go_on(call)
            self._standing.clear()
            self._opened.set()

    def wait(self) -> None:
        """From a thread."""
        call: _Call = _LOCAL.call
        with self._lock:
            if self._opened.is_set():
                return
            self._standing.add(call)
            call.threads.stand(call)
        call.threads.loop.call_soon_threadsafe(self.reached.set)
        assert self._opened.wait(LONGEST_S), "it was not opened"
