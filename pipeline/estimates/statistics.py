"""What a sample says of the whole: strata, totals with a confidence interval, and how fast answers come.

Sources: Cochran, "Sampling Techniques" (3rd edition), 2.6 (finite population), 5.4 (stratified sums and their effective
degrees of freedom, after Satterthwaite); Press et al., "Numerical Recipes", 6.4 (the incomplete beta function).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from math import exp, lgamma, log, log1p, sqrt
from statistics import fmean, variance
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.tokens.ranges import Range

CONFIDENCE: Final = 0.95
PER_STRATUM: Final = 5
"""Images that a stratum is worth having for: with fewer, its own variance is guesswork."""
MOST_STRATA: Final = 10
"""More gain next to nothing (Cochran, 5A.8)."""
PACES: Final = 10
LEAST_PACE: Final = 7
"""Answers that three parts of the time take."""

Pick = Callable[[int, int], Sequence[int]]
"""(population, n) -> n different numbers below the population, at random: `lambda m, n: rng.sample(range(m), n)`."""
Measured = tuple[int, Sequence[float]]
"""A stratum: how many items it has, and the values of those that were measured."""

_ROUNDING: Final = 1e-9
"""Of sums of floats, as a share."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, and the bounds that hold the truth in 95 of 100 samples."""

    expected: float
    low: float
    high: float

    def shifted(self, by: float) -> "Interval":
        return Interval(self.expected + by, self.low + by, self.high + by)

    def scaled(self, by: float) -> "Interval":
        return Interval(self.expected * by, self.low * by, self.high * by)

    def inverse(self) -> "Interval":
        """Of what is above zero: seconds an image -> images a second."""
        return Interval(1 / self.expected, 1 / self.high, 1 / self.low)

    def at_least(self, least: float) -> "Interval":
        """The same where nothing below `least` is possible: what was seen already is part of the truth."""
        return Interval(max(self.expected, least), max(self.low, least), max(self.high, least))


@dataclass(frozen=True, slots=True)
class Stratum:
    """Items that are alike in their prediction."""

    size: int
    chosen: tuple[int, ...]
    """Their positions in the population, ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFacts:
    """What a paid sample measured of one model; ranges are 95 % intervals."""

    asked: int
    answered: int
    """Of these, images whose bill is known to be whole; those that failed for a passing reason are not."""
    seed: int
    out: str
    """Where the answers are kept: a run on it goes on from them."""
    images_per_s: Range[float] | None
    hours: Range[float] | None
    """Of the whole job, at that pace."""
    usd_per_hour: Decimal | None
    """Of the user's own machines (`prices.usd_per_hour`)."""
    own_usd: Range[Decimal] | None
    """What these cost for the whole job."""
    spent_usd: Decimal | None = None
    """What the answers of the sample cost, whenever they were asked; None where no answer says."""
    no_pace: str | None = None
    """Why there is no pace."""
    own_usd_per_image: Decimal | None = None
    """An API that takes less is cheaper."""
    own_usd_per_mtok: Decimal | None = None
    """The same for a million tokens, prompt and answer alike."""


