"""What the rows of a Parquet file take once they are read.

A value that a dictionary holds once may be in every row, and a path may repeat the one before it: a file of a few
hundred bytes then reads as gigabytes. So the sizes that a row group states bound nothing by themselves.
"""

from functools import cached_property
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

_MOST_BYTES: Final = 256 << 20
"""Of a batch, whatever its values are; a row that takes more is not read."""
_ROWS: Final = 1024
_SCALE: Final = 32
_DELTA: Final = "DELTA_"


class WideRowError(ValueError):
    """A row that takes more than a batch may."""


class RowWidths:
    """How many rows of a row group may be read at a time."""

    def __init__(self, source: str | BinaryIO, table: Any) -> None:  # noqa: ANN401 - pyarrow has no types
        """Of an open Parquet file, and where it lies."""
        self._source, self._table = source, table
        self._found: dict[tuple[int, int, int], int] = {}

    def rows(self, group: int, leaves: list[str], most: int, batch_bytes: int) -> int:
        """`most`, or as many as surely take no more than `batch_bytes`: at least one.

        Raises WideRowError where a single row takes too much, and what pyarrow raises.
        """
        wide = 0
        for at, leaf in self._texts:
            if leaf in leaves:
                known = group, at, most
                if known not in self._found:
                    self._found[known] = self._widest(group, at, most)
                if self._found[known] > _MOST_BYTES:
                    column = leaf.partition(".")[0]
                    raise WideRowError(f"the column {column!r} takes {self._found[known] >> 20:,} MiB in one row")
                wide += self._found[known]
        return most if not wide else max(1, min(most, batch_bytes // wide))

    @cached_property
    def _texts(self) -> list[tuple[int, str]]:
        """The columns whose values have any length, by their numbers."""
        schema = self._table.schema
        found = [schema.column(at) for at in range(len(schema.names))]
        return [(at, leaf.path) for at, leaf in enumerate(found) if leaf.physical_type == "BYTE_ARRAY"]

    @cached_property
    def _as_dictionaries(self) -> Any:  # noqa: ANN401 - as above
        names = [leaf for _, leaf in self._texts]
        return pq.ParquetFile(
            self._source, metadata=self._table.metadata, read_dictionary=names, buffer_size=1 << 16, pre_buffer=False
        )

    def _widest(self, group: int, at: int, rows: int) -> int:
        """Bytes of a column in its widest row; 0 where `rows` of them surely take little enough."""
        chunk = self._table.metadata.row_group(group).column(at)
        leaf = self._table.schema.column(at)
        values = chunk.num_values if leaf.max_repetition_level else min(rows, chunk.num_values)
        if values * chunk.total_uncompressed_size <= _MOST_BYTES:
            return 0
        if any(encoding.startswith(_DELTA) for encoding in chunk.encodings):
            # A value may repeat the one before it: only all of them together bound one. Batches may take more.
            return min(int(chunk.total_uncompressed_size) // _SCALE, _MOST_BYTES)
        largest = self._largest(group, leaf.path)
        if values * largest <= _MOST_BYTES:
            return 0
        return self._exact(group, leaf.path) if leaf.max_repetition_level else largest

    def _largest(self, group: int, leaf: str) -> int:
        """Bytes of the largest value that stands in the dictionary."""
        for batch in self._as_dictionaries.iter_batches(1, row_groups=[group], columns=[leaf], use_threads=False):
            if len(values := _flat(batch.column(0))[0].dictionary):  # there is none before the first value
                return int(_lengths(values).max())
        return 0

    def _exact(self, group: int, leaf: str) -> int:
        batches = self._as_dictionaries.iter_batches(_ROWS, row_groups=[group], columns=[leaf], use_threads=False)
        return max((int(_bytes_of_rows(batch.column(0)).max()) for batch in batches), default=0)


def _flat(column: Any) -> tuple[Any, NDArray[np.int64]]:  # noqa: ANN401 - as above
    """The only leaf of a column, and the row of each of its values."""
    rows = np.arange(len(column))
    while pa.types.is_nested(column.type):
        if pa.types.is_struct(column.type):
            column = pc.struct_field(column, [0])
        else:
            rows = rows[pc.list_parent_indices(column).to_numpy()]
            column = pc.list_flatten(column)
    return column, rows


def _lengths(values: Any) -> NDArray[np.int64]:  # noqa: ANN401 - as above
    return pc.binary_length(values).cast(pa.int64()).fill_null(0).to_numpy()  # type: ignore[no-any-return]


def _bytes_of_rows(column: Any) -> NDArray[np.float64]:  # noqa: ANN401 - as above
    leaf, rows = _flat(column)
    lengths = np.append(_lengths(leaf.dictionary), 0)  # the last one is that of a null
    at = leaf.indices.fill_null(len(lengths) - 1).to_numpy()
    return np.bincount(rows, lengths[at], minlength=len(column)).astype(np.float64)
