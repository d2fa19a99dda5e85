"""A figure with its range."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Generic, TypeVar

N = TypeVar("N", int, float, Decimal)


@dataclass(frozen=True, slots=True)
class Range(Generic[N]):
    """What to expect, and what it lies between. `high` is None where nothing bounds it."""

    expected: N
    low: N
    high: N | None

    @classmethod
    def exactly(cls, value: N) -> "Range[N]":
        return cls(value, value, value)
