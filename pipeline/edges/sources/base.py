"""What every source can do, and the one pass over its ids before anything is sent."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from pipeline.edges.sources.naming import shown
from pipeline.errors import InputError
from pipeline.records import ImageRecord

_NAMED_AT_MOST = 10_000


class Source(Protocol):
    """A stream of records. Any number of passes may be made, except over standard input."""

    @property
    def name(self) -> str:
        """As the user wrote it."""

    @property
    def skipped(self) -> int:
        """Bad rows that the latest pass left out; always 0 without `source.skip_bad_rows`."""

    def check(self) -> int | None:
        """The number of records, after one pass that parses everything and looks for ids that stand twice.

        None where a pass would consume the source. Memory: about 8 bytes a record.
        Raises InputError, which names file and line.
        """

    def records(self) -> Iterator[ImageRecord]:
        """Every record, in an order that does not change from run to run.

        Raises InputError at a row that cannot be read, and where there is no record at all.
        """


class Checkable(Source, Protocol):
    """A source that takes part in a check over several of them."""

    def ids(self) -> Iterator[str] | None:
        """What `records` would bring, as ids only, which is cheaper; None where it would consume the source."""

    def place(self, record: ImageRecord) -> str:
        """Where a record of this source stands, for a message: `line 3`, or the file's path."""


def check_ids(sources: Sequence[Checkable]) -> int | None:
    """The number of records of all sources together; InputError where one id stands twice."""
    hashes = array("q")
    countable = True
    for source in sources:
        ids = source.ids()
        if ids is None:
            countable = False
        else:
            # The interpreter's own 64-bit hash: it is at hand for every string, and the same within a process.
            hashes.extend(map(hash, ids))
    count = len(hashes)
    repeated, more = _repeated(hashes)
    if repeated:
        _name_duplicate(sources, repeated, more)
    return count if countable else None


def _repeated(hashes: "array[int]") -> tuple[set[int], int]:
    if len(hashes) < 2:  # noqa: PLR2004 - a single record is no duplicate
        return set(), 0
    values = np.frombuffer(hashes, dtype=np.int64)
    values.sort()
    repeated = np.unique(values[1:][values[1:] == values[:-1]])
    return set(repeated[:_NAMED_AT_MOST].tolist()), len(repeated) - 1


def _name_duplicate(sources: Sequence[Checkable], repeated: set[int], more: int) -> None:
    """A second pass that tells two ids of one hash from one id on two lines."""
    first: dict[str, tuple[Checkable, str]] = {}
    for source in sources:
        if source.ids() is None:
            continue
        for record in source.records():
            if hash(record.id) not in repeated:
                continue
            if record.id in first:
                raise InputError(_duplicate(record, first[record.id], source, more))
            first[record.id] = (source, source.place(record))


def _duplicate(record: ImageRecord, before: tuple[Checkable, str], source: Checkable, more: int) -> str:
    other, place = before
    name = shown(source.name)
    also = f" (and {more:,} more ids repeat)" if more else ""
    if other is not source:
        return (
            f"id {record.id!r} stands in {shown(other.name)} ({place}) and in {name} ({source.place(record)})"
            f"{also}; name the folder above both as one source, or give a manifest with a column 'id'"
        )
    if record.line is None:
        return f"{name}: id {record.id!r} stands for {place} and for {source.place(record)}{also}; rename one"
    unit, _, number = place.partition(" ")
    return (
        f"{name}: id {record.id!r} on {unit}s {number} and {record.line}{also}; "
        "remove one, or name the column that tells them apart with --set source.id_column=NAME"
    )
