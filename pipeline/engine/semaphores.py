"""Semaphores in bytes: they bound the memory of a run, whatever the size of its images."""

import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio

from pipeline.engine.threads import restart_clock, stop_clock


class ByteSemaphore:
    """Bytes shared by coroutines, first come first served. More than the limit is granted alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._waiting: deque[tuple[int, anyio.Event]] = deque()

    @asynccontextmanager
    async def held(self, size: int) -> AsyncIterator[None]:
        await self.acquire(size)
        try:
            yield
        finally:
            self.release(size)

    def release(self, size: int) -> None:
        self._used -= size
        self._admit()

    def resize(self, limit: int) -> None:
        """A larger limit counts at once, a smaller one as soon as bytes are released."""
        if limit != self._limit:
            self._limit = limit
            self._admit()

    async def acquire(self, size: int) -> None:
        """Wait until `size` bytes are free. Each call needs a `release`."""
        if not self._waiting and self._fits(size):
            self._used += size
            return
        waiter = (size, anyio.Event())
        self._waiting.append(waiter)
        try:
            await waiter[1].wait()
        except BaseException:
            self._give_up(waiter)
            raise

    def _give_up(self, waiter: tuple[int, anyio.Event]) -> None:
        if waiter[1].is_set():  # granted in the same moment: the bytes are given back
            self._used -= waiter[0]
        else:
            self._waiting.remove(waiter)
        self._admit()

    def _fits(self, size: int) -> bool:
        return self._used == 0 or self._used + size <= self._limit

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, admitted = self._waiting.popleft()
            self._used += size
            admitted.set()


class GrowingByteSemaphore:
    """Bytes shared by coroutines whose needs grow, first come first served.

    One at a time may exceed the limit: else all could wait, each with a part of its bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._beyond: Share | None = None
        self._waiting: deque[tuple[Share, int, anyio.Event]] = deque()

    @asynccontextmanager
    async def share(self) -> "AsyncIterator[Share]":
        share = Share(self)
        try:
            yield share
        finally:
            share.clear()

    async def acquire(self, share: "Share", size: int) -> None:
        if share is self._beyond or (not self._waiting and self._fits(size)):
            self._take(share, size)
            return
        waiter = (share, size, anyio.Event())
        self._waiting.append(waiter)
        try:
            await waiter[2].wait()
        finally:
            if not waiter[2].is_set():
                self._waiting.remove(waiter)
                self._admit()

    def release(self, share: "Share") -> None:
        self._used -= share.size
        if share is self._beyond:
            self._beyond = None
        self._admit()

    def _fits(self, size: int) -> bool:
        return self._beyond is None or self._used + size <= self._limit

    def _take(self, share: "Share", size: int) -> None:
        self._used += size
        share.size += size
        if self._used > self._limit:
            self._beyond = self._beyond or share

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][1]):
            share, size, admitted = self._waiting.popleft()
            self._take(share, size)
            admitted.set()


class Share:
    """What one coroutine holds of a `GrowingByteSemaphore`."""

    def __init__(self, semaphore: GrowingByteSemaphore) -> None:
        self._semaphore = semaphore
        self.size = 0

    async def grow(self, size: int) -> None:
        """Hold `size` bytes more, as soon as they are free."""
        await self._semaphore.acquire(self, size)

    def clear(self) -> None:
        """Release all."""
        self._semaphore.release(self)
        self.size = 0


class ThreadByteSemaphore:
    """`ByteSemaphore` for threads. A thread holds one reservation at a time, so none can wait for itself."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._held: dict[int, int] = {}
        """Bytes, by thread."""
        self._first = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        thread = threading.get_ident()
        stop_clock()  # who waits does not stand still
        # One waits for bytes, the others for that one: small ones do not keep a large one out for ever.
        with self._first, self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + size <= self._limit)
            self._used += size
            self._held[thread] = size
        restart_clock()
        try:
            yield
        finally:
            self.forget(thread)

    def forget(self, thread: int) -> None:
        """Release what a thread holds: it is done, or stands still and is waited for no longer."""
        with self._changed:
            self._used -= self._held.pop(thread, 0)
            self._changed.notify_all()
