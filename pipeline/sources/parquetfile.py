"""Parquet files: manifests, and images inside of them.

The bytes of images are no part of a pass over the rows: they are read when an image's turn comes (`embedded.py`), as
long as the file's statistics say that no row lacks them. A resume so reads no image that has its row already.
"""

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.sources.embedded import EmbeddedColumn
from pipeline.sources.extras import safe_size
from pipeline.sources.manifest import BadRow, Row
from pipeline.sources.rowgroups import RowGroups
from pipeline.sources.tables import ImageCells, columns_of, divided, first_line, holds_bytes, is_valid, rows_of
from pipeline.sources.widths import RowWidths, WideRowError


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
    reading = RowGroups(table, RowWidths(file, table), columns, cells, images)
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


def _embedded(file: BinaryIO, name: str, image: str, cells: ImageCells) -> EmbeddedColumn:
    path = getattr(file, "name", None)
    if not isinstance(path, str):
        raise InputError(f"{name}: images inside of a Parquet file are read from this machine only; download it")
    return EmbeddedColumn(path, image, cells, name)