def stratified(predicted: Sequence[int] | NDArray[np.int64], wanted: int, pick: Pick) -> tuple[Stratum, ...]:
    """`wanted` of the items, spread over equal quantiles of what is predicted, in proportion and at least two of each.

    Items of one prediction may fall into two strata: which it is depends on their position alone. Where there are no
    more items than wanted, all are chosen.
    """
    order = np.argsort(np.asarray(predicted, dtype=np.int64), kind="stable")
    if wanted >= len(order):
        return (Stratum(len(order), tuple(range(len(order)))),) if len(order) else ()
    groups = np.array_split(order, max(1, min(MOST_STRATA, wanted // PER_STRATUM)))
    shares = allocate([len(group) for group in groups], wanted)
    return tuple(
        Stratum(len(group), tuple(sorted(group[list(pick(len(group), share))].tolist())))
        for group, share in zip(groups, shares, strict=True)
    )


def allocate(sizes: Sequence[int], wanted: int) -> list[int]:
    """How many of each stratum: in proportion, the largest remainders first, at least two where there are two."""
    exact = [wanted * size / sum(sizes) for size in sizes]
    shares = [min(size, max(2, int(share))) for size, share in zip(sizes, exact, strict=True)]
    by_remainder = sorted(range(len(sizes)), key=lambda index: shares[index] - exact[index])
    for index in by_remainder[: max(0, wanted - sum(shares))]:
        shares[index] += shares[index] < sizes[index]
    return shares


def by_three(count: int) -> float:
    """How large a share of others may differ, where `count` were all alike: the rule of three, at 95 %.

    Source: Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249 (1983).
    """
    return min(1.0, 3 / count)


def total(measured: Sequence[Measured], unit: float = 0.0) -> Interval | None:
    """The sum over all items of all strata; None where nothing was measured, or one value stands for many.

    The bounds are those of Student's t with Satterthwaite's degrees of freedom; a stratum that was measured whole adds
    nothing to their distance. Strata with a single value are joined with the one before. Where none has any spread,
    the share of `by_three` may be off by as much again, and by a `unit` (of what is counted) at least.
    """
    strata = _joined(measured)
    if strata is None:
        return None
    expected = sum(size * fmean(values) for size, values in strata)
    part_seen = [(size, values) for size, values in strata if size > len(values)]
    if not _has_spread(part_seen, unit):
        margin = _without_spread(part_seen, unit)
        return Interval(expected, expected - margin, expected + margin)
    parts = [
        (size * (size - len(values)) / len(values) * variance(values), len(values) - 1) for size, values in part_seen
    ]
    spread = sum(part for part, _ in parts)
    freedom = spread**2 / sum(part**2 / degrees for part, degrees in parts)
    margin = t_quantile((1 + CONFIDENCE) / 2, freedom) * sqrt(spread)
    return Interval(expected, expected - margin, expected + margin)


def is_alike(measured: Sequence[Measured], unit: float = 0.0) -> bool:
    """Whether nothing that was measured differs from the rest of its stratum, and not all was measured."""
    part_seen = [(size, values) for size, values in _joined(measured) or () if size > len(values)]
    return bool(part_seen) and not _has_spread(part_seen, unit)


def _has_spread(strata: Sequence[Measured], unit: float) -> bool:
    """Money is rounded: what differs by a tenth of a `unit` is alike."""
    return any(max(values) - min(values) > max(unit / 10, _ROUNDING * max(map(abs, values))) for _, values in strata)


def _without_spread(part_seen: Sequence[Measured], unit: float) -> float:
    seen = sum(len(values) for _, values in part_seen)
    off = sum((size - len(values)) * max(unit, abs(fmean(values))) for size, values in part_seen)
    return by_three(seen) * off if seen else 0.0


def _joined(measured: Sequence[Measured]) -> list[tuple[int, list[float]]] | None:
    joined: list[tuple[int, list[float]]] = []
    for size, values in measured:
        if joined and (_is_thin(joined[-1]) or _is_thin((size, values))):
            joined[-1] = (joined[-1][0] + size, joined[-1][1] + list(values))
        elif size:
            joined.append((size, list(values)))
    return joined if joined and not _is_thin(joined[0]) else None


def _is_thin(stratum: Measured) -> bool:
    size, values = stratum
    return len(values) < min(2, size)


def seconds_per_image(answered_s: Sequence[float]) -> Interval | None:
    """How long an image takes where many are asked at a time, from the times at which answers came; None if too few.

    Answers come in bursts, so that single distances mean little: the times are cut into ten parts of equally many
    answers, and the parts are compared. The bounds are of a ratio, and so never negative.
    """
    times = sorted(answered_s)
    parts = min(PACES, (len(times) - 1) // 2)
    if len(times) < LEAST_PACE or times[-1] <= times[0]:  # two parts would have an interval without use
        return None
    edges = [round(part * (len(times) - 1) / parts) for part in range(parts + 1)]
    paces = [(times[b] - times[a]) / (b - a) for a, b in pairwise(edges)]
    expected = (times[-1] - times[0]) / (len(times) - 1)
    relative = sqrt(variance(paces) / parts) / expected
    factor = exp(t_quantile((1 + CONFIDENCE) / 2, parts - 1) * relative)
    return Interval(expected, expected / factor, expected * factor)


def t_quantile(probability: float, freedom: float) -> float:
    """Student's t: the value that is not exceeded with this probability (above one half); `freedom` may be broken."""
    low, high = 0.0, 1.0
    while _t_probability(high, freedom) < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_probability(middle, freedom) < probability else (low, middle)
    return (low + high) / 2


def _t_probability(t: float, freedom: float) -> float:
    return 1 - _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularised; by whichever of its two continued fractions converges quickly."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(a, b, x) / a
    return 1 - front * _beta_fraction(b, a, 1 - x) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Lentz's method."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    result = d
    for m in range(1, 500):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / (1 + term * d), 1 + term / c
            result *= d * c
        if abs(d * c - 1) < 1e-14:  # noqa: PLR2004 - as far as floats go
            break
    return result
