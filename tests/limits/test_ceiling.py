"""What refusals that tell no time say about the number in flight: by tables, and against small simulated servers."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.limits.ceiling import LONGEST_HOLD_S, MISSES, NONE, Ceiling
from pipeline.limits.concurrency import Climb


def test_one_refusal_waits_for_somebody() -> None:
    """Nothing is sent until one is over; then as many as before."""
    ceiling = Ceiling()
    assert ceiling.refused(1.0, 0.9, 7)
    assert ceiling.limit(1.0) == 0
    ceiling.home()
    assert ceiling.limit(1.0) == 8


def test_what_is_let_in_is_doubled() -> None:
    """One more is tried, then two, four, eight: each once an answer shows that the last ones were not refused."""
    ceiling, most = Ceiling(), []
    ceiling.refused(0.0, 0.0, 7)
    ceiling.home()
    for now in range(1, 5):
        most.append(ceiling.limit(now))
        ceiling.sent(now, 8)
        ceiling.answered(now - 0.5)  # sent before: says nothing
        assert ceiling.limit(now) == most[-1]
        for in_flight in range(9, int(most[-1]) + 1):
            ceiling.sent(now, in_flight)
        ceiling.answered(now)
    assert most == [8, 10, 14, 22]


def test_a_late_refusal_when_nothing_is_known_any_more() -> None:
    """Four in flight are too many; then one alone is refused, so that all is forgotten; then the slowest of the
    first ones is refused beside two: it is no number to go by.
    """
    ceiling = Ceiling()
    assert ceiling.refused(1.0, 0.5, 4)
    assert not ceiling.refused(2.0, 1.5, 0)
    assert ceiling.refused(2.1, 0.6, 2)
    ceiling.home()
    assert ceiling.limit(2.1) == NONE


def test_the_same_number_refused_again_is_kept_to() -> None:
    """Refused at once when it was tried again: held for 2, 4, 8 ... 60 seconds, and tried after each."""
    ceiling, now, holds = Ceiling(), 0.0, []
    ceiling.refused(now, now, 8)
    for _ in range(7):
        ceiling.home()
        ceiling.sent(now, 9)
        assert ceiling.refused(now, now, 8)
        ceiling.home()
        held = next(step for step in range(70) if ceiling.held(now + step) > 8)
        holds.append(held)
        now += held
    assert holds == [2, 4, 8, 16, 32, LONGEST_HOLD_S, LONGEST_HOLD_S]


def test_of_a_burst_those_that_stay_tell_the_number() -> None:
    """Sixteen are sent at once and eight refused: eight stay in flight. Refused again, they are the ceiling."""
    ceiling = Ceiling()
    for number in range(16):
        ceiling.sent(0.0, number + 1)
    for others in range(15, 7, -1):
        assert ceiling.refused(0.1 + (15 - others) / 1000, 0.0, others)
    ceiling.home()
    assert ceiling.limit(0.2) == 16
    for number in range(8, 16):
        ceiling.sent(0.25, number + 1)
    for others in range(15, 7, -1):
        assert ceiling.refused(0.3 + (15 - others) / 1000, 0.25, others)
    ceiling.home()
    assert ceiling.limit(0.4) == 8


def test_fewer_that_are_refused_too_are_another_matter() -> None:
    """One comes home, the next is refused all the same: after three of these the number explains nothing."""
    ceiling, told = Ceiling(), []
    for others in range(16, 0, -1):
        told.append(ceiling.refused(float(20 - others), float(20 - others), others))
        ceiling.home()
        ceiling.sent(float(20 - others), others)
        if not told[-1]:
            break
    assert told == [True] * MISSES + [False]
    assert ceiling.limit(99.0) == NONE


def test_a_request_that_was_alone_was_not_too_many() -> None:
    """Nobody will come home: it has to be a pause."""
    assert not Ceiling().refused(1.0, 0.5, 0)


def test_refusals_by_chance_leave_the_number() -> None:
    """Among many that are let in, refusals now and then hold nothing up."""
    ceiling = Ceiling()
    for number in range(1, 20):
        now = float(number)
        for _ in range(10):
            ceiling.sent(now, 64)
        ceiling.answered(now)
        assert ceiling.refused(now + 0.5, now, 63)
        ceiling.home()
        assert ceiling.limit(now + 0.5) >= 64


@dataclass
class Refusing:
    """Grants `slots(now)` at a time, refuses the others at once; `rate` by chance. Time is simulated."""

    slots: Callable[[float], int]
    work_s: float = 0.2
    rate: float = 0.0
    random: Random = field(default_factory=lambda: Random(5))
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def drive(self, most: Climb | int, until_s: float) -> None:
        """Always somebody waiting; a refusal comes back after 5 ms. A pause is a second."""
        ceiling, climb = Ceiling(), most if isinstance(most, Climb) else None
        now, inside, paused_until = 0.0, 0, 0.0
        coming = list[tuple[float, int, float, bool]]()
        number = 0
        while now < until_s:
            while now >= paused_until and len(coming) < min(
                climb.limit if climb else int(str(most)), ceiling.limit(now), ceiling.held(now)
            ):
                number += 1
                granted = inside < self.slots(now) and self.random.random() >= self.rate
                inside += granted
                heapq.heappush(coming, (now + (self.work_s if granted else 0.005), number, now, granted))
                ceiling.sent(now, len(coming))
                if climb:
                    climb.capped(now, ceiling.held(now))
                    climb.sent(now, len(coming))
            if not coming:
                now = paused_until
                continue
            now, _, sent_at, granted = heapq.heappop(coming)
            if granted:
                inside -= 1
                self.answered.append(now)
                ceiling.home()
                ceiling.answered(sent_at)
                if climb:
                    climb.answered(now, sent_at)
            else:
                self.refused.append(now)
                if climb:
                    climb.lost(now, sent_at)
                if not ceiling.refused(now, sent_at, len(coming)):
                    paused_until = now + 1.0

    def per_s(self, since_s: float, until_s: float) -> float:
        return sum(since_s <= at < until_s for at in self.answered) / (until_s - since_s)


@pytest.mark.parametrize("slots", [1, 2, 8, 256])
@pytest.mark.parametrize("most", ["auto", 64, 512])
def test_a_server_that_refuses_is_used_whole(slots: int, most: str | int) -> None:
    """From the twentieth second on 95 % of what its slots (or ours) can do, and a handful is refused."""
    server = Refusing(lambda _: slots)
    server.drive(Climb() if isinstance(most, str) else most, 60.0)
    best = min(slots, most if isinstance(most, int) else slots) / server.work_s
    assert server.per_s(20.0, 60.0) >= (0.95 if slots > 2 else 0.9) * best
    assert sum(at >= 20 for at in server.refused) <= max(12, 0.01 * len(server.answered))
    assert sum(at < 20 for at in server.refused) <= 3 * 512


def test_a_server_that_grows_is_followed() -> None:
    """From 8 slots to 32 after a minute: found within the longest hold."""
    server = Refusing(lambda now: 8 if now < 60 else 32)
    server.drive(64, 240.0)
    assert server.per_s(30.0, 60.0) >= 0.95 * 40
    assert server.per_s(60.0 + 2 * LONGEST_HOLD_S, 240.0) >= 0.95 * 160


@given(rate=st.floats(0.0, 0.05), seed=st.integers(0, 99))
def test_chance_does_not_starve(rate: float, seed: int) -> None:
    """Up to one in twenty refused for no reason: at least half of the rate remains, whatever the luck."""
    server = Refusing(lambda _: 1000, rate=rate, random=Random(seed))
    server.drive(32, 20.0)
    assert server.per_s(0.0, 20.0) >= 0.5 * 32 / 0.2
