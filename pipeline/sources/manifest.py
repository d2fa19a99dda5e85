"""A file with one image a row: what all formats share. A format only brings a reader, which yields rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import islice, repeat
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.locations import EmbeddedImage, LocalFile, Location
from pipeline.records import ImageRecord
from pipeline.sources.base import all_skipped, check_ids, nothing_in
from pipeline.sources.blocks import Block, BlockReader, OddError
from pipeline.sources.extras import record_flaw
from pipeline.sources.lines import folder_prefix
from pipeline.sources.naming import check_stores, check_videos, identify, names_document, public_image, shown
from pipeline.sources.places import Locate, confined_to, in_folder
from pipeline.sources.several import distinct, flaw_of, grouped, images_in, texts_of

ABSENT: Final = object()
"""Stands for an id in rows that have none, so that the image's name is the id."""

Row = tuple[int, object, object, str | None]
"""Line (from 1), image, id or ABSENT, the other columns as JSON."""


class BadRow(NamedTuple):
    """A row that cannot be used. `skippable` is False where the rows after it are lost with it."""

    line: int
    what: str
    skippable: bool = True


Opener = Callable[[str, str], AbstractContextManager[BinaryIO]]


class Reader(Protocol):
    """A format: an open file -> its rows, one at a time. `name` is for messages.

    A cheaper pass has no `extras`, except for rows whose other columns may take more than they are allowed to.
    """

    def __call__(self, file: BinaryIO, name: str, config: SourceConfig, *, extras: bool) -> Iterator[Row | BadRow]: ...


class ManifestSource:
    """Any manifest. `unit` is what its reader counts: lines, or the rows of a Parquet file."""

    is_manifest = True

    def __init__(
        self,
        path: str,
        config: SourceConfig,
        reader: Reader,
        opener: Opener,
        *,
        name: str,
        unit: str = "line",
        blocks: BlockReader | None = None,
        locate: Locate | None = None,
        label: str | None = None,
    ) -> None:
        """`blocks` reads many rows at once as long as nothing is odd about them. `locate` is for one from elsewhere.

        `label` is the file's part of the ids of rows that hold their image and have no id.
        """
        self.name = name
        self._id_label = name.rpartition("/")[2] if label is None else label
        prefix = folder_prefix(path)
        self._locate = locate or (confined_to(prefix) if config.confine else in_folder(prefix))
        self._prefix = None if locate or config.confine else prefix
        """Of plain paths, where nothing else is to be looked at: the quick way."""
        self.has_several = config.group_by is not None
        self.grouped_by = config.group_by
        if config.group_by is not None:  # the value of the column is the id of the record
            config = config.model_copy(update={"id_column": config.group_by})
        self.has_documents = False
        self._blocks = blocks
        self.skipped = 0
        self._label = "standard input" if name == "-" else shown(name)
        self._path = path
        self._config = config
        self._reader = reader
        self._opener = opener
        self._unit = unit

    @property
    def path(self) -> str:
        """Of the manifest, as it was named; empty where it is a stream."""
        return self._path

    @property
    def label(self) -> str:
        """The file's part of the ids of rows that hold their image and have no id."""
        return self._id_label

    def check(self) -> int | None:
        return check_ids([self])

    def ids(self) -> Iterator[str] | None:
        return self._ids() if self.grouped_by is None else distinct(self._ids())

    def _ids(self) -> Iterator[str]:
        done = 0
        with suppress(OddError):
            for block in self._even_blocks(extras=False):
                self._look_at(block.images)
                yield from _ids(block)
                done += len(block.images)
            if done:
                return
        for line, image, given, _ in islice(self._rows(extras=False), done, None):
            if isinstance(image, str):
                self._look_at((image,))
                yield image if given is None and _is_plain(image) else self._id(image, given, line)
                continue
            images = [one for one, _ in image] if isinstance(image, list) else [image]
            self._look_at([one for one in images if isinstance(one, str)])
            self._look_at_names([one.name for one in images if isinstance(one, EmbeddedImage)])
            yield self._id(images[0], given, line)

    def _id(self, image: str | EmbeddedImage, given: str | None, line: int) -> str:
        """Of a record whose first image this is: an image inside of the file is known by its row."""
        if given is not None:
            return identify(given)
        return identify(f"{self._id_label}#{line}" if isinstance(image, EmbeddedImage) else public_image(image))

    def _look_at(self, images: Sequence[str]) -> None:
        """Raises InputError for images that cannot be read here."""
        check_stores(images, self._label)
        self._look_at_names(images)

    def _look_at_names(self, images: Sequence[str]) -> None:
        check_videos(images, self._label)
        self.has_documents = self.has_documents or any(map(names_document, images))

    def records(self) -> Iterator[ImageRecord]:
        return self._records() if self.grouped_by is None else grouped(self._records(), self._label)

    def _records(self) -> Iterator[ImageRecord]:
        prefix, locate = self._prefix, self._locate
        done = 0
        with suppress(OddError):
            for block in self._even_blocks(extras=True):
                yield from _records(block, prefix, locate)
                done += len(block.images)
            if done:
                return
        for line, image, given, extra in islice(self._rows(extras=True), done, None):
            if isinstance(image, list):
                places = tuple(one if isinstance(one, EmbeddedImage) else locate(one) for one, _ in image)
                yield ImageRecord(self._id(image[0][0], given, line), places, extra, line, texts_of(image, extra))
                continue
            if isinstance(image, EmbeddedImage):
                yield ImageRecord(self._id(image, given, line), (image,), extra, line)
                continue
            if prefix is not None and _is_plain(image):
                where = LocalFile(image, image if image[0] == "/" else prefix + image)
                yield ImageRecord(image if given is None else identify(given), (where,), extra, line)
                continue
            record_id = identify(public_image(image) if given is None else given)
            yield ImageRecord(record_id, (locate(image),), extra, line)

    def _even_blocks(self, *, extras: bool) -> Iterator[Block]:
        """Blocks in which every row has one image, and every id is one. Raises OddError at the first other one."""
        if self._blocks is None:
            raise OddError
        self.skipped = 0
        for block in self._blocks(self._path, self._label, self._config, extras=extras):
            together = "".join(block.images)
            if "[" in together or "\0" in together or not all(map(str.strip, block.images)):
                raise OddError
            if block.ids is not None and not all(block.ids):
                raise OddError
            yield block

    def place(self, record: ImageRecord) -> str:
        return f"{self._unit} {record.line}"

    def _rows(self, *, extras: bool) -> Iterator[tuple[int, Any, str | None, str | None]]:
        """Line, the image's text or a list of (text, what is sent before it), id, other columns."""
        self.skipped = 0
        empty = True
        with self._opener(self._path, self._label) as file:
            for row in self._reader(file, self._label, self._config, extras=extras):
                if isinstance(row, BadRow):
                    self._reject(row)
                    continue
                line, image, given, extra = row
                listed = images_in(image)
                flaw = _flaw_of(listed) or (None if given is ABSENT else id_flaw(given))
                flaw = flaw or record_flaw(extra, self._config)
                if flaw:
                    self._reject(BadRow(line, flaw))
                    continue
                self.has_several = self.has_several or isinstance(listed, list)
                empty = False
                yield line, listed, None if given is ABSENT else str(given), extra
        if empty:
            raise nothing_in(f"{self._label}: no rows{all_skipped(self.skipped)}", self.skipped)

    def _reject(self, row: BadRow) -> None:
        if self._config.skip_bad_rows and row.skippable:
            self.skipped += 1
            return
        where = f"{self._label}:{row.line}" if self._unit == "line" else f"{self._label}: {self._unit} {row.line}"
        way_out = ", or skip such rows with `source.skip_bad_rows`" if row.skippable else ""
        raise InputError(f"{where}: {row.what}; fix the {self._unit}{way_out}")


