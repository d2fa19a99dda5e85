"""WebDataset shards: of each image its file, its text and its row as JSON, under a key that is a number."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson

from pipeline import files
from pipeline.export.names import suffix_of
from pipeline.export.resuming import Image
from pipeline.export.rows import Rows
from pipeline.export.shard_tables import export_shard_tables
from pipeline.export.shards import write_shards

_FILE_BYTES, _FILE_ROWS = 1 << 30, 10_000
_OF_ROW: Final = ("id", "prompt_name", "image", "sha256")


def export_webdataset(rows: Rows, dest: Path) -> int:
    """Write `00000.tar` and so on; with `images=none` a table for each shard that the images are in."""
    if rows.options.images == "none":
        return export_shard_tables(rows, dest)
    return write_shards(rows, dest, "webdataset", "{}.tar", _write)


def _write(path: Path, images: Iterator[Image]) -> int:
    """Keys hold neither a dot nor a slash: `webdataset` ends a key at the first dot, and ids may hold anything."""
    written = size = 0
    with files.replaced(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for image in images:
            key, row = f"{image.number:09d}", image.pair.row
            about = {name: row[name] for name in _OF_ROW} | image.pair.others
            suffix = suffix_of(image.name).lower() or ".bin"
            _add(tar, key + suffix, image.data)
            _add(tar, f"{key}.txt", image.pair.text.encode())
            _add(tar, f"{key}.json", orjson.dumps(about, default=str))
            written, size = written + 1, size + len(image.data)
            if size >= _FILE_BYTES or written >= _FILE_ROWS:
                break
    return written


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
