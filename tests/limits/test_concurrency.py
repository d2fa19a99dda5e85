"""The concurrency limit against small simulated servers: how many requests in flight it finds, and how soon."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from math import exp, log, sqrt
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.limits.concurrency import HOLD_S, LONGEST_HOLD_S, RUN, START, Cause, ConcurrencyLimit, Sent

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


def drive(server: Server, limit: ConcurrencyLimit | int, until_s: float) -> tuple[list[float], list[tuple[float, int]]]:
    """Requests always wait -> when answers came, and (when, number) of every number of slots."""
    found = limit if isinstance(limit, ConcurrencyLimit) else None
    now, in_flight, busy = 0.0, 0, 0
    queue, under_way = list[Sent](), list[tuple[float, int, Sent]]()
    answered, limits, sent, next_in_line = list[float](), list[tuple[float, int]](), 0, 0
    while now < until_s:
        allowed = limit.limit(now) if isinstance(limit, ConcurrencyLimit) else limit
        if not limits or limits[-1][1] != allowed:
            limits.append((now, allowed))
        while in_flight < allowed:
            sent += 1
            queue.append(found.sent(now, in_flight) if found else Sent(now, sent, in_flight, 0))
            in_flight += 1
        while busy < server.slots(now) and next_in_line < len(queue):
            heapq.heappush(under_way, (now + server.takes_s(now, in_flight), next_in_line, queue[next_in_line]))
            next_in_line, busy = next_in_line + 1, busy + 1
        now, _, one = heapq.heappop(under_way)
        in_flight, busy = in_flight - 1, busy - 1
        answered.append(now)
        if found:
            found.answered(now, one)
    return answered, limits


def per_s(answered: list[float], since_s: float, until_s: float) -> float:
    return sum(since_s <= at < until_s for at in answered) / (until_s - since_s)


@pytest.mark.parametrize("jitter", [0.0, 0.3])
@pytest.mark.parametrize("thrash", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("slots", [8, 256])
def test_the_knee_is_found(slots: int, thrash: float, jitter: float) -> None:
    """From the same start, on a server of 8 slots and on one of 256: after 20 s at least 90 % of the best number's."""
    answered, _ = drive(steady(slots, jitter, thrash), ConcurrencyLimit(), 50.0)
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
    answered, _ = drive(steady(slots, 0.2, thrash, work_s), ConcurrencyLimit(), 60.0)
    best, _ = drive(steady(slots, 0.2, thrash, work_s), slots, 60.0)
    assert per_s(answered, SETTLED_S, 60.0) >= 0.9 * per_s(best, SETTLED_S, 60.0)


def test_slots_that_bring_nothing_are_let_go() -> None:
    """On 8 slots with a queue, where more cost only latency: most of the time no more than twice as many."""
    _, limits = drive(steady(8, jitter=0.3), ConcurrencyLimit(), 80.0)
    late = [number for at, number in limits if at > SETTLED_S]
    assert sum(number <= 16 for number in late) >= 0.8 * len(late)


@pytest.mark.parametrize("slots", [8, 64])
def test_a_server_that_becomes_slower_is_followed(slots: int) -> None:
    """At 40 s all work takes five times as long: what is best then is reached again, and no requests pile up."""
    slowing = Server(lambda _: slots, lambda now: 0.2 if now < 40 else 1.0, jitter=0.2)
    answered, limits = drive(slowing, ConcurrencyLimit(), 120.0)
    assert per_s(answered, 80.0, 120.0) >= 0.9 * slots / 1.0
    assert limits[-1][1] <= 2 * slots


def test_a_server_that_thrashes_gets_fewer() -> None:
    """At 30 s only 8 of 20 slots are left, and each request beyond them slows all: they are let go."""
    shrinking = Server(lambda now: 20 if now < 30 else 8, lambda _: 0.2, jitter=0.2, thrash=0.3)
    answered, limits = drive(shrinking, ConcurrencyLimit(), 120.0)
    assert max(number for at, number in limits if SETTLED_S < at < 30) >= 17
    assert limits[-1][1] <= 12
    assert per_s(answered, 60.0, 120.0) >= 0.9 * 8 / 0.2


def test_a_server_that_gets_more_slots_is_followed() -> None:
    """At 30 s there are 64 slots instead of 8: a minute later at least 90 % of them are used."""
    growing = Server(lambda now: 8 if now < 30 else 64, lambda _: 0.2, jitter=0.2)
    answered, _ = drive(growing, ConcurrencyLimit(), 120.0)
    assert per_s(answered, 90.0, 120.0) >= 0.9 * 64 / 0.2


