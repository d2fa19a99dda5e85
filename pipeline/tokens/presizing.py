"""At which size an image is sent: the largest at which this model loses nothing of what it would look at itself."""

from dataclasses import dataclass
from typing import Final, Protocol

from pipeline.tokens import TokenRule, UnknownRule, accepted
from pipeline.tokens.sizing import SizeRule

MOST_KEPT_SIDE: Final = 2000
"""A larger image is always made smaller: not every provider accepts it (Anthropic, with many images in a request)."""
LEAST_SIDE: Final = 32
"""No limit in tokens makes the longer side smaller than this (pixels): nothing could be seen."""


class Target(Protocol):
    """Says in which size a `width` x `height` image (upright pixels) is sent; never larger."""

    def target(self, width: int, height: int) -> tuple[int, int]: ...

    def keeps(self, width: int, height: int) -> bool:
        """Whether an image may also be sent as it is, for no more tokens than at its target."""
        ...


@dataclass(frozen=True, slots=True)
class LookedAt:
    """What a model with this rule looks at, within the user's own limits (`images.max_side`, `max_image_tokens`).

    `max_tokens` are those that the rule expects. An image that no size brings down to them is sent as without: where
    a model bills every size alike, a smaller one would only be worse.
    """

    rule: TokenRule
    detail: str
    max_side: int | None = None
    max_tokens: int | None = None

    def target(self, width: int, height: int) -> tuple[int, int]:
        size = self.rule.looked_at(width, height, self.detail)
        if self.max_side is not None:
            size = SizeRule(self.max_side).target(*size)
        return size if self.max_tokens is None or self._fits(size) else self._cheaper(*size)

    def keeps(self, width: int, height: int) -> bool:
        """Where the model resizes the image itself, and bills it alike."""
        longer = max(width, height)
        if (
            longer > MOST_KEPT_SIDE
            or isinstance(self.rule, UnknownRule)
            or accepted(self.rule, width, height) != (width, height)
        ):
            return False
        if (self.max_side is not None and longer > self.max_side) or not self._fits((width, height)):
            return False
        as_it_is, resized = (
            self.rule.tokens(*size, self.detail) for size in ((width, height), self.target(width, height))
        )
        return as_it_is.expected <= resized.expected and as_it_is.upper <= resized.upper

    def reaches(self) -> bool:
        """Whether some size of an image costs no more than `max_tokens`."""
        return self.max_tokens is None or self._fits((LEAST_SIDE, LEAST_SIDE))

    def _fits(self, size: tuple[int, int]) -> bool:
        return self.max_tokens is None or self.rule.tokens(*size, self.detail).expected <= self.max_tokens

    def _cheaper(self, width: int, height: int) -> tuple[int, int]:
        """By bisection of the longer side: it fits, and one pixel more would not."""
        fits, too_large = LEAST_SIDE, max(width, height)
        if fits >= too_large or not self._fits(SizeRule(fits).target(width, height)):
            return width, height
        while fits + 1 < too_large:
            middle = (fits + too_large) // 2
            if self._fits(SizeRule(middle).target(width, height)):
                fits = middle
            else:
                too_large = middle
        return SizeRule(fits).target(width, height)
