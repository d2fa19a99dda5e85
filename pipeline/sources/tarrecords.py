"""The members of one record of a shard: which of them is the image, and what the others say about it.

The key is a member's name up to the first dot behind its folders, the rest is its extension: `a/0001.seg.png` has the
key `a/0001` and the extension `seg.png`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any, Final, NamedTuple

import orjson

from pipeline.config.nesting import DEEPEST, is_too_deep
from pipeline.sources.naming import shown
from pipeline.sources.passed import WITHOUT_SUFFIX, PassedOver, suffix_of
from pipeline.sources.tarfiles import Member, Stream, members

MOST_MEMBERS: Final = 1_000
"""Under one key: they are held together."""
_WHOLE: Final = re.compile(r"-?\d{1,18}")


Ranks = Mapping[str, int]
"""The extensions of images, the first in the list lowest."""


class Part(NamedTuple):
    """A member with a key."""

    key: str
    extension: str
    member: Member


class BadRecordError(Exception):
    """What is wrong with the members of one key."""


def keys_in(stream: Stream, passed: PassedOver) -> Iterator[list[Part]]:
    """Neighbouring members of one key, one more than it may have at most; `passed` counts those without a key.

    Raises DamagedError.
    """
    for _, parts in groupby(_parts_in(stream, passed), key=lambda part: part.key):
        yield list(islice(parts, MOST_MEMBERS + 1))


def _parts_in(stream: Stream, passed: PassedOver) -> Iterator[Part]:
    """The members that have a key; hidden names are not counted."""
    for member in members(stream, passed):
        folder, slash, name = _relative(member.name).rpartition("/")
        stem, dot, extension = name.partition(".")
        if not stem or (name.startswith("__") and name.endswith("__")):
            continue
        if not dot:
            passed.add(WITHOUT_SUFFIX)
            continue
        yield Part(folder + slash + stem, extension.lower(), member)


def pass_over(parts: Sequence[Part], passed: PassedOver) -> None:
    """Count the members of a key that has no image, each by its suffix."""
    for part in parts:
        passed.add(suffix_of(part.member.name.encode("utf-8", "surrogateescape")) or WITHOUT_SUFFIX)


def _relative(name: str) -> str:
    """A member's name without `/` and `./` before it."""
    while name.startswith(("/", "./")):
        name = name.partition("/")[2]
    return name


def image_of(parts: Sequence[Part], wanted: str | None, ranks: Ranks) -> Member | None:
    """The member with the extension `wanted`, or else, of several images, the first by the list of formats.

    None where there is no image. Raises BadRecordError.
    """
    if len(parts) > MOST_MEMBERS:
        raise BadRecordError(f"more than {MOST_MEMBERS:,} members have this key, up to the first dot of a name")
    if len({part.extension for part in parts}) < len(parts):
        raise BadRecordError("two of its members have one name")
    ranked = [(rank, part) for part in parts if (rank := _rank(part.extension, ranks)) is not None]
    if wanted is not None:
        ranked = [(0, part) for part in parts if part.extension == wanted.lower()] or ranked
        if ranked and ranked[0][1].extension != wanted.lower():
            raise BadRecordError(f"it has no member {wanted!r} (`source.image_column`), only {_listed(parts)}")
    named = [(rank, part) for rank, part in ranked if "." not in part.extension]
    if len(ranked) > 1 and not named:
        raise BadRecordError(
            f"it has several images ({_listed([part for _, part in ranked])}), since a key ends at the first dot of a "
            "name; choose one with `source.image_column=EXTENSION`"
        )
    return min(named or ranked)[1].member if ranked else None


def _listed(parts: Sequence[Part]) -> str:
    return ", ".join(shown(part.extension) for part in parts[:5]) + (", ..." if len(parts) > 5 else "")  # noqa: PLR2004 - fits a line


def columns_of(stream: Stream, parts: Sequence[Part], most_bytes: int, ranks: Ranks) -> dict[str, Any]:
    """The other members that are texts and not large: the fields of `json`, the others by their extension.

    Raises BadRecordError and DamagedError.
    """
    columns: dict[str, Any] = {}
    for extension, member in ((part.extension, part.member) for part in parts):
        if _rank(extension, ranks) is not None or member.size > most_bytes:
            continue
        data = stream.read(member.offset, member.size)
        if (text := _text(extension, data)) is None:
            continue
        value = _value(extension, text)
        columns |= value if extension == "json" and isinstance(value, dict) else {extension: value}
    return columns


def _rank(extension: str, ranks: Ranks) -> int | None:
    """The place of an image's format in the list of formats; None for what is no image."""
    return ranks.get(extension.rpartition(".")[2])


def _text(extension: str, data: bytes) -> str | None:
    """None for what is no text. Raises BadRecordError where it ought to be."""
    if b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        if extension not in {"txt", "json", "cls"}:
            return None
        raise BadRecordError(f"its member {extension!r} is not UTF-8") from None


def _value(extension: str, text: str) -> Any:  # noqa: ANN401 - whatever the JSON holds
    """Raises BadRecordError for JSON that cannot be read."""
    if extension.rpartition(".")[2] == "json":
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            try:
                value = json.loads(text)  # NaN, which Python's own writer leaves
            except (ValueError, RecursionError):
                raise BadRecordError(f"its member {shown(extension)!r} is not valid JSON: {error.msg}") from None
        if text.count("[") + text.count("{") > DEEPEST and is_too_deep(value):
            raise BadRecordError(f"its member {shown(extension)!r} is nested deeper than {DEEPEST} levels")
        return value
    text = text.removesuffix("\n").removesuffix("\r")
    return int(text) if extension == "cls" and _WHOLE.fullmatch(text) else text