class StreamSource(ManifestSource):
    """A manifest that can be read only once, such as standard input: duplicates show only as rows come."""

    is_manifest = False

    def ids(self) -> None:
        return None


def _ids(block: Block) -> Iterable[str]:
    if block.ids is not None:
        return map(identify, block.ids)
    return block.images if _are_plain(block.images) else [identify(public_image(image)) for image in block.images]


def _records(block: Block, prefix: str | None, locate: Locate) -> Iterator[ImageRecord]:
    images = block.images
    places: Iterable[tuple[Location]]
    if prefix is None or not _are_plain(images):
        places = [(locate(image),) for image in images]
    else:
        places = [(LocalFile(image, image if image[0] == "/" else prefix + image),) for image in images]
    extras = block.extras or repeat(None)
    return map(ImageRecord, _ids(block), places, extras, range(block.line, block.line + len(images)))


def _are_plain(images: Sequence[str]) -> bool:
    return _is_plain("".join(images))


def _is_plain(image: str) -> bool:
    """Whether an image is a path in ASCII, as nearly all are, which is its own id and its own text for people."""
    return image.isascii() and ":" not in image


def _flaw_of(cell: object) -> str | None:
    if not isinstance(cell, list):
        return image_flaw(cell)
    return flaw_of(cell) or next((flaw for one, _ in cell if (flaw := image_flaw(one))), None)


def image_flaw(image: object) -> str | None:
    """What is wrong with the text that names an image."""
    if not isinstance(image, str):
        if isinstance(image, EmbeddedImage):
            return None
        return "the image is missing" if image is None else f"the image is {_kind(image)}, not text"
    if not image or image.isspace():
        return "the image is empty"
    return "the image's name holds a NUL byte" if "\0" in image else None


def id_flaw(given: object) -> str | None:
    """What is wrong with an id."""
    if given is ABSENT or (isinstance(given, str) and given):
        return None
    if given is None or given == "":
        return "the id is empty"
    if isinstance(given, int) and not isinstance(given, bool):
        return None
    return f"the id is {_kind(given)}, neither text nor a whole number"


def _kind(value: object) -> str:
    names = {bool: "true or false", float: "a fraction", dict: "an object", list: "a list", int: "a number"}
    return names.get(type(value), type(value).__name__)
