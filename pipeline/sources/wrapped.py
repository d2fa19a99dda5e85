"""A source that changes the records of another one."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from pipeline.errors import InputError
from pipeline.records import ImageRecord
from pipeline.sources.base import Checkable, check_ids
from pipeline.sources.passed import passed_over

T = TypeVar("T")


class WrappedSource:
    """What the source around another one has from it; `records` is for the class that changes them."""

    def __init__(self, source: Checkable) -> None:
        self._source = source

    @property
    def inner(self) -> Checkable:
        """The source that this one changes."""
        return self._source

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def is_manifest(self) -> bool:
        return self._source.is_manifest

    @property
    def has_several(self) -> bool:
        return self._source.has_several

    @property
    def has_documents(self) -> bool:
        return self._source.has_documents

    @property
    def grouped_by(self) -> str | None:
        return self._source.grouped_by

    @property
    def skipped(self) -> int:
        return self._source.skipped

    @property
    def passed_over(self) -> Counter[str]:
        return passed_over(self._source)

    def check(self) -> int | None:
        return check_ids([self])

    def ids(self) -> Iterator[str] | None:
        """Those of the changed records."""
        return None if self._source.ids() is None else (record.id for record in self.records())

    def place(self, record: ImageRecord) -> str:
        return self._source.place(record)

    def records(self) -> Iterator[ImageRecord]:
        raise NotImplementedError


class PossiblyEmptySource(WrappedSource):
    """One that may hold nothing, or nothing but what is skipped as bad: the `errors` that say so are its end."""

    def __init__(self, source: Checkable, errors: Sequence[type[InputError]]) -> None:
        super().__init__(source)
        self._errors = errors

    def ids(self) -> Iterator[str] | None:
        found = self._source.ids()
        return None if found is None else self._whole(found)

    def records(self) -> Iterator[ImageRecord]:
        return self._whole(self._source.records())

    def _whole(self, found: Iterable[T]) -> Iterator[T]:
        with suppress(*self._errors):
            yield from found
