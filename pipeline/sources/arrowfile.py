"""Arrow files: what `datasets.save_to_disk` writes, and every other stream or file of record batches.

The file is mapped: a pass over the rows reads no image, whose bytes are later read where they lie.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.files import SteadyFile
from pipeline.locations import EmbeddedImage
from pipeline.sources.extras import safe_size
from pipeline.sources.manifest import BadRow, Row
from pipeline.sources.naming import public_image, shown
from pipeline.sources.tables import ImageCells, columns_of, divided, first_line, holds_bytes, is_valid, rows_of

_ROWS: Final = 1024
_FILE: Final = b"ARROW1"
_STATE, _SPLITS = "state.json", "dataset_dict.json"


def dataset_files(folder: Path) -> list[str] | None:
    """The Arrow files of a dataset on disk, below its folder; None where the folder is none.

    Raises InputError where one of its descriptions cannot be read.
    """
    if (folder / _SPLITS).is_file():
        splits = _described(folder / _SPLITS, "splits")
        return [f"{split}/{name}" for split in splits for name in dataset_files(folder / split) or ()]
    if not (folder / _STATE).is_file():
        return None
    return [str(one["filename"]) for one in _described(folder / _STATE, "_data_files")]


def _described(path: Path, key: str) -> list[Any]:
    try:
        found = json.loads(path.read_bytes())[key]
        if isinstance(found, list) and found:
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{shown(str(path))}: describes no dataset that `datasets` has saved; save it again")


def read_arrow(file: BinaryIO, name: str, config: SourceConfig, *, extras: bool) -> Iterator[Row | BadRow]:
    """Rows count from 1, and are read as those of a Parquet file are."""
    path = getattr(file, "name", None)
    if not isinstance(path, str):
        raise InputError(f"{name}: Arrow files are read from this machine only; download it")
    try:
        steady = SteadyFile(path)
        mapped = pa.memory_map(path).read_buffer()
        steady.check()
        batches, schema = batches_of(mapped)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name}: not an Arrow file, or cut short: {first_line(error)}") from None
    columns, cells = columns_of(schema, config, name)
    safe = -1 if extras else safe_size(config, schema.names)
    before = 0
    try:
        for batch in batches:
            for at in range(0, batch.num_rows, _ROWS):
                part = batch.slice(at, _ROWS)
                images = None
                if cells is not None:
                    column = part.column(columns.image)
                    images = cells.read(
                        column, before + 1, _Mapped.of(steady, mapped, column, cells, name), is_whole=True
                    )
                keep = [field.name for field in schema if _is_wanted(field, columns.image, columns.id, extras=extras)]
                keep = [one for one in keep if one != columns.image or cells is None]
                yield from _rows(part.select(keep), images, columns, before + 1, safe)
                before += part.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name}: damaged after row {before}: {first_line(error)}") from None


def _rows(batch: Any, images: list[Any] | None, columns: Any, first: int, safe: int) -> Iterator[Row | BadRow]:  # noqa: ANN401 - pyarrow has no types
    for some in divided(batch, safe):
        is_whole = some.nbytes > safe or not is_valid(some)
        own = None if images is None else images[: some.num_rows]
        yield from rows_of(some, columns, first, own, extras=is_whole)
        first += some.num_rows
        images = None if images is None else images[some.num_rows :]


def _is_wanted(field: Any, image: str, record_id: str | None, *, extras: bool) -> bool:  # noqa: ANN401 - as above
    return field.name in {image, record_id} or extras or not holds_bytes(field.type)


def batches_of(mapped: Any) -> tuple[Iterator[Any], Any]:  # noqa: ANN401 - as above
    """The record batches, without a copy, and their schema."""
    if mapped[: len(_FILE)].to_pybytes() == _FILE:
        table = pa.ipc.open_file(mapped)
        return (table.get_batch(at) for at in range(table.num_record_batches)), table.schema
    stream = pa.ipc.open_stream(mapped)
    return iter(stream), stream.schema


@dataclass(frozen=True, slots=True)
class _Mapped:
    """Where the images of one batch lie in the file."""

    file: SteadyFile
    name: str
    """Of the file, for people."""
    is_list: bool
    at: list[int]
    sizes: list[int]

    @classmethod
    def of(cls, steady: SteadyFile, mapped: Any, column: Any, cells: ImageCells, name: str) -> "_Mapped":  # noqa: ANN401 - as above
        """Raises InputError where they do not lie there as they are."""
        data = cells.data(cells.flat(column))
        file = name.rpartition("/")[2]
        width = {pa.binary(): np.int32, pa.large_binary(): np.int64}.get(data.type)
        _, offsets, values = (*data.buffers(), None)[:3]
        if not len(data) or not values:  # no row, or none with bytes
            return cls(steady, file, cells.is_list, [0] * len(data), [0] * len(data))
        start = values.address - mapped.address
        if width is None or not 0 <= start <= mapped.size:
            raise InputError(
                f"{name}: its images are packed, or are {data.type}; save the dataset with `datasets`, or as Parquet"
            )
        found = np.frombuffer(offsets, width)[data.offset : data.offset + len(data) + 1].astype(np.int64)
        return cls(steady, file, cells.is_list, (found[:-1] + start).tolist(), np.diff(found).tolist())

    def __call__(self, row: int, place: int, index: int, name: str | None) -> EmbeddedImage:
        file = f"{self.name}#{row}"
        shows = shown(public_image(name)) if name else f"{file}/{place}" if self.is_list else file
        at, size = self.at[index], self.sizes[index]
        return EmbeddedImage(shows, self.file.path, partial(self.file.part, at, size), size)
