"""One image file or one address."""

from collections.abc import Iterator
from dataclasses import replace

from pipeline.locations import ImageUrl
from pipeline.records import ImageRecord
from pipeline.sources.naming import check_videos, identify, location_of, names_document, public_image, scheme_of


class ImageSource:
    """One record, whose id is the name of the file, or the address."""

    skipped = 0
    is_manifest = False
    has_several = False
    grouped_by = None

    def __init__(self, image: str) -> None:
        self.name = public_image(image)
        self.has_documents = names_document(image)
        self._image = image

    def check(self) -> int | None:
        check_videos((self._image,), "the source")
        return 1

    def ids(self) -> Iterator[str] | None:
        self.check()
        return (record.id for record in self.records())

    def records(self) -> Iterator[ImageRecord]:
        image = self._image
        named = image.rpartition("/")[2] if scheme_of(image) is None else public_image(image)
        where = location_of(image, "")
        if isinstance(where, ImageUrl):
            where = replace(where, is_trusted=True)
        yield ImageRecord(identify(named), (where,))

    def place(self, record: ImageRecord) -> str:
        return repr(record.image)
