"""Samples: how they are drawn, and that their intervals hold what they say."""

from collections.abc import Sequence
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.estimates.statistics import Interval, Pick, allocate, seconds_per_image, stratified, t_quantile, total

# Student's t at 0.975. Source: NIST/SEMATECH, "e-Handbook of Statistical Methods", 1.3.6.7.2.
T_TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 7: 2.365, 10: 2.228, 20: 2.086, 30: 2.042, 100: 1.984}


def picker(seed: int) -> Pick:
    random = Random(seed)
    return lambda population, wanted: random.sample(range(population), wanted)


def test_t_quantiles_are_those_of_the_tables() -> None:
    """Three decimals for whole degrees of freedom, 0.95 and 0.975; between two whole ones lies a broken one."""
    assert {freedom: round(t_quantile(0.975, freedom), 3) for freedom in T_TABLE} == T_TABLE
    assert [round(t_quantile(0.95, freedom), 3) for freedom in (1, 5, 30)] == [6.314, 2.015, 1.697]
    assert T_TABLE[3] > t_quantile(0.975, 3.5) > T_TABLE[4]
    assert round(t_quantile(0.975, 1e6), 3) == 1.960


@given(st.lists(st.integers(0, 10_000), max_size=300), st.integers(1, 120), st.integers(0, 9))
def test_every_stratum_is_sampled(predicted: list[int], wanted: int, seed: int) -> None:
    """Strata divide the population, lie in the order of what is predicted, and each has two images at least."""
    strata = stratified(predicted, wanted, picker(seed))
    chosen = [position for stratum in strata for position in stratum.chosen]
    assert sum(stratum.size for stratum in strata) == len(predicted)
    assert len(chosen) == len(set(chosen)) <= max(wanted, 2)
    assert len(chosen) >= min(wanted, len(predicted))
    assert all(len(stratum.chosen) >= min(2, stratum.size) for stratum in strata)
    edges = [[predicted[position] for position in stratum.chosen] for stratum in strata]
    assert all(max(below) <= min(above) for below, above in pairwise(edges))


def test_proportional_allocation() -> None:
    """Shares follow the sizes, remainders go to the largest, and no stratum gives more than it has."""
    assert allocate([100, 100, 100], 10) == [4, 3, 3]
    assert allocate([600, 300, 100], 10) == [6, 3, 2]  # two of the smallest, whatever its share
    assert allocate([1, 99], 50) == [1, 49]


def test_the_same_seed_draws_the_same() -> None:
    """A sample that was interrupted goes on with the same images."""
    predicted = [number % 97 for number in range(1000)]
    assert stratified(predicted, 50, picker(3)) == stratified(predicted, 50, picker(3))
    assert stratified(predicted, 50, picker(3)) != stratified(predicted, 50, picker(4))


def test_known_totals() -> None:
    """A worked example by hand; a census has no margin; a single value stands for nothing."""
    found = total([(10, [1.0, 3.0]), (20, [5.0, 5.0])])
    assert found is not None
    # 10 x 2 + 20 x 5; the variance is 10 x 8 / 2 x 2 = 80, with one degree of freedom.
    assert found.expected == 120
    assert found.high - found.expected == pytest.approx(12.7062 * 80**0.5, rel=1e-5)
    assert total([(2, [1.0, 2.0]), (1, [4.0])]) == Interval(7, 7, 7)
    assert total([(10, [1.0])]) is None
    assert total([(40, [2.0] * 20), (20, [2.0] * 10)]) == Interval(120, 114, 126)  # 30 more, 3 in 30 off by 2
    assert total([(40, [0.0] * 20)], unit=1.0) == Interval(0, -3, 3)
    assert total([]) is None


def test_thin_strata_are_joined() -> None:
    """Where images of a stratum gave no answer, it counts with the one before it."""
    assert total([(10, [1.0, 3.0]), (10, [2.0])]) == total([(20, [1.0, 3.0, 2.0])])
    assert total([(10, []), (10, [2.0, 4.0])]) == total([(20, [2.0, 4.0])])


def test_intervals_as_values() -> None:
    """Shifted by what is known, scaled by a price, turned over, and never below what was seen."""
    assert Interval(2, 1, 4).shifted(1).scaled(2) == Interval(6, 4, 10)
    assert Interval(2, 1, 4).inverse() == Interval(0.5, 0.25, 1)
    assert Interval(2, -1, 4).at_least(0) == Interval(2, 0, 4)


class Dataset:
    """2,000 images of mixed sizes: what is predicted of each, and what it costs with an answer of some length."""

    def __init__(self, seed: int, items: int = 2000) -> None:
        random = np.random.default_rng(seed)
        sizes = np.array([85, 255, 425, 765, 1105, 1445])
        self.predicted = random.choice(sizes, items, p=[0.05, 0.2, 0.2, 0.4, 0.1, 0.05])
        answers = np.minimum(300, random.gamma(4, 12, items).astype(int) + 5)
        self.cost = self.predicted * 2.5 + answers * 10.0

    def measured(self, wanted: int, pick: Pick) -> list[tuple[int, Sequence[float]]]:
        strata = stratified(self.predicted, wanted, pick)
        return [(stratum.size, self.cost[list(stratum.chosen)].tolist()) for stratum in strata]


def standard_width(measured: list[tuple[int, Sequence[float]]]) -> float:
    """The textbook's: as many degrees of freedom as there are values less strata."""
    spread = sum(n * (n - len(v)) / len(v) * np.var(v, ddof=1) for n, v in measured)
    freedom = sum(len(v) - 1 for _, v in measured)
    return float(2 * t_quantile(0.975, freedom) * spread**0.5)


def test_coverage_of_a_stratified_sample() -> None:
    """Over 500 seeds 92 to 98 % of the intervals hold the truth, at most 1.3 times as wide as the textbook's."""
    inside, ratios = 0, []
    for seed in range(500):
        data = Dataset(seed)
        measured = data.measured(50, picker(seed))
        found = total(measured)
        assert found is not None
        inside += found.low <= data.cost.sum() <= found.high
        ratios.append((found.high - found.low) / standard_width(measured))
    assert 460 <= inside <= 490
    assert max(ratios) <= 1.3


def test_coverage_of_a_probe() -> None:
    """`--probe 2000` of a million: 92 to 98 % of 500 simple random samples hold the truth in their interval."""
    tokens = Dataset(1, 1_000_000).predicted.astype(float)
    truth, inside, margins = tokens.sum(), 0, []
    for seed in range(500):
        chosen = np.random.default_rng(seed).choice(len(tokens), 2000, replace=False, shuffle=False)
        found = total([(len(tokens), tokens[chosen].tolist())])
        assert found is not None
        inside += found.low <= truth <= found.high
        margins.append((found.high - found.low) / 2 / truth)
    assert 460 <= inside <= 490
    assert max(margins) < 0.03


def test_the_pace_of_answers() -> None:
    """An even pace is certain, a ragged one is not, and a few answers tell no pace."""
    even = seconds_per_image([number / 8 for number in range(50)])
    assert even is not None
    assert (even.expected, even.low, even.high) == pytest.approx((0.125, 0.125, 0.125))
    ragged = seconds_per_image([number / 8 + (number > 25) * 5 for number in range(50)])
    assert ragged is not None
    assert 0 < ragged.low < ragged.expected < ragged.high
    assert seconds_per_image([0.0, 1.0, 2.0]) is None
    assert seconds_per_image([1.0] * 20) is None
