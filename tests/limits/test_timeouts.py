"""How long a request may take: between two bounds, after what nearly all answers take."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.limits.timeouts import AdaptiveTimeout


def after(latencies: list[float], least_s: float = 10.0, most_s: float = 300.0) -> AdaptiveTimeout:
    timeout = AdaptiveTimeout(least_s, most_s)
    for latency_s in latencies:
        timeout.add(latency_s)
    return timeout


def test_the_most_counts_until_enough_is_known() -> None:
    """Four answers are too few to call a request slow; the fifth makes the difference."""
    assert after([]).timeout_s(0) == 300.0
    assert after([5.0] * 4).timeout_s(0) == 300.0
    assert after([5.0] * 5).timeout_s(0) == 20.0


def test_quick_answers_make_nobody_impatient() -> None:
    """Where all take 50 ms, a request still has the least ten seconds."""
    assert after([0.05] * 200).timeout_s(0) == 10.0


def test_slow_answers_make_nobody_wait_for_ever() -> None:
    """Where all take two minutes, the most stays the most."""
    assert after([120.0] * 200).timeout_s(0) == 300.0


def test_an_endpoint_that_always_takes_two_minutes_is_waited_for() -> None:
    """Answers of 130 s each, from the first to the two hundredth: no request is given up before 300 s."""
    timeout = after([])
    for _ in range(200):
        assert timeout.timeout_s(0) == 300.0
        timeout.add(130.0)


def test_one_in_twenty_may_be_slow() -> None:
    """The 95th percentile counts: a single answer that took 100 s moves nothing, a tenth of them does."""
    assert after([5.0] * 19 + [100.0]).timeout_s(0) == 20.0
    assert after([5.0] * 180 + [40.0] * 20).timeout_s(0) == 160.0


def test_it_follows_an_endpoint_that_becomes_slower_or_quicker() -> None:
    """Only the last two hundred answers count."""
    timeout = after([5.0] * 1000)
    for _ in range(200):
        timeout.add(30.0)
    assert timeout.timeout_s(0) == 120.0
    for _ in range(200):
        timeout.add(4.0)
    assert timeout.timeout_s(0) == 16.0


def test_a_record_that_took_too_long_gets_twice_as_long() -> None:
    """A request may be slow because of what it asks: each of its own timeouts doubles, up to the most."""
    timeout = after([5.0] * 20)
    assert [timeout.timeout_s(timeouts) for timeouts in range(6)] == [20, 40, 80, 160, 300, 300]
    assert timeout.timeout_s(100_000) == 300


@given(
    least_s=st.floats(0.001, 1e3),
    more_s=st.floats(0, 1e4),
    latencies=st.lists(st.floats(0, 1e6), max_size=300),
    timeouts=st.integers(0, 5000),
)
def test_never_out_of_its_bounds(least_s: float, more_s: float, latencies: list[float], timeouts: int) -> None:
    """Whatever answers took: between both, and another timeout never makes it shorter."""
    timeout = after(latencies, least_s, least_s + more_s)
    assert least_s <= timeout.timeout_s(timeouts) <= timeout.timeout_s(timeouts + 1) <= least_s + more_s
