"""The reader: takes records from the source in a thread of its own and hands on those that OUT does not hold."""

import asyncio
from collections.abc import Sequence
from itertools import islice

from anyio.streams.memory import MemoryObjectSendStream

from pipeline.engine.stages import PromptNames, Stages
from pipeline.engine.stats import RunStats
from pipeline.engine.threads import Threads
from pipeline.limits.decision import TRANSIENT
from pipeline.records import Follower, ImageRecord, Outcome

FIRST_BATCH, BATCH, LARGEST_BATCH = 16, 256, 4096
READ_BYTES = 8 << 20
"""Text of records (`data:` addresses, a manifest's other columns) that is read at a time: a row may be megabytes."""
Task = tuple[ImageRecord, PromptNames]
"""A record, and which prompts it is asked."""


class Reader:
    """Reads ahead by one batch, and counts which records are under way."""

    def __init__(self, stages: Stages, stats: RunStats, *, reads_ahead: bool) -> None:
        self._stages, self._stats, self._reads_ahead = stages, stats, reads_ahead
        self._under_way: dict[str, int] = {}
        """Ids between the reader and the writer (a stream may bring one twice), with their place in the source."""
        self._rows_left: dict[str, int] = {}
        """Rows still to be written of those that are asked several prompts."""
        self.thread: Threads

    async def run(self, send: MemoryObjectSendStream[Task], writer_thread: Threads) -> None:
        """Read to the end of the source. `writer_thread` looks up what OUT holds."""
        size = FIRST_BATCH if self._reads_ahead else 1
        ahead = self._ahead(size)
        while batch := await ahead:
            ahead = self._ahead(size)  # is read while the ledger looks these up
            missing = await writer_thread.call(self._stages.missing, batch)
            await self._hand_on(batch, missing, send)
            # Where OUT holds all of it already there is nothing to wait for: larger batches, fewer hops.
            if self._reads_ahead:
                size = BATCH if any(missing) else min(2 * size, LARGEST_BATCH)

    def ended(self, item: Outcome | Follower) -> None:
        """A row of this record is written."""
        record_id = item.record.id
        left = self._rows_left.get(record_id, 1) - 1
        if left:
            self._rows_left[record_id], place = left, self._under_way.get(record_id, 0)
        else:
            self._rows_left.pop(record_id, None)
            place = self._under_way.pop(record_id, 0)
        if item.error_kind in TRANSIENT:  # the next run looks at this one again
            self._stats.lowest_open = min(self._stats.lowest_open, place)

    @property
    def low_water(self) -> float:
        """The place in the source below which nothing is open."""
        return min(self._stats.lowest_open, next(iter(self._under_way.values()), self._stats.read))

    async def _hand_on(
        self, batch: list[ImageRecord], missing: Sequence[PromptNames], send: MemoryObjectSendStream[Task]
    ) -> None:
        began = self._stats.read
        self._stats.skipped += self._stats.prompts * len(batch) - sum(map(len, missing))
        for place, (record, names) in enumerate(zip(batch, missing, strict=True)):
            if not names:
                continue
            self._stats.read = began + place
            if record.id not in self._under_way:
                self._under_way[record.id] = self._stats.read
                if len(names) > 1:
                    self._rows_left[record.id] = len(names)
                await send.send((record, names))
        self._stats.read = began + len(batch)

    def _ahead(self, size: int) -> "asyncio.Future[list[ImageRecord]]":
        future = self.thread.call(self._take, size)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # read even if it is not awaited
        return future

    def _take(self, size: int) -> list[ImageRecord]:
        """The next records, `size` at most, or fewer that hold much text."""
        taken: list[ImageRecord] = []
        held = 0
        for record in islice(self._stages.records, size):
            taken.append(record)
            held += record.held_bytes
            if held >= READ_BYTES:
                break
        return taken
