"""The arithmetic of the three kinds of limit."""

from collections.abc import Callable
from copy import deepcopy
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.limits import MINUTE_NS, FixedWindow, Limit, LimitKind, SlidingWindow, TokenBucket, make_limit

PER_MINUTE, BURST = 10, 4
STEPS_NS = st.integers(0, MINUTE_NS // 2) | st.sampled_from([0, 1, MINUTE_NS // PER_MINUTE, MINUTE_NS])
ASKED = st.lists(st.tuples(STEPS_NS, st.integers(1, PER_MINUTE)), max_size=40)
BACK = st.lists(st.booleans(), min_size=40, max_size=40)
Grants = list[tuple[int, int]]

every_kind = pytest.mark.parametrize("kind", list(LimitKind))


def _limit(kind: LimitKind) -> Limit:
    return make_limit(kind, PER_MINUTE, BURST)


def _granted(limit: Limit, asked: Grants, back: list[bool]) -> Grants:
    """When, and how much: every other grant for which `back` says so is given back before the next is asked."""
    now_ns, granted = 17 * MINUTE_NS + 5, []
    for (step_ns, amount), returned in zip(asked, back, strict=False):
        now_ns += step_ns
        if limit.ask(amount, now_ns):
            continue
        if returned:
            limit.give_back(amount, now_ns, now_ns)
        else:
            granted.append((now_ns, amount))
    return granted


@given(asked=ASKED, back=BACK)
def test_no_sixty_seconds_hold_more_than_a_sliding_window_allows(asked: Grants, back: list[bool]) -> None:
    """Of all windows of 60 s none has more than the limit, whatever is asked and given back."""
    granted = _granted(SlidingWindow(PER_MINUTE), asked, back)
    for end_ns, _ in granted:
        assert sum(amount for at_ns, amount in granted if end_ns - MINUTE_NS < at_ns <= end_ns) <= PER_MINUTE


@given(asked=ASKED, back=BACK)
def test_no_minute_of_the_clock_holds_more_than_a_fixed_window_allows(asked: Grants, back: list[bool]) -> None:
    """Each minute of the clock has at most the limit."""
    granted = _granted(FixedWindow(PER_MINUTE), asked, back)
    for minute in {at_ns // MINUTE_NS for at_ns, _ in granted}:
        assert sum(amount for at_ns, amount in granted if at_ns // MINUTE_NS == minute) <= PER_MINUTE


@given(
    rate=st.fractions(Fraction(1, 3), 20, max_denominator=7),
    capacity=st.integers(1, 12),
    asked=ASKED,
    back=BACK,
)
def test_no_window_holds_more_than_burst_and_rate(
    rate: Fraction, capacity: int, asked: Grants, back: list[bool]
) -> None:
    """In any t minutes a bucket grants at most its capacity (or one request beyond it) and t x rate, exactly."""
    granted = _granted(TokenBucket(rate, capacity), asked, back)
    for first, (start_ns, _) in enumerate(granted):
        for last in range(first, len(granted)):
            window = granted[first : last + 1]
            most_at_once = max(capacity, *(amount for _, amount in window))
            refilled = rate * (granted[last][0] - start_ns) / MINUTE_NS
            assert sum(amount for _, amount in window) <= most_at_once + refilled


@every_kind
@given(asked=ASKED)
def test_the_stated_wait_is_the_shortest_that_is_granted(kind: LimitKind, asked: Grants) -> None:
    """After a refusal the same is granted when the wait is over, and not a nanosecond earlier."""
    limit, now_ns = _limit(kind), MINUTE_NS
    for step_ns, amount in asked:
        now_ns += step_ns
        wait_ns = limit.ask(amount, now_ns)
        if not wait_ns:
            continue
        assert deepcopy(limit).ask(amount, now_ns + wait_ns - 1) == 1
        now_ns += wait_ns
        assert limit.ask(amount, now_ns) == 0


@every_kind
@given(asked=ASKED, overdrawn=st.integers(0, 30))
def test_the_advertised_remainder_is_granted_at_once(kind: LimitKind, asked: Grants, overdrawn: int) -> None:
    """The remaining single ones are granted at that moment and not one more; all are there at the reset, not before."""
    limit, now_ns = _limit(kind), MINUTE_NS
    whole = limit.standing(now_ns).remaining
    assert whole == (BURST if kind is LimitKind.BUCKET else PER_MINUTE)
    for step_ns, amount in asked:
        now_ns += step_ns
        limit.ask(amount, now_ns)
    limit.charge(overdrawn, now_ns)
    standing = limit.standing(now_ns)
    asking = deepcopy(limit)
    answers = [asking.ask(1, now_ns) == 0 for _ in range(standing.remaining + 1)]
    assert answers == [True] * standing.remaining + [False]
    assert deepcopy(limit).standing(now_ns + standing.reset_ns).remaining == whole
    if standing.reset_ns:
        assert deepcopy(limit).standing(now_ns + standing.reset_ns - 1).remaining < whole


@pytest.mark.parametrize(
    "make", [lambda: TokenBucket(Fraction(1), 1), lambda: FixedWindow(1), lambda: SlidingWindow(1)]
)
def test_a_clock_that_runs_backwards_grants_nothing_more(make: Callable[[], Limit]) -> None:
    """Time before the last request counts as no time."""
    limit = make()
    assert limit.ask(1, 5 * MINUTE_NS) == 0
    assert limit.ask(1, 0) >= MINUTE_NS
    assert limit.ask(1, 6 * MINUTE_NS - 1) == 1
    assert limit.ask(1, 6 * MINUTE_NS) == 0


@every_kind
def test_a_refused_one_takes_nothing(kind: LimitKind) -> None:
    """What stands after a refusal is what stood before it."""
    limit = _limit(kind)
    limit.ask(3, 0)
    before = limit.standing(0)
    assert limit.ask(PER_MINUTE, 0) > 0
    assert limit.standing(0) == before


@every_kind
def test_what_is_given_back_can_be_had_again(kind: LimitKind) -> None:
    """After it the limit stands as if it had never been asked; more than was taken cannot be given back."""
    limit = _limit(kind)
    untouched = limit.standing(0)
    limit.ask(3, 0)
    limit.give_back(3, 0, 0)
    assert limit.standing(0) == untouched
    limit.give_back(3, 0, 0)
    assert limit.standing(0) == untouched


def test_what_comes_back_late_is_no_gift() -> None:
    """What was taken in a minute that is over, or has slid out, does not come back."""
    for limit in (FixedWindow(PER_MINUTE), SlidingWindow(PER_MINUTE)):
        limit.ask(6, 0)
        limit.ask(4, 2 * MINUTE_NS)
        limit.give_back(6, 0, 2 * MINUTE_NS)
        assert limit.standing(2 * MINUTE_NS).remaining == PER_MINUTE - 4


def test_more_than_the_burst_is_granted_by_a_full_bucket() -> None:
    """An amount beyond the capacity is not refused for ever: the bucket owes it, and then grants as it earns."""
    bucket = TokenBucket(Fraction(PER_MINUTE), BURST)
    assert bucket.ask(PER_MINUTE, 0) == 0
    assert bucket.standing(0).remaining == 0
    assert bucket.ask(1, 0) == 7 * MINUTE_NS // PER_MINUTE
    assert bucket.ask(PER_MINUTE, 0) == PER_MINUTE * MINUTE_NS // PER_MINUTE


@pytest.mark.parametrize(
    ("rpm", "burst", "capacity", "wait_ns"),
    [(600, None, 60, 100_000_000), (5, None, 1, 12_000_000_000), (600, 5, 5, 100_000_000), (0.5, None, 1, 120 * 10**9)],
)
def test_requests_per_minute(rpm: float, burst: int | None, capacity: int, wait_ns: int) -> None:
    """The burst is a tenth of the minute's requests, at least one, unless it is named."""
    config = EmulatorConfig(rpm=rpm, burst=burst)
    bucket = make_limit(LimitKind.BUCKET, rpm, config.request_burst)
    assert [bucket.ask(1, 0) for _ in range(capacity + 1)] == [0] * capacity + [wait_ns]


@pytest.mark.parametrize(
    ("options", "tokens"),
    [({"rpm": 600, "burst": 6}, 2_000), ({"rpm": 600}, 20_000), ({"burst": 6}, 20_000), ({}, 20_000)],
)
def test_tokens_have_the_same_share_of_a_minute_as_burst(options: dict[str, int], tokens: int) -> None:
    """A burst of a hundredth of the requests is a hundredth of the tokens; unnamed, both are a tenth."""
    assert EmulatorConfig(tpm=200_000, **options).token_burst == tokens  # type: ignore[arg-type]  # whole numbers only
