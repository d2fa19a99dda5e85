"""Claude: patches of 28 pixels, in two tiers. Source: Anthropic, "Vision" and "Coordinates and bounding boxes"."""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.tokens.base import AUTO, TokenRange, ceil_div

PATCH_SIDE = 28
PIXELS_PER_TOKEN = 750


@dataclass(frozen=True, slots=True)
class AnthropicPatches:
    """A token for each 28-pixel patch of the largest size with sides <= `max_side` and <= `max_tokens` patches."""

    name: str
    max_side: int
    max_tokens: int

    details: ClassVar[tuple[str, ...]] = ()
    auto: ClassVar[str] = AUTO

    def tokens(self, width: int, height: int, detail: str = AUTO) -> TokenRange:
        return TokenRange.exactly(_patches(*self.looked_at(width, height, detail)))

    def looked_at(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:  # noqa: ARG002 - it has none
        if self._fits(width, height):
            return width, height
        longer, shorter = self._largest(max(width, height), min(width, height))
        return (longer, shorter) if width >= height else (shorter, longer)

    def _largest(self, longer: int, shorter: int) -> tuple[int, int]:
        """The vendor's own binary search over the longer side, which rounds the other one half to even."""
        aspect = longer / shorter
        fits, too_large = 1, longer
        while fits + 1 < too_large:
            middle = (fits + too_large) // 2
            if self._fits(middle, max(1, round(middle / aspect))):
                fits = middle
            else:
                too_large = middle
        return fits, max(1, round(fits / aspect))

    def _fits(self, width: int, height: int) -> bool:
        padded = ceil_div(max(width, height), PATCH_SIDE) * PATCH_SIDE
        return padded <= self.max_side and _patches(width, height) <= self.max_tokens


@dataclass(frozen=True, slots=True)
class AnthropicArea:
    """The rule until 2026: width x height / 750 tokens of the same size. Too little for newer models."""

    name: str
    max_side: int = 1568
    max_tokens: int = 1568

    details: ClassVar[tuple[str, ...]] = ()
    auto: ClassVar[str] = AUTO

    def tokens(self, width: int, height: int, detail: str = AUTO) -> TokenRange:
        seen_width, seen_height = self.looked_at(width, height, detail)
        return TokenRange.exactly(ceil_div(seen_width * seen_height, PIXELS_PER_TOKEN))

    def looked_at(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:
        return AnthropicPatches(self.name, self.max_side, self.max_tokens).looked_at(width, height, detail)


def _patches(width: int, height: int) -> int:
    return ceil_div(width, PATCH_SIDE) * ceil_div(height, PATCH_SIDE)
