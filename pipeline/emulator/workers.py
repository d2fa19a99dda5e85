"""A server with N workers: more requests queue, and a long queue slows the workers down."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.emulator.api_errors import too_many_at_once
from pipeline.emulator.stats import EmulatorStats


class Workers:
    """`slots` workers. The queue is as long as the clients make it, or as they may."""

    def __init__(self, slots: int, thrash: float, stats: EmulatorStats, queue: int | None = None) -> None:
        self._free = asyncio.Semaphore(slots)
        self._slots = slots
        self._thrash = thrash
        self._most = float("inf") if queue is None else slots + queue
        self._stats = stats
        self._inside = 0

    def check_queue(self) -> None:
        """Raise LimitError where the queue is full."""
        if self._inside >= self._most:
            raise too_many_at_once(self._slots)

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[float]:
        """Wait for a worker, first come first served; yields how many times as long as alone its work takes."""
        self._inside += 1
        self._stats.queue(self._inside - self._slots)
        try:
            async with self._free:
                yield slowdown(self._inside, self._slots, self._thrash)
        finally:
            self._inside -= 1


def slowdown(in_flight: int, slots: int, thrash: float) -> float:
    """1 + thrash x (in_flight - slots) / slots beyond the knee, 1 before it."""
    return 1 + thrash * max(0, in_flight - slots) / slots
