"""The climb against a small simulated server: how many requests in flight it finds, and how soon."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from math import exp, log, sqrt
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.limits.concurrency import START, Climb

SETTLED_S = 20.0
"""From then on the throughput counts."""


@dataclass
class Server:
    """Works on `slots` requests at a time and queues the others; time is simulated, chance is seeded.

    With F > N in flight work takes 1 + thrash x (F - N) / N times as long, as in the emulator.
    """

    slots: Callable[[float], int]
    work_s: Callable[[float], float]
    jitter: float = 0.0
    """Of the time of one piece of work: the standard deviation, relative (log-normal)."""
    thrash: float = 0.0
    random: Random = field(default_factory=lambda: Random(11))

    def takes_s(self, now: float, in_flight: int) -> float:
        sigma = sqrt(log(1 + self.jitter**2))
        work_s = self.work_s(now) * exp(self.random.gauss(-sigma * sigma / 2, sigma))
        slots = self.slots(now)
        return work_s * (1 + self.thrash * max(0, in_flight - slots) / slots)


def steady(slots: int, jitter: float = 0.0, thrash: float = 0.0, work_s: float = 0.2) -> Server:
    return Server(lambda _: slots, lambda _: work_s, jitter, thrash)


def drive(server: Server, limit: Climb | int, until_s: float) -> tuple[list[float], list[tuple[float, int]]]:
    """Always somebody waiting -> when answers came, and (when, number) of every number of slots."""
    climb = limit if isinstance(limit, Climb) else None
    now, in_flight, busy = 0.0, 0, 0
    queue, under_way = list[float](), list[tuple[float, int, float]]()
    answered, limits, sent, next_in_line = list[float](), list[tuple[float, int]](), 0, 0
    while now < until_s:
        allowed = limit.limit if isinstance(limit, Climb) else limit
        if not limits or limits[-1][1] != allowed:
            limits.append((now, allowed))
        while in_flight < allowed:
            in_flight, sent = in_flight + 1, sent + 1
            if climb:
                climb.sent(now, in_flight)
            queue.append(now)
        while busy < server.slots(now) and next_in_line < len(queue):
            heapq.heappush(under_way, (now + server.takes_s(now, in_flight), next_in_line, queue[next_in_line]))
            next_in_line, busy = next_in_line + 1, busy + 1
        now, _, sent_at = heapq.heappop(under_way)
        in_flight, busy = in_flight - 1, busy - 1
        answered.append(now)
        if climb:
            climb.answered(now, sent_at)
    return answered, limits


def per_s(answered: list[float], since_s: float, until_s: float) -> float:
    return sum(since_s <= at < until_s for at in answered) / (until_s - since_s)


@pytest.mark.parametrize("jitter", [0.0, 0.3])
@pytest.mark.parametrize("thrash", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("slots", [8, 256])
def test_the_knee_is_found(slots: int, thrash: float, jitter: float) -> None:
    """From the same start, on a server of 8 slots and on one of 256: after 20 s at least 90 % of the best number's."""
    answered, _ = drive(steady(slots, jitter, thrash), Climb(), 50.0)
    fixed = [drive(steady(slots, jitter, thrash), number, 50.0)[0] for number in (slots, slots + slots // 8)]
    best = max(per_s(each, SETTLED_S, 50.0) for each in fixed)
    assert per_s(answered, SETTLED_S, 50.0) >= 0.9 * best


OTHERS = [
    *((slots, 0.0, 0.2) for slots in (1, 3, 20, 64, 150)),
    *((slots, 0.3, 0.2) for slots in (12, 20, 40, 64, 100)),
    (64, 1.0, 0.2),
    (8, 0.5, 1.0),
    (256, 0.5, 1.0),
]


@pytest.mark.parametrize(("slots", "thrash", "work_s"), OTHERS)
def test_other_servers_too(slots: int, thrash: float, work_s: float) -> None:
    """Nothing is tuned to two numbers, nor to quick answers; with one slot, the start is eight times too many."""
    answered, _ = drive(steady(slots, 0.2, thrash, work_s), Climb(), 60.0)
    best, _ = drive(steady(slots, 0.2, thrash, work_s), slots, 60.0)
    assert per_s(answered, SETTLED_S, 60.0) >= 0.9 * per_s(best, SETTLED_S, 60.0)


def test_slots_that_bring_nothing_are_let_go() -> None:
    """On 8 slots with a queue, where more cost only latency: most of the time no more than twice as many."""
    _, limits = drive(steady(8, jitter=0.3), Climb(), 80.0)
    late = [number for at, number in limits if at > SETTLED_S]
    assert sum(number <= 16 for number in late) >= 0.8 * len(late)


@pytest.mark.parametrize("slots", [8, 64])
def test_a_server_that_becomes_slower_is_followed(slots: int) -> None:
    """At 40 s all work takes five times as long: what is best then is reached again, and nobody piles up requests."""
    slowing = Server(lambda _: slots, lambda now: 0.2 if now < 40 else 1.0, jitter=0.2)
    answered, limits = drive(slowing, Climb(), 120.0)
    assert per_s(answered, 80.0, 120.0) >= 0.9 * slots / 1.0
    assert limits[-1][1] <= 2 * slots


def test_a_server_that_thrashes_gets_fewer() -> None:
    """At 30 s only 8 of 20 slots are left, and each request beyond them slows all: they are let go."""
    shrinking = Server(lambda now: 20 if now < 30 else 8, lambda _: 0.2, jitter=0.2, thrash=0.3)
    answered, limits = drive(shrinking, Climb(), 120.0)
    assert max(number for at, number in limits if SETTLED_S < at < 30) >= 17
    assert limits[-1][1] <= 12
    assert per_s(answered, 60.0, 120.0) >= 0.9 * 8 / 0.2


def test_a_server_that_gets_more_slots_is_followed() -> None:
    """At 30 s there are 64 slots instead of 8: a minute later at least 90 % of them are used."""
    growing = Server(lambda now: 8 if now < 30 else 64, lambda _: 0.2, jitter=0.2)
    answered, _ = drive(growing, Climb(), 120.0)
    assert per_s(answered, 90.0, 120.0) >= 0.9 * 64 / 0.2


def test_a_refusal_takes_slots_away() -> None:
    """A third of them at once where many are refused; those of one moment, sent before that, take no more."""
    climb = Climb(start=100)
    before = climb.limit
    for number in range(1, 11):
        climb.sent(0.0, number)
    for _ in range(3):
        climb.refused(1.0, 0.0)
    after = climb.limit
    assert 0.6 * before <= after <= 0.75 * before
    for _ in range(7):
        climb.refused(1.0, 0.0)
    assert climb.limit == after


def test_a_refusal_now_and_then_takes_none() -> None:
    """One in twenty is the weather of an endpoint, and no sign of too many in flight."""
    climb = Climb(start=100)
    before = climb.limit
    for number in range(1, 101):
        climb.sent(0.0, number)
    for number in range(95):
        climb.answered(1.0, 0.0)
        if number % 19 == 0:
            climb.refused(1.0, 0.0)
    assert climb.limit >= before


def test_refusals_without_end_leave_one_slot() -> None:
    """There is always one request that may find out whether the endpoint takes any again."""
    climb = Climb()
    for moment in range(100):
        climb.sent(float(moment), 1)
        climb.refused(moment + 0.5, float(moment))
    assert climb.limit == 1


def test_nothing_grows_while_the_application_is_slower() -> None:
    """With never more than two requests in flight, nobody learns what eight would bring."""
    climb, now = Climb(), 0.0
    for _ in range(500):
        for number in range(1, 3):
            climb.sent(now, number)
        for _ in range(2):
            climb.answered(now + 0.1, now)
        now += 0.2
    assert climb.limit == START


@given(
    most=st.integers(1, 600),
    events=st.lists(st.tuples(st.sampled_from(["sent", "answered", "refused"]), st.floats(0, 10)), max_size=200),
)
def test_the_limit_stays_within_its_bounds(most: int, events: list[tuple[str, float]]) -> None:
    """Whatever happens in whatever order: at least one slot, never more than there are file handles for."""
    climb, now, in_flight = Climb(most=most), 0.0, list[float]()
    for what, later_s in events:
        now += later_s
        if what == "sent":
            in_flight.append(now)
            climb.sent(now, len(in_flight))
        elif in_flight:
            sent_at = in_flight.pop(0)
            (climb.answered if what == "answered" else climb.refused)(now, sent_at)
        assert 1 <= climb.limit <= most
