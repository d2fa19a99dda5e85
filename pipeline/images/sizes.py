"""The upright sizes of images, from a manifest's own columns or from the headers of local files."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from time import monotonic
from types import TracebackType
from typing import Self

import orjson

from pipeline.config.extras import PDF_SUFFIX, VIDEO_SUFFIXES
from pipeline.images.locate import read_image
from pipeline.images.pages import size_of_page
from pipeline.images.probe import ImageSize, Sized, read_sizes, size_in, size_in_tar
from pipeline.images.remote_sizes import SizeUnknown
from pipeline.images.sampling import ONE, Sampling
from pipeline.locations import DocumentPage, LocalFile, Location, TarMember
from pipeline.records import Failure, ImageRecord

FIRST_CHUNK, CHUNK = 64, 2048


THREADS = 16


SLOW, FAST = 2_000, 8_000
"""Files a second. Below the first the disk is waited for, and threads wait together; above the second they would only
fight for the interpreter: with all in the page cache one thread reads 80,000 headers a second, sixteen 13,000."""


Found = Sized | SizeUnknown | None
"""What is known of one record's image; None: it has to be fetched."""


def first_sizes(records: Iterator[ImageRecord], wanted: int = FIRST_CHUNK) -> list[tuple[int, int]]:
    """Upright sizes of the first images, as far as they are here and can be read; nothing is fetched."""
    found = sizes_of(islice(records, wanted))
    return [(one.width, one.height) for one in found if isinstance(one, ImageSize)]


def sizes_of(records: Iterable[ImageRecord], sampling: Sampling = ONE) -> list[Found]:
    """The upright size of each, as far as it is known here; None for each that would have to be fetched."""
    with LocalSizes(monotonic, sampling) as local:
        return local.look(list(records))


def single_images(records: Sequence[ImageRecord]) -> Sequence[ImageRecord]:
    """Each image of these records as a record of its own."""
    if all(len(record.images) == 1 for record in records):
        return records
    return [replace(record, images=(image,), image_texts=()) for record in records for image in record.images]


class LocalSizes:
    """Reads headers of local files in one thread, or in several while the disk is slow."""

    def __init__(self, now: Callable[[], float], sampling: Sampling = ONE) -> None:
        self._now = now
        self._sampling = sampling
        self._pool: ThreadPoolExecutor | None = None
        self.together = False
        """Whether several threads read."""
        self.declared = 0
        """Sizes taken from the manifest's columns `width` and `height`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def look(self, records: Sequence[ImageRecord]) -> list[Found]:
        """What can be known of these records here; None for each that has to be fetched."""
        found: list[Found] = [self._declared(record) for record in records]
        self.declared += len(records) - found.count(None)
        paths: dict[int, str] = {}
        for at, record in enumerate(records):
            image = record.images[0]
            if found[at] is not None or image.is_remote:
                continue
            if isinstance(image, LocalFile):
                paths[at] = image.path
            else:
                found[at] = _size_of(image, self._sampling)
        for at, one in zip(paths, self._read(list(paths.values())), strict=True):
            found[at] = one
        return found

    def _declared(self, record: ImageRecord) -> ImageSize | None:
        """Of a video with as many frames as it may give: its duration is not looked up."""
        size = declared_size(record.extra)
        if size is None:
            return None
        name = record.image.lower()
        if name.partition("#")[0].endswith(PDF_SUFFIX):
            return None  # a PDF has no pixels, and its pages have sizes of their own
        if not name.endswith(VIDEO_SUFFIXES):
            return size
        return size._replace(frames=self._sampling.frames)

    def _read(self, paths: list[str]) -> list[Sized]:
        if not paths:
            return []
        began = self._now()
        if self.together:
            self._pool = self._pool or ThreadPoolExecutor(THREADS, "headers")
            parts = [paths[at : at + FIRST_CHUNK] for at in range(0, len(paths), FIRST_CHUNK)]
            found = [one for part in self._pool.map(self._read_part, parts) for one in part]
        else:
            found = self._read_part(paths)
        rate = len(paths) / max(1e-9, self._now() - began)
        self.together = rate < (FAST if self.together else SLOW)
        return found

    def _read_part(self, paths: list[str]) -> list[Sized]:
        return read_sizes(paths, self._sampling)


def _size_of(image: Location, sampling: Sampling) -> Sized:
    """Of an image that is no file of its own. All but members of a tar are read whole, one at a time."""
    if isinstance(image, DocumentPage):
        return size_of_page(image, sampling.page_dpi)
    if isinstance(image, TarMember):
        return size_in_tar(image, sampling)
    data = read_image(image, sys.maxsize)
    return data if isinstance(data, Failure) else size_in(data, sampling)


def declared_size(extra: str | None) -> ImageSize | None:
    """The columns `width` and `height` of a manifest's row (in any case); None where they hold no pixels."""
    if extra is None or "height" not in extra.lower():
        return None
    columns = {name.lower(): value for name, value in orjson.loads(extra).items()}
    width, height = _pixels(columns.get("width")), _pixels(columns.get("height"))
    return None if width is None or height is None else ImageSize(width, height, None)


def _pixels(value: object) -> int | None:
    if isinstance(value, str) and value.strip().isascii():
        text = value.strip().removesuffix(".0")
        value = int(text) if text.isdecimal() else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
