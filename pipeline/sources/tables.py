"""What Parquet and Arrow files have in common: batches of columns become rows of a manifest."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.locations import EmbeddedImage
from pipeline.sources.columns import IMAGE_COLUMNS, Columns, choose_columns
from pipeline.sources.extras import BYTES_LIMIT, to_json
from pipeline.sources.manifest import ABSENT, BadRow, Row
from pipeline.sources.naming import shown

_IMG2DATASET: Final = ("jpg", "webp", "png", "jpeg", "avif")
"""Columns of image files, named by their format as img2dataset does; beside them stands the address of each."""
_LARGEST_WHOLE: Final = 2**53
"""Up to here every whole number is a float of its own."""
_UNDECODABLE: Final = object()
_NOT_OF_PYTHON = (ValueError, OverflowError, KeyError)
"""What pyarrow raises for text that is not UTF-8, times beyond the years 1 to 9999, and zones that are not known."""

Embed = Callable[[int, int, int, str | None], EmbeddedImage]
"""Called with the row, the image's place in it, its place among all images of the batch, and its name."""


@dataclass(frozen=True, slots=True)
class ImageCells:
    """How a column holds images themselves."""

    is_list: bool
    bytes: str | None
    """The field of a struct with the bytes; None where a cell is the bytes."""
    path: str | None
    """The field of that struct with a name, or with a path where it has no bytes."""

    def flat(self, column: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
        """All images of a column, one after the other."""
        return column.flatten() if self.is_list else column

    def data(self, flat: Any) -> Any:  # noqa: ANN401 - as above
        """Their bytes."""
        return flat if self.bytes is None else pc.struct_field(flat, self.bytes)

    def read(self, column: Any, first: int, embed: Embed, *, is_whole: bool) -> list[Any]:  # noqa: ANN401 - as above
        """A cell a row: an image, or a path where there are no bytes, or a list of these. Rows count from `first`.

        Where not `is_whole` the column has come without the bytes, which no row lacks.
        """
        flat = self.flat(column)
        has_bytes = self.data(flat).is_valid().to_pylist() if is_whole else [True] * len(flat)
        has_path = self.path is not None and flat.type.get_field_index(self.path) >= 0
        names = cells_of(pc.struct_field(flat, self.path)) if has_path else [None] * len(flat)
        counts = column.value_lengths().to_pylist() if self.is_list else [1] * len(column)
        found: list[Any] = []
        at = 0
        for row, count in enumerate(counts, first):
            images = [
                embed(row, place, at + place, name if isinstance(name, str) else None) if has else name
                for place, (has, name) in enumerate(
                    zip(has_bytes[at : at + (count or 0)], names[at : at + (count or 0)], strict=True)
                )
            ]
            found.append(None if count is None else images if self.is_list else images[0])
            at += count or 0
        return found


def image_cells(kind: Any) -> ImageCells | None:  # noqa: ANN401 - as above
    """How a column of this type holds images; None where it is another one."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if is_list:
        kind = kind.value_type
    if is_binary(kind):
        return ImageCells(is_list, None, None)
    if not pa.types.is_struct(kind):
        return None
    names = {kind.field(at).name: kind.field(at).type for at in range(kind.num_fields)}
    if "bytes" not in names or not is_binary(names["bytes"]):
        return None
    return ImageCells(is_list, "bytes", "path" if is_text(names.get("path")) else None)


def columns_of(schema: Any, config: SourceConfig, name: str) -> tuple[Columns, ImageCells | None]:  # noqa: ANN401 - as above
    """The columns of images and ids, and how the first holds images; None: it names them.

    Raises InputError for a column that holds neither.
    """
    twice = next((column for column, count in Counter(schema.names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{name}: the column {shown(twice)!r} stands twice; rename one")
    if config.image_column is None and (found := _column_of_images(schema)) is not None:
        config = config.model_copy(update={"image_column": found})
    columns = choose_columns(schema.names, config, name)
    kind = schema.field(columns.image).type
    cells = image_cells(kind)
    if cells is None and not _names_images(kind):
        others = [column for column in schema.names if column != columns.image and column.lower() in IMAGE_COLUMNS]
        way_out = f"; to read {others[0]!r} instead: `source.image_column={others[0]}`" if others else ""
        held = "not paths, addresses or images"
        raise InputError(f"{name}: the column {columns.image!r} holds {kind}, {held}{way_out}")
    return columns, cells


def _column_of_images(schema: Any) -> str | None:  # noqa: ANN401 - as above
    """A column that is named by a format, or the only one of Hugging Face's type where no usual name is there."""
    for column in _IMG2DATASET:
        at = schema.get_field_index(column)
        if at >= 0 and is_binary(schema.field(at).type):
            return column
    if any(column.lower() in IMAGE_COLUMNS for column in schema.names):
        return None
    found = [field.name for field in schema if (cells := image_cells(field.type)) is not None and cells.bytes]
    return found[0] if len(found) == 1 else None


def _names_images(kind: Any) -> bool:  # noqa: ANN401 - as above
    """Whether it is text, or a list of texts, or of objects with a text `image`."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
        if pa.types.is_struct(kind) and kind.get_field_index("image") >= 0:
            kind = kind.field("image").type
    return is_text(kind)


def rows_of(
    batch: Any,  # noqa: ANN401 - as above
    columns: Columns,
    first: int,
    images: list[Any] | None,
    *,
    extras: bool,
) -> Iterator[Row | BadRow]:
    """The rows of a batch, which count from `first`. `images` are their cells where the column holds images."""
    own = [columns.image] if images is None else []
    used = [column for column in (*own, columns.id) if column]
    others = [column for column in batch.schema.names if column not in {columns.image, columns.id}] if extras else []
    cells = {column: cells_of(batch.column(column)) for column in (*used, *others)}
    found = cells.pop(columns.image) if images is None else images
    given = [_whole(value) for value in cells.pop(columns.id)] if columns.id in cells else [ABSENT] * batch.num_rows
    rest = zip(*cells.values(), strict=True) if cells else iter([()] * batch.num_rows)
    for number, (image, record_id, values) in enumerate(zip(found, given, rest, strict=True), first):
        if image is _UNDECODABLE or record_id is _UNDECODABLE or _UNDECODABLE in values:
            yield BadRow(number, "text that is not UTF-8")
            continue
        extra = {column: value for column, value in zip(cells, values, strict=True) if not _is_long(value)}
        if extras and columns.id is not None and type(record_id) is int:  # `id` is text, and would join with no number
            extra[columns.id] = record_id
        yield number, image, record_id, to_json(extra)


def divided(batch: Any, safe: int) -> Iterator[Any]:  # noqa: ANN401 - as above
    """The same rows, those apart that may hold too much in their other columns; all together where `safe` is -1."""
    if safe < 0 or batch.nbytes <= safe or batch.num_rows == 1:
        yield batch
        return
    half = batch.num_rows // 2
    yield from divided(batch.slice(0, half), safe)
    yield from divided(batch.slice(half), safe)


def is_valid(batch: Any) -> bool:  # noqa: ANN401 - as above
    """Whether all text is UTF-8."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def is_text(kind: Any) -> bool:  # noqa: ANN401 - as above
    """Whether a type is text, or a dictionary of texts; None is none."""
    if kind is not None and pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind is not None and (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def is_binary(kind: Any) -> bool:  # noqa: ANN401 - as above
    """Whether a type is bytes of any length."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def holds_bytes(kind: Any) -> bool:  # noqa: ANN401 - as above
    """Whether there are bytes in a type, at any depth."""
    if pa.types.is_nested(kind):
        return any(holds_bytes(kind.field(index).type) for index in range(kind.num_fields))
    return is_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _whole(value: object) -> object:
    """An id without its fraction of nought: one missing value turns a column of numbers into fractions in pandas."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_WHOLE
    return int(value) if is_whole else value  # type: ignore[call-overload]  # a float, as just seen


def cells_of(column: Any) -> list[Any]:  # noqa: ANN401 - as above
    """The values of a column; `_UNDECODABLE` stands for text that is not UTF-8."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        # One object for each value: rows that share a large one take its memory once.
        values = [*cells_of(column.dictionary), None]
        return [values[at] for at in column.indices.fill_null(len(values) - 1).to_pylist()]
    if (pa.types.is_timestamp(kind) or pa.types.is_duration(kind)) and kind.unit == "ns":
        # Nanoseconds would come as pandas objects, and pandas is slow to import.
        unit = pa.timestamp("us", kind.tz) if pa.types.is_timestamp(kind) else pa.duration("us")
        column = column.cast(unit, safe=False)
    try:
        return column.to_pylist()  # type: ignore[no-any-return]  # pyarrow has no types
    except _NOT_OF_PYTHON:
        return [_cell(value) for value in column]


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


def _is_long(value: object) -> bool:
    return isinstance(value, bytes) and len(value) > BYTES_LIMIT


def first_line(error: BaseException) -> str:
    """Arrow's messages go on for several lines."""
    return str(error).partition("\n")[0]