def test_a_throttle_beside_more_than_were_let_in_gives_the_number() -> None:
    """Sixteen are sent at once and eight throttled: eight are let in, and no more are tried for two seconds."""
    limit = ConcurrencyLimit(16, 16, is_adaptive=False)
    sent = [limit.sent(0.0, others) for others in range(16)]
    for one in reversed(sent[8:]):
        assert limit.throttled(0.1, one, "a", has_wait=False) is Cause.NUMBER
    assert limit.limit(0.1) == limit.limit(0.1 + HOLD_S - 0.01) == 8
    assert limit.limit(0.1 + HOLD_S) == 9


def test_what_is_let_in_is_doubled() -> None:
    """One more is tried, then two, four, eight: each once an answer shows that the last ones were let in."""
    limit, most = ConcurrencyLimit(64, 64, is_adaptive=False), []
    first = limit.sent(0.0, 0)
    limit.throttled(0.0, limit.sent(0.0, 8), "a", has_wait=False)
    for now in range(3, 7):
        limit.answered(now, first)  # sent before: shows nothing
        most.append(limit.limit(now))
        sent = [limit.sent(now, others) for others in range(most[-1])]
        limit.answered(now + 0.5, sent[-1])
    assert most == [9, 11, 15, 23]


def test_the_same_number_throttled_again_is_kept_to() -> None:
    """Throttled at once when it was tried again: held for 2, 4, 8 ... seconds, and tried after each."""
    limit, now, holds = ConcurrencyLimit(64, 64, is_adaptive=False), 0.0, []
    limit.throttled(now, limit.sent(now, 8), "a", has_wait=False)
    for _ in range(8):
        held = next(step for step in range(999) if limit.limit(now + step) > 8)
        holds.append(held)
        now += held
        limit.throttled(now, limit.sent(now, 8), "a", has_wait=False)
    assert holds == [2, 4, 8, 16, 32, 64, 128, LONGEST_HOLD_S]


def test_throttles_beside_fewer_are_another_matter() -> None:
    """Beside a few where many were let in: a fourth record in a row shows a rate, one now and then is chance."""
    limit = ConcurrencyLimit(64, 64, is_adaptive=False)
    for others in range(64):
        limit.answered(1.0, limit.sent(0.0, others))
    for _ in range(20):
        assert limit.throttled(2.0, limit.sent(2.0, 5), "a", has_wait=False) is Cause.CHANCE
        for _ in range(4):
            limit.sent(2.0, 5)
    alike = [limit.throttled(3.0, limit.sent(3.0, 5), "a", has_wait=False, again=True) for _ in range(RUN)]
    assert alike == [Cause.CHANCE] * RUN  # one record, throttled whatever the limits are
    row = [limit.throttled(3.0, limit.sent(3.0, 5), name, has_wait=False, again=True) for name in "bcd"]
    assert row == [Cause.CHANCE, Cause.CHANCE, Cause.RATE]
    assert limit.limit(4.0) == 64


def test_after_a_pause_one_goes_and_each_answer_admits_another() -> None:
    """One, two, four, eight ... up to the limit."""
    limit, limits = ConcurrencyLimit(16, 16, is_adaptive=False), []
    limit.paused(0.0)
    for now in range(6):
        limits.append(limit.limit(now))
        for one in [limit.sent(now, others) for others in range(limits[-1])]:
            limit.answered(now + 0.5, one)
    assert limits == [1, 2, 4, 8, 16, 16]


def test_nothing_grows_while_the_application_is_slower() -> None:
    """With never more than two requests in flight, no measurement shows what eight would bring."""
    limit, now = ConcurrencyLimit(), 0.0
    for _ in range(500):
        for one in [limit.sent(now, others) for others in range(2)]:
            limit.answered(now + 0.1, one)
        now += 0.2
    assert limit.limit(now) == START


@given(
    most=st.integers(1, 600),
    events=st.lists(st.tuples(st.sampled_from(["sent", "answered", "refused"]), st.floats(0, 10)), max_size=200),
)
def test_the_limit_stays_within_its_bounds(most: int, events: list[tuple[str, float]]) -> None:
    """Whatever happens in whatever order: at least one slot, never more than there are file handles for."""
    limit, now, in_flight = ConcurrencyLimit(most=most), 0.0, list[Sent]()
    for what, later_s in events:
        now += later_s
        if what == "sent":
            in_flight.append(limit.sent(now, len(in_flight)))
        elif in_flight and what == "answered":
            limit.answered(now, in_flight.pop(0))
        elif in_flight:
            sent = in_flight.pop(0)
            limit.lost(sent)
            limit.throttled(now, sent, "a", has_wait=False)
        assert 1 <= limit.limit(now) <= most


