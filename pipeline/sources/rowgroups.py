"""The row groups of a Parquet file, some rows at a time: what of their images is read with them, and what later."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pipeline.locations import EmbeddedImage
from pipeline.sources.columns import Columns
from pipeline.sources.embedded import EmbeddedColumn, leaves
from pipeline.sources.naming import public_image, shown
from pipeline.sources.tables import ImageCells, holds_bytes
from pipeline.sources.widths import RowWidths

_BATCH_ROWS, _BATCH_BYTES = 1024, 8 << 20
_BATCH_ROWS_WITH_BYTES: Final = 64
"""Where a column may hold whole files."""


@dataclass(frozen=True, slots=True)
class RowGroups:
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


def _is_within(leaf: str, names: list[str]) -> bool:
    """Whether a leaf of the schema belongs to one of these columns."""
    return any(leaf == name or leaf.startswith(f"{name}.") for name in names)
