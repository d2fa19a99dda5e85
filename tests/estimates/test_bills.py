"""Bills of a sample: what they say of all images, and what they do not."""

from array import array
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from pipeline.estimates.bills import Bills, Population
from pipeline.estimates.statistics import Interval, Stratum
from pipeline.tokens import OpenAITiles, TokenRange
from pipeline.tokens.prompt import PromptShape
from pipeline.tokens.ranges import Range

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
QUESTION = PromptShape(rule=OpenAITiles("t", 85, 170), detail="auto", text=TokenRange.exactly(45))
POPULATION = Population(np.arange(4), np.asarray([100, 200, 300, 400]))
WHOLE = (Stratum(4, (0, 1, 2, 3)),)
HALF = (Stratum(4, (0, 2)),)


def row(prompt: int | None, completion: int | None = 10, **more: Any) -> dict[str, Any]:
    plain = {"id": "a", "prompt_name": "caption", "status": "ok", "error_kind": None, "duplicate_of": None}
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "reasoning_tokens": None}
    return {**plain, **counts, "cost_usd": Decimal("0.001"), "run_id": "r", "answered_at": NOON, **more}


FAILED = row(None, None, status="failed", error_kind="image_unreadable", cost_usd=None)
TIMED_OUT = row(None, None, status="failed", error_kind="timeout", cost_usd=None)


def test_population_of_a_survey() -> None:
    """Sizes as a survey packs them become predictions; what cannot be read is no part of it."""
    population = Population.of(array("q", [512 << 32 | 512, 0, 1024 << 32 | 768, 512 << 32 | 512]), QUESTION)
    assert population.positions.tolist() == [0, 2, 3]
    assert population.predicted.tolist() == [300, 810, 300]


def test_an_exact_rule_needs_little_margin() -> None:
    """Where billed and predicted are equally far apart in all answers, the others may be as far again, or a token."""
    bills = Bills(POPULATION, HALF, [[row(103), row(303)]], exact=True)
    assert bills.tokens("prompt_tokens") == Range(1012, 1006, 1018)
    assert bills.is_alike("prompt_tokens")
    exactly = Bills(POPULATION, HALF, [[row(100), row(300)]], exact=True)
    assert exactly.tokens("prompt_tokens") == Range(1000, 998, 1002)
    free = Bills(POPULATION, HALF, [[row(103), row(303)]], exact=False)
    found = free.tokens("prompt_tokens")
    assert found is not None
    assert found.high is not None
    assert (found.expected, found.low) == (812, 406)  # never less than was billed already
    assert found.high > 1600


def test_cost_of_a_known_price() -> None:
    """Dollars are the sum of what rows say; the part that the prediction knows adds nothing to the margin."""
    price = Decimal("2.5")
    rows = [row(each, cost_usd=each * price / 1_000_000 + Decimal("0.0001")) for each in (100, 300)]
    cost = Bills(POPULATION, HALF, [rows], exact=True).cost_usd(price)
    assert cost == Range(Decimal("0.002900000"), Decimal("0.002700000"), Decimal("0.003100000"))
    assert Bills(POPULATION, WHOLE, [[row(1)] * 4], exact=True).cost_usd(None) == Range.exactly(Decimal("0.004000000"))


def test_what_is_not_stated_is_not_known() -> None:
    """An answer without a count or a cost makes the total unknown, an image that failed for good costs nothing."""
    bills = Bills(POPULATION, WHOLE, [[row(100), row(None), row(300), row(400)]], exact=True)
    assert bills.tokens("prompt_tokens") is None
    assert bills.tokens("reasoning_tokens") is None
    assert bills.tokens("completion_tokens") == Range.exactly(40)
    unpriced = [row(1, cost_usd=None), row(2), row(3), row(4)]
    assert Bills(POPULATION, WHOLE, [unpriced], exact=True).cost_usd(None) is None
    failed = Bills(POPULATION, WHOLE, [[FAILED, row(200), row(300), row(400)]], exact=True)
    assert failed.tokens("prompt_tokens") == Range.exactly(900)


def test_what_does_not_count() -> None:
    """Rows that will be asked again, that another one paid for, or that are not there, are represented by the rest."""
    rows = [TIMED_OUT, row(203), row(303, duplicate_of="b"), row(403)]
    bills = Bills(POPULATION, WHOLE, [rows], exact=True)
    assert (bills.asked, bills.answered) == (4, 2)
    assert bills.tokens("prompt_tokens") == Range(1012, 1006, 1018)
    none = Bills(POPULATION, WHOLE, [[None] * 4], exact=True)
    assert (none.tokens("prompt_tokens"), none.pace()) == (None, "nothing was asked anew")


def test_the_pace_is_that_of_one_run() -> None:
    """Answers of an earlier night do not slow the pace down."""
    times = [NOON + timedelta(seconds=number / 4) for number in range(40)]
    rows = [row(1, answered_at=at) for at in times] + [row(1, run_id="before", answered_at=NOON - timedelta(days=1))]
    population = Population(np.arange(41), np.ones(41, dtype=np.int64))
    pace = Bills(population, (Stratum(41, tuple(range(41))),), [rows], exact=True).pace()
    assert isinstance(pace, Interval)
    assert round(pace.expected, 6) == 0.25


def test_why_there_is_no_pace() -> None:
    """Six answers are too few; rows of a run that answered other images too tell nothing of its pace."""
    times = [NOON + timedelta(seconds=number) for number in range(7)]
    rows = [row(1, answered_at=at) for at in times]
    population = Population(np.arange(7), np.ones(7, dtype=np.int64))
    whole = Stratum(7, tuple(range(7)))
    assert isinstance(Bills(population, (whole,), [rows], exact=True).pace(), Interval)
    few = Bills(population, (whole,), [[*rows[:6], None]], exact=True)
    assert few.pace() == "too few answers for a pace (7 at least)"
    mixed = Bills(population, (whole,), [rows], exact=True, mixed=frozenset({"r"}))
    assert mixed.pace() == "nothing was asked anew"


def test_images_without_a_size() -> None:
    """They count like the others, and nothing is known of them exactly: the range is wide."""
    rows = [row(each) for each in (100, 200, 300, 400)]
    found = Bills(POPULATION, WHOLE, [rows], exact=True, images=8).tokens("prompt_tokens")
    assert found is not None
    assert found.expected == 2000
    assert 1000 <= found.low < 1500
    assert (found.high or 0) > 2500
    assert Bills(POPULATION, WHOLE, [rows], exact=True, images=4).tokens("prompt_tokens") == Range.exactly(1000)


def test_what_a_sample_cost() -> None:
    """The sum of what its rows say."""
    bills = Bills(POPULATION, WHOLE, [[row(1), row(2), FAILED, None]], exact=True)
    assert bills.spent_usd() == Decimal("0.002")
    assert Bills(POPULATION, WHOLE, [[FAILED] * 4], exact=True).spent_usd() is None
