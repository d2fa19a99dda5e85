"""The images of one column of a Parquet file, read when they are needed, in the order of the rows and in any other."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from threading import Lock
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.files import SteadyFile
from pipeline.sources.tables import ImageCells, first_line
from pipeline.sources.widths import RowWidths

_BATCH_BYTES: Final = 1 << 21
"""Of the rows that are read at a time, by the average of their row group."""
_HELD_BYTES: Final = 64 << 20
"""Images at most that have been read and not been asked for: threads ask for neighbours in any order."""
_MOST_ROWS: Final = 256
_NEIGHBOURS: Final = 256
"""Rows before the first one that is asked for, which other threads may ask for next."""

Leaf = tuple[int, str]
"""A column as Parquet stores it: its number, and its path in the schema."""


def leaves(table: Any, column: str, cells: ImageCells) -> tuple[Leaf, Leaf | None]:  # noqa: ANN401 - pyarrow has no types
    """Where the bytes of the images are, and where their names are."""
    found = [(at, table.schema.column(at).path) for at in range(len(table.schema.names))]
    own = [leaf for leaf in found if leaf[1] == column or leaf[1].startswith(f"{column}.")]
    data = next(leaf for leaf in own if cells.bytes is None or leaf[1].endswith(f".{cells.bytes}"))
    return data, next((leaf for leaf in own if cells.path and leaf[1].endswith(f".{cells.path}")), None)


class EmbeddedColumn:
    """Reads on from the image that was asked for last; goes back to the beginning of a row group where it has to.

    Threads may share it. It holds a batch of rows, and of those before it what was read and not asked for.
    """

    def __init__(self, path: str, column: str, cells: ImageCells, name: str) -> None:
        """`name` is that of the file for people. Raises what pyarrow raises."""
        self.path = path
        self._name = name.rpartition("/")[2]
        self._cells = cells
        self._steady = SteadyFile(path)
        self._table = pq.ParquetFile(path, buffer_size=1 << 16, pre_buffer=False)
        self._widths = RowWidths(path, self._table)
        self._leaf = leaves(self._table, column, cells)[0]
        groups = [self._table.metadata.row_group(at) for at in range(self._table.num_row_groups)]
        self._ends = list(accumulate(group.num_rows for group in groups))
        self._lock = Lock()
        self._batches: Iterator[Any] = iter(())
        self._group = -1
        self._next = self._needed_from = 0
        """The row, from 0, that the next batch begins with, and the first that may be needed."""
        self._held: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._held_bytes = 0
        self._damages: dict[int, tuple[int, str]] = {}
        """By row group: the first row that cannot be read, and why."""

    def name_of(self, row: int, place: int) -> str:
        """What an image without a name is called; rows count from 1."""
        return f"{self._name}#{row}/{place}" if self._cells.is_list else f"{self._name}#{row}"

    def read(self, row: int, place: int) -> bytes:
        """The bytes of an image; `row` counts from 1. Raises ValueError where they cannot be read."""
        with self._lock:
            wanted = row - 1, place
            if wanted not in self._held:
                self._go_to(row - 1)
                while wanted not in self._held and self._read_on(row - 1):
                    pass
            data = self._held.pop(wanted, None)
            if data is None:
                raise ValueError(f"row {row:,} of its file has no such image any more")
            self._held_bytes -= len(data)
            return data

    def _go_to(self, row: int) -> None:
        group = bisect_right(self._ends, row)
        if group == len(self._ends):
            return
        if group in self._damages and row >= self._damages[group][0]:
            raise ValueError(self._damages[group][1])
        if group == self._group + 1:
            self._finish_group(row)
        if group != self._group or row < self._next:
            self._needed_from = row - _NEIGHBOURS
            chunk = self._table.metadata.row_group(group)
            average = chunk.column(self._leaf[0]).total_uncompressed_size // max(1, chunk.num_rows)
            rows = max(1, min(_MOST_ROWS, _BATCH_BYTES // max(1, average)))
            rows = self._widths.rows(group, [self._leaf[1]], rows, _BATCH_BYTES)
            self._group, self._next = group, self._ends[group] - chunk.num_rows
            self._batches = self._table.iter_batches(
                rows, row_groups=[group], columns=[self._leaf[1]], use_threads=False
            )

    def _finish_group(self, wanted: int) -> None:
        """Hold the last rows of a row group before going on to the next: other threads may ask for them yet."""
        if self._group >= 0 and self._ends[self._group] - self._next <= _NEIGHBOURS:
            with suppress(ValueError):
                while self._read_on(wanted):
                    pass

    def _read_on(self, wanted: int) -> bool:
        """Hold the next batch; False at the end of the row group. Raises ValueError where it is damaged."""
        try:
            batch = next(self._batches, None)
            self._steady.check()
        except (pa.ArrowException, OSError) as error:
            self._steady.check()
            what = f"its Parquet file is damaged from row {self._next + 1:,} on: {first_line(error)}"
            self._damages[self._group] = self._next, what
            self._group = -1
            raise ValueError(what) from None
        if batch is None:
            self._group = -1
            return False
        column = batch.column(0)
        images = iter(self._cells.data(self._cells.flat(column)))
        counts = column.value_lengths().to_pylist() if self._cells.is_list else [1] * len(column)
        for row, count in enumerate(counts, self._next):
            for place in range(count or 0):
                data = next(images)
                if row >= self._needed_from and data.is_valid:
                    self._hold((row, place), data.as_py(), wanted)
        self._next += len(column)
        return True

    def _hold(self, image: tuple[int, int], data: bytes, wanted: int) -> None:
        self._held_bytes += len(data) - len(self._held.pop(image, b""))
        self._held[image] = data
        while self._held_bytes > _HELD_BYTES and next(iter(self._held))[0] != wanted:
            _, dropped = self._held.popitem(last=False)
            self._held_bytes -= len(dropped)
