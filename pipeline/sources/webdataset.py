"""WebDataset shards: tars in which the members of one record follow each other and share a key.

The key is a member's name up to the first dot behind its folders, the rest is its extension: `a/0001.seg.png` has the
key `a/0001` and the extension `seg.png`. A record is a key that has an image. A shard is never unpacked: its headers
are walked, small texts are read with them, and an image is read where it lies when its turn comes.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from typing import Any, Final, NamedTuple, Self

import orjson

from pipeline.config.nesting import DEEPEST, is_too_deep
from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.files import stamp_of
from pipeline.locations import EmbeddedImage, Location, TarMember
from pipeline.records import ImageRecord
from pipeline.sources.base import check_ids
from pipeline.sources.extras import record_flaw, to_json
from pipeline.sources.gunzip import GzipStream
from pipeline.sources.manifest import ABSENT, id_flaw
from pipeline.sources.naming import MEDIA_SUFFIXES, check_videos, identify, names_document, shown
from pipeline.sources.tarfiles import DamagedError, Member, PlainStream, Stream, members

TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz")

_RANKS: Final = {suffix[1:]: rank for rank, suffix in enumerate(MEDIA_SUFFIXES)}
_MOST_MEMBERS: Final = 1_000
"""Under one key: they are held together."""
_KINDS: Final = 100
"""Of members, that are counted for a message."""
_WHOLE: Final = re.compile(r"-?\d{1,18}")


class Shard(NamedTuple):
    """One tar of a source."""

    path: str
    label: str
    """Its part of the ids: its name without `.tar`, behind the folders that the pattern has wildcards in."""


class _Part(NamedTuple):
    """A member with a key."""

    key: str
    extension: str
    member: Member


class _BadRecordError(Exception):
    """What is wrong with the members of one key."""


def label_of(path: str) -> str:
    """What a shard is called in ids: `train/00000.tar` is `train/00000`."""
    suffix = next((suffix for suffix in TAR_SUFFIXES if path.lower().endswith(suffix)), "")
    return path[: len(path) - len(suffix)]


class ShardsSource:
    """The records of one tar or of several, in order. The id is `shard/key`."""

    has_several = False
    grouped_by = None

    def __init__(self, shards: Sequence[Shard], config: SourceConfig, *, name: str) -> None:
        self.name = name
        self.is_manifest = len(shards) == 1
        self.skipped = 0
        self.has_documents = False
        self._shards, self._config = shards, config
        self._most_text = config.max_record_kb * 1024

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
        seen: dict[str, int] = {}
        for shard in self._shards:
            try:
                for record in self._of_shard(shard, seen, extras=extras):
                    is_empty = False
                    yield record
            except DamagedError as error:
                where = f"{shown(shard.path)}: damaged at byte {error.offset:,}: {error}; get the shard again"
                self._reject(where, "go on without the rest of it")
            except OSError as error:
                self._reject(f"{shown(shard.path)}: cannot be read: {error.strerror or error}", "go on without it")
        if is_empty:
            raise InputError(self._nothing_found(seen))

    def _of_shard(self, shard: Shard, seen: dict[str, int], *, extras: bool) -> Iterator[ImageRecord]:
        """Raises DamagedError and OSError."""
        with _Opened(shard) as opened:
            for key, group in groupby(_parts(opened.stream, seen), key=lambda part: part.key):
                parts = list(islice(group, _MOST_MEMBERS + 1))
                try:
                    record = self._record(opened, key, parts, extras=extras)
                except _BadRecordError as error:
                    at = parts[0].member.offset
                    where = f"{shown(shard.path)}: the record {shown(key)!r} (byte {at:,}): {error}; mend the shard"
                    self._reject(where, "skip such records")
                    continue
                if record is not None:
                    yield record

    def _record(self, opened: "_Opened", key: str, parts: list[_Part], *, extras: bool) -> ImageRecord | None:
        """None where there is no image. Raises DamagedError, and _BadRecordError."""
        if len(parts) > _MOST_MEMBERS:
            raise _BadRecordError(f"more than {_MOST_MEMBERS:,} members have this key, up to the first dot of a name")
        if len({part.extension for part in parts}) < len(parts):
            raise _BadRecordError("two of its members have one name")
        image = self._image(parts)
        if image is None:
            return None
        check_videos((image.name,), opened.shard.path)
        self.has_documents = self.has_documents or names_document(image.name)
        columns = self._columns(opened.stream, parts)
        # Without `extras` it is made only where it may be too much.
        extra = (
            to_json(columns) if extras or sum(part.member.size for part in parts[1:]) > self._most_text // 6 else None
        )
        flaw = record_flaw(extra, self._config)
        given = ABSENT if self._config.id_column is None else columns.get(self._config.id_column)
        flaw = flaw or (None if given is ABSENT else id_flaw(given))
        if flaw is not None:
            raise _BadRecordError(flaw)
        named = f"{opened.shard.label}/{key}" if given is ABSENT else str(given)
        return ImageRecord(identify(named), (opened.location(image),), extra if extras else None)

    def _image(self, parts: list[_Part]) -> Member | None:
        """The image of a record: of several the one whose format comes first in the list of formats."""
        wanted = self._config.image_column
        if wanted is not None:
            found = next((part.member for part in parts if part.extension == wanted.lower()), None)
            if found is None:
                has = ", ".join(shown(part.extension) for part in parts[:10])
                raise _BadRecordError(f"it has no member {wanted!r} (`source.image_column`), only {has}")
            return found
        ranked = [
            (part.extension.count("."), rank, part) for part in parts if (rank := _rank(part.extension)) is not None
        ]
        return min(ranked)[2].member if ranked else None

    def _columns(self, stream: Stream, parts: list[_Part]) -> dict[str, Any]:
        """The other members that are small texts: the fields of `json`, the others by their extension."""
        columns: dict[str, Any] = {}
        for extension, member in ((part.extension, part.member) for part in parts):
            if _rank(extension) is not None or member.size > self._most_text:
                continue
            data = stream.read(member.offset, member.size)
            if (text := _text(extension, data)) is None:
                continue
            value = _value(extension, text)
            columns |= value if extension == "json" and isinstance(value, dict) else {extension: value}
        return columns

    def _reject(self, what: str, way_out: str) -> None:
        if not self._config.skip_bad_rows:
            raise InputError(f"{what}, or {way_out} with `source.skip_bad_rows`")
        self.skipped += 1

    def _nothing_found(self, seen: dict[str, int]) -> str:
        kinds = sorted(seen.items(), key=lambda pair: -pair[1])[:5]
        held = ", ".join(f"{count:,} .{shown(extension)}" for extension, count in kinds)
        skipped = f"; {self.skipped:,} damaged records or shards were skipped" if self.skipped else ""
        where = "it" if self.is_manifest else "its shards"
        return f"{shown(self.name)}: no images in {where} ({held or 'no files'}){skipped}"


class _Opened:
    """A shard whose headers are being read."""

    def __init__(self, shard: Shard) -> None:
        """Raises OSError."""
        self.shard = shard
        self.is_packed = not shard.path.lower().endswith(".tar")
        self._descriptor = os.open(shard.path, os.O_RDONLY | os.O_CLOEXEC)
        self._stamp = stamp_of(os.fstat(self._descriptor))
        self.stream: Stream = GzipStream(shard.path) if self.is_packed else PlainStream(self._descriptor)
        # Images are read behind the headers: a position of its own.
        self._images = GzipStream(shard.path) if self.is_packed else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def location(self, member: Member) -> Location:
        path = self.shard.path
        name = shown(f"{path}/{member.name}")
        if self._images is None:
            return TarMember(name, path, member.offset, member.size, self._stamp)
        return EmbeddedImage(name, path, partial(_unpacked, self._images, member), member.size)


def _unpacked(stream: Stream, member: Member) -> bytes:
    try:
        return stream.read(member.offset, member.size)
    except DamagedError as error:
        raise ValueError(str(error)) from None


def _parts(stream: Stream, seen: dict[str, int]) -> Iterator[_Part]:
    """The members that have a key; `seen` counts them by their kind. Raises DamagedError."""
    for member in members(stream):
        folder, slash, name = _relative(member.name).rpartition("/")
        stem, dot, extension = name.partition(".")
        if not stem or not dot or (name.startswith("__") and name.endswith("__")):
            continue
        extension = extension.lower()
        kind = extension.rpartition(".")[2]
        if kind in seen or len(seen) < _KINDS:
            seen[kind] = seen.get(kind, 0) + 1
        yield _Part(folder + slash + stem, extension, member)


def _relative(name: str) -> str:
    """A member's name without `/` and `./` before it."""
    while name.startswith(("/", "./")):
        name = name.partition("/")[2]
    return name


def _rank(extension: str) -> int | None:
    """The place of an image's format in the list of formats; None for what is no image."""
    return _RANKS.get(extension.rpartition(".")[2])


def _text(extension: str, data: bytes) -> str | None:
    """None for what is no text. Raises _BadRecordError where it ought to be."""
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        if extension not in {"txt", "json", "cls"}:
            return None
        raise _BadRecordError(f"its member {extension!r} is not UTF-8") from None


def _value(extension: str, text: str) -> Any:  # noqa: ANN401 - whatever the JSON holds
    """Raises _BadRecordError for JSON that cannot be read."""
    if extension.rpartition(".")[2] == "json":
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            try:
                value = json.loads(text)  # NaN, which Python's own writer leaves
            except (ValueError, RecursionError):
                raise _BadRecordError(f"its member {shown(extension)!r} is not valid JSON: {error.msg}") from None
        if is_too_deep(value):
            raise _BadRecordError(f"its member {shown(extension)!r} is nested deeper than {DEEPEST} levels")
        return value
    text = text.removesuffix("\n").removesuffix("\r")
    return int(text) if extension == "cls" and _WHOLE.fullmatch(text) else text
