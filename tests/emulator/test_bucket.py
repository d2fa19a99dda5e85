"""The rate limit's arithmetic."""

from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.emulator.bucket import TokenBucket, go_duration

STEPS_NS = st.lists(st.integers(0, 3_000), max_size=60)


@given(capacity=st.integers(1, 8), interval_ns=st.integers(1, 1_000), steps_ns=STEPS_NS)
def test_no_window_grants_more_than_burst_and_rate(capacity: int, interval_ns: int, steps_ns: list[int]) -> None:
    """In any window of t at most capacity + t // interval requests are granted: the limit is exact."""
    bucket = TokenBucket(capacity, interval_ns)
    now_ns, granted_ns = 0, []
    for step_ns in steps_ns:
        now_ns += step_ns
        if bucket.take(now_ns).granted:
            granted_ns.append(now_ns)
    for first, start_ns in enumerate(granted_ns):
        for last in range(first, len(granted_ns)):
            window_ns = granted_ns[last] - start_ns
            assert last - first + 1 <= capacity + window_ns // interval_ns


@given(capacity=st.integers(1, 8), interval_ns=st.integers(1, 1_000), steps_ns=STEPS_NS)
def test_the_wait_that_is_told_is_the_shortest_that_is_granted(
    capacity: int, interval_ns: int, steps_ns: list[int]
) -> None:
    """After a refusal, `wait_ns` later is granted and a nanosecond earlier is not."""
    bucket, now_ns = TokenBucket(capacity, interval_ns), 0
    for step_ns in steps_ns:
        now_ns += step_ns
        grant = bucket.take(now_ns)
        if grant.granted:
            continue
        assert grant.remaining == 0
        assert not bucket.take(now_ns + grant.wait_ns - 1).granted
        now_ns += grant.wait_ns
        assert bucket.take(now_ns).granted


@given(capacity=st.integers(1, 8), interval_ns=st.integers(1, 1_000), steps_ns=STEPS_NS)
def test_what_remains_is_granted_at_once(capacity: int, interval_ns: int, steps_ns: list[int]) -> None:
    """`remaining` requests at the same moment are granted, and not one more."""
    bucket, now_ns = TokenBucket(capacity, interval_ns), 0
    for step_ns in steps_ns:
        now_ns += step_ns
        remaining = bucket.take(now_ns).remaining
    remaining = bucket.take(now_ns).remaining
    answers = [bucket.take(now_ns).granted for _ in range(remaining + 1)]
    assert bisect_right(sorted(answers), x=False) == 1
    assert bucket.take(now_ns).reset_ns <= capacity * interval_ns


def test_a_clock_that_runs_backwards_grants_nothing_more() -> None:
    """Time before the last request counts as no time."""
    bucket = TokenBucket(1, 100)
    assert bucket.take(1_000).granted
    assert not bucket.take(0).granted
    assert not bucket.take(1_099).granted
    assert bucket.take(1_100).granted


@pytest.mark.parametrize(
    ("rpm", "burst", "capacity", "interval_ns"),
    [(600, None, 60, 100_000_000), (5, None, 1, 12_000_000_000), (600, 5, 5, 100_000_000), (0.5, None, 1, 120 * 10**9)],
)
def test_requests_per_minute(rpm: float, burst: int | None, capacity: int, interval_ns: int) -> None:
    """The burst is a tenth of the minute's requests, at least one, unless it is named."""
    bucket = TokenBucket.per_minute(rpm, burst)
    assert (bucket.capacity, bucket.interval_ns) == (capacity, interval_ns)


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0ms"),
        (12_000_000, "12ms"),
        (1, "1ms"),
        (1_000_000_000, "1s"),
        (8_640_000_000, "8.64s"),
        (90_000_000_000, "1m30s"),
        (360_000_000_000, "6m0s"),
        (3_600_000_000_000, "1h0m0s"),
    ],
)
def test_durations_read_as_openai_writes_them(duration_ns: int, text: str) -> None:
    """Go's notation, as in OpenAI's `x-ratelimit-reset-*`, rounded up to milliseconds."""
    assert go_duration(duration_ns) == text
