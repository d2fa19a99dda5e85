"""The rows of the gallery, as a template shows them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from pipeline.commands.report.collect import MOST_TEXT, says
from pipeline.commands.report.pictures import Picture
from pipeline.engine.progress import dollars
from pipeline.pages.thumbnails import Thumbnail
from pipeline.store.reviewed import Reviewed
from pipeline.store.reviews import Review

MOST_VALUE: Final = 200
"""Characters of one label."""


@dataclass(frozen=True, slots=True)
class Card:
    """One row."""

    number: int
    """In the order of the dataset."""
    id: str
    image: str | None
    """Where it has another name than the row."""
    prompt_name: str
    status: str
    caption: str | None
    """As it was corrected, where a person did."""
    answered: str | None
    """The answer that was corrected."""
    review: tuple[str, ...]
    """What people say of the answer: corrected, good, bad."""
    error: str | None
    labels: tuple[tuple[str, str], ...]
    flags: tuple[str, ...]
    facts: tuple[str, ...]
    cost: str
    """To sort by: as a number; empty where it is unknown. So `tokens` and `latency`."""
    tokens: str
    latency: str
    thumbnail: Thumbnail | None
    placeholder: str
    """Why there is no thumbnail."""


def cards_of(rows: Sequence[Mapping[str, Any]], pictures: Sequence[Picture], reviewed: Reviewed) -> list[Card]:
    return [_card(*one, reviewed.of(one[1])) for one in zip(range(len(rows)), rows, pictures, strict=True)]


def _card(number: int, row: Mapping[str, Any], picture: Picture, review: Review | None) -> Card:
    answer = None if row.get("labels") and _is_json(row["caption"]) else row["caption"]
    corrected = None if review is None or review.caption is None else review.caption[:MOST_TEXT]
    cost, tokens = row["cost_usd"], row["completion_tokens"]
    kind, message = row["error_kind"], row["error_message"]
    return Card(
        number=number,
        id=row["id"],
        image=None if _says_as_much(row["id"], row["image"]) else row["image"],
        prompt_name=row["prompt_name"],
        status=row["status"],
        caption=answer if corrected is None else corrected,
        answered=None if corrected is None else answer,
        review=() if review is None else tuple(says(review)),
        error=f"{kind}: {message}" if kind and message else kind,
        labels=tuple(_labels(row.get("labels"))),
        flags=tuple(row["flags"] or ()),
        facts=tuple(_facts(row)),
        cost="" if cost is None else str(cost),
        tokens="" if tokens is None else str(tokens),
        latency="" if row["latency_s"] is None else str(row["latency_s"]),
        thumbnail=picture if isinstance(picture, Thumbnail) else None,
        placeholder=picture if isinstance(picture, str) else "",
    )


def _is_json(caption: str | None) -> bool:
    """Whether it says what the labels say."""
    return (caption or "").lstrip().startswith(("{", "```"))


def _says_as_much(name: str, image: str | None) -> bool:
    """Whether the name of a row is also that of its image."""
    return image is None or image == name or image.endswith(f"/{name}")


def _labels(labels: object) -> Iterator[tuple[str, str]]:
    if isinstance(labels, str):
        try:
            labels = json.loads(labels)
        except ValueError:  # cut short
            labels = {"labels": labels}
    if isinstance(labels, Mapping):
        for name, value in labels.items():
            yield str(name), label_text(value)


def label_text(value: object) -> str:
    """One value on a line: text as it is, lists with commas, anything else as JSON."""
    if value is None:
        return "none"
    if isinstance(value, list) and not any(isinstance(one, dict | list) for one in value):
        value = ", ".join(label_text(one) for one in value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MOST_VALUE else f"{text[:MOST_VALUE]}\N{HORIZONTAL ELLIPSIS}"


def _facts(row: Mapping[str, Any]) -> Iterator[str]:
    """What it cost and took."""
    if isinstance(cost := row["cost_usd"], Decimal):
        yield dollars(cost)
    if row["prompt_tokens"] is not None or row["completion_tokens"] is not None:
        yield f"{row['prompt_tokens'] or 0:,} + {row['completion_tokens'] or 0:,} tokens"
    if row["latency_s"]:
        yield f"{row['latency_s']:.1f} s"
    if row["width"] and row["height"]:
        size, sent = (row["width"], row["height"]), (row["sent_width"], row["sent_height"])
        yield f"{_pixels(*size)} px" + ("" if sent == size or None in sent else f", sent {_pixels(*sent)}")
    if row["duplicate_of"]:
        yield f"shares the answer of {row['duplicate_of']}"
    if row["model"]:
        yield row["model"]


def _pixels(width: int, height: int) -> str:
    return f"{width} \N{MULTIPLICATION SIGN} {height}"
