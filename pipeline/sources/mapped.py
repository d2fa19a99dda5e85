"""The images of an Arrow file, read where they lie."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import InputError
from pipeline.files import SteadyFile
from pipeline.locations import EmbeddedImage
from pipeline.sources.naming import public_image, shown
from pipeline.sources.tables import ImageCells


@dataclass(frozen=True, slots=True)
class MappedImages:
    """Where the images of one batch lie in the file."""

    file: SteadyFile
    name: str
    """Of the file, for people."""
    is_list: bool
    at: list[int]
    sizes: list[int]

    @classmethod
    def of(cls, steady: SteadyFile, mapped: Any, column: Any, cells: ImageCells, name: str) -> "MappedImages":  # noqa: ANN401 - pyarrow has no types
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
