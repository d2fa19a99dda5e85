"""WebDataset shards: tars in which the members of one record follow each other and share a key.

A record is a key that has an image. A shard is never unpacked: its headers are walked, small texts are read with
them, and an image is read where it lies when its turn comes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Self

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.locations import TarMember
from pipeline.records import ImageRecord
from pipeline.sources.base import check_ids, nothing_in
from pipeline.sources.empty import no_images_in_shards
from pipeline.sources.keyed import KeyedRecords
from pipeline.sources.passed import PassedOver
from pipeline.sources.shards import OpenShard, Shard
from pipeline.sources.tarfiles import DamagedError
from pipeline.sources.tarrecords import BadRecordError, keys_in, pass_over


class ShardsSource:
    """The records of one tar or of several, in order. The id is `shard/key`."""

    has_several = False
    is_manifest = True
    grouped_by = None

    def __init__(self, shards: Sequence[Shard], config: SourceConfig, *, name: str) -> None:
        self.name = name
        self.skipped = 0
        self.passed_over = Counter[str]()
        self.shards = shards
        self._config = config
        self._keyed = KeyedRecords(config)

    @property
    def has_documents(self) -> bool:
        return self._keyed.has_documents

    def only(self, shards: Sequence[Shard]) -> Self:
        """The same source with some of its shards."""
        part = copy(self)
        part.shards, part.is_manifest = shards, False
        return part

    def check(self) -> int | None:
        return check_ids([self])

    def ids(self) -> Iterator[str] | None:
        return (record.id for record in self._records(extras=False))

    def records(self) -> Iterator[ImageRecord]:
        return self._records(extras=True)

    def place(self, record: ImageRecord) -> str:
        image = record.images[0]
        at = f" (byte {image.offset:,})" if isinstance(image, TarMember) else ""
        return f"{record.image!r}{at}"

    def _records(self, *, extras: bool) -> Iterator[ImageRecord]:
        self.skipped = 0
        is_empty = True
        passed = PassedOver()
        for shard in self.shards:
            try:
                for record in self._of_shard(shard, passed, extras=extras):
                    is_empty = False
                    yield record
            except DamagedError as error:
                where = f"{shard.shown}: damaged at byte {error.offset:,}: {error}; get the shard again"
                self._reject(where, "go on without the rest of it")
            except OSError as error:
                self._reject(f"{shard.shown}: cannot be read: {error.strerror or error}", "go on without it")
        if is_empty:
            words = no_images_in_shards(self.name, len(self.shards), self.skipped, passed)
            raise nothing_in(words, self.skipped)
        self.passed_over = passed.by_kind

    def _of_shard(self, shard: Shard, passed: PassedOver, *, extras: bool) -> Iterator[ImageRecord]:
        """Raises DamagedError and OSError."""
        with OpenShard(shard) as opened:
            for parts in keys_in(opened.stream, passed):
                try:
                    record = self._keyed.record(opened, parts, extras=extras)
                except BadRecordError as error:
                    self._reject(f"{shard.shown}: {error}; mend the shard", "skip such records")
                    continue
                if record is None:
                    pass_over(parts, passed)
                else:
                    yield record

    def _reject(self, what: str, way_out: str) -> None:
        if not self._config.skip_bad_rows:
            raise InputError(f"{what}, or {way_out} with `source.skip_bad_rows`")
        self.skipped += 1
