"""The images below a prefix of a bucket."""

from collections.abc import Iterator

from pipeline.cloud.objects import keys_below
from pipeline.cloud.stores import ObjectAddress
from pipeline.errors import InputError
from pipeline.locations import ImageUrl
from pipeline.records import ImageRecord
from pipeline.sources.base import check_ids
from pipeline.sources.naming import MEDIA_SUFFIXES, check_videos, identify, names_document, shown
from pipeline.sources.patterns import START, Everything, Glob, Pattern


class BucketSource:
    """Every pass lists the bucket anew, a page at a time, in the store's order. Hidden names are left out."""

    skipped = 0
    is_manifest = False
    has_several = False
    grouped_by = None

    def __init__(self, address: ObjectAddress) -> None:
        self.name = str(address)
        folders = address.key.split("/")
        at = next((at for at, part in enumerate(folders) if any(mark in part for mark in "*?[")), None)
        self._pattern: Pattern = Everything() if at is None else Glob([part for part in folders[at:] if part])
        key = "/".join(folders[:at]).rstrip("/")
        self._below = ObjectAddress(address.scheme, address.bucket, key)
        self._prefix = f"{key}/" if key else ""
        self.has_documents = False

    def check(self) -> int | None:
        return check_ids([self])

    def ids(self) -> Iterator[str] | None:
        return (identify(one) for one in self._addresses())

    def records(self) -> Iterator[ImageRecord]:
        for one in self._addresses():
            yield ImageRecord(identify(one), (ImageUrl(shown(one), one),))

    def place(self, record: ImageRecord) -> str:
        return repr(record.image)

    def _addresses(self) -> Iterator[str]:
        root = f"{self._below.scheme}://{self._below.bucket}/"
        found = others = 0
        for key in keys_below(self._below):
            if not key.startswith(self._prefix):
                continue  # a marker of the folder itself
            if not (key.lower().endswith(MEDIA_SUFFIXES) and self._selects(key.removeprefix(self._prefix))):
                others += 1
                continue
            found += 1
            check_videos((key,), self.name)
            self.has_documents = self.has_documents or names_document(key)
            yield root + key
        if not found:
            raise InputError(
                f"{shown(self.name)}: no images here; {others:,} other objects were seen. Objects count that end in "
                f"{' '.join(MEDIA_SUFFIXES)}, in any case, and are not hidden"
            )

    def _selects(self, path: str) -> bool:
        *folders, name = path.split("/")
        state = START
        for folder in folders:
            state = self._pattern.descend(state, folder)
        return bool(state) and self._pattern.accepts(state, name)
