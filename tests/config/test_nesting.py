"""How deep a value is nested."""

from typing import Any

from pipeline.config.nesting import is_too_deep


def nested(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def test_levels_are_counted() -> None:
    """A plain value has none; lists and objects count alike; far beyond Python's own recursion it still answers."""
    assert not is_too_deep(1, 0)
    assert is_too_deep([], 0)
    for levels in (1, 7, 100):
        assert not is_too_deep(nested(levels), levels)
        assert is_too_deep(nested(levels), levels - 1)
    assert is_too_deep(nested(5_000))
