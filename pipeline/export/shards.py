"""Pairs with their images, as the files of a sharded dataset take them: a bounded number of bytes at a time."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Protocol

from pipeline.errors import InputError
from pipeline.export.destination import take_folder
from pipeline.export.names import suffix_of
from pipeline.export.pairs import Pairs
from pipeline.export.placing import image_suffix, reason_of
from pipeline.export.report import Reason
from pipeline.export.resuming import Image, Progress, remaining
from pipeline.export.rows import Rows
from pipeline.originals import Originals


class Shard(Protocol):
    """Writes the images of one file, and returns their number; it stops where the file is full."""

    def __call__(self, path: Path, images: Iterator[Image]) -> int: ...


def write_shards(rows: Rows, dest: Path, to: str, name: str, write: Shard) -> int:
    """All pairs in files called `name` (with `{}` for a number). Returns the number of rows in them.

    A file that is complete stays when the export is interrupted; the next one goes on behind it.
    """
    if rows.options.images not in {None, "copy"}:
        raise InputError(f"`images={rows.options.images}`: the format {to} holds copies of images")
    take_folder(dest, to, rows.out)
    (dest / name).parent.mkdir(exist_ok=True)
    progress = Progress(rows, dest, name.format("*"))
    images = _Images(rows, progress.pairs)
    while (first := next(images.each, None)) is not None:
        path = dest / name.format(f"{progress.files:05d}")
        written = write(path, chain([first], images.each))
        progress.complete(images.taken, written)
    return progress.rows


class _Images:
    """The images that are left to write, one at a time."""

    def __init__(self, rows: Rows, done: int) -> None:
        self.taken = done
        self.each = self._each(rows, done)

    def _each(self, rows: Rows, done: int) -> Iterator[Image]:
        originals = Originals(rows.out)
        for number, pair in remaining(Pairs(rows), rows.counts, done):
            found = originals.open(pair.row)
            self.taken = number + 1
            if found.data is None:
                rows.counts.leave_out(reason_of(found.state) or Reason.IMAGE_MISSING, pair.row["id"])
                continue
            name = str(pair.row["image"]).rpartition("/")[2]
            yield Image(number, pair, name if suffix_of(name) else name + image_suffix(name, found.data), found.data)
