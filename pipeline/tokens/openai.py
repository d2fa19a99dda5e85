"""OpenAI's two ways of counting: 512-pixel tiles and 32-pixel patches. Source: OpenAI, guide "Images and vision"."""

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import ClassVar

from pipeline.tokens.base import AUTO, TokenRange, ceil_div, chosen, fitted
from pipeline.tokens.sizing import OPENAI_HIGH, OPENAI_LOW, SizeRule

TILE_SIDE = 512
PATCH_SIDE = 32
OFF_BY = 1
"""The guide says of its own estimate by patches that rounding can make it wrong by one token."""


@dataclass(frozen=True, slots=True)
class OpenAITiles:
    """`base` tokens, and `tile` more for each 512-pixel square of the image once it fits `high`; `low`: the base.

    Sources: OpenAI, "Images and vision"; Microsoft, "Azure OpenAI: image tokens overview".
    """

    name: str
    base: int
    tile: int
    high: SizeRule = OPENAI_HIGH

    details: ClassVar[tuple[str, ...]] = ("low", "high")
    auto: ClassVar[str] = "high"

    def tokens(self, width: int, height: int, detail: str = AUTO) -> TokenRange:
        if detail == "low":
            return TokenRange.exactly(self.base)
        seen_width, seen_height = self.high.target(width, height)
        tiles = ceil_div(seen_width, TILE_SIDE) * ceil_div(seen_height, TILE_SIDE)
        return TokenRange.exactly(self.base + tiles * self.tile)

    def looked_at(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:
        return (OPENAI_LOW if detail == "low" else self.high).target(width, height)


@dataclass(frozen=True, slots=True)
class PatchLimits:
    """What one `detail` looks at: at most `max_side` pixels on the longer side and `budget` patches; None: no limit."""

    max_side: int | None = None
    budget: int | None = None
    refused_above: int | None = None
    """Patches. An image that still has more of them gets no answer and no bill (status 400)."""

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """The size that is cut into patches.

        The guide scales by s = sqrt(32^2 * budget / (w * h)) and then by what makes the tighter side a whole number
        of patches. w * s / 32 is sqrt(budget * w / h), so that whole numbers give its floor without rounding errors.
        """
        if self.max_side is not None:
            width, height = fitted(width, height, self.max_side)
        if self.budget is None or patches(width, height) <= self.budget:
            return width, height
        columns, rows = isqrt(self.budget * width // height), isqrt(self.budget * height // width)
        if not columns or not rows:
            return self._strip(width, height)
        if columns * height <= rows * width:
            return PATCH_SIDE * columns, max(1, PATCH_SIDE * columns * height // width)
        return max(1, PATCH_SIDE * rows * width // height), PATCH_SIDE * rows

    def accepted(self, width: int, height: int) -> tuple[int, int]:
        """The same image, or scaled by the same formula to `refused_above` patches where it would be refused."""
        if self.refused_above is None or patches(*self.resized(width, height)) <= self.refused_above:
            return width, height
        return PatchLimits(self.max_side, self.refused_above).resized(width, height)

    def _strip(self, width: int, height: int) -> tuple[int, int]:
        """An image so thin that the guide's formula leaves no whole patch across: one row of patches."""
        long_side = PATCH_SIDE * (self.budget or 1)
        longer = max(width, height)
        return max(1, width * long_side // longer), max(1, height * long_side // longer)


@dataclass(frozen=True, slots=True)
class OpenAIPatches:
    """`multiplier` tokens for each 32-pixel patch of the image once it fits the limits of its detail."""

    name: str
    multiplier: Fraction
    high: PatchLimits
    low: PatchLimits | None = None
    """None: `low` is the same as `auto`."""
    original: PatchLimits | None = None
    """None: not supported."""
    auto: str = "high"

    @property
    def details(self) -> tuple[str, ...]:
        known = (("low", self.low), ("high", self.high), ("original", self.original))
        return tuple(name for name, limits in known if limits is not None)

    def limits(self, detail: str) -> PatchLimits:
        known = {"low": self.low, "high": self.high, "original": self.original}
        return known[chosen(detail, self.details, self.auto)] or self.high

    def tokens(self, width: int, height: int, detail: str = AUTO) -> TokenRange:
        count = patches(*self.limits(detail).resized(width, height))
        return TokenRange.exactly(ceil_div(count * self.multiplier.numerator, self.multiplier.denominator), OFF_BY)

    def looked_at(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:
        return self.limits(detail).resized(*self.accepted(width, height, detail))

    def accepted(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:
        """The size itself, or the largest that is not refused."""
        return self.limits(detail).accepted(width, height)


def patches(width: int, height: int) -> int:
    return ceil_div(width, PATCH_SIDE) * ceil_div(height, PATCH_SIDE)
