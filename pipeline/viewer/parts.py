"""The parts of an output directory at one moment, and rows of them by their places.

A run may replace parts and add others. What is read here is of the parts as they were seen, or it is `ChangedError`.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.files import Version, version_of
from pipeline.store import parquet
from pipeline.store.layout import DATA_NAME
from pipeline.store.schemas import schema

_LOOKS, _BETWEEN_LOOKS_S = 10, 0.02
"""While `compact` exchanges all parts there are none for a moment."""
_ROW_BITS: Final = 32


class ChangedError(Exception):
    """A part has been replaced since it was seen."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of `data/`, as it was seen."""

    path: str
    number: int
    version: Version
    metadata: pq.FileMetaData = field(compare=False, repr=False)
    ends: tuple[int, ...]
    """Of each row group, the number of rows up to its end."""

    @property
    def rows(self) -> int:
        return self.ends[-1] if self.ends else 0

    @contextmanager
    def open(self) -> Iterator[pq.ParquetFile]:
        """Raises ChangedError, or ResourceError where it cannot be read."""
        with parquet.readable(Path(self.path)):
            try:
                file = pa.OSFile(self.path)
            except FileNotFoundError:
                raise ChangedError from None
            with file:
                if _version(self.path) != self.version:  # asked after it is open: so it is this file
                    raise ChangedError
                yield pq.ParquetFile(file, metadata=self.metadata, pre_buffer=False, page_checksum_verification=True)

    def tables(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """All its rows in bounded tables."""
        with self.open() as file:
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(
                    parquet.ROWS_A_GROUP, row_groups=[group], columns=list(names), use_threads=False
                ):
                    yield pa.Table.from_batches([batch])

    def rows_at(self, rows: Sequence[int], names: Sequence[str]) -> dict[int, dict[str, Any]]:
        """These of its rows, each row group read once."""
        found: dict[int, dict[str, Any]] = {}
        with self.open() as file:
            start = 0
            for group, end in enumerate(self.ends):
                if wanted := [row for row in rows if start <= row < end]:
                    table = file.read_row_group(group, columns=list(names), use_threads=False)
                    taken = table.take([row - start for row in wanted]).to_pylist()
                    found |= dict(zip(wanted, taken, strict=True))
                start = end
        return found


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All parts of an output directory, in their order."""

    parts: tuple[Part, ...]
    columns: pa.Schema

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def name(self) -> str:
        """Equal for equal parts."""
        return f"{hash(tuple((part.number, part.version) for part in self.parts)) & 0xFFFFFFFFFFFF:x}"

    def part(self, number: int) -> Part:
        """Raises ChangedError where there is none of this number."""
        for part in self.parts:
            if part.number == number:
                return part
        raise ChangedError


def look(out: Path, before: Snapshot | None = None) -> Snapshot:
    """The parts as they are now; the footers of those that were seen `before` are not read again.

    Raises InputError where there is no output directory, ResourceError where a part cannot be read.
    """
    known = {} if before is None else {(part.path, part.version): part for part in before.parts}
    for _ in range(_LOOKS):
        try:
            return _looked(out / DATA_NAME, known)
        except (ChangedError, FileNotFoundError):
            time.sleep(_BETWEEN_LOOKS_S)
    raise InputError(f"{out}: no vision-batch output here (there is no {out / DATA_NAME})")


def _looked(folder: Path, known: Mapping[tuple[str, Version], Part]) -> Snapshot:
    parts = []
    for number in parquet.part_numbers(folder):
        path = str(folder / parquet.part_name(number))
        version = _version(path)
        if version is None:
            raise ChangedError
        parts.append(known.get((path, version)) or _read(path, number, version))
    columns = parts[0].metadata.schema.to_arrow_schema() if parts else schema()
    return Snapshot(tuple(parts), columns)


def _read(path: str, number: int, version: Version) -> Part:
    with parquet.readable(Path(path)):
        metadata = pq.read_metadata(path)
    if _version(path) != version:
        raise ChangedError
    groups = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    return Part(path, number, version, metadata, tuple(accumulate(groups)))


def _version(path: str) -> Version | None:
    try:
        return version_of(os.stat(path))  # noqa: PTH116 - thousands of parts are looked at for each page
    except FileNotFoundError:
        return None


def place(number: int, row: int) -> int:
    """One number for a row of a part."""
    return number << _ROW_BITS | row


def unplaced(at: int) -> tuple[int, int]:
    """The number of a part and the row in it."""
    return at >> _ROW_BITS, at & ((1 << _ROW_BITS) - 1)


def rows_at(snapshot: Snapshot, places: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows at these places, in this order. Raises ChangedError, ResourceError."""
    by_part: dict[int, list[int]] = {}
    for number, row in map(unplaced, places):
        by_part.setdefault(number, []).append(row)
    found = {number: snapshot.part(number).rows_at(rows, names) for number, rows in by_part.items()}
    return [found[number][row] for number, row in map(unplaced, places)]


def find(snapshot: Snapshot, key: tuple[str, str], at: int) -> tuple[int, dict[str, Any]] | None:
    """The row with this id and prompt name: where it was last seen, if it still is there, else wherever it is."""
    number, row = unplaced(at)
    names = snapshot.columns.names
    if any(part.number == number and row < part.rows for part in snapshot.parts):
        (found,) = rows_at(snapshot, [at], names)
        if (found["id"], found["prompt_name"]) == key:
            return at, found
    for part in snapshot.parts:
        start = 0
        for table in part.tables(["id", "prompt_name"]):
            is_it = pc.and_(pc.equal(table["id"], key[0]), pc.equal(table["prompt_name"], key[1]))
            if (offset := pc.index(is_it, value=True).as_py()) >= 0:
                found_at = place(part.number, start + offset)
                return found_at, rows_at(snapshot, [found_at], names)[0]
            start += table.num_rows
    return None
