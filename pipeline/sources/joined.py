"""Several sources, one after the other."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import InputError
from pipeline.records import ImageRecord
from pipeline.sources.base import Checkable, check_ids, first_of_each
from pipeline.sources.folder import FolderSource
from pipeline.sources.naming import MEDIA_SUFFIXES, shown
from pipeline.sources.passed import passed_over


class JoinedSource:
    """Several sources in their order. With `first_counts` an id that stands twice is its first record."""

    def __init__(
        self, sources: Sequence[Checkable], *, name: str, first_counts: bool = False, sharding: object = None
    ) -> None:
        """`sharding` says how the sources were divided, where these are one shard of them."""
        self.name, self.sharding = name, sharding
        self.sources = sources
        self._first_counts = first_counts
        self._repeated: set[int] = set()
        """Hashes of the ids that stand twice: all that has to be remembered."""

    @property
    def is_manifest(self) -> bool:
        return all(source.is_manifest for source in self.sources)

    @property
    def has_several(self) -> bool:
        return any(source.has_several for source in self.sources)

    @property
    def has_documents(self) -> bool:
        return any(source.has_documents for source in self.sources)

    @property
    def skipped(self) -> int:
        return sum(source.skipped for source in self.sources)

    @property
    def passed_over(self) -> Counter[str]:
        return sum((passed_over(source) for source in self.sources), Counter())

    def check(self) -> int | None:
        if self._first_counts:
            count, self._repeated = first_of_each(self.sources)
        else:
            count = check_ids(self.sources)
        self._check_not_bad(is_empty=count == 0)
        return count

    def records(self) -> Iterator[ImageRecord]:
        seen: set[str] = set()
        is_empty = True
        for source in self.sources:
            for record in source.records():
                is_empty = False
                if self._repeated and hash(record.id) in self._repeated:
                    if record.id in seen:
                        continue
                    seen.add(record.id)
                yield record
        self._check_not_bad(is_empty=is_empty)

    def _check_not_bad(self, *, is_empty: bool) -> None:
        if is_empty and self.skipped and self.sharding is None:  # a shard may have nothing
            raise InputError(f"{shown(self.name)}: all of it was skipped as bad; see which with one SOURCE at a time")


def check_apart(sources: Sequence[object]) -> None:
    """Raises InputError where a folder is named twice, or lies within another one: its images would be asked twice."""
    seen: dict[str, str] = {}
    for source in sources:
        if not isinstance(source, FolderSource) or source.folder is None:
            continue
        real = os.path.realpath(source.folder)
        if real in seen:
            raise InputError(f"{shown(source.name)}: this folder is named twice; name it once")
        seen[real] = source.name
    for real, name in seen.items():
        above = next((seen[str(above)] for above in Path(real).parents if str(above) in seen), None)
        if above is not None:
            raise InputError(
                f"{shown(name)} lies within {shown(above)}, which is a SOURCE too: its images would be asked twice, "
                "under two ids; name one of the two"
            )


def check_texts(specs: Sequence[str], extension: str) -> None:
    """Raises InputError for the text beside an image where both are SOURCEs, as the shell makes of `photos/*`."""
    stems = {os.path.splitext(spec)[0]: spec for spec in specs if spec.lower().endswith(MEDIA_SUFFIXES)}  # noqa: PTH122 - of texts
    for spec in specs:
        stem = spec.removesuffix(extension)
        if stem != spec and stem in stems:
            raise InputError(
                f"{shown(spec)} lies beside {shown(stems[stem])}, and both are SOURCEs: a caption, and no list of "
                "images; name their folder, or put a pattern in quotes"
            )
