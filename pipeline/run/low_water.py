"""How far from its beginning a manifest needs no second look: a resume does not look up a million keys.

A mark is a number of records and a digest of their ids, in order. It is taken from the records that a run has
read, not from the file, which may have grown, been replaced or been edited since. A later run reads as many records
and compares: only where these are the same ids, none of them is looked up.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from itertools import islice

import orjson

from pipeline.records import ImageRecord
from pipeline.run.job import Job
from pipeline.sources import Source
from pipeline.store.marks import Marks

MARK_EVERY = 1_000
"""Records between two places that a mark can stand at: what a kill makes the next run look up in vain."""


class LowWater:
    """The records of one run's source, and the marks that it may leave."""

    def __init__(self, records: Iterator[ImageRecord], name: str | None = None) -> None:
        """`name` is what the mark is stored under; None: there is none, and none is left."""
        self._records, self._name = records, name
        self._digest = hashlib.blake2b(digest_size=16)
        self._places: deque[tuple[int, str]] = deque()
        """(records, digest of their ids), ascending: the reader appends, the writer takes."""
        self.skip = 0
        """Records from the beginning that earlier runs are done with; `records` begins behind them."""

    @classmethod
    def of(cls, source: Source, job: Job, marks: Marks) -> "LowWater":
        """Raises InputError where the source cannot be read."""
        records = job.selected(source.records())
        if not (source.is_manifest and job.rerun.passes_over_rows and job.chosen is None and job.limit is None):
            return cls(islice(records, job.limit))
        named = "\0".join([os.path.realpath(source.name), repr(job.config.source), *job.config.prompt_names])
        name = hashlib.blake2b(named.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
        water = cls(records, name)
        mark = marks.mark(name)
        if "ids" in mark and not water.pass_over(int(mark["records"]), str(mark["ids"])):
            return cls(job.selected(source.records()), name)
        return water

    def pass_over(self, records: int, ids: str) -> bool:
        """Read this number of records; whether their ids are those of the mark."""
        for start in range(0, records, MARK_EVERY):
            batch = list(islice(self._records, min(MARK_EVERY, records - start)))
            if not batch:
                return False
            self._add([record.id for record in batch])
            self.skip += len(batch)
        return (self.skip, self._digest.hexdigest()) == (records, ids)

    def records(self) -> Iterator[ImageRecord]:
        """What the run has to look at."""
        count, ids = self.skip, list[str]()
        for record in self._records:
            yield record
            ids.append(record.id)
            if len(ids) == MARK_EVERY:
                count, ids = self._note(count, ids), []
        self._note(count, ids)

    def rise(self, marks: Marks, records: float) -> None:
        """Remember that this number of records from the beginning have rows by now."""
        reached = None
        while self._places and self._places[0][0] <= records:
            reached = self._places.popleft()
        if self._name is not None and reached is not None:
            marks.set_mark(self._name, {"records": reached[0], "ids": reached[1]})

    def _note(self, count: int, ids: list[str]) -> int:
        self._add(ids)
        count += len(ids)
        self._places.append((count, self._digest.hexdigest()))
        return count

    def _add(self, ids: list[str]) -> None:
        # One after the other, in quotes: the same bytes however the records were divided.
        self._digest.update(orjson.dumps(ids)[1:-1] + b"," if ids else b"")
