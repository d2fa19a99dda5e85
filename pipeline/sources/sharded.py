"""One shard of a source: whole files by the hash of their names, or records by the hash of their ids.

Files that hold records (tars, Parquet, Arrow) are divided by name, so that no shard reads every file; the name is the
one that ids begin with, whatever folder the files lie in. Everything else, and a single file, is divided by id.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.config.shards import SourceShard
from pipeline.records import ImageRecord
from pipeline.sources.base import Checkable, Source
from pipeline.sources.braces import has_braces
from pipeline.sources.formats import FORMATS, format_of
from pipeline.sources.hub import HubSource
from pipeline.sources.manifest import ManifestSource
from pipeline.sources.naming import shown
from pipeline.sources.webdataset import ShardsSource
from pipeline.sources.wrapped import WrappedSource

_TABLES: Final = (FORMATS[".parquet"], FORMATS[".arrow"])


@dataclass(frozen=True, slots=True)
class Sharding:
    """How a source was divided."""

    files: int = 0
    """Those that were divided by name; this shard has `own` of them."""
    own: int = 0
    is_by_id: bool = False
    single: str | None = None
    """The one file of records whose records were divided by id."""


class RecordsOfShard(WrappedSource):
    """The records of a source whose ids belong to one shard. Every pass reads all of it."""

    def __init__(self, source: Checkable, shard: SourceShard) -> None:
        super().__init__(source)
        self._shard = shard

    def ids(self) -> Iterator[str] | None:
        ids = self._source.ids()
        return None if ids is None else filter(self._shard.holds, ids)

    def records(self) -> Iterator[ImageRecord]:
        holds = self._shard.holds
        return (record for record in self._source.records() if holds(record.id))


class NoFiles:
    """The source of a shard that no file belongs to."""

    skipped = 0
    has_several = has_documents = is_manifest = False
    grouped_by = None

    def __init__(self, name: str) -> None:
        self.name = name

    def check(self) -> int | None:
        return 0

    def ids(self) -> Iterator[str] | None:
        return iter(())

    def records(self) -> Iterator[ImageRecord]:
        return iter(())

    def place(self, record: ImageRecord) -> str:
        return repr(record.image)


def of_shard(opened: Sequence[tuple[object, Checkable]], shard: SourceShard) -> tuple[list[Checkable], Sharding]:
    """What of these sources, each with the SOURCE that named it, belongs to a shard; and how they were divided."""
    files = sum(len(_names(source)) for _, source in opened)
    single = files == 1 and any(_names(source) and _names_file(spec) for spec, source in opened)
    found: list[Checkable] = []
    own, is_by_id = 0, False
    for _, source in opened:
        if isinstance(source, HubSource):  # which has files or records by what its listing says
            found.append(source)
        elif single or not _names(source):
            found.append(RecordsOfShard(source, shard))
            is_by_id = True
        elif (part := _files_of(source, shard)) is not None:
            found.append(part)
            own += len(_names(part))
    one = next((shown(source.name) for _, source in opened if _names(source)), None) if single else None
    sharding = Sharding(files=0 if single else files, own=own, is_by_id=is_by_id, single=one)
    return found or [NoFiles(opened[0][1].name)], sharding


def _names(source: Checkable) -> list[str]:
    """The files of records of a source, as ids name them; none where it has other records."""
    if isinstance(source, ShardsSource):
        return [tar.label for tar in source.shards]
    if isinstance(source, ManifestSource) and format_of(source.name) in _TABLES:
        return [source.label]
    return []


def _files_of(source: Checkable, shard: SourceShard) -> Checkable | None:
    """The source with its files of this shard; None where it has none."""
    if isinstance(source, ShardsSource):
        own = [tar for tar in source.shards if shard.holds(tar.label)]
        return source.only(own) if own else None
    return source if all(map(shard.holds, _names(source))) else None


def _names_file(spec: object) -> bool:
    """Whether a SOURCE is the name of one file, which stays one; a pattern or a folder may name more tomorrow."""
    if not isinstance(spec, str | os.PathLike):
        return False
    text = os.fspath(spec)
    return Path(text).is_file() or ("://" in text and not has_braces(text))


def sharding_of(source: Source) -> Sharding:
    """How `open_sources` divided a source."""
    found = getattr(source, "sharding", None)
    return found if isinstance(found, Sharding) else Sharding()
