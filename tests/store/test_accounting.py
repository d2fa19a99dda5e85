"""What outcomes add to the totals."""

from collections import Counter
from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from pipeline.money import Bill, nano_usd, usd
from pipeline.store.accounting import Totals, count_bill, count_outcome
from tests.store.test_columns import ANSWERED, FAILED


@given(st.integers(-(10**18) + 1, 10**18 - 1))
def test_nano_dollars_are_exact(nano: int) -> None:
    """Proves that every sum with nine places survives the way into the totals and back."""
    assert nano_usd(usd(nano)) == nano


def test_totals_add_up() -> None:
    """Proves what answers and failures add to the totals, an unpriced answer included."""
    counts: Counter[str] = Counter()
    for outcome in (ANSWERED, FAILED, replace(ANSWERED, cost_usd=None)):
        count_outcome(counts, outcome)
    totals = Totals.of(counts)
    assert totals == Totals(
        requests=10,
        ok=2,
        failed=1,
        prompt_tokens=1600,
        cached_tokens=6,
        completion_tokens=10,
        reasoning_tokens=2,
        total_tokens=1610,
        predicted_prompt_tokens=1530,
        cost_usd=Decimal("0.000000002"),
        unpriced=1,
    )
    assert totals.records == 3


def test_a_bill_taken_away_leaves_nothing() -> None:
    """Proves that a bill which a row counts again can be subtracted exactly."""
    counts: Counter[str] = Counter()
    bill = Bill(usage=ANSWERED.usage, cost_usd=Decimal("0.25"))
    count_bill(counts, bill + bill)
    assert (counts["requests"], counts["prompt_tokens"], counts["cost_nano_usd"]) == (2, 1600, 500_000_000)
    count_bill(counts, bill + bill, times=-1)
    assert set(counts.values()) == {0}
