"""What stands at a place of a foreign body, where it is of the kind that belongs there."""

from collections.abc import Collection
from typing import Any, Final

MOST: Final = 2**31
"""Pixels, pages or scores beyond it are none."""


def dict_of(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def list_of(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def dicts_of(value: object) -> list[dict[str, Any]]:
    """The objects of a list; of anything else none."""
    return [item for item in list_of(value) if isinstance(item, dict)]


def string_of(value: object) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def word_of(value: object, words: Collection[str]) -> str | None:
    """One of these words; lists and objects have no hash, and are none."""
    return value if isinstance(value, str) and value in words else None


def number_of(value: object) -> float | None:
    """A number that is finite; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < MOST else None


def count_of(value: object) -> int | None:
    """A whole number that a column of 32 bits holds."""
    number = number_of(value)
    return int(number) if number is not None and number >= 0 and number.is_integer() else None
