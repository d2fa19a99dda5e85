"""Allowances and cooldown as arithmetic."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.limits.rate_window import SLACK_S, Allowance, Cooldown, Limits
from pipeline.records import Quota, RateLimitInfo

Sent = list[tuple[float, float]]


def send_all(allowance: Allowance, asked: list[tuple[float, float]]) -> Sent:
    """(gap before it, amount) of each request, in order -> (when, amount) as they are sent."""
    now, sent = 0.0, Sent()
    for gap, amount in asked:
        now = max(now + gap, allowance.ready_at(now + gap, amount))
        assert allowance.ready_at(now, amount) <= now
        allowance.take(now, amount)
        sent.append((now, amount))
    return sent


@given(
    limit=st.floats(1, 1e5),
    asked=st.lists(st.tuples(st.floats(0, 30), st.floats(0.001, 1)), max_size=150),
)
def test_no_sixty_seconds_hold_more_than_was_granted(limit: float, asked: list[tuple[float, float]]) -> None:
    """Whatever the gaps and sizes: in any sixty seconds, wherever they begin, no more than the allowance."""
    sent = send_all(Allowance(limit), [(gap, share * limit) for gap, share in asked])
    for at, _ in sent:
        window = sum(amount for when, amount in sent if at <= when < at + 60)
        assert window <= limit * (1 + 1e-6)


@given(limit=st.floats(10, 5000), hiccups=st.lists(st.floats(0, 0.2), min_size=20, max_size=60))
def test_a_minute_begins_without_a_burst(limit: float, hiccups: list[float]) -> None:
    """Evenly spread: within any stretch of time no more than its share and what a quarter of a second makes up for."""
    sent = send_all(Allowance(limit), [(gap, 1.0) for gap in hiccups])
    for first, (begun, _) in enumerate(sent):
        for number, (at, _) in enumerate(sent[first:]):
            assert number <= (at - begun + 0.25) * limit / 60 + 1 + 1e-6


def test_nearly_all_of_an_allowance_is_used() -> None:
    """600 a minute, always somebody waiting: from the second minute on at least 99.6 % of them are sent."""
    now, allowance, sent = 0.0, Allowance(600), Sent()
    while now < 600:
        now = max(now, allowance.ready_at(now, 1))
        allowance.take(now, 1)
        sent.append((now, 1))
    for minute in range(1, 10):
        used = sum(amount for at, amount in sent if 60 * minute <= at < 60 * minute + 60)
        assert 0.996 * 600 <= used <= 600


def test_what_was_billed_replaces_what_was_thought() -> None:
    """A request that came to less than reserved gives the rest back to the minute; one that came to more takes it."""
    limits = Limits(tpm=1000)
    taken = limits.take(0.0, 800)
    assert limits.ready_at(50.0, 500) > 60
    limits.settle(taken, 300)
    assert limits.ready_at(50.0, 500) == 50.0
    limits.settle(limits.take(50.0, 100), 600)
    assert limits.ready_at(50.0, 500) > 60


def test_what_is_larger_than_a_minute_waits_for_an_empty_one() -> None:
    """A request of more tokens than a minute grants is sent all the same, alone: nobody starves."""
    allowance = Allowance(100)
    allowance.take(0.0, 50)
    at = allowance.ready_at(1.0, 5000)
    assert 60 < at <= 60 + 2 * SLACK_S
    allowance.take(at, 5000)


def test_the_endpoint_tightens_and_never_loosens() -> None:
    """Its headers count where they are stricter than the user, or the user has set nothing."""
    limits = Limits(rpm=100)
    limits.learn(RateLimitInfo(requests=Quota(limit=600, reset_s=1.0), tokens=Quota(limit=5000, reset_s=1.0)))
    assert (limits.requests.per_minute, limits.tokens.per_minute) == (100, 5000)
    limits.learn(RateLimitInfo(requests=Quota(limit=60, reset_s=1.0)))
    assert limits.requests.per_minute == 60


def test_the_quota_of_a_day_is_no_pace() -> None:
    """200 requests a day, back in two hours: that is no allowance of a minute."""
    limits = Limits()
    limits.learn(RateLimitInfo(requests=Quota(limit=200, remaining=180, reset_s=7200.0)))
    assert limits.requests.per_minute is None


def test_a_request_that_no_minute_has_room_for() -> None:
    """Only what the endpoint itself tells makes a request too large."""
    limits = Limits(tpm=100)
    assert limits.allows(5000)
    limits.learn(RateLimitInfo(tokens=Quota(limit=1000)))
    assert not limits.allows(5000)


def test_without_a_limit_nobody_waits_and_all_is_counted() -> None:
    """The first answers may tell a limit: what was sent before counts against it."""
    limits = Limits()
    for _ in range(5):
        assert limits.ready_at(1.0, 100) == 1.0
        limits.take(1.0, 100)
    limits.learn(RateLimitInfo(requests=Quota(limit=5), tokens=Quota(limit=1e6)))
    assert limits.ready_at(2.0, 100) > 60


def test_refusals_within_a_pause_are_one_round() -> None:
    """Thirty requests that are refused together double nothing; the next round is twice as long."""
    first = Cooldown.after(None, 100.0, None)
    assert (first.until, first.rounds) == (101.0, 1)
    again = Cooldown.after(first, 100.5, None)
    assert (again.until, again.rounds) == (101.5, 1)
    later = Cooldown.after(again, 101.5, None)
    assert (later.until, later.rounds, later.since) == (103.5, 2, 100.0)


def test_what_the_endpoint_says_counts() -> None:
    """A told wait replaces our own, and a shorter one never shortens a longer one."""
    told = Cooldown.after(None, 0.0, 90.0)
    assert told.until == 90.0
    assert Cooldown.after(told, 1.0, 2.0).until == 90.0


def test_own_pauses_are_bounded() -> None:
    """Without a hint the pause doubles to a minute, and no further."""
    cooldown = None
    now = 0.0
    for _ in range(30):
        cooldown = Cooldown.after(cooldown, now, None)
        assert cooldown.until - now <= 60.0
        now = cooldown.until
    assert cooldown is not None
    assert cooldown.rounds == 30


def test_only_a_later_request_ends_the_trouble() -> None:
    """The answer to a request that was sent before the refusal says nothing about now."""
    cooldown = Cooldown.after(None, 10.0, 5.0)
    assert not cooldown.ended_by(9.0)
    assert cooldown.ended_by(15.0)


def test_a_day_without_a_limit_is_forgotten_by_the_minute() -> None:
    """What was sent more than a minute ago is not remembered, whether or not there is a limit."""
    allowance = Allowance()
    for second in range(3600):
        allowance.take(float(second), 1)
    assert len(allowance._slices) <= 62
