"""A record of a shard: the members of one key."""

from collections.abc import Sequence

from pipeline.config.sections import SourceConfig
from pipeline.records import ImageRecord
from pipeline.sources.extras import record_flaw, to_json
from pipeline.sources.manifest import ABSENT, id_flaw
from pipeline.sources.naming import MEDIA_SUFFIXES, check_videos, identify, names_document, shown
from pipeline.sources.shards import OpenShard
from pipeline.sources.tarrecords import BadRecordError, Part, columns_of, image_of


class KeyedRecords:
    """Makes records as the configuration says: the image, the other columns, and the id."""

    def __init__(self, config: SourceConfig) -> None:
        self.has_documents = False
        """Whether one of the images has been a PDF."""
        self._config = config
        self._most_text = config.max_record_kb * 1024
        self._ranks = {suffix[1:].lower(): rank for rank, suffix in enumerate(config.extensions or MEDIA_SUFFIXES)}

    def record(self, opened: OpenShard, parts: Sequence[Part], *, extras: bool) -> ImageRecord | None:
        """None where there is no image. Raises DamagedError, and BadRecordError with the place of the record."""
        try:
            return self._record(opened, parts, extras=extras)
        except BadRecordError as error:
            key, _, first = parts[0]
            raise BadRecordError(f"the record {shown(key)!r} (byte {first.offset:,}): {error}") from None

    def _record(self, opened: OpenShard, parts: Sequence[Part], *, extras: bool) -> ImageRecord | None:
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
        named = f"{opened.shard.label}/{parts[0].key}" if given is ABSENT else str(given)
        return ImageRecord(identify(named), (opened.location(image),), extra if extras else None)
