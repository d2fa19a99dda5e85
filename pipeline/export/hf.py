"""A dataset of the Hugging Face hub: Parquet with the feature Image, in small row groups, and a dataset card."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import files
from pipeline.export.pairs import Pairs
from pipeline.export.resuming import Image
from pipeline.export.rows import Rows
from pipeline.export.shards import write_shards
from pipeline.formatting import markdown

_GROUP_ROWS, _GROUP_BYTES = 100, 16 << 20
"""What the viewer of the hub, and a reader of a few rows, has to load at a time."""
_FILE_BYTES: Final = 500 << 20
_IMAGE: Final = pa.struct({"bytes": pa.binary(), "path": pa.string()})
_CARD: Final = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
task_categories:
- image-to-text
tags:
- vision-batch
---
# Images and texts

{rows:,} images with texts of a vision model. Made with vision-batch.

{table}
"""


def export_hf(rows: Rows, dest: Path) -> int:
    """Write `data/train-*.parquet`, and the card last."""
    schema = _schema(rows)
    column = rows.options.text_column
    written = write_shards(
        rows, dest, "hf", "data/train-{}.parquet", lambda path, images: _write(path, images, schema, column)
    )
    if not written:
        with files.replaced(dest / "data" / "train-00000.parquet") as file:
            pq.write_table(schema.empty_table(), file)
    lines = ["| column | type |", "|---|---|", *(f"| {markdown(one.name)} | {_kind(one)} |" for one in schema)]
    files.write_atomic(dest / "README.md", _CARD.format(rows=written, table="\n".join(lines)).encode())
    return written


def _kind(field: pa.Field) -> str:
    return "image" if field.type == _IMAGE else markdown(str(field.type))


def _schema(rows: Rows) -> pa.Schema:
    """The image, its text, the id, and the columns that go along."""
    own = [pa.field("image", _IMAGE), pa.field(rows.options.text_column, pa.string()), pa.field("id", pa.string())]
    names = {field.name for field in own}
    others = [field for field in Pairs(rows).others if field.name not in names]
    features = {"info": {"features": {"image": {"_type": "Image"}}}}
    return pa.schema([*own, *others], {"huggingface": orjson.dumps(features)})


def _write(path: Path, images: Iterator[Image], schema: pa.Schema, column: str) -> int:
    written = size = 0
    with files.replaced(path) as file, pq.ParquetWriter(file, schema, write_page_checksum=True) as writer:
        held, held_bytes = list[dict[str, Any]](), 0
        for image in images:
            own = {
                "image": {"bytes": image.data, "path": image.name},
                column: image.pair.text,
                "id": image.pair.row["id"],
            }
            held.append({**image.pair.others, **own})
            held_bytes += len(image.data)
            if len(held) >= _GROUP_ROWS or held_bytes >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(held, schema))
                written, size, held, held_bytes = written + len(held), size + held_bytes, [], 0
            if size >= _FILE_BYTES:
                break
        if held:
            writer.write_table(pa.Table.from_pylist(held, schema))
    return written + len(held)
