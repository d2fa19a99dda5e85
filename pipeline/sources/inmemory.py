"""Records that the calling program holds: paths, rows as dictionaries, images of Pillow, a `datasets.Dataset`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from PIL import Image

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.records import ImageRecord
from pipeline.sources.base import all_skipped, check_ids, nothing_in
from pipeline.sources.columns import Columns, choose_columns
from pipeline.sources.documents import is_document
from pipeline.sources.extras import record_flaw, to_json
from pipeline.sources.held import HeldImages
from pipeline.sources.items import indexed, plain_number
from pipeline.sources.manifest import ABSENT, id_flaw
from pipeline.sources.naming import check_stores, check_videos, identify
from pipeline.sources.several import distinct, flaw_of, grouped, listed_images, texts_of

_NAME: Final = "records in memory"


class InMemorySource:
    """The items of a sequence, one record each. Images are encoded one by one, when a record is prepared.

    A sequence (`list`, `datasets.Dataset`) is read as the run goes on; anything else is made a list first.
    """

    name = _NAME
    is_manifest = False

    def __init__(self, items: Iterable[Any], config: SourceConfig) -> None:
        self._items = indexed(items)
        self._held = HeldImages(self._items)
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
            raise nothing_in(f"{_NAME}: no records{all_skipped(self.skipped)}", self.skipped)

    def _record(self, position: int, item: object, columns: Columns | None) -> ImageRecord | str:
        """The record of one item, or what is wrong with it."""
        image, given, extra = item, ABSENT, None
        column = None
        if isinstance(item, Mapping) and columns is not None:
            column = columns.image
            image = item.get(column)
            given = plain_number(ABSENT if columns.id is None else item.get(columns.id, ABSENT))
            others = {key: value for key, value in item.items() if key not in {column, columns.id}}
            extra = to_json({key: value for key, value in others.items() if not isinstance(value, Image.Image)})
        flaw = (None if given is ABSENT else id_flaw(given)) or record_flaw(extra, self._config)
        is_list = isinstance(image, list)
        listed = listed_images(image) if isinstance(image, list) else [(image, None)]
        self.has_several = self.has_several or is_list
        flaw = flaw or flaw_of(listed)
        if flaw is not None:
            return flaw
        images = self._held.locations(position, column, [one for one, _ in listed], is_list=is_list)
        if isinstance(images, str):
            return images
        named = images[0].name if given is ABSENT else str(given)
        texts = texts_of(listed, extra) if is_list else ()
        return ImageRecord(identify(named), images, extra, position + 1, texts)
