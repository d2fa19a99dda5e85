"""How deep a value of lists and objects is nested, found without recursion."""

from collections.abc import Mapping
from typing import Final

DEEPEST: Final = 100
"""Levels of lists and objects that are read. JSON writers and readers give up beyond a few hundred, each elsewhere."""


def is_too_deep(value: object, deepest: int = DEEPEST) -> bool:
    """Whether `value` has more than `deepest` levels; a plain value has none."""
    level = [value]
    for _ in range(deepest):
        level = [item for one in level for item in _items(one)]
        if not level:
            return False
    return any(isinstance(one, (Mapping, list, tuple)) for one in level)


def _items(value: object) -> list[object]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else []
