"""Gemini: crops of 258 tokens (to 2.5), and a grid within a budget (from 3).

Source: Google, "Understand and count tokens" and "Media resolution". `detail` is read as the media resolution, with
or without the prefix that Google's own field has. Whether Google's OpenAI-compatible endpoint maps `detail` to it is
not published, so that without the prefix the range spans what was asked for and the default. `details` are those
resolutions that the field `detail` has a word for; `medium` and `ultra_high` are counted, and not offered.
"""

from dataclasses import dataclass
from math import isqrt
from typing import ClassVar

from pipeline.tokens.base import AUTO, TokenRange, billed_alike, ceil_div

PREFIX = "media_resolution_"
HIGH = "high"
CROP_SIDE = 768
"""Each crop is scaled to 768 x 768 pixels."""
OLD_CROP_SIDES = 256, 768
"""Google's page of the 1.5 models keeps the side of a crop between these."""


@dataclass(frozen=True, slots=True)
class GeminiCrops:
    """258 tokens a crop: one up to 384 x 384 pixels, else squares of 2/3 of the shorter side.

    Google calls the formula approximate. The range spans it, the same with the side kept within 256 to 768 pixels as
    the page of the 1.5 models has it, and `maximum`, the figure of the page on media resolution. Once an image is sent
    as `looked_at` says, both formulas agree for all but thin ones.
    """

    name: str
    crop_tokens: int = 258
    one_crop_side: int = 384
    low: int | None = None
    """Tokens at media resolution low; None: the same as the others."""
    medium: int | None = None
    maximum: int | None = None

    auto: ClassVar[str] = HIGH

    @property
    def details(self) -> tuple[str, ...]:
        return (HIGH,) if self.low is None else ("low", HIGH)

    def tokens(self, width: int, height: int, detail: str = AUTO) -> TokenRange:
        whole = self._crops_range(width, height)
        fixed = {"low": self.low, "medium": self.medium}.get(detail.removeprefix(PREFIX))
        if fixed is None:
            return whole
        exact = TokenRange.exactly(fixed)
        return exact if detail.startswith(PREFIX) else TokenRange.over(fixed, [exact, whole])

    def looked_at(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:  # noqa: ARG002 - see below
        """What the smaller resolutions lose is not published: the size is that of `high` for all of them."""
        shorter = min(width, height)
        limit = CROP_SIDE * 3 // 2
        if shorter <= limit:
            return width, height
        target = ceil_div(width * limit, shorter), ceil_div(height * limit, shorter)
        return billed_alike((width, height), target, self._crops)

    def _crops_range(self, width: int, height: int) -> TokenRange:
        if max(width, height) <= self.one_crop_side:
            return TokenRange.exactly(self.crop_tokens)
        expected = self._crops(width, height) * self.crop_tokens
        old = self._crops(width, height, *OLD_CROP_SIDES) * self.crop_tokens
        return TokenRange(expected, max(expected, old, self.maximum or 0), min(expected, old))

    def _crops(self, width: int, height: int, least: int = 1, most: int | None = None) -> int:
        if max(width, height) <= self.one_crop_side:
            return 1
        side = max(least, min(width, height) * 2 // 3)
        side = side if most is None else min(most, side)
        return ceil_div(width, side) * ceil_div(height, side)


@dataclass(frozen=True, slots=True)
class GeminiGrid:
    """As many tokens as a grid of the image's aspect ratio has within a budget, whatever the pixels.

    The budgets are published as approximate maxima. The exact count, floor(sqrt(budget * w / h)) columns by
    floor(sqrt(budget * h / w)) rows, is inferred from measured bills and is what the open Gemma 4 processor does;
    so are the 48 pixels that a token sees.
    """

    name: str
    low: int = 280
    medium: int = 560
    high: int = 1120
    ultra_high: int = 2240
    token_side: int = 48

    @property
    def details(self) -> tuple[str, ...]:
        return () if self.low == self.high else ("low", HIGH)

    @property
    def auto(self) -> str:
        return HIGH if self.details else AUTO

    def tokens(self, width: int, height: int, detail: str = AUTO) -> TokenRange:
        asked = self._range(width, height, self._budget(detail))
        if detail.startswith(PREFIX):
            return asked
        return TokenRange.over(asked.expected, [asked, self._range(width, height, self.high)])

    def looked_at(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:
        asked = self._budget(detail)
        columns, rows = _grid(width, height, asked if detail.startswith(PREFIX) else max(asked, self.high))
        seen_width, seen_height = columns * self.token_side, rows * self.token_side
        if seen_width >= width or seen_height >= height:
            return width, height
        if seen_width * height >= seen_height * width:
            target = seen_width, ceil_div(seen_width * height, width)
        else:
            target = ceil_div(seen_height * width, height), seen_height
        return billed_alike((width, height), target, lambda w, h: self.tokens(w, h, detail))

    def _budget(self, detail: str) -> int:
        budgets = {"low": self.low, "medium": self.medium, HIGH: self.high, "ultra_high": self.ultra_high}
        return budgets.get(detail.removeprefix(PREFIX), self.high)

    @staticmethod
    def _range(width: int, height: int, budget: int) -> TokenRange:
        columns, rows = _grid(width, height, budget)
        return TokenRange(columns * rows, budget, columns * rows)


def _grid(width: int, height: int, budget: int) -> tuple[int, int]:
    columns, rows = isqrt(budget * width // height), isqrt(budget * height // width)
    if not columns:
        return 1, min(height // width, budget)
    if not rows:
        return min(width // height, budget), 1
    return columns, rows
