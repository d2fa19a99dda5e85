"""Limits of which an endpoint tells nothing: no record is lost to them, however low they are and whatever the slots.

A channel against the emulator's limits, by a clock that jumps from event to event: an hour takes a moment.
"""

import heapq
from collections import Counter, deque
from itertools import count
from random import Random

import pytest

from pipeline.emulator.limits import LimitKind, make_limit
from pipeline.engine.stages import Trial
from pipeline.engine.state import NEVER
from pipeline.errors import ErrorKind
from pipeline.limits.rate_window import Taken
from pipeline.records import Answer, Failure
from tests.engine.test_state import GOOD, Hand, Rig, fail, rig

ANSWER_S, REFUSAL_S = 1.0, 0.05
LANES = 8
"""Records that wait beyond twice the slots."""

Event = tuple[float, int, Trial, Taken, float, Answer | Failure]


class Endpoint:
    """So many a minute, of which only the refusals speak; some images it always refuses."""

    def __init__(self, kind: LimitKind, rpm: int, *, tells: bool, poison: int = 0) -> None:
        self._limit, self._tells, self._poison = make_limit(kind, rpm, max(1, rpm // 10)), tells, poison
        self._random = Random(7)

    def answer(self, now_s: float, trial: Trial) -> tuple[Answer | Failure, float]:
        wait_ns = self._limit.ask(1, int(now_s * 1e9))
        late_s = 0.1 * self._random.random()
        if wait_ns or int(trial.request.record.id) <= self._poison:
            told_s = (wait_ns / 1e9 or 1.0) if self._tells else None
            return fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=told_s), REFUSAL_S + late_s
        return GOOD, ANSWER_S + late_s


class Run:
    """Lanes in one line before one channel, as `turns` and `engine` have them."""

    def __init__(self, endpoint: Endpoint, slots: int | None) -> None:
        self.endpoint, self.bench = endpoint, rig(slots=slots)
        self.counts, self.lost = Counter[str](), list[Trial]()
        self._line, self._events, self._number, self._lanes = deque[Trial](), list[Event](), count(), 0

    def until(self, end_s: float) -> Counter[str]:
        hand, channel = self.bench.hand, self.bench.channel
        while hand.now_s < end_s and not self.bench.has_stopped():
            ready_at = self._send_all(hand, self.bench)
            hand.now_s = max(hand.now_s, min([ready_at, *(event[0] for event in self._events[:1])]))
            assert hand.now_s < NEVER, f"nothing will ever happen: {self.counts}"
            while self._events and self._events[0][0] <= hand.now_s:
                _, _, trial, taken, sent_at, result = heapq.heappop(self._events)
                trial.add(result)
                channel.end(taken, trial.request, result, sent_at)
                self._follow(trial, result, channel.judge(trial, result, sent_at))
        return self.counts

    def _send_all(self, hand: Hand, bench: Rig) -> float:
        while self._lanes < 2 * bench.channel.slots + LANES:
            self._lanes += 1
            self._line.append(bench.trial())
        while self._line:
            trial = self._line[0]
            ready_at = bench.channel.ready_at(hand.now_s, trial.request)
            if ready_at > hand.now_s:
                return ready_at
            self._line.popleft()
            taken = bench.channel.begin(hand.now_s, trial.request)
            result, takes_s = self.endpoint.answer(hand.now_s, trial)
            event = (hand.now_s + takes_s, next(self._number), trial, taken, hand.now_s, result)
            heapq.heappush(self._events, event)
        return NEVER

    def _follow(self, trial: Trial, result: Answer | Failure, pause_s: float | None) -> None:
        self.counts["answered" if isinstance(result, Answer) else "refused"] += 1
        if pause_s is None:
            self._lanes -= 1
            self.lost += [trial] if isinstance(result, Failure) else []
        elif trial.goes_first:
            self._line.appendleft(trial)
        else:
            self._line.append(trial)


@pytest.mark.parametrize("slots", [None, 1, 4, 32])
@pytest.mark.parametrize("tells", [True, False], ids=["retry-after", "untold"])
@pytest.mark.parametrize("rpm", [1, 7, 30, 60])
@pytest.mark.parametrize("kind", LimitKind)
def test_no_record_is_lost_to_a_limit(kind: LimitKind, rpm: int, tells: bool, slots: int | None) -> None:  # noqa: FBT001 - a parameter
    """An hour at so many a minute, of which nothing is told but refusals: every record is answered in the end, and an
    endpoint that says when to come back is used whole, and asked no more than four times for each answer.
    """
    run = Run(Endpoint(kind, rpm, tells=tells), slots)
    began = run.bench.hand.now_s
    counts = run.until(began + 3600)
    assert run.lost == []
    assert not run.bench.has_stopped()
    if tells:
        assert counts["answered"] >= 58 * min(rpm, 55 * (slots or 4))
        assert counts["refused"] <= 4 * counts["answered"]


@pytest.mark.parametrize("tells", [True, False], ids=["retry-after", "untold"])
@pytest.mark.parametrize("rpm", [60, 100_000])
def test_what_is_always_refused_is_lost(rpm: int, tells: bool) -> None:  # noqa: FBT001 - a parameter
    """Two images that are refused whenever they are sent, among others that are answered: they fail, and only they;
    where nobody else is refused, after ten requests each.
    """
    run = Run(Endpoint(LimitKind.FIXED, rpm, tells=tells, poison=2), 4)
    run.until(run.bench.hand.now_s + (600 if rpm > 60 else 7200))
    assert sorted(trial.request.record.id for trial in run.lost) == ["1", "2"]
    if rpm > 60:
        assert max(trial.attempts for trial in run.lost) <= 12
