"""Images counted by size, and what each model makes of them, in memory that does not grow with their number.

A token rule depends on an image's size only, so that it is evaluated once a size. Sizes are upright pixels.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor, sqrt
from typing import NamedTuple

from pipeline.estimates.statistics import by_three, t_quantile
from pipeline.tokens import TokenRange, rejects_shape
from pipeline.tokens.prompt import PromptShape, Size
from pipeline.tokens.ranges import Range

SizeOfSeveral = tuple[int, int, int]
"""Width and height, and the number of images of this size that one prompt holds: frames of a video."""
MOST_SIZES = 50_000
"""Different sizes that are kept apart; then they are counted, and forgotten."""
CLASSES_MP = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
"""Upper ends of the classes of a distribution, in megapixels."""
_MEGAPIXEL = 1_000_000
_TWO_SIDED_95 = 0.975


@dataclass(slots=True)
class Moments:
    """Count, sum and sum of squares of whole numbers, exact."""

    count: int = 0
    total: int = 0
    squares: int = 0

    def add(self, value: int, times: int = 1) -> None:
        self.count += times
        self.total += times * value
        self.squares += times * value * value

    @property
    def has_spread(self) -> bool:
        return self.count * self.squares != self.total**2

    def half_width(self, population: int) -> float:
        """Half of the 95 % interval of the sum over a `population` from which `count` were drawn at random.

        Where all of them are alike, that of `by_three`: others may be nothing, or twice as much.
        """
        if self.count >= population or not self.count:
            return 0.0
        if not self.has_spread:
            return by_three(self.count) * (population - self.count) * abs(self.total) / self.count
        spread = Fraction(self.count * self.squares - self.total**2, self.count * (self.count - 1))
        left_out = 1 - self.count / population
        return population * t_quantile(_TWO_SIDED_95, self.count - 1) * sqrt(float(spread) / self.count * left_out)

    def scaled(self, population: int) -> Fraction:
        """The sum over the population, extrapolated from the part that was seen."""
        return Fraction(self.total * max(population, self.count), self.count) if self.count else Fraction(0)


@dataclass(slots=True)
class Counted:
    """What one model makes of all images: tokens of whole prompts."""

    expected: Moments = field(default_factory=Moments)
    lower: Moments = field(default_factory=Moments)
    upper: Moments = field(default_factory=Moments)
    raw_tokens: int = 0
    """Expected, if the images were sent as they are, or at the largest size that the model accepts."""
    rejected: int = 0
    """Images whose shape the model refuses."""
    sent_pixels: int = 0
    by_detail: dict[str, int] = field(default_factory=dict)
    """Expected tokens of the images alone, for each detail that the model distinguishes."""
    read: "Counted | None" = None
    """Tokens of another model that reads the images first, where there is one."""

    def add(self, shape: PromptShape, size: Size, times: int, images: int = 1) -> None:
        """`times` prompts with this number of images each."""
        self._add(shape.tokens(*size, images), times)
        if (read := shape.read_tokens(*size, images)) is not None:
            self.read = self.read or Counted()
            self.read._add(read, times)  # noqa: SLF001 - of its own class
        self.raw_tokens += times * (shape.prompts * images * shape.unsized_tokens(*size) + shape.text.expected)
        self.rejected += times * rejects_shape(shape.rule, *size)
        width, height = shape.sent(*size)
        self.sent_pixels += times * images * width * height
        for detail in shape.rule.details:
            more = times * images * shape.image_tokens(*size, detail).expected
            self.by_detail[detail] = self.by_detail.get(detail, 0) + more

    def _add(self, tokens: TokenRange, times: int) -> None:
        self.expected.add(tokens.expected, times)
        self.lower.add(tokens.lower, times)
        self.upper.add(tokens.upper, times)

    def input_tokens(self, population: int) -> Range[int]:
        """Of the population, from what was counted: the rule's range, and the sample's interval around it."""
        low = self.lower.scaled(population) - Fraction(self.lower.half_width(population))
        high = self.upper.scaled(population) + Fraction(self.upper.half_width(population))
        return Range(round(self.expected.scaled(population)), max(0, floor(low)), ceil(high))

    def image_tokens(self, images: int, text: TokenRange, prompts: int = 1) -> Range[int]:
        """Of an image alone, in the mean over the `images` that were counted."""
        sums = (self.expected.total, text.expected), (self.lower.total, text.lower), (self.upper.total, text.upper)
        return Range(*(round((Fraction(total, images) - each) / prompts) for total, each in sums))

    def add_unreadable(self, count: int) -> None:
        """Images that are not sent take part in means as nothing."""
        for moments in (self.expected, self.lower, self.upper):
            moments.add(0, count)
        if self.read is not None:
            self.read.add_unreadable(count)


class SizeClass(NamedTuple):
    """Images above `above_mp` megapixels up to `up_to_mp` (None: whatever is larger)."""

    above_mp: float
    up_to_mp: float | None
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How large the images are. `typical` is one with as many smaller as larger ones."""

    smallest: Size
    typical: Size
    largest: Size
    classes: tuple[SizeClass, ...]
    pixels: int


