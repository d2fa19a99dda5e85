"""What every source can do, and the one pass over its ids before anything is sent."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Protocol
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.locations import ImageUrl
from pipeline.records import ImageRecord
from pipeline.sources.naming import short, shown

_NAMED_AT_MOST = 10_000


class NoRecordsError(InputError):
    """A source is there, and holds nothing: with `source.allow_empty` no mistake."""


class AllBadError(InputError):
    """All that a source holds was skipped as bad: among others it is passed over."""


def nothing_in(what: str, skipped: int = 0) -> InputError:
    """Why a source brings nothing, in these words: an AllBadError where all was skipped, else a NoRecordsError."""
    kind = AllBadError if skipped else NoRecordsError
    return kind(what)


def all_skipped(skipped: int) -> str:
    """Goes on behind `no rows`."""
    return f" that can be used; {skipped:,} were skipped as bad" if skipped else ""


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

    @property
    def has_several(self) -> bool:
        """Whether records have several images, as far as the passes until now have shown."""

    @property
    def has_documents(self) -> bool:
        """Whether PDFs are sent whole, as far as the passes until now have shown by their names."""

    @property
    def is_manifest(self) -> bool:
        """Whether this is files of rows that can be read again, in which rows keep their places from run to run."""

    def records(self) -> Iterator[ImageRecord]:
        """Every record, in an order that does not change from run to run.

        Raises InputError at a row that cannot be read, and where there is no record at all.
        """


class Checkable(Source, Protocol):
    """A source that takes part in a check over several of them."""

    @property
    def grouped_by(self) -> str | None:
        """The column whose neighbouring rows are one record; None where each row is one."""

    def ids(self) -> Iterator[str] | None:
        """What `records` would bring, as ids only, which is cheaper; None where it would consume the source."""

    def place(self, record: ImageRecord) -> str:
        """Where a record of this source stands, for a message: `line 3`, or the file's path."""


def check_ids(sources: Sequence[Checkable]) -> int | None:
    """The number of records of all sources together; InputError where one id stands twice."""
    hashes, countable = _hashes(sources)
    repeated = _repeated(hashes)
    if len(repeated):
        _name_duplicate(sources, set(repeated[:_NAMED_AT_MOST].tolist()), len(repeated) - 1)
    return len(hashes) if countable else None


def first_of_each(sources: Sequence[Checkable]) -> tuple[int | None, set[int]]:
    """How many different ids there are, and the hashes of those that stand more than once."""
    hashes, countable = _hashes(sources)
    different = len(np.unique(np.frombuffer(hashes, dtype=np.int64))) if hashes else 0
    return different if countable else None, set(_repeated(hashes).tolist())


def _hashes(sources: Sequence[Checkable]) -> tuple["array[int]", bool]:
    """A hash an id, and whether all sources could be read for it."""
    hashes = array("q")
    countable = True
    for source in sources:
        ids = source.ids()
        if ids is None:
            countable = False
        else:
            # The interpreter's own 64-bit hash: it is at hand for every string, and the same within a process.
            hashes.extend(map(hash, ids))
    return hashes, countable


def _repeated(hashes: "array[int]") -> NDArray[np.int64]:
    if not hashes:
        return np.empty(0, dtype=np.int64)
    values = np.frombuffer(hashes, dtype=np.int64)
    values.sort()
    repeated = values[1:][values[1:] == values[:-1]]
    return np.unique(repeated) if len(repeated) else repeated  # its import of masked arrays takes 30 ms


def _name_duplicate(sources: Sequence[Checkable], repeated: set[int], more: int) -> None:
    """A second pass that distinguishes two ids of one hash from one id on two lines."""
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
    name, repeated = shown(source.name), repr(short(record.id))
    also = f" (and {more:,} more id{' repeats' if more == 1 else 's repeat'})" if more else ""
    image = record.images[0]
    if isinstance(image, ImageUrl) and image.name != image.url:
        also += "; parameters of an address that may be secret are no part of its id"
    if other is not source:
        return (
            f"id {repeated} stands in {shown(other.name)} ({place}) and in {name} ({source.place(record)})"
            f"{also}; name the folder above both as one source (of shards, one pattern), or give a manifest with a "
            "column 'id'"
        )
    if record.line is None and place == source.place(record):
        return f"{name}: id {repeated} stands for {place} in two rows of its metadata{also}; remove one"
    if record.line is None and normalize("NFC", place) == normalize("NFC", source.place(record)):
        twins = f"{place} and {source.place(record)}".encode("ascii", "backslashreplace").decode()
        return f"{name}: {twins} are one name in two forms of Unicode, and one id{also}; rename one"
    if record.line is None:
        return f"{name}: id {repeated} stands for {place} and for {source.place(record)}{also}; rename one"
    unit, _, number = place.partition(" ")
    if source.grouped_by is not None:
        return (
            f"{name}: the rows of {repeated} (column {source.grouped_by!r}) begin on {unit}s {number} and "
            f"{record.line}{also}; rows of one group stand together: sort the file by this column"
        )
    return (
        f"{name}: id {repeated} on {unit}s {number} and {record.line}{also}; "
        "remove one, or name the column that holds distinct ids with `source.id_column=NAME`"
    )
