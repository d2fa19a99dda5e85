"""The writer: the one task that commits, and the write credits that bound what it has not committed yet."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import anyio

from pipeline.engine.semaphores import ByteSemaphore
from pipeline.engine.stages import Arrival, Stages
from pipeline.engine.stats import RunStats
from pipeline.engine.threads import Threads
from pipeline.errors import ResourceError
from pipeline.limits.budget import Amounts
from pipeline.records import BilledAttempt, Follower, Outcome

ARRIVALS = 256
"""Results that wait for a commit, at most; those without a request (images that cannot be read) need no credit."""


class Writer:
    """Commits what has arrived since its last commit.

    A write credit is taken before a request is sent, and given back when its answer is committed, so that no kill can
    cost more than the requests in flight and as many answers.
    """

    def __init__(
        self,
        stages: Stages,
        stats: RunStats,
        concurrency: int,
        ended: Callable[[Outcome | Follower], None],
        failed: Callable[[ResourceError], None],
    ) -> None:
        """`ended` is called for every record whose row is written, `failed` once, when a write fails."""
        self._stages, self._stats, self._ended, self._failed = stages, stats, ended, failed
        self.credits = ByteSemaphore(0)
        self.follow(concurrency)
        self.late: list[Arrival] = []
        """What could not be handed over before the run was cut off: it is committed at its end."""
        self._has_unsealed = self._cannot_write = False
        self._send, self._arrived = anyio.create_memory_object_stream[Arrival](ARRIVALS)
        self.thread: Threads

    def follow(self, concurrency: int) -> None:
        """Two write credits for each request that may be in flight."""
        self.credits.resize(2 * concurrency)

    async def hand_over(self, arrival: Arrival) -> None:
        """Give the writer a result; where the run is cut off just now, it is committed at its end."""
        try:
            await self._send.send(arrival)
        except BaseException:
            self.late.append(arrival)
            raise

    def take(self, arrival: Arrival) -> None:
        """The same where nothing can wait; what there is no room for is committed at the end."""
        try:
            self._send.send_nowait(arrival)
        except (anyio.WouldBlock, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self.late.append(arrival)

    def close(self) -> None:
        """No more results: `run` ends when all of them are committed."""
        self._send.close()

    async def run(self) -> None:
        """Commit until `close`, and then what came late."""
        async with self._arrived:
            async for first in self._arrived:
                await self._commit([first, *self._also_arrived()])

    async def finish(self, spent: Callable[[], Amounts], *, seals: bool) -> None:
        if self.late:
            await self._commit(self.late)
        await self.write(self._stages.lease, spent())
        if seals:
            await self.write(self._stages.seal)

    def _also_arrived(self) -> Iterator[Arrival]:
        with suppress(anyio.WouldBlock, anyio.EndOfStream):
            while True:
                yield self._arrived.receive_nowait()

    async def _commit(self, arrived: list[Arrival]) -> None:
        outcomes = [item for item in arrived if isinstance(item, Outcome)]
        attempts = [item for item in arrived if isinstance(item, BilledAttempt)]
        followers = [item for item in arrived if isinstance(item, Follower)]
        ended: list[Outcome | Follower] = [*outcomes, *followers]
        self._has_unsealed = True
        if await self.write(self._stages.commit, outcomes, attempts, followers):
            for attempt in attempts:
                self._stats.bill(attempt)
            for item in ended:
                self._stats.add(item)
        for item in ended:
            self._ended(item)
        for outcome in outcomes:
            if outcome.attempts:
                self.credits.release(1)

    async def write(self, what: Callable[..., object], *args: object) -> bool:
        """A write that fails stops the run: at once, unless answers that still come go to a file beside the ledger."""
        if self._cannot_write and what is not self._stages.commit:
            return False
        try:
            await self.thread.call(what, *args)
        except ResourceError as error:
            if not self._cannot_write:
                self._cannot_write = True
                self._failed(error)
            return False
        return True

    async def seal(self) -> None:
        """Make readable what was committed since the last time."""
        if self._has_unsealed:
            self._has_unsealed = False
            await self.write(self._stages.seal)
