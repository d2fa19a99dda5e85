"""WebDataset shards: tars in which the members of one record follow each other and share a key.

A record is a key that has an image. A shard is never unpacked: its headers
are walked, small texts are read with them, and an image is read where it lies when its turn comes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from copy import copy
from itertools import groupby, islice
from typing import Self

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.locations import TarMember
from pipeline.records import ImageRecord
from pipeline.sources.base import AllBadError, check_ids
from pipeline.sources.extras import record_flaw, to_json
from pipeline.sources.manifest import ABSENT, id_flaw
from pipeline.sources.naming import MEDIA_SUFFIXES, check_videos, identify, names_document, shown
from pipeline.sources.passed import PassedOver, passed_words
from pipeline.sources.shards import OpenShard, Shard
from pipeline.sources.tarfiles import DamagedError
from pipeline.sources.tarrecords import MOST_MEMBERS, BadRecordError, Part, columns_of, image_of, parts_in, pass_over


class ShardsSource:
    """The records of one tar or of several, in order. The id is `shard/key`."""

    has_several = False
    is_manifest = True
    grouped_by = None

    def __init__(self, shards: Sequence[Shard], config: SourceConfig, *, name: str) -> None:
        self.name = name
        self.skipped = 0
        self.passed_over = Counter[str]()
        self.has_documents = False
        self._shards, self._config = shards, config
        self._most_text = config.max_record_kb * 1024
        self._ranks = {suffix[1:].lower(): rank for rank, suffix in enumerate(config.extensions or MEDIA_SUFFIXES)}

    @property
    def shards(self) -> Sequence[Shard]:
        return self._shards

    def only(self, shards: Sequence[Shard]) -> Self:
        """The same source with some of its shards."""
        part = copy(self)
        part._shards, part.is_manifest = shards, False  # noqa: SLF001 - of this class
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
        for shard in self._shards:
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
            kind = AllBadError if self.skipped else InputError
            raise kind(self._nothing_found(passed.by_kind))
        self.passed_over = passed.by_kind

    def _of_shard(self, shard: Shard, passed: PassedOver, *, extras: bool) -> Iterator[ImageRecord]:
        """Raises DamagedError and OSError."""
        with OpenShard(shard) as opened:
            for key, group in groupby(parts_in(opened.stream, passed), key=lambda part: part.key):
                parts = list(islice(group, MOST_MEMBERS + 1))
                try:
                    record = self._record(opened, key, parts, extras=extras)
                except BadRecordError as error:
                    at = parts[0].member.offset
                    where = f"{shard.shown}: the record {shown(key)!r} (byte {at:,}): {error}; mend the shard"
                    self._reject(where, "skip such records")
                    continue
                if record is None:
                    pass_over(parts, passed)
                else:
                    yield record

    def _record(self, opened: OpenShard, key: str, parts: list[Part], *, extras: bool) -> ImageRecord | None:
        """None where there is no image. Raises DamagedError, and BadRecordError."""
        image = image_of(parts, self._config.image_column, self._ranks)
        if image is None:
            return None
        check_videos((image.name,), opened.shard.shown)
        self.has_documents = self.has_documents or names_document(image.name)
        columns = columns_of(opened.stream, parts, self._most_text, self._ranks)
        # Without `extras` it is made only where it may be too much.
        may_be_long = sum(part.member.size for part in parts) - image.size > self._most_text // 6
        extra = to_json(columns) if extras or may_be_long else None
        flaw = record_flaw(extra, self._config)
        given = ABSENT if self._config.id_column is None else columns.get(self._config.id_column)
        flaw = flaw or (None if given is ABSENT else id_flaw(given))
        if flaw is not None:
            raise BadRecordError(flaw)
        named = f"{opened.shard.label}/{key}" if given is ABSENT else str(given)
        return ImageRecord(identify(named), (opened.location(image),), extra if extras else None)

    def _reject(self, what: str, way_out: str) -> None:
        if not self._config.skip_bad_rows:
            raise InputError(f"{what}, or {way_out} with `source.skip_bad_rows`")
        self.skipped += 1

    def _nothing_found(self, by_kind: Counter[str]) -> str:
        held = passed_words(by_kind) or ("nothing else" if self.skipped else "no files")
        skipped = f"; {self.skipped:,} damaged records or shards were skipped" if self.skipped else ""
        where = "it" if len(self._shards) == 1 else "its shards"
        found = f"{shown(self.name)}: no images in {where} ({held}){skipped}"
        return f"{found}; `source.extensions` names other formats"
