"""The registry of export formats, one file a format.

To add a format, write its file and register it in `EXPORTERS`; docs/extending.md shows it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.export.batchfile import export_batch
from pipeline.export.csvfile import export_csv
from pipeline.export.hf import export_hf
from pipeline.export.imagefolder import export_imagefolder
from pipeline.export.jsonl import export_jsonl
from pipeline.export.parquetfile import export_parquet
from pipeline.export.rows import Rows
from pipeline.export.shard_tables import export_beside_shards
from pipeline.export.texts import export_texts, export_texts_beside
from pipeline.export.webdataset import export_webdataset


class Exporter(Protocol):
    """Writes rows in one format."""

    def __call__(self, rows: Rows, dest: Path, /) -> int:
        """Write all rows to `dest`. Returns their number.

        `rows` are batches, which are bounded, and read while they are written: an exporter holds one at a time in
        memory. A file is there whole or not at all. Raises OSError where the disk does not allow it.
        """


@dataclass(frozen=True, slots=True)
class Format:
    """One format of exports."""

    write: Exporter
    takes: frozenset[str] = frozenset({"columns"})
    """Options of its own (`ExportChoices`)."""
    is_folder: bool = False
    """Whether DEST is a folder."""
    has_images: bool = False
    """Whether it holds images, so that no run should read them as new ones."""
    one_prompt: bool = False
    """Whether an image has one text there, so that rows of several prompts need a choice."""
    beside: Callable[[Rows], int] | None = None
    """What is done without a DEST; None: one is needed."""


EXPORTERS: Mapping[str, Format] = {
    "txt": Format(
        export_texts,
        frozenset({"template", "relative_to", "images", "if_exists", "caption_extension"}),
        is_folder=True,
        one_prompt=True,
        beside=export_texts_beside,
    ),
    "imagefolder": Format(
        export_imagefolder,
        frozenset({"columns", "template", "relative_to", "images", "caption_column"}),
        is_folder=True,
        has_images=True,
        one_prompt=True,
    ),
    "hf": Format(
        export_hf,
        frozenset({"columns", "template", "images", "caption_column"}),
        is_folder=True,
        has_images=True,
        one_prompt=True,
    ),
    "webdataset": Format(
        export_webdataset,
        frozenset({"columns", "template", "images", "caption_column"}),
        is_folder=True,
        has_images=True,
        one_prompt=True,
        beside=export_beside_shards,
    ),
    "jsonl": Format(export_jsonl),
    "csv": Format(export_csv),
    "parquet": Format(export_parquet),
    "openai-batch": Format(export_batch, frozenset()),
}
"""Each format by its name."""
