"""Records of several images: a list in one row, or neighbouring rows that belong together."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Final

import orjson

from pipeline.errors import InputError
from pipeline.locations import Location
from pipeline.records import ImageRecord
from pipeline.sources.naming import short

TEXT_COLUMN: Final = "image_text"
"""The text of an image, sent before it: of each row of a group, or a list beside a list of images."""
MOST_IMAGES: Final = 10_000
"""Images that a record may have: it is held in memory as a whole, and no endpoint takes more."""

Listed = list[tuple[Any, Any]]
"""(image, text) of each image of a row."""


def images_in(cell: object) -> Listed | object:
    """The images of a row that holds a list of them, each with its text, or None; any other cell as it is.

    A list holds paths, or objects with `image` and `text`. In a CSV it is JSON, between brackets.
    """
    if isinstance(cell, str) and cell.startswith("[") and cell.rstrip().endswith("]"):
        try:
            cell = orjson.loads(cell)
        except orjson.JSONDecodeError:
            return cell  # a file whose name begins so
    return listed_images(cell) if isinstance(cell, list) else cell


def listed_images(cell: list[Any]) -> Listed:
    """The images of a list, each with its text, or None."""
    return [(one.get("image"), one.get("text")) if isinstance(one, dict) else (one, None) for one in cell]


def flaw_of(listed: Listed) -> str | None:
    """What is wrong with a list of images as a whole."""
    if not listed:
        return "the list of images is empty"
    if len(listed) > MOST_IMAGES:
        return f"{len(listed):,} images in one record; {MOST_IMAGES:,} are possible"
    odd = next((text for _, text in listed if not (text is None or isinstance(text, str))), None)
    return None if odd is None else f"the text of an image is {type(odd).__name__}, not text"


def texts_of(listed: Listed, extra: str | None) -> tuple[str | None, ...]:
    """The text of each image of a list: its own, or that of the column `image_text`; empty where none has one."""
    texts = [text if isinstance(text, str) and text else None for _, text in listed]
    column = _text_column(extra)
    if isinstance(column, str) and column.startswith("["):
        try:
            column = orjson.loads(column)
        except orjson.JSONDecodeError:
            column = None
    if isinstance(column, list) and len(column) == len(texts):
        given = [one if isinstance(one, str) and one else None for one in column]
        texts = [own or other for own, other in zip(texts, given, strict=True)]
    return tuple(texts) if any(texts) else ()


def _text_column(extra: str | None) -> Any:  # noqa: ANN401 - whatever stands in the column
    return orjson.loads(extra).get(TEXT_COLUMN) if extra is not None and f'"{TEXT_COLUMN}"' in extra else None


def grouped(records: Iterable[ImageRecord], place: str) -> Iterator[ImageRecord]:
    """Neighbouring records with one id as one record, with the other columns and the line of the first.

    `place` begins a message. Raises InputError for a group that is too large to be one record.
    """
    for record_id, group in groupby(records, key=lambda record: record.id):
        first, images, texts = None, list[Location](), list[str | None]()
        for record in group:
            first = first or record
            images += record.images
            texts += record.image_texts or [_row_text(record)] * len(record.images)
            if len(images) > MOST_IMAGES:
                raise InputError(f"{place}: more than {MOST_IMAGES:,} images belong to {short(record_id)!r}")
        if first is not None:
            yield ImageRecord(first.id, tuple(images), first.extra, first.line, tuple(texts) if any(texts) else ())


def _row_text(record: ImageRecord) -> str | None:
    text = _text_column(record.extra)
    return text if isinstance(text, str) and text else None


def distinct(ids: Iterable[str]) -> Iterator[str]:
    """Of neighbours that are equal, one."""
    return (record_id for record_id, _ in groupby(ids))
