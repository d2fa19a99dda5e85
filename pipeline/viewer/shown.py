"""Rows as the page gets them: JSON in which text is only text."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import orjson

from pipeline.formatting import printable
from pipeline.store.reviews import Review
from pipeline.viewer.parts import Snapshot, unplaced

IN_LIST: Final = (
    *("id", "prompt_name", "image", "status", "caption", "labels", "flags", "cost_usd", "latency_s"),
    *("error_kind", "error_message", "answered_at", "width", "height"),
)
_CHARS_IN_LIST: Final = 2_000
"""Of a caption: a page of OCR may have a million."""
_APART: Final = frozenset({"id", "prompt_name", "caption", "labels", "status", "flags"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def names_in(snapshot: Snapshot, names: Sequence[str]) -> list[str]:
    """Those that the dataset has: an earlier version may have made it."""
    return [name for name in names if name in snapshot.columns.names]


def listed(at: int, row: Mapping[str, Any], review: Review | None) -> dict[str, object]:
    """One row of a page."""
    caption = row.get("caption")
    part, place = unplaced(at)
    return {
        "at": f"{part}.{place}",
        "id": row["id"],
        "name": printable(row["id"]),
        "prompt": row["prompt_name"],
        "status": row["status"],
        "caption": None if caption is None else caption[:_CHARS_IN_LIST],
        "is_cut": caption is not None and len(caption) > _CHARS_IN_LIST,
        "labels": labels_of(row.get("labels")),
        "flags": row.get("flags") or [],
        "cost": None if row.get("cost_usd") is None else _text(row["cost_usd"]),
        "latency": row.get("latency_s"),
        "error_kind": row.get("error_kind"),
        "error": None if row.get("error_message") is None else printable(row["error_message"]),
        "answered_at": ticks(row["answered_at"]),
        "size": None if row.get("width") is None else [row["width"], row["height"]],
        "review": None if review is None else reviewed(review),
    }


def whole(at: int, row: Mapping[str, Any], review: Review | None) -> dict[str, object]:
    """One row with all that is known of it."""
    facts = [(name, _text(value)) for name, value in row.items() if name not in _APART and value is not None]
    return {**listed(at, row, review), "caption": row.get("caption"), "is_cut": False, "facts": facts}


def reviewed(review: Review) -> dict[str, object]:
    return {"mark": review.mark, "caption": review.caption}


def labels_of(labels: object) -> list[tuple[str, str]]:
    """Names and values, `a.b` for the field of a field; those without a value are left out."""
    if isinstance(labels, str):  # a schema that is recursive or open
        return [("labels", labels)]
    return list(_flat(labels, "")) if isinstance(labels, Mapping) else []


def _flat(labels: Mapping[str, Any], prefix: str) -> "list[tuple[str, str]]":
    found: list[tuple[str, str]] = []
    for name, value in labels.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        elif value is not None:
            found.append((prefix + name, _text(value)))
    return found


def _text(value: object) -> str:
    """A value for people: lists of texts by commas, other compound values as JSON."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return orjson.dumps(value, default=str).decode() if isinstance(value, list | dict) else str(value)


def ticks(at: datetime | None) -> int | None:
    """A time as whole microseconds, which JavaScript holds exactly."""
    if at is None:
        return None
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
