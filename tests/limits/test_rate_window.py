"""Rates as arithmetic: stated, advertised and learned."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.limits.rate_window import GROWTH, KEPT, MINUTE_S, SLACK_S, RateLimits, RateWindow
from pipeline.records import Quota, RateLimitInfo

Sent = list[tuple[float, float]]


def send_all(window: RateWindow, asked: list[tuple[float, float]]) -> Sent:
    """(gap before it, amount) of each request, in order -> (when, amount) as they are sent."""
    now, sent = 0.0, Sent()
    for gap, amount in asked:
        now = max(now + gap, window.ready_at(now + gap, amount))
        assert window.ready_at(now, amount) <= now
        window.take(now, amount)
        sent.append((now, amount))
    return sent


@given(
    limit=st.floats(1, 1e5),
    asked=st.lists(st.tuples(st.floats(0, 30), st.floats(0.001, 1)), max_size=150),
)
def test_no_sixty_seconds_hold_more_than_was_granted(limit: float, asked: list[tuple[float, float]]) -> None:
    """Whatever the gaps and sizes: in any sixty seconds, wherever they begin, no more than the window."""
    sent = send_all(RateWindow(limit), [(gap, share * limit) for gap, share in asked])
    for at, _ in sent:
        window = sum(amount for when, amount in sent if at <= when < at + 60)
        assert window <= limit * (1 + 1e-6)


@given(limit=st.floats(10, 5000), hiccups=st.lists(st.floats(0, 0.2), min_size=20, max_size=60))
def test_a_minute_begins_without_a_burst(limit: float, hiccups: list[float]) -> None:
    """Evenly spread: within any stretch of time no more than its share and what a quarter of a second makes up for."""
    sent = send_all(RateWindow(limit), [(gap, 1.0) for gap in hiccups])
    for first, (begun, _) in enumerate(sent):
        for number, (at, _) in enumerate(sent[first:]):
            assert number <= (at - begun + 0.25) * limit / 60 + 1 + 1e-6


def test_nearly_all_of_a_window_is_used() -> None:
    """600 a minute, with requests always waiting: from the second minute on at least 99.6 % of them are sent."""
    now, window, sent = 0.0, RateWindow(600), Sent()
    while now < 600:
        now = max(now, window.ready_at(now, 1))
        window.take(now, 1)
        sent.append((now, 1))
    for minute in range(1, 10):
        used = sum(amount for at, amount in sent if 60 * minute <= at < 60 * minute + 60)
        assert 0.996 * 600 <= used <= 600


def test_what_was_billed_replaces_what_was_thought() -> None:
    """A request that came to less than reserved gives the rest back to the minute; one that came to more takes it."""
    limits = RateLimits(tpm=1000)
    taken = limits.take(0.0, 800)
    assert limits.ready_at(50.0, 500) > 60
    limits.settle(taken, 300)
    assert limits.ready_at(50.0, 500) == 50.0
    limits.settle(limits.take(50.0, 100), 600)
    assert limits.ready_at(50.0, 500) > 60


def test_what_is_larger_than_a_minute_waits_for_an_empty_one() -> None:
    """A request of more tokens than a minute grants is sent all the same, alone: no record starves."""
    window = RateWindow(100)
    window.take(0.0, 50)
    at = window.ready_at(1.0, 5000)
    assert 60 < at <= 60 + 2 * SLACK_S
    window.take(at, 5000)


def test_the_endpoint_tightens_and_never_loosens() -> None:
    """Its headers count where they are stricter than the user, or the user has set nothing."""
    limits = RateLimits(rpm=100)
    limits.advertise(RateLimitInfo(requests=Quota(limit=600, reset_s=1.0), tokens=Quota(limit=5000, reset_s=1.0)))
    assert (limits.requests.per_minute, limits.tokens.per_minute) == (100, 5000)
    limits.advertise(RateLimitInfo(requests=Quota(limit=60, reset_s=1.0)))
    assert limits.requests.per_minute == 60


def test_the_quota_of_a_day_is_no_pace() -> None:
    """200 requests a day, back in two hours: that is no window of a minute."""
    limits = RateLimits()
    limits.advertise(RateLimitInfo(requests=Quota(limit=200, remaining=180, reset_s=7200.0)))
    assert limits.requests.per_minute is None


def test_a_request_larger_than_a_minute() -> None:
    """Only what the endpoint itself tells makes a request too large."""
    limits = RateLimits(tpm=100)
    assert limits.allows(5000)
    limits.advertise(RateLimitInfo(tokens=Quota(limit=1000)))
    assert not limits.allows(5000)


def test_without_a_limit_nobody_waits_and_all_is_counted() -> None:
    """The first answers may tell a limit: what was sent before counts against it."""
    limits = RateLimits()
    for _ in range(5):
        assert limits.ready_at(1.0, 100) == 1.0
        limits.take(1.0, 100)
    limits.advertise(RateLimitInfo(requests=Quota(limit=5), tokens=Quota(limit=1e6)))
    assert limits.ready_at(2.0, 100) > 60


def test_a_day_without_a_limit_is_forgotten_by_the_minute() -> None:
    """What was sent more than a minute ago is not remembered, whether or not there is a limit."""
    window = RateWindow()
    for second in range(3600):
        window.take(float(second), 1)
    assert len(window._sent.slices) <= 62


def granted(window: RateWindow, since_s: int, until_s: int, a_second: int = 10) -> None:
    for second in range(since_s, until_s):
        for _ in range(a_second):
            window.take(float(second), 1)
            window.granted(second + 0.5, float(second))


def test_a_rate_is_learned_from_what_a_minute_granted() -> None:
    """Ten a second for two minutes and then a throttle: 95 % of 600 a minute, evenly spread from then on."""
    window = RateWindow()
    granted(window, 0, 120)
    assert window.ready_at(120.0, 1) == 120.0
    window.throttled(120.0)
    window.learn(120.0)
    assert window.learned is not None
    assert 0.97 * KEPT * 600 <= window.learned <= KEPT * 600
    for _ in range(10):
        window.take(120.0, 1)
    assert window.ready_at(120.0, 1) > 120.7


def test_a_learned_rate_grows_and_a_throttle_takes_a_little() -> None:
    """By a tenth in the next minute; a second throttle leaves 95 % of it, however few were sent."""
    window = RateWindow()
    granted(window, 0, 120)
    window.throttled(120.0)
    window.learn(120.0)
    before = window.learned or 0.0
    granted(window, 120, 180)
    grown = window.learned or 0.0
    assert 1 + GROWTH <= grown / before <= 1 + 2 * GROWTH
    window.throttled(400.0)
    window.learn(400.0)
    assert window.learned == grown  # nothing was granted in that minute: nothing is learned


def test_throttles_that_follow_no_rate_are_doubted() -> None:
    """Each throttle leaves what its minute granted, which the pauses lower: below half, the rate is forgotten.

    What is learned next is believed again.
    """
    window = RateWindow()
    granted(window, 0, 120)
    window.learn(120.0, has_wait=True)
    now, after = 121, []
    for a_second in (7, 4, 2):
        granted(window, now, now + 60, a_second=a_second)
        now += 61
        window.learn(float(now), has_wait=True)
        after.append((a_second, window.learned is None, window.is_doubted))
    assert after == [(7, False, False), (4, True, True), (2, False, False)]


def test_a_burst_of_seconds_says_little_about_a_minute() -> None:
    """Sixty granted within six seconds: the learned rate starts there, and doubles in less than half a minute."""
    window = RateWindow()
    granted(window, 0, 6)
    window.throttled(6.0)
    window.learn(6.0)
    assert (window.learned or 0.0) <= 60
    granted(window, 7, 37, a_second=2)
    assert (window.learned or 0.0) >= 2 * KEPT * 60


def test_what_is_advertised_is_not_learned() -> None:
    """A throttle beside an advertised or stated limit changes neither."""
    window = RateWindow(stated=100)
    granted(window, 0, int(MINUTE_S), a_second=1)
    window.throttled(60.0)
    window.learn(60.0)
    assert (window.learned, window.per_minute) == (None, 100)