@dataclass
class Throttling:
    """Lets `slots(now)` in at a time and throttles the others at once; `rate` by chance. Time is simulated."""

    slots: Callable[[float], int]
    work_s: float = 0.2
    rate: float = 0.0
    random: Random = field(default_factory=lambda: Random(5))
    answered: list[float] = field(default_factory=list)
    throttled: list[float] = field(default_factory=list)

    def drive(self, limit: ConcurrencyLimit, until_s: float) -> None:
        """Requests always wait; a throttle comes back after 5 ms. A pause is a second."""
        now, inside, paused_until = 0.0, 0, 0.0
        coming = list[tuple[float, int, Sent, bool]]()
        number = 0
        while now < until_s:
            while now >= paused_until and len(coming) < limit.limit(now):
                number += 1
                granted = inside < self.slots(now) and self.random.random() >= self.rate
                inside += granted
                came_at = now + (self.work_s if granted else 0.005)
                heapq.heappush(coming, (came_at, number, limit.sent(now, len(coming)), granted))
            if not coming:
                now = paused_until
                continue
            now, _, sent, granted = heapq.heappop(coming)
            if granted:
                inside -= 1
                self.answered.append(now)
                limit.answered(now, sent)
            else:
                self.throttled.append(now)
                limit.lost(sent)
                if not coming or limit.throttled(now, sent, str(sent.number), has_wait=False) is Cause.RATE:
                    limit.paused(0.0)
                    paused_until = now + 1.0

    def per_s(self, since_s: float, until_s: float) -> float:
        return sum(since_s <= at < until_s for at in self.answered) / (until_s - since_s)


@pytest.mark.parametrize("slots", [1, 2, 8, 256])
@pytest.mark.parametrize("most", ["auto", 64, 512])
def test_a_server_that_throttles_is_used_whole(slots: int, most: str | int) -> None:
    """From the twentieth second on 95 % of what its slots (or ours) can do, and a handful is throttled."""
    server = Throttling(lambda _: slots)
    auto = ConcurrencyLimit()
    server.drive(auto if isinstance(most, str) else ConcurrencyLimit(most, most, is_adaptive=False), 60.0)
    best = min(slots, most if isinstance(most, int) else slots) / server.work_s
    assert server.per_s(20.0, 60.0) >= (0.95 if slots > 2 else 0.9) * best
    assert sum(at >= 20 for at in server.throttled) <= max(12, 0.01 * len(server.answered))
    assert sum(at < 20 for at in server.throttled) <= 3 * 512


def test_a_server_that_lets_more_in_is_followed() -> None:
    """From 8 slots to 32 after a minute: found within the longest hold."""
    server = Throttling(lambda now: 8 if now < 60 else 32)
    server.drive(ConcurrencyLimit(64, 64, is_adaptive=False), 120.0 + 2 * LONGEST_HOLD_S)
    assert server.per_s(30.0, 60.0) >= 0.95 * 40
    assert server.per_s(60.0 + 2 * LONGEST_HOLD_S, 120.0 + 2 * LONGEST_HOLD_S) >= 0.95 * 160


@given(rate=st.floats(0.0, 0.05), seed=st.integers(0, 99))
def test_chance_does_not_starve(rate: float, seed: int) -> None:
    """Up to one in twenty throttled for no reason: at least half of the rate remains, whatever the luck."""
    server = Throttling(lambda _: 1000, rate=rate, random=Random(seed))
    server.drive(ConcurrencyLimit(32, 32, is_adaptive=False), 20.0)
    assert server.per_s(0.0, 20.0) >= 0.5 * 32 / 0.2


@pytest.mark.parametrize(("slots", "thrash", "work_s", "jitter"), [(2, 0.3, 0.2, 0.2), (3, 0.3, 0.2, 0.2)])
def test_the_knee_is_found_elsewhere_too(slots: int, thrash: float, work_s: float, jitter: float) -> None:
    """At least 90 % of what the right number brings, from 20 s on."""
    answered, _ = drive(steady(slots, jitter, thrash, work_s), ConcurrencyLimit(), 80.0)
    best, _ = drive(steady(slots, jitter, thrash, work_s), slots, 80.0)
    assert per_s(answered, SETTLED_S, 80.0) >= 0.9 * per_s(best, SETTLED_S, 80.0)


@pytest.mark.parametrize("thrash", [0.3, 0.5])
def test_a_server_that_loses_most_of_its_slots(thrash: float) -> None:
    """At 30 s only 8 of 64 slots are left: a minute later at least 90 % of what they bring."""
    server = Server(lambda now: 64 if now < 30 else 8, lambda _: 0.2, jitter=0.2, thrash=thrash)
    answered, _ = drive(server, ConcurrencyLimit(), 120.0)
    assert per_s(answered, 90.0, 120.0) >= 0.9 * 8 / 0.2
