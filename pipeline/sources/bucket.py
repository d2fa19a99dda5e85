"""The images below a prefix of a bucket."""

from collections import Counter
from collections.abc import Iterator

from pipeline.cloud.objects import keys_below
from pipeline.cloud.stores import ObjectAddress
from pipeline.config.sections import SourceConfig
from pipeline.formatting import passed_words
from pipeline.locations import ImageUrl
from pipeline.records import ImageRecord
from pipeline.sources.base import check_ids, nothing_in
from pipeline.sources.naming import MEDIA_SUFFIXES, check_videos, identify, names_document, shown
from pipeline.sources.passed import WITHOUT_SUFFIX, PassedOver, suffix_of
from pipeline.sources.patterns import START, Everything, Glob, Pattern


class BucketSource:
    """Every pass lists the bucket anew, a page at a time, in the store's order. Hidden names are left out."""

    skipped = 0
    is_manifest = False
    has_several = False
    grouped_by = None

    def __init__(self, address: ObjectAddress, config: SourceConfig) -> None:
        self.name = str(address)
        self.passed_over = Counter[str]()
        self._suffixes = config.extensions or MEDIA_SUFFIXES
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
        root, passed, is_empty = f"{self._below.scheme}://{self._below.bucket}/", PassedOver(), True
        for key in keys_below(self._below):
            path = key.removeprefix(self._prefix)
            if not (key.startswith(self._prefix) and self._selects(path)):
                continue  # hidden, or a marker of the folder itself
            if not key.lower().endswith(self._suffixes):
                passed.add(suffix_of(path.encode("utf-8", "surrogateescape")) or WITHOUT_SUFFIX)
                continue
            is_empty = False
            check_videos((key,), self.name)
            self.has_documents = self.has_documents or names_document(key)
            yield root + key
        if is_empty:
            kinds = passed_words(passed.by_kind) or "none"
            raise nothing_in(
                f"{shown(self.name)}: no images here; other objects: {kinds}. Objects count that end in "
                f"{' '.join(self._suffixes)}, in any case, and are not hidden"
            )
        self.passed_over = passed.by_kind

    def _selects(self, path: str) -> bool:
        *folders, name = path.split("/")
        state = START
        for folder in folders:
            state = self._pattern.descend(state, folder)
        return bool(state) and self._pattern.accepts(state, name)
