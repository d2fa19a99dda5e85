"""Unadvertised limits: no record is lost to them, however low they are and whatever the concurrency.

A endpoint against the emulator's limits, by a clock that jumps from event to event: an hour takes a moment.
"""

import heapq
from collections import Counter
from itertools import count
from random import Random

import pytest

from pipeline.emulator.limits import LimitKind, make_limit
from pipeline.engine.stages import RequestState
from pipeline.engine.state import NEVER
from pipeline.errors import ErrorKind
from pipeline.records import Answer, Failure
from tests.engine.test_state import GOOD, Flying, Hand, Rig, fail, rig

ANSWER_S, REFUSAL_S = 1.0, 0.05
WORKERS = 8
"""Records that wait beyond twice the concurrency."""

Event = tuple[float, int, Flying, Answer | Failure]


class Endpoint:
    """N a minute, shown by throttles only; some images are always throttled."""

    def __init__(self, kind: LimitKind, rpm: int, *, tells: bool, poison: int = 0) -> None:
        self._limit, self._tells, self._poison = make_limit(kind, rpm, max(1, rpm // 10)), tells, poison
        self._random = Random(7)

    def answer(self, now_s: float, state: RequestState) -> tuple[Answer | Failure, float]:
        wait_ns = self._limit.ask(1, int(now_s * 1e9))
        late_s = 0.1 * self._random.random()
        if wait_ns or int(state.request.record.id) <= self._poison:
            told_s = (wait_ns / 1e9 or 1.0) if self._tells else None
            return fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=told_s), REFUSAL_S + late_s
        return GOOD, ANSWER_S + late_s


class Run:
    """Workers before one endpoint, with places as the scheduler gives them."""

    def __init__(self, endpoint: Endpoint, concurrency: int | None) -> None:
        self.endpoint, self.bench = endpoint, rig(concurrency=concurrency)
        self.counts, self.lost = Counter[str](), list[RequestState]()
        self._line, self._later = list[tuple[int, RequestState]](), list[tuple[float, int, RequestState]]()
        self._events, self._number, self._workers = list[Event](), count(), 0

    def until(self, end_s: float) -> Counter[str]:
        hand = self.bench.hand
        while hand.now_s < end_s and not self.bench.has_stopped():
            ready_at = self._send_all(hand, self.bench)
            coming = [event[0] for event in self._events[:1]] + [later[0] for later in self._later[:1]]
            hand.now_s = max(hand.now_s, min([ready_at, *coming]))
            assert hand.now_s < NEVER, f"nothing will ever happen: {self.counts}"
            while self._events and self._events[0][0] <= hand.now_s:
                _, _, flying, result = heapq.heappop(self._events)
                self._follow(flying.state, result, self.bench.home(flying, result))
        return self.counts

    def _send_all(self, hand: Hand, bench: Rig) -> float:
        while self._later and self._later[0][0] <= hand.now_s:
            self._queue(heapq.heappop(self._later)[2])
        while self._workers < 2 * bench.endpoint.concurrency + WORKERS:
            self._workers += 1
            self._queue(bench.state())
        while self._line:
            state = self._line[0][1]
            ready_at = bench.endpoint.ready_at(hand.now_s, state.request)
            if ready_at > hand.now_s:
                return ready_at
            heapq.heappop(self._line)
            flying = bench.send(state)
            result, takes_s = self.endpoint.answer(hand.now_s, state)
            heapq.heappush(self._events, (hand.now_s + takes_s, next(self._number), flying, result))
        return NEVER

    def _queue(self, state: RequestState) -> None:
        state.place = next(self._number) if state.place is None or state.times_throttled > 1 else state.place
        heapq.heappush(self._line, (state.place, state))

    def _follow(self, state: RequestState, result: Answer | Failure, wait_s: float | None) -> None:
        self.counts["answered" if isinstance(result, Answer) else "throttled"] += 1
        if wait_s is None:
            self._workers -= 1
            self.lost += [state] if isinstance(result, Failure) else []
        elif wait_s:
            heapq.heappush(self._later, (self.bench.hand.now_s + wait_s, next(self._number), state))
        else:
            self._queue(state)


@pytest.mark.parametrize("concurrency", [None, 1, 4, 32])
@pytest.mark.parametrize("tells", [True, False], ids=["retry-after", "bare"])
@pytest.mark.parametrize("rpm", [1, 7, 30, 60])
@pytest.mark.parametrize("kind", LimitKind)
def test_no_record_is_lost_to_a_limit(kind: LimitKind, rpm: int, tells: bool, concurrency: int | None) -> None:  # noqa: FBT001 - a parameter
    """An hour at N a minute, shown by throttles only: every record is answered in the end, and an
    endpoint that says when to come back is used whole, and asked no more than four times for each answer.
    """
    run = Run(Endpoint(kind, rpm, tells=tells), concurrency)
    began = run.bench.hand.now_s
    counts = run.until(began + 3600)
    assert run.lost == []
    assert not run.bench.has_stopped()
    if tells:
        assert counts["answered"] >= 58 * min(rpm, 55 * (concurrency or 4))
        assert counts["throttled"] <= 4 * counts["answered"]


@pytest.mark.parametrize("tells", [True, False], ids=["retry-after", "bare"])
@pytest.mark.parametrize("rpm", [60, 100_000])
def test_what_is_always_refused_is_lost(rpm: int, tells: bool) -> None:  # noqa: FBT001 - a parameter
    """Two images that are refused whenever they are sent, among others that are answered: they fail, and only they;
    where no other record is throttled, after ten requests each.
    """
    run = Run(Endpoint(LimitKind.FIXED, rpm, tells=tells, poison=2), 4)
    run.until(run.bench.hand.now_s + (600 if rpm > 60 else 7200))
    assert sorted(state.request.record.id for state in run.lost) == ["1", "2"]
    if rpm > 60:
        assert max(state.attempts for state in run.lost) <= 12
