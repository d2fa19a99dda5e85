"""Arrow files: what `datasets.save_to_disk` writes, and every other stream or file of record batches.

The file is mapped: a pass over the rows reads no image, whose bytes are later read where they lie.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import pyarrow as pa

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.files import SteadyFile
from pipeline.sources.extras import safe_size
from pipeline.sources.manifest import BadRow, Row
from pipeline.sources.mapped import MappedImages
from pipeline.sources.tables import columns_of, divided, first_line, holds_bytes, is_valid, rows_of

_ROWS: Final = 1024
_FILE: Final = b"ARROW1"


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
                        column, before + 1, MappedImages.of(steady, mapped, column, cells, name), is_whole=True
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
