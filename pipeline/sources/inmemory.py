"""Records that the calling program holds: paths, rows as dictionaries, images of Pillow, a `datasets.Dataset`."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from PIL import Image

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.locations import InMemoryImage, Location
from pipeline.pdf.structure import is_pdf
from pipeline.records import ImageRecord
from pipeline.sources.base import check_ids
from pipeline.sources.columns import Columns, choose_columns
from pipeline.sources.documents import is_document
from pipeline.sources.extras import record_flaw, to_json
from pipeline.sources.items import encoded, indexed
from pipeline.sources.manifest import ABSENT, id_flaw, image_flaw
from pipeline.sources.naming import check_stores, check_videos, identify, location_of
from pipeline.sources.several import Listed, distinct, flaw_of, grouped, images_in, texts_of

_NAME: Final = "records in memory"
_PIXEL_BYTES: Final = 4
"""Of a pixel at most, in the modes that are sent."""


class InMemorySource:
    """The items of a sequence, one record each. Images are encoded one by one, when a record is prepared.

    A sequence (`list`, `datasets.Dataset`) is read as the run goes on; anything else is made a list first.
    """

    name = _NAME
    is_manifest = False

    def __init__(self, items: Iterable[Any], config: SourceConfig) -> None:
        self._items = indexed(items)
        self.grouped_by = config.group_by
        self._config = config.model_copy(update={"id_column": config.group_by}) if config.group_by else config
        self.skipped = 0
        self.has_several = config.group_by is not None
        self.has_documents = False

    def check(self) -> int | None:
        return check_ids([self])

    def ids(self) -> Iterator[str] | None:
        found = (record.id for record in self._records())
        return found if self.grouped_by is None else distinct(found)

    def place(self, record: ImageRecord) -> str:
        return f"record {record.line}"

    def records(self) -> Iterator[ImageRecord]:
        return self._records() if self.grouped_by is None else grouped(self._records(), _NAME)

    def _records(self) -> Iterator[ImageRecord]:
        self.skipped = 0
        columns: Columns | None = None
        for position in range(len(self._items)):
            item = self._items[position]
            if isinstance(item, Mapping) and columns is None:
                columns = choose_columns([str(name) for name in item], self._config, _NAME)
            found = self._record(position, item, columns)
            if isinstance(found, ImageRecord):
                check_videos((found.image,), _NAME)
                check_stores([image.name for image in found.images], _NAME)
                self.has_documents = self.has_documents or any(map(is_document, found.images))
                yield found
            elif self._config.skip_bad_rows:
                self.skipped += 1
            else:
                raise InputError(
                    f"{_NAME}: record {position + 1}: {found}; fix the record, or skip such records with "
                    "source.skip_bad_rows"
                )
        if len(self._items) == self.skipped:
            raise InputError(f"{_NAME}: no records")

    def _record(self, position: int, item: object, columns: Columns | None) -> ImageRecord | str:
        """The record of one item, or what is wrong with it."""
        image, given, extra = item, ABSENT, None
        column = None
        if isinstance(item, Mapping) and columns is not None:
            column = columns.image
            image = item.get(column)
            given = ABSENT if columns.id is None else item.get(columns.id, ABSENT)
            others = {key: value for key, value in item.items() if key not in {column, columns.id}}
            extra = to_json({key: value for key, value in others.items() if not isinstance(value, Image.Image)})
        flaw = (None if given is ABSENT else id_flaw(given)) or record_flaw(extra, self._config)
        found = images_in(image) if isinstance(image, list) else None
        listed: Listed = found if isinstance(found, list) else [(image, None)]
        self.has_several = self.has_several or isinstance(image, list)
        flaw = flaw or flaw_of(listed)
        at = range(len(listed)) if isinstance(image, list) else [None]
        places = [self._location(position, column, number, one) for number, (one, _) in zip(at, listed, strict=True)]
        wrong = flaw or next((str(place) for place in places if isinstance(place, str)), None)
        images = tuple(place for place in places if not isinstance(place, str))
        if wrong is not None:
            return wrong
        named = images[0].name if given is ABSENT else str(given)
        texts = texts_of(listed, extra) if isinstance(image, list) else ()
        return ImageRecord(identify(named), images, extra, position + 1, texts)

    def _location(self, position: int, column: str | None, number: int | None, image: object) -> Location | str:
        """Where an image of one item is, or what is wrong with it. `{"bytes", "path"}` is Hugging Face's form.

        `number` is its place in a list.
        """
        if isinstance(image, Mapping):
            image = image.get("path") if image.get("bytes") is None else image["bytes"]
        if isinstance(image, Image.Image | bytes):
            size = len(image) if isinstance(image, bytes) else image.width * image.height * _PIXEL_BYTES
            name = str(position) if number is None else f"{position}/{number}"
            holds_pdf = isinstance(image, bytes) and is_pdf(image)
            return InMemoryImage(name, lambda: self._encoded(position, column, number), size, holds_pdf)
        text = os.fspath(image) if isinstance(image, os.PathLike) else image
        flaw = image_flaw(text)
        if flaw or not isinstance(text, str):
            return str(flaw)
        return location_of(text, "")

    def _encoded(self, position: int, column: str | None, number: int | None) -> bytes:
        """The image again, from the sequence: a record in flight holds none of its pixels."""
        item = self._items[position]
        image = item if column is None else item[column]
        if number is not None:
            image = image[number]
        if isinstance(image, Mapping):
            image = image["image"] if "image" in image else image["bytes"]
        return image if isinstance(image, bytes) else encoded(image)