class SizeHistogram:
    """Counts sizes. Each of the `shapes` is evaluated once for each size."""

    def __init__(self, shapes: Sequence[PromptShape]) -> None:
        self.shapes = tuple(shapes)
        self.counted = tuple(Counted() for _ in shapes)
        self.images = 0
        self._waiting: Counter[SizeOfSeveral] = Counter()
        self._first: Mapping[SizeOfSeveral, int] | None = None
        self._classes: Counter[int] = Counter()
        self._pixels = 0
        self._ends: list[Size] = []

    def add(self, size: Size, times: int = 1, images: int = 1) -> None:
        self._waiting[*size, images] += times
        self._grown(times)

    def add_all(self, sizes: Iterable[SizeOfSeveral]) -> None:
        before = self._waiting.total()
        self._waiting.update(sizes)
        self._grown(self._waiting.total() - before)

    def _grown(self, images: int) -> None:
        self.images += images
        if len(self._waiting) >= MOST_SIZES:
            self.settle()

    def settle(self) -> None:
        """Ask for what has been counted since."""
        waiting, self._waiting = self._waiting, Counter()
        if not waiting:
            return
        self._first = self._first or waiting
        for (width, height, images), times in waiting.items():
            self._classes[_class(width * height)] += times
            self._pixels += times * images * width * height
        ends = [*self._ends, *((width, height) for width, height, _ in waiting)]
        self._ends = [min(ends, key=_area), max(ends, key=_area)]
        for shape, counted in zip(self.shapes, self.counted, strict=True):
            for (width, height, images), times in waiting.items():
                counted.add(shape, (width, height), times, images)

    def distribution(self) -> Distribution | None:
        """None where nothing was counted."""
        self.settle()
        if self._first is None:
            return None
        found = range(min(self._classes), max(self._classes) + 1)
        bounds = (0.0, *CLASSES_MP, None)
        classes = tuple(SizeClass(bounds[at] or 0.0, bounds[at + 1], self._classes[at]) for at in found)
        return Distribution(
            smallest=self._ends[0],
            typical=_median(self._first),
            largest=self._ends[1],
            classes=classes,
            pixels=self._pixels,
        )


def _area(size: Size) -> int:
    return size[0] * size[1]


def _class(pixels: int) -> int:
    return next((at for at, end in enumerate(CLASSES_MP) if pixels <= end * _MEGAPIXEL), len(CLASSES_MP))


def _median(counts: Mapping[SizeOfSeveral, int]) -> Size:
    half, seen = sum(counts.values()) / 2, 0
    ordered = sorted(counts, key=lambda size: (_area(size[:2]), size))
    for size in ordered:
        seen += counts[size]
        if seen >= half:
            return size[:2]
    return ordered[-1][:2]
