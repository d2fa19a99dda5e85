"""The images of one Parquet or Arrow file by the names that a run gives them: `train.parquet#12`, or their own."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.sections import SourceConfig
from pipeline.files import SteadyFile
from pipeline.locations import EmbeddedImage, Location
from pipeline.sources.arrowfile import batches_of
from pipeline.sources.embedded import EmbeddedColumn, leaves
from pipeline.sources.naming import public_image, shown
from pipeline.sources.tables import ImageCells, columns_of

_NUMBERED: Final = re.compile(r"(.*)#(\d+)(?:/(\d+))?", re.DOTALL)


def numbered_row(name: str) -> tuple[str, int, int] | None:
    """File, row (from 1) and place of an image without a name of its own: `train.parquet#12`, `train.parquet#12/0`."""
    found = _NUMBERED.fullmatch(name)
    return None if found is None else (found[1].rpartition("/")[2], int(found[2]), int(found[3] or 0))


class Table:
    """A file that holds images."""

    def __init__(self, path: str, config: SourceConfig) -> None:
        """Raises OSError, InputError, and what pyarrow raises, for a file that holds no images."""
        self._path = path
        self._table = _Parquet(path, config) if path.lower().endswith(".parquet") else _Arrow(path, config)

    def image(self, name: str, row: int, place: int) -> Location:
        """One image; it is read when its bytes are asked for."""
        return EmbeddedImage(name, self._path, partial(self._table.read, row, place))

    def names(self) -> Iterator[tuple[int, int, str]]:
        """Row, place and name of each image that has one, as a run shows them."""
        for row, place, text in self._table.names():
            yield row, place, shown(public_image(text))


class _Parquet:
    def __init__(self, path: str, config: SourceConfig) -> None:
        self._file = pq.ParquetFile(path, pre_buffer=False)
        columns, cells = columns_of(self._file.schema_arrow, config, path)
        self._column, self._cells = columns.image, _checked(cells)
        self._images = EmbeddedColumn(path, columns.image, self._cells, path)

    def read(self, row: int, place: int) -> bytes:
        return self._images.read(row, place)

    def names(self) -> Iterator[tuple[int, int, str]]:
        """Row (from 1), place and text of each image that has a name of its own."""
        named = leaves(self._file, self._column, self._cells)[1]
        if named is None:
            return
        first = 1
        for batch in self._file.iter_batches(columns=[named[1]], use_threads=False):
            yield from _names(batch.column(0), self._cells, first)
            first += batch.num_rows


class _Arrow:
    def __init__(self, path: str, config: SourceConfig) -> None:
        self._steady = SteadyFile(path)
        mapped = pa.memory_map(path).read_buffer()
        self._steady.check()
        batches, schema = batches_of(mapped)
        columns, cells = columns_of(schema, config, path)
        self._cells = _checked(cells)
        self._images = pa.Table.from_batches(batches, schema).column(columns.image)

    def read(self, row: int, place: int) -> bytes:
        """Raises ValueError where the file has changed, or holds no such image."""
        self._steady.check()
        if not 0 < row <= len(self._images):
            raise ValueError("there is no such row")
        cell = self._images.slice(row - 1, 1).combine_chunks()
        flat = self._cells.data(self._cells.flat(cell))
        data = flat[place].as_py() if place < len(flat) else None
        if not isinstance(data, bytes):
            raise ValueError("the row holds no image")  # noqa: TRY004 - of the file, not of the caller
        return data

    def names(self) -> Iterator[tuple[int, int, str]]:
        first = 1
        for chunk in self._images.chunks:
            yield from _names(chunk, self._cells, first)
            first += len(chunk)


def _names(column: Any, cells: ImageCells, first: int) -> Iterator[tuple[int, int, str]]:  # noqa: ANN401 - pyarrow has no types
    if cells.path is None:
        return
    flat = cells.flat(column)
    texts = iter(flat.field(cells.path).to_pylist())
    counts = column.value_lengths().to_pylist() if cells.is_list else [1] * len(column)
    for row, count in enumerate(counts, first):
        for place in range(count or 0):
            text = next(texts)
            if isinstance(text, str):
                yield row, place, text


def _checked(cells: ImageCells | None) -> ImageCells:
    if cells is None:
        raise ValueError("it names images, and holds none")
    return cells
