"""Parquet manifests, read in small batches."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.sources.columns import IMAGE_COLUMNS, Columns, choose_columns
from pipeline.sources.extras import BYTES_LIMIT, safe_size, to_json
from pipeline.sources.manifest import ABSENT, BadRow, Row
from pipeline.sources.naming import shown

_BATCH_ROWS, _BATCH_BYTES = 1024, 8 << 20
_BATCH_ROWS_WITH_BYTES = 64
"""Where a column may hold whole files."""

_LARGEST_WHOLE = 2**53
"""Up to here every whole number is a float of its own."""

_UNDECODABLE = object()
_NOT_OF_PYTHON = (ValueError, OverflowError, KeyError)
"""What pyarrow raises for text that is not UTF-8, times beyond the years 1 to 9999, and zones that are not known."""


def read_parquet(file: BinaryIO, name: str, config: SourceConfig, *, extras: bool) -> Iterator[Row | BadRow]:
    """Rows count from 1. The image's column holds text; images inside the file are not read yet.

    Every column is read in every pass, so that what is damaged is found before anything is sent.
    """
    try:
        table = pq.ParquetFile(file, buffer_size=1 << 16, pre_buffer=False)
        schema = table.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name}: not a Parquet file, or cut short: {_first_line(error)}") from None
    twice = next((column for column, count in Counter(schema.names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{name}: the column {shown(twice)!r} stands twice; rename one")
    columns = choose_columns(schema.names, config, name)
    _require_text(schema, columns, name)
    # Without `extras` the others are read for their size alone, and where their text is damaged; binary ones never
    # count (`BYTES_LIMIT`).
    used = (columns.image, columns.id)
    wanted = [field.name for field in schema if extras or field.name in used or not _is_bytes(field.type)]
    has_bytes = any(_is_bytes(schema.field(column).type) for column in wanted)
    rows = _BATCH_ROWS_WITH_BYTES if has_bytes else _BATCH_ROWS
    safe = -1 if extras else safe_size(config, schema.names)
    before = 0
    try:
        for batch in _batches(table, wanted, rows):
            for some in _divided(batch, safe):
                is_whole = some.nbytes > safe or not _is_valid(some)
                yield from _rows(some, columns, before + 1, extras=is_whole)
                before += some.num_rows
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name}: damaged after row {before}: {_first_line(error)}") from None


def _is_valid(batch: Any) -> bool:  # noqa: ANN401 - pyarrow has no types
    """Whether all text is UTF-8."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _batches(table: Any, wanted: list[str], most: int) -> Iterator[Any]:  # noqa: ANN401 - as above
    """Some rows at a time, by what those of their row group take."""
    for group in range(table.num_row_groups):
        found = table.metadata.row_group(group)
        rows = max(1, min(most, found.num_rows * _BATCH_BYTES // max(1, found.total_byte_size)))
        yield from table.iter_batches(rows, row_groups=[group], columns=wanted, use_threads=False)


def _divided(batch: Any, safe: int) -> Iterator[Any]:  # noqa: ANN401 - as above
    """The same rows, those apart that may hold too much in their other columns; all together where `safe` is -1."""
    if safe < 0 or batch.nbytes <= safe or batch.num_rows == 1:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _divided(batch.slice(0, half), safe)
    yield from _divided(batch.slice(half), safe)


def _rows(batch: Any, columns: Columns, first: int, *, extras: bool) -> Iterator[Row | BadRow]:  # noqa: ANN401 - as above
    if not extras:
        batch = batch.select([column for column in (columns.image, columns.id) if column])
    cells = {column: _cells(batch.column(column)) for column in batch.schema.names}
    images = cells.pop(columns.image)
    given = [_whole(value) for value in cells.pop(columns.id)] if columns.id in cells else [ABSENT] * batch.num_rows
    others = zip(*cells.values(), strict=True) if cells else iter([()] * batch.num_rows)
    for number, (image, record_id, values) in enumerate(zip(images, given, others, strict=True), first):
        if image is _UNDECODABLE or record_id is _UNDECODABLE or _UNDECODABLE in values:
            yield BadRow(number, "text that is not UTF-8")
            continue
        extra = {column: value for column, value in zip(cells, values, strict=True) if not _is_long(value)}
        yield number, image, record_id, to_json(extra)


def _whole(value: object) -> object:
    """An id without its fraction of nought: one missing value turns a column of numbers into fractions in pandas."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_WHOLE
    return int(value) if is_whole else value  # type: ignore[call-overload]  # a float, as just seen


def _cells(column: Any) -> list[Any]:  # noqa: ANN401 - as above
    kind = column.type
    if (pa.types.is_timestamp(kind) or pa.types.is_duration(kind)) and kind.unit == "ns":
        # Nanoseconds would come as pandas objects, and pandas is slow to import.
        unit = pa.timestamp("us", kind.tz) if pa.types.is_timestamp(kind) else pa.duration("us")
        column = column.cast(unit, safe=False)
    try:
        return column.to_pylist()  # type: ignore[no-any-return]  # pyarrow has no types
    except _NOT_OF_PYTHON:
        return [_cell(value) for value in (column.dictionary_decode() if pa.types.is_dictionary(kind) else column)]


def _cell(value: Any) -> object:  # noqa: ANN401 - as above
    """A value; as text where it is a time beyond Python's range, or of a zone that is not known here."""
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return _UNDECODABLE
    except _NOT_OF_PYTHON:
        return _beyond_python(value)


def _beyond_python(value: Any) -> object:  # noqa: ANN401 - as above
    kind = value.type
    if pa.types.is_struct(kind):
        cells = [_cell(value[at]) for at in range(kind.num_fields)]
        return _whole_or(dict(zip((kind.field(at).name for at in range(kind.num_fields)), cells, strict=True)), cells)
    if pa.types.is_nested(kind):
        cells = [_cell(one) for one in value.values]
        return _whole_or(cells, cells)
    try:
        text = value.cast(pa.string()).as_py()
    except pa.ArrowException:
        text = "<"
    return str(value.value) if text.startswith("<") else text


def _whole_or(value: object, cells: list[object]) -> object:
    return _UNDECODABLE if any(cell is _UNDECODABLE for cell in cells) else value


def _require_text(schema: Any, columns: Columns, name: str) -> None:  # noqa: ANN401 - as above
    kind = schema.field(columns.image).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
        if pa.types.is_struct(kind) and kind.get_field_index("image") >= 0:
            kind = kind.field("image").type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return
    others = [column for column in schema.names if column != columns.image and column.lower() in IMAGE_COLUMNS]
    way_out = f"; to read {others[0]!r} instead: `source.image_column={others[0]}`" if others else ""
    if pa.types.is_struct(kind) or _is_bytes(kind):
        raise InputError(
            f"{name}: the column {columns.image!r} holds the images themselves ({kind}), "
            f"and embedded images are not read yet in this version{way_out}"
        )
    raise InputError(f"{name}: the column {columns.image!r} holds {kind}, not paths or addresses{way_out}")


def _is_bytes(kind: Any) -> bool:  # noqa: ANN401 - as above
    if pa.types.is_nested(kind):
        return any(_is_bytes(kind.field(index).type) for index in range(kind.num_fields))
    return any(
        test(kind)
        for test in (
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
            pa.types.is_fixed_size_binary,
        )
    )


def _is_long(value: object) -> bool:
    return isinstance(value, bytes) and len(value) > BYTES_LIMIT


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
