"""What every token rule answers, and the arithmetic that several of them share. Sizes are (width, height), upright."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

AUTO = "auto"

_NUDGES = tuple(sorted(((x, y) for x in range(4) for y in range(4)), key=sum))


@dataclass(frozen=True, slots=True)
class TokenRange:
    """Tokens of one image: what to expect, and bounds that the bill should stay between."""

    expected: int
    upper: int
    lower: int

    @classmethod
    def exactly(cls, tokens: int, off_by: int = 0) -> Self:
        """A count that is published as exact, or as right within `off_by` tokens."""
        return cls(tokens, tokens + off_by, max(0, tokens - off_by))

    @classmethod
    def over(cls, expected: int, others: "list[TokenRange]") -> Self:
        """A range that spans all `others`."""
        return cls(expected, max(other.upper for other in others), min(other.lower for other in others))


class TokenRule(Protocol):
    """How one generation of models looks at an image, and what it bills for it."""

    @property
    def name(self) -> str:
        """Dated: `openai-patch-2026-08`. Rows say by which rule they were predicted."""
        ...

    @property
    def details(self) -> tuple[str, ...]:
        """The values of the field `detail` that the model distinguishes, without `auto`; empty where it has none."""
        ...

    @property
    def auto(self) -> str:
        """What `auto` means; `auto` itself where there is nothing to choose from."""
        ...

    def tokens(self, width: int, height: int, detail: str = AUTO) -> TokenRange:
        """Tokens of an image that arrives as `width` x `height` pixels. A `detail` that it does not have is `auto`."""
        ...

    def looked_at(self, width: int, height: int, detail: str = AUTO) -> tuple[int, int]:
        """The size to send instead: the largest at which the model loses nothing of what it would look at itself.

        Never larger than the image, and billed like it, but for an image that would be refused: that one has no bill.
        """
        ...


def chosen(detail: str, details: tuple[str, ...], auto: str) -> str:
    return detail if detail in details else auto


def ceil_div(number: int, by: int) -> int:
    return -(-number // by)


def fitted(width: int, height: int, max_side: int) -> tuple[int, int]:
    """The longer side at most `max_side`, the other one rounded to the nearest pixel; never enlarged."""
    longer = max(width, height)
    if longer <= max_side:
        return width, height
    return _rounded(width * max_side, longer), _rounded(height * max_side, longer)


def _rounded(number: int, by: int) -> int:
    return max(1, (2 * number + by) // (2 * by))


def billed_alike(
    size: tuple[int, int], target: tuple[int, int], count: Callable[[int, int], object]
) -> tuple[int, int]:
    """`target`, or a size up to three pixels larger, that `count` bills like `size`; `size` where there is none.

    Rounding a side changes the aspect ratio a little, which can tip an image over the edge of a row of patches.
    """
    width, height = size
    wanted = count(width, height)
    for more_width, more_height in _NUDGES:
        sent = min(width, target[0] + more_width), min(height, target[1] + more_height)
        if count(*sent) == wanted:
            return sent
    return size
