"""Models whose image processors are public: Qwen, Mistral, Llama. Hosts may bill them otherwise."""

from dataclasses import dataclass
from functools import cache
from math import ceil, floor, sqrt
from typing import ClassVar

from pipeline.tokens.base import AUTO, TokenRange, billed_alike, ceil_div, chosen


@dataclass(frozen=True, slots=True)
class QwenResize:
    """A token for each `factor` x `factor` pixels of the image, its sides rounded to multiples of `factor`.

    Source: `smart_resize` of the package qwen-vl-utils; Alibaba Cloud, "Visual understanding" (`added`); SiliconFlow,
    "Vision" (`round_up`, `low_side`). An aspect ratio above 200:1 is refused by the model; here it is counted.
    """

    MOST_ASPECT: ClassVar[int] = 200

    name: str
    factor: int
    min_tokens: int = 4
    max_tokens: int = 16384
    added: int = 0
    """Tokens that the host bills around each image."""
    may_add: int = 0
    """The same where it is not known whether this host does."""
    round_up: bool = False
    low_side: int | None = None
    """`low` and `auto` are scaled to a square of this side; None: the host has no detail."""

    @property
    def details(self) -> tuple[str, ...]:
        return () if self.low_side is None else ("low", "high")

    @property
    def auto(self) -> str:
        return AUTO if self.low_side is None else "low"

    def tokens(self, width: int, height: int, detail: str = AUTO) -> TokenRange:
        seen_width, seen_height = self._resized(width, height)
        if self.low_side is not None and chosen(detail, self.details, self.auto) == "low":
            seen_width = seen_height = self.low_side
        count = (seen_width // self.factor) * (seen_height // self.factor) + self.added
        return TokenRange(count, count + self.may_add, count)

    def looked_at(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:
        if self.low_side is not None and chosen(detail, self.details, self.auto) == "low":
            return self._around(width, height, self.low_side)
        if self._cut(width) * self._cut(height) <= self.max_tokens * self.factor**2:
            return width, height
        return billed_alike((width, height), self._resized(width, height), lambda w, h: self.tokens(w, h, detail))

    @staticmethod
    def _around(width: int, height: int, side: int) -> tuple[int, int]:
        shorter = min(width, height)
        if shorter <= side:
            return width, height
        return ceil_div(width * side, shorter), ceil_div(height * side, shorter)

    def _cut(self, side: int) -> int:
        whole = ceil_div(side, self.factor) if self.round_up else round(side / self.factor)
        return max(self.factor, whole * self.factor)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        cut_width, cut_height = self._cut(width), self._cut(height)
        if cut_width * cut_height > self.max_tokens * self.factor**2:
            scale = sqrt(width * height / (self.max_tokens * self.factor**2))
            return (
                max(self.factor, floor(width / scale / self.factor) * self.factor),
                max(self.factor, floor(height / scale / self.factor) * self.factor),
            )
        if cut_width * cut_height < self.min_tokens * self.factor**2:
            scale = sqrt(self.min_tokens * self.factor**2 / (width * height))
            return (
                ceil(width * scale / self.factor) * self.factor,
                ceil(height * scale / self.factor) * self.factor,
            )
        return cut_width, cut_height


@dataclass(frozen=True, slots=True)
class MistralRows:
    """A token for each patch of `patch_side` pixels (patch x merge), and one at the end of each row.

    Source: the image encoder of the package mistral-common.
    """

    name: str
    max_side: int
    patch_side: int

    details: ClassVar[tuple[str, ...]] = ()
    auto: ClassVar[str] = AUTO

    def tokens(self, width: int, height: int, detail: str = AUTO) -> TokenRange:
        seen_width, seen_height = self.looked_at(width, height, detail)
        return TokenRange.exactly((ceil_div(seen_width, self.patch_side) + 1) * ceil_div(seen_height, self.patch_side))

    def looked_at(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:  # noqa: ARG002 - it has none
        ratio = max(height / self.max_side, width / self.max_side)
        if ratio <= 1:
            return width, height
        return max(1, round(width / ratio)), max(1, round(height / ratio))


@dataclass(frozen=True, slots=True)
class LlamaCanvas:
    """`tile_tokens` for each tile of the canvas that fits the image best, out of all with up to `max_tiles` tiles.

    Source: the processors of Llama 4 and Llama 3.2 Vision in the package transformers. The canvas is the one that
    enlarges least, else the one that shrinks least, and among those the smallest.
    """

    name: str
    tile_side: int
    max_tiles: int
    tile_tokens: int
    separator_tokens: int = 0
    """After each tile, where there are several."""
    overview_tokens: int = 0
    """Of the small picture of the whole that several tiles come with."""
    marker_tokens: int = 0
    lower: int | None = None
    """The least that a host might bill; None: the count itself."""

    details: ClassVar[tuple[str, ...]] = ()
    auto: ClassVar[str] = AUTO

    def tokens(self, width: int, height: int, detail: str = AUTO) -> TokenRange:  # noqa: ARG002 - it has none
        _, tiles = self._canvas(width, height)
        count = tiles * self.tile_tokens + self.marker_tokens
        if tiles > 1:
            count += tiles * self.separator_tokens + self.overview_tokens
        return TokenRange(count, count, count if self.lower is None else min(count, self.lower))

    def looked_at(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:
        scale, _ = self._canvas(width, height)
        if scale * self.tile_side >= width * height:
            return width, height
        target = max(1, scale * self.tile_side // height), max(1, scale * self.tile_side // width)
        return billed_alike((width, height), target, lambda w, h: self.tokens(w, h, detail))

    def _canvas(self, width: int, height: int) -> tuple[int, int]:
        """(scale, tiles) of the best canvas; the scale in units of tile_side / (width * height), a whole number."""
        best = (True, 0, 0)
        for number, (columns, rows) in enumerate(_layouts(self.max_tiles)):
            scale = min(columns * height, rows * width)
            shrinks = scale * self.tile_side < width * height
            found = (shrinks, -scale if shrinks else scale, columns * rows)
            best = found if number == 0 else min(best, found)
        return abs(best[1]), best[2]


@cache
def _layouts(max_tiles: int) -> tuple[tuple[int, int], ...]:
    sides = range(1, max_tiles + 1)
    return tuple((columns, rows) for columns in sides for rows in sides if columns * rows <= max_tiles)
