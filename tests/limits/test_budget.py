"""A budget holds, for any sequence of reservations and bills."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.limits.budget import Amounts, Budget

amount = st.integers(0, 10**7)
predictions = st.builds(Amounts, nano_usd=amount | st.none(), tokens=amount | st.none(), requests=st.just(1))
budgets = st.builds(
    Amounts,
    nano_usd=st.integers(1, 10**8) | st.none(),
    tokens=st.integers(1, 10**8) | st.none(),
    requests=st.integers(1, 40) | st.none(),
)
shares = st.floats(0, 1)


def share_of(need: Amounts, share: float) -> Amounts:
    """A bill within its reservation."""
    return Amounts(int((need.nano_usd or 0) * share), int((need.tokens or 0) * share), 1)


@given(
    limit=budgets,
    steps=st.lists(st.tuples(predictions, st.booleans(), shares), max_size=80),
)
def test_spent_and_reserved_never_exceed_the_limit(limit: Amounts, steps: list[tuple[Amounts, bool, float]]) -> None:
    """Requests that were let in, in any number at a time, with bills up to their reservations: never above."""
    budget, flying = Budget(limit), list[tuple[Amounts, Amounts]]()
    for predicted, comes_home, share in steps:
        need = budget.reservation(predicted)
        if budget.lacks(need) is None:
            budget.reserve(need)
            flying.append((need, predicted))
        if comes_home and flying:
            home, was_predicted = flying.pop(0)
            budget.settle(home, share_of(home, share), was_predicted)
        assert (budget.spent + budget.reserved).exceeds(limit) is None
    for home, was_predicted in flying:
        budget.settle(home, share_of(home, 1.0), was_predicted)
    assert budget.spent.exceeds(limit) is None
    assert budget.reserved + Amounts() == Amounts(0, 0, 0)
    assert budget.margin == 1.0


@given(bills=st.lists(shares, min_size=1, max_size=60))
def test_what_was_reserved_and_not_billed_is_free_again(bills: list[float]) -> None:
    """The budget counts bills, exactly: what one request leaves of its reservation is another's."""
    need, budget = Amounts(1000, 10, 1), Budget(Amounts(nano_usd=10**6))
    for share in bills:
        budget.reserve(need)
        budget.settle(need, share_of(need, share), need)
    assert budget.spent.nano_usd == sum(int(1000 * share) for share in bills)
    assert budget.lacks(Amounts(nano_usd=10**6 - (budget.spent.nano_usd or 0))) is None
    assert budget.lacks(Amounts(nano_usd=10**6 - (budget.spent.nano_usd or 0) + 1)) == "nano_usd"


@pytest.mark.parametrize(
    ("limit", "lacks"),
    [
        (Amounts(nano_usd=99), "nano_usd"),
        (Amounts(nano_usd=100, tokens=9), "tokens"),
        (Amounts(nano_usd=100, tokens=10, requests=0), "requests"),
        (Amounts(nano_usd=100, tokens=10, requests=1), None),
        (Amounts(), None),
    ],
)
def test_which_budget_is_used_up(limit: Amounts, lacks: str | None) -> None:
    """The first of dollars, tokens and requests that there is not enough of; exactly enough is enough."""
    assert Budget(limit).lacks(Amounts(100, 10, 1)) == lacks


def test_what_was_spent_before_counts() -> None:
    """A resume has what its earlier commands left."""
    budget = Budget(Amounts(nano_usd=100, requests=5), spent=Amounts(nano_usd=80, requests=5))
    assert budget.lacks(Amounts(nano_usd=20)) is None
    assert budget.lacks(Amounts(nano_usd=20, requests=1)) == "requests"


@given(predicted=st.integers(1, 10**7), times=st.integers(2, 50))
def test_a_bill_beyond_its_reservation_makes_the_next_one_larger(predicted: int, times: int) -> None:
    """A token rule that is wrong by some factor is so once: the next request reserves what that one has cost."""
    need, budget = Amounts(predicted, None, 1), Budget(Amounts(nano_usd=10**12))
    budget.reserve(need)
    budget.settle(need, Amounts(times * predicted, 0, 1), need)
    again = budget.reservation(need)
    assert times * predicted <= (again.nano_usd or 0) <= times * predicted + 1
    assert again.requests == 1
    budget.reserve(again)
    budget.settle(again, Amounts(times * predicted, 0, 1), need)
    assert budget.margin == times


@given(predicted=st.lists(st.integers(1, 1500), min_size=1, max_size=200))
def test_bills_that_are_unknown_teach_nothing(predicted: list[int]) -> None:
    """Each costs what it reserved, rounded up; else a night of timeouts would double all reservations for good."""
    budget = Budget(Amounts(tokens=10**9), margin=1.01)
    for tokens in predicted:
        need = budget.reservation(Amounts(None, tokens, 1))
        budget.reserve(need)
        budget.settle(need, need, Amounts(None, tokens, 1))
    assert budget.margin == 1.01


def test_a_margin_leaves_unknown_what_is_unknown() -> None:
    """A prediction that there is none of does not come out of a factor."""
    budget = Budget(Amounts(tokens=1000), margin=2.0)
    assert budget.reservation(Amounts(None, 10, 1)) == Amounts(None, 21, 1)


def test_a_wrong_rule_is_wrong_once_for_all_in_flight() -> None:
    """Ten in flight, each billed twice its reservation: margin 2, not 1024 (which ends every budget at once)."""
    budget, need = Budget(Amounts(nano_usd=10**12)), Amounts(100, None, 1)
    for _ in range(10):
        budget.reserve(need)
    for _ in range(10):
        budget.settle(need, Amounts(200, 0, 1), need)
    assert budget.margin == 2.0


def test_dollars_and_tokens_are_one_mistake() -> None:
    """One request that came to twice its dollars and its tokens: margin 2, not 4."""
    budget, need = Budget(Amounts(nano_usd=10**12, tokens=10**9)), Amounts(100, 100, 1)
    budget.reserve(need)
    budget.settle(need, Amounts(200, 200, 1), need)
    assert budget.margin == 2.0
