"""Parquet files: manifests, and images inside of them.

The bytes of images are no part of a pass over the rows: they are read when an image's turn comes (`embedded.py`), as
long as the file's statistics say that no row lacks them. A resume so reads no image that has its row already.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.locations import EmbeddedImage
from pipeline.sources.columns import Columns
from pipeline.sources.embedded import EmbeddedColumn, leaves
from pipeline.sources.extras import safe_size
from pipeline.sources.manifest import BadRow, Row
from pipeline.sources.naming import public_image, shown
from pipeline.sources.tables import ImageCells, columns_of, divided, first_line, holds_bytes, is_valid, rows_of
from pipeline.sources.widths import RowWidths, WideRowError

_BATCH_ROWS, _BATCH_BYTES = 1024, 8 << 20
_BATCH_ROWS_WITH_BYTES: Final = 64
"""Where a column may hold whole files."""


def read_parquet(file: BinaryIO, name: str, config: SourceConfig, *, extras: bool) -> Iterator[Row | BadRow]:
    """Rows count from 1. The image's column holds text, or the images themselves.

    Every other column is read in every pass, so that what is damaged is found before anything is sent.
    """
    try:
        table = pq.ParquetFile(file, buffer_size=1 << 16, pre_buffer=False)
        schema = table.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name}: not a Parquet file, or cut short: {first_line(error)}") from None
    columns, cells = columns_of(schema, config, name)
    images = None if cells is None else _embedded(file, name, columns.image, cells)
    reading = _Reading(table, RowWidths(file, table), columns, cells, images)
    # Without `extras` the others are read for their size alone, and where their text is damaged; binary ones never
    # count (`BYTES_LIMIT`).
    used = {columns.id} if cells is not None else {columns.image, columns.id}
    others = {columns.image} if cells is not None else set[str]()
    wanted = [
        field.name
        for field in schema
        if field.name in used or (field.name not in others and (extras or not holds_bytes(field.type)))
    ]
    safe = -1 if extras else safe_size(config, schema.names)
    before = 0
    try:
        for batch, is_complete in reading.batches(wanted):
            for some in divided(batch, safe):
                is_whole = some.nbytes > safe or not is_valid(some)
                found = reading.images(some, before + 1, is_complete=is_complete)
                yield from rows_of(some, columns, before + 1, found, extras=is_whole)
                before += some.num_rows
    except WideRowError as error:
        raise InputError(f"{name}: a row after row {before}: {error}; divide it into several rows") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name}: damaged after row {before}: {first_line(error)}") from None


@dataclass(frozen=True, slots=True)
class _Reading:
    """One pass over the rows of a file."""

    table: Any
    widths: RowWidths
    columns: Columns
    cells: ImageCells | None
    embedded: EmbeddedColumn | None

    def batches(self, wanted: list[str]) -> Iterator[tuple[Any, bool]]:
        """Some rows at a time, by what those of their row group take; whether the bytes of images are among them."""
        schema = self.table.schema_arrow
        has_bytes = any(holds_bytes(schema.field(column).type) for column in wanted)
        for group in range(self.table.num_row_groups):
            found = self.table.metadata.row_group(group)
            own, is_complete = self._of_images(group)
            chunks = [found.column(at) for at in range(found.num_columns)]
            names = [*wanted, *own]
            read = [chunk for chunk in chunks if _is_within(chunk.path_in_schema, names)]
            size = sum(chunk.total_uncompressed_size for chunk in read)
            most = _BATCH_ROWS_WITH_BYTES if has_bytes or is_complete else _BATCH_ROWS
            rows = max(1, min(most, found.num_rows * _BATCH_BYTES // max(1, size)))
            rows = self.widths.rows(group, [chunk.path_in_schema for chunk in read], rows, _BATCH_BYTES)
            # No column at all gives rows without any, as many as there are.
            for batch in self.table.iter_batches(rows, row_groups=[group], columns=names, use_threads=False):
                yield batch, is_complete

    def _of_images(self, group: int) -> tuple[list[str], bool]:
        """What of the images' column is read with the rows of a group: names, or all where rows may lack bytes."""
        if self.cells is None or self.embedded is None:
            return [], False
        data, names = leaves(self.table, self.columns.image, self.cells)
        statistics = self.table.metadata.row_group(group).column(data[0]).statistics
        is_known = statistics is not None and statistics.has_null_count and not statistics.null_count
        if not is_known or (self.cells.is_list and not names):
            return [self.columns.image], True
        return ([names[1]] if names else []), False

    def images(self, batch: Any, first: int, *, is_complete: bool) -> list[Any] | None:  # noqa: ANN401 - pyarrow has no types
        """The cells of images; None where the column names them."""
        if self.cells is None or self.embedded is None:
            return None
        embed = partial(_embed, self.embedded)
        at = batch.schema.get_field_index(self.columns.image)
        if at < 0:
            return [embed(row, 0, 0, None) for row in range(first, first + batch.num_rows)]
        return self.cells.read(batch.column(at), first, embed, is_whole=is_complete)


def _embed(column: EmbeddedColumn, row: int, place: int, _: int, name: str | None) -> EmbeddedImage:
    shows = shown(public_image(name)) if name else column.name_of(row, place)
    return EmbeddedImage(shows, column.path, partial(column.read, row, place))


def _embedded(file: BinaryIO, name: str, image: str, cells: ImageCells) -> EmbeddedColumn:
    path = getattr(file, "name", None)
    if not isinstance(path, str):
        raise InputError(f"{name}: images inside of a Parquet file are read from this machine only; download it")
    return EmbeddedColumn(path, image, cells, name)


def _is_within(leaf: str, names: list[str]) -> bool:
    """Whether a leaf of the schema belongs to one of these columns."""
    return any(leaf == name or leaf.startswith(f"{name}.") for name in names)
