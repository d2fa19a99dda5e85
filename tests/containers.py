"""Files that hold images: tars, and tables as Parquet or as an Arrow stream."""

import io
import tarfile
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Files = Iterable[tuple[str, bytes]]
"""Names and contents."""


def _small() -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((64, 48)).save(buffer, "JPEG")
    return buffer.getvalue()


SMALL = _small()
"""A photograph of 64 x 48 pixels."""


def tar_of(files: Files, form: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar of plain files, in one of the formats of `tarfile`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5 if form == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def written(kind: str, image: bytes) -> bytes:
    """A table with one image in it, as Hugging Face has it."""
    return table_bytes(kind, pa.table({"image": [{"bytes": image, "path": "a.jpg"}], "title": ["a quay"]}))


def table_bytes(kind: str, table: pa.Table, rows: int = 2) -> bytes:
    """As Parquet with row groups, or as an Arrow stream with batches, of some rows."""
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink, row_group_size=rows)
    else:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()
