"""Pace and cooldown as arithmetic."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.policy.limits import Cooldown, Pace


@given(rpm=st.floats(1, 1e5), gaps=st.lists(st.floats(0, 10), max_size=100))
def test_no_window_holds_more_than_was_granted(rpm: float, gaps: list[float]) -> None:
    """Requests leave at least 60/rpm seconds apart, whenever they ask, and none waits longer than it must."""
    pace, now, sent = Pace.per_minute(rpm), 0.0, list[float]()
    for gap in gaps:
        now += gap
        pace, wait_s = pace.take(now)
        assert wait_s >= 0
        sent.append(now + wait_s)
    for earlier, later in pairwise(sent):
        assert later - earlier >= 60 / rpm * (1 - 1e-9) - 1e-9


def test_without_a_limit_nobody_waits() -> None:
    """No rpm, no wait."""
    pace = Pace.per_minute(None)
    for _ in range(5):
        pace, wait_s = pace.take(1.0)
        assert wait_s == 0


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
