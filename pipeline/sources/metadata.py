"""Image folders of Hugging Face: a `metadata.csv`, `.jsonl` or `.parquet` whose rows name the images below it."""

import csv
import os
from collections.abc import Iterator
from typing import Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.records import ImageRecord
from pipeline.sources.columns import ID_COLUMN, file_name_column, listed_columns
from pipeline.sources.formats import FORMATS, Format
from pipeline.sources.lines import opened, raw_lines
from pipeline.sources.manifest import ManifestSource
from pipeline.sources.naming import identify, scheme_of, shown
from pipeline.sources.without_row import plain_path
from pipeline.sources.wrapped import WrappedSource

_DELIMITERS: Final = ",;\t"


class FolderMetadata(WrappedSource):
    """The rows of one metadata file, in its order: a manifest whose paths are relative to the file.

    The id is that of the row, or else the path of its image relative to the source, with the file's folder. Images
    that no row names do not count, as for `datasets`.
    """

    def __init__(self, prefix: str, path: str, config: SourceConfig) -> None:
        """`path` is that of the file below `prefix`, the folder that is the source (with its slash)."""
        self._below = identify(path[: path.rfind("/") + 1])
        whole = prefix + path
        known = FORMATS[os.path.splitext(path)[1]]  # noqa: PTH122 - it is one of three
        names = _column_names(whole, known)
        column = config.image_column or file_name_column(names)
        if column is None:
            raise InputError(
                f"{shown(whole)}: no column 'file_name', which names the images of a folder; columns: "
                f"{listed_columns(names)}. Name the column with `source.image_column=NAME`, or read the folder "
                "without this file: `source.metadata=false`"
            )
        has_ids = config.id_column is not None or any(name.lower() == ID_COLUMN for name in names)
        self._has_ids = has_ids and config.id_column != column
        config = config.model_copy(update={"image_column": column})
        super().__init__(
            ManifestSource(whole, config, known.reader, opened, name=whole, unit=known.unit, blocks=known.blocks)
        )

    def records(self) -> Iterator[ImageRecord]:
        keeps_ids = self._has_ids
        for row in self._source.records():
            name = row.id if keeps_ids else self._relative(row.id)
            yield ImageRecord(name, row.images, row.extra, None, row.image_texts)

    def _relative(self, name: str) -> str:
        if name.startswith("/") or scheme_of(name) is not None:
            return name
        return plain_path(self._below + name)


def _column_names(path: str, known: Format) -> list[str]:
    """The columns of a file, as its first row or its schema has them; none where that cannot be read."""
    label = shown(path)
    with opened(path, label) as file:
        if known is FORMATS[".parquet"]:
            try:
                return list(pq.read_schema(file).names)
            except (pa.ArrowException, OSError):
                raise InputError(f"{label}: not a Parquet file, or cut short") from None
        first = next((line for line in raw_lines(file, label) if line.strip()), b"")
    if known is FORMATS[".csv"]:
        text = first.decode("utf-8", "replace")
        cells = next(csv.reader([text], delimiter=max(_DELIMITERS, key=text.count)), [])
        return [cell.strip() for cell in cells]
    try:
        row = orjson.loads(first)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{label}:1: not valid JSON: {error.msg}") from None
    return list(row) if isinstance(row, dict) else []
