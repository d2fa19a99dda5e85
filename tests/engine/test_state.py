"""One endpoint's state by a clock that moves on demand: pauses, probes, circuit, quota, sleep."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import inf
from random import Random

import anyio.lowlevel
import pytest

from pipeline.engine.failures import RECORDS_IN_A_ROW
from pipeline.engine.stages import Clock, Endpoint, EngineConfig, RequestState
from pipeline.engine.state import AWAKE_S, NEVER, QUOTA_PAUSE_S, EndpointState, Share
from pipeline.errors import ErrorKind
from pipeline.limits.concurrency import HOLD_S
from pipeline.limits.decision import MAX_THROTTLES, RETRY_S, Decision, decide
from pipeline.locations import LocalFile
from pipeline.records import (
    Answer,
    Failure,
    ImageFacts,
    ImageRecord,
    PreparedRequest,
    Quota,
    RateLimitInfo,
    Status,
    Usage,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
FACTS = ImageFacts(
    width=10, height=10, sent_width=10, sent_height=10, sent_bytes=100, source_bytes=100, sha256="0" * 64
)
GOOD = Answer(status=Status.OK, caption="a cat", usage=Usage(prompt_tokens=100, completion_tokens=20))


def fail(kind: ErrorKind, **more: object) -> Failure:
    return Failure(kind=kind, message=f"because {kind}", **more)  # type: ignore[arg-type] # fields of Failure by name


BUSY = fail(ErrorKind.RATE_LIMITED, status=429)
BROKEN = fail(ErrorKind.SERVER_ERROR, status=500)
AWAY = fail(ErrorKind.UNREACHABLE)


@dataclass
class Hand:
    """A clock that stands still until it is moved; a task that sleeps on it moves it."""

    now_s: float = 1000.0

    async def sleep(self, wait_s: float) -> None:
        self.now_s += wait_s
        await anyio.lowlevel.checkpoint()

    def clock(self) -> Clock:
        utc = lambda: START + timedelta(seconds=self.now_s - 1000.0)  # noqa: E731 - one line, used once
        return Clock(now=lambda: self.now_s, utc=utc, sleep=self.sleep, random=Random(7))


async def never_asked(request: PreparedRequest) -> Answer | Failure:
    raise AssertionError("no request is sent here")


def request_of(number: int, prompt_tokens: int | None = 100, answer_tokens: int | None = 300) -> PreparedRequest:
    return PreparedRequest(
        record=ImageRecord(str(number), (LocalFile(str(number), str(number)),)),
        image_facts=(FACTS,),
        pieces=(b"x",),
        request_sha256=str(number),
        predicted_prompt_tokens=prompt_tokens,
        most_prompt_tokens=prompt_tokens,
        max_answer_tokens=answer_tokens,
    )


@dataclass
class Flying:
    """A request under way."""

    state: RequestState
    share: Share


@dataclass
class Rig:
    """An endpoint's state, and the hand that moves its clock."""

    endpoint: EndpointState
    hand: Hand
    made: int = field(default=0)
    last: Decision | None = None

    def state(self, **tokens: int | None) -> RequestState:
        self.made += 1
        return RequestState(request_of(self.made, **tokens), START)

    def ready_in(self, state: RequestState | None = None) -> float:
        """Seconds until this request (or any) may be sent."""
        state = state or self.state()
        return self.endpoint.ready_at(self.hand.now_s, state.request) - self.hand.now_s

    def send(self, state: RequestState | None = None) -> Flying:
        state = state or self.state()
        assert self.ready_in(state) <= 0
        return Flying(state, self.endpoint.begin(self.hand.now_s, state.request))

    def home(self, flying: Flying, result: Answer | Failure) -> float | None:
        """Its answer, and what follows for the record: seconds until its next try, None when it is done."""
        flying.state.add(result)
        self.endpoint.end(flying.share, flying.state.request, result)
        self.last = decide(result, self.endpoint.observe(flying.state, flying.share, result))
        return None if self.last.is_final else self.last.wait_s

    def last_kind(self) -> ErrorKind | None:
        """Of the failure that a record ended with."""
        return self.last.result.kind if self.last and isinstance(self.last.result, Failure) else None

    def ask(self, result: Answer | Failure, state: RequestState | None = None, takes_s: float = 0.5) -> float | None:
        flying = self.send(state)
        self.hand.now_s += takes_s
        return self.home(flying, result)

    def has_stopped(self) -> bool:
        return self.endpoint.stopped is not None

    def until_ready(self) -> None:
        wait_s = self.ready_in()
        assert wait_s < NEVER
        self.hand.now_s += max(0.0, wait_s)


def rig(concurrency: int | None = 16, config: dict[str, object] | None = None, **endpoint: object) -> Rig:
    hand = Hand()
    numbers: dict[str, object] = {"threads": 1, "prepared_bytes": 1 << 20, **(config or {})}
    made = Endpoint(name="here", ask=never_asked, concurrency=concurrency, **endpoint)  # type: ignore[arg-type] # by name
    return Rig(EndpointState(made, EngineConfig(**numbers), hand.clock()), hand)  # type: ignore[arg-type] # by name


# ---------------------------------------------------------------- concurrency and limits


def test_a_full_endpoint_is_ready_when_somebody_comes_home() -> None:
    """As many requests as `concurrency`; the next waits for no time but for an answer."""
    bench = rig(concurrency=2)
    first, _ = bench.send(), bench.send()
    assert bench.ready_in() == NEVER
    assert bench.home(first, GOOD) is None
    assert bench.ready_in() == 0
    assert (bench.endpoint.in_flight, bench.endpoint.requests, bench.endpoint.answers) == (1, 2, 1)


def test_a_request_that_nobody_waits_for_frees_its_slot() -> None:
    """Given up or cut off: its slot is free, and nothing is learnt from it."""
    bench = rig(concurrency=1)
    flying = bench.send()
    bench.endpoint.end(flying.share, flying.state.request, None)
    assert bench.ready_in() == 0
    assert bench.endpoint.answers == 0


def test_what_headers_tell_counts_from_then_on() -> None:
    """The first answer tells ten requests a minute: the next one is six seconds later, give or take its catching up."""
    bench = rig()
    bench.ask(Answer(status=Status.OK, caption="x", limits=RateLimitInfo(requests=Quota(limit=10, reset_s=6.0))))
    bench.send()
    assert 5.5 <= bench.ready_in() <= 6.0


def test_tokens_as_they_are_counted_there() -> None:
    """One endpoint counts the prompt and what may be answered; the other what is answered, once that is known."""
    asked, billed = rig(), rig(counts_billed=True)
    for bench in (asked, billed):
        assert bench.endpoint.tokens_of(request_of(0)) == 400
        bench.ask(GOOD)
    assert asked.endpoint.tokens_of(request_of(0)) == 400
    assert billed.endpoint.tokens_of(request_of(0)) == 120


def test_a_bill_corrects_what_was_taken() -> None:
    """Where bills are counted, a request that took 400 of 1,000 tokens a minute and cost 120 leaves room for two."""
    bench = rig(counts_billed=True, tpm=1000)
    bench.ask(GOOD)
    bench.hand.now_s += 30
    bench.ask(GOOD)
    bench.hand.now_s += 10
    assert bench.ready_in() == 0


# ---------------------------------------------------------------- the shared cooldown


def test_a_cooldown_is_shared_and_costs_nobody_an_attempt() -> None:
    """One 429 that asks for 90 s: no record is sent for 90 s, and the refused one has lost nothing."""
    bench = rig()
    state = bench.state()
    assert bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=90.0), state) == 0.0
    assert (state.failures, state.times_throttled, state.attempts) == (0, 1, 1)
    assert bench.ready_in(state) == bench.ready_in() == 90.0
    bench.hand.now_s += 89.9
    assert bench.ready_in() > 0
    bench.hand.now_s += 0.2
    assert bench.ready_in() <= 0


def test_a_shorter_wait_never_shortens_a_longer_one() -> None:
    """Two requests are refused, the second with a shorter wait: the longer one counts."""
    bench = rig()
    first, second = bench.send(), bench.send()
    bench.home(first, fail(ErrorKind.RATE_LIMITED, retry_after_s=60.0))
    bench.home(second, fail(ErrorKind.RATE_LIMITED, retry_after_s=1.0))
    assert bench.ready_in() == 60.0


@pytest.mark.parametrize("kind", [ErrorKind.RATE_LIMITED, ErrorKind.OVERLOADED])
def test_a_refusal_that_tells_no_time_is_about_the_number_in_flight(kind: ErrorKind) -> None:
    """One of three in flight is throttled without a time: sending goes on when another one came home."""
    bench = rig(concurrency=16)
    first, _, third = bench.send(), bench.send(), bench.send()
    bench.hand.now_s += 0.1
    assert RETRY_S <= (bench.home(third, fail(kind)) or 0) <= 2 * RETRY_S
    assert third.state.failures == 0
    assert (bench.ready_in(), bench.endpoint.waiting) == (NEVER, None)
    bench.hand.now_s += 0.4
    assert bench.home(first, GOOD) is None
    assert bench.ready_in() == 0


def test_a_fixed_number_is_tried_again_after_a_while() -> None:
    """Of sixteen that the user allows an endpoint grants two: the third is throttled, and then not tried for two
    seconds; throttled again, for four.
    """
    bench = rig(concurrency=16)
    flying = [bench.send(), bench.send()]
    for hold_s in (HOLD_S, 2 * HOLD_S):
        bench.home(bench.send(), BUSY)
        bench.hand.now_s += 0.5
        bench.home(flying.pop(0), GOOD)
        flying.append(bench.send())
        assert (bench.endpoint.concurrency, bench.ready_in()) == (2, NEVER)
        bench.hand.now_s += hold_s
        assert (bench.endpoint.concurrency, bench.ready_in()) == (3, 0)


@pytest.mark.parametrize("kind", [ErrorKind.RATE_LIMITED, ErrorKind.OVERLOADED])
def test_after_a_pause_one_goes_first(kind: ErrorKind) -> None:
    """The pause is over for one request; the others wait for what it finds, and go at once when it is answered."""
    bench = rig()
    bench.ask(fail(kind, retry_after_s=5.0))
    bench.until_ready()
    probe = bench.send()
    assert bench.ready_in() > 0
    bench.home(probe, GOOD)
    assert bench.ready_in() == 0
    assert bench.endpoint.waiting is None


def test_an_answer_from_before_the_refusal_proves_nothing() -> None:
    """A request that was let in earlier comes home during the pause: the pause goes on."""
    bench = rig()
    earlier = bench.send()
    bench.hand.now_s += 0.5
    bench.ask(fail(ErrorKind.RATE_LIMITED, retry_after_s=30.0))
    bench.home(earlier, GOOD)
    assert bench.ready_in() == 30.0


def test_the_bar_says_until_when() -> None:
    """While an endpoint pauses there are words for it, with the time of day."""
    bench = rig()
    bench.ask(fail(ErrorKind.RATE_LIMITED, retry_after_s=90.0), takes_s=0)
    until = (START + timedelta(seconds=90)).astimezone()
    assert bench.endpoint.waiting == f"rate limited until {until:%H:%M:%S}"


def test_a_wait_beyond_the_limit_stops() -> None:
    """An hour is waited for, more is not: the reason says when to go on."""
    bench = rig(config={"max_wait_s": 3600.0})
    bench.ask(fail(ErrorKind.RATE_LIMITED, retry_after_s=3600.0), takes_s=0)
    assert bench.endpoint.stopped is None
    other = rig(config={"max_wait_s": 3600.0})
    other.ask(fail(ErrorKind.OVERLOADED, retry_after_s=3601.0), takes_s=0)
    assert other.endpoint.stopped == "because overloaded (go on after 2026-01-01 01:00 UTC)"


@pytest.mark.parametrize("answers", [1, 6])
def test_rate_limits_of_one_record_while_others_succeed(answers: int) -> None:
    """The tenth ends the record: it is this one that the endpoint does not accept."""
    bench = rig()
    unlucky = bench.state()
    for throttles in range(1, MAX_THROTTLES + 1):
        assert (bench.ask(BUSY, unlucky) is None) == (throttles == MAX_THROTTLES)
        bench.until_ready()
        for _ in range(answers):
            bench.ask(GOOD)
    assert unlucky.failures == 0


def test_a_record_among_others_that_wait_as_well_is_not_to_blame() -> None:
    """Where those who were refused are answered in the end, four refusals prove nothing."""
    bench = rig()
    unlucky = bench.state()
    for _ in range(MAX_THROTTLES - 1):
        bench.until_ready()
        assert bench.ask(BUSY, unlucky) is not None
        bench.until_ready()
        for _ in range(6):
            other = bench.state()
            bench.until_ready()
            bench.ask(BUSY, other)
            bench.until_ready()
            bench.ask(GOOD, other)


def test_a_hundred_rate_limits_while_nobody_succeeds() -> None:
    """A record that meets nothing but a busy endpoint is not to blame; after `outage_s` of it the run stops."""
    bench = rig()
    state = bench.state()
    for _ in range(30):
        bench.until_ready()
        assert bench.ask(BUSY, state) == 0.0
    assert state.failures == 0
    assert bench.endpoint.stopped is None
    for _ in range(70):
        bench.until_ready()
        assert bench.ask(BUSY, state) == 0.0
    assert bench.endpoint.stopped is not None


@pytest.mark.parametrize("last", [fail(ErrorKind.OVERLOADED, status=503, retry_after_s=5.0), None])
def test_nobody_is_waited_for_where_nobody_is_in_flight(last: Failure | None) -> None:
    """One of two is throttled without a time to wait, so that the next waits for the other one; which is throttled
    with a time to wait, or for the tenth time and for good: the next is sent when that is over.
    """
    bench = rig()
    for _ in range(4):
        bench.ask(GOOD)
    first, second = bench.send(), bench.send()
    first.state.throttles["here"] = first.state.throttled_by["here"] = MAX_THROTTLES - 1
    assert RETRY_S <= (bench.home(second, BUSY) or 0) <= 2 * RETRY_S
    assert bench.ready_in() == NEVER
    bench.home(first, BUSY if last is None else last)
    assert bench.ready_in() == (0.0 if last is None else 5.0)


def test_an_endpoint_that_says_for_an_hour_to_come_back_in_a_minute() -> None:
    """Each wait is short enough, and all of them together are not: the run stops and says what to do."""
    bench = rig(config={"max_wait_s": 3600.0, "outage_s": 1800.0})
    refused = 0
    while not bench.has_stopped():
        bench.until_ready()
        assert bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=60.0), takes_s=0.0) == 0.0
        refused += 1
    assert refused == 61
    assert "run the same command later to go on" in str(bench.endpoint.stopped)


def test_no_burst_after_a_pause() -> None:
    """A concurrency of sixteen, an endpoint that grants one at a time: after its answer, not all are let loose."""
    bench = rig()
    bench.ask(GOOD)
    bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=20.0))
    bench.until_ready()
    bench.ask(GOOD)
    flying = []
    while bench.ready_in() == 0:
        flying.append(bench.send())
    assert len(flying) == 2
    for one in flying:
        bench.home(one, GOOD)
    while bench.ready_in() == 0:
        flying.append(bench.send())
    assert len(flying) == 2 + 4


def test_a_request_larger_than_the_advertised_limit_ends_its_record() -> None:
    """Its 429 says that a minute grants 350 tokens, and it needs 400: no waiting helps, and the others do not wait."""
    bench = rig()
    told = RateLimitInfo(tokens=Quota(limit=350, reset_s=60.0))
    large = bench.state()
    assert bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, limits=told), large) is None
    assert bench.last_kind() is ErrorKind.REQUEST_EXCEEDS_LIMIT
    small = bench.state(prompt_tokens=10, answer_tokens=10)
    bench.hand.now_s += 120
    assert bench.ready_in(small) == 0
    assert bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, limits=told), small) == 0.0
    assert bench.last_kind() is None


# ---------------------------------------------------------------- the circuit


def test_eight_server_errors_in_a_row_open_the_circuit() -> None:
    """Seven records have lost an attempt when the eighth error comes; then all have theirs back, and sending pauses."""
    bench = rig()
    bench.ask(GOOD)
    flying = [bench.send() for _ in range(RECORDS_IN_A_ROW)]
    for one in flying[:-1]:
        pause_s = bench.home(one, BROKEN)
        assert pause_s is not None
        assert one.state.failures == 1
        assert bench.ready_in() == 0
    assert bench.home(flying[-1], BROKEN) == 0.0
    assert [one.state.failures for one in flying] == [0] * RECORDS_IN_A_ROW
    assert bench.ready_in() > 0
    assert bench.endpoint.stopped is None


@pytest.mark.parametrize("kind", [ErrorKind.SERVER_ERROR, ErrorKind.TIMEOUT, ErrorKind.CONNECTION])
def test_while_the_circuit_is_open_nobody_loses_an_attempt(kind: ErrorKind) -> None:
    """Probe after probe fails for ten minutes: no record has a failure, and an answer closes the circuit."""
    bench = rig()
    bench.ask(GOOD)
    flying = [bench.send() for _ in range(RECORDS_IN_A_ROW)]
    for one in flying:
        bench.home(one, fail(kind))
    began = bench.hand.now_s
    while bench.hand.now_s < began + 600:
        bench.until_ready()
        probe = bench.send()
        assert bench.ready_in() > 0
        assert bench.home(probe, fail(kind)) == 0.0
        assert probe.state.failures == 0
    bench.until_ready()
    assert bench.ask(GOOD) is None
    assert bench.ready_in() == 0
    pause_s = bench.ask(fail(kind), lost := bench.state())
    assert pause_s is not None
    assert lost.failures == 1


def test_an_answer_in_between_keeps_the_circuit_closed() -> None:
    """Errors now and then are those of records: each counts, and sending does not pause."""
    bench = rig()
    for _ in range(5):
        states = [bench.state() for _ in range(RECORDS_IN_A_ROW - 1)]
        for state in states:
            bench.ask(BROKEN, state)
        assert [state.failures for state in states] == [1] * (RECORDS_IN_A_ROW - 1)
        bench.ask(GOOD)
        assert bench.ready_in() == 0


def test_a_record_fails_after_its_last_failure() -> None:
    """With six failures allowed, five are followed by a back-off that grows to its bound; then it is over."""
    bench = rig(config={"max_failures": 6})
    state = bench.state()
    for failures in range(1, 6):
        bench.ask(GOOD)
        pause_s = bench.ask(BROKEN, state)
        assert pause_s is not None
        assert 0 <= pause_s <= 0.5 * 2 ** (failures - 1)
    assert bench.ask(BROKEN, state) is None
    assert (state.failures, state.failed_on) == (6, "here")


def test_timeouts_of_a_record_are_counted() -> None:
    """They make its next request be waited for longer."""
    bench = rig()
    state = bench.state()
    bench.ask(fail(ErrorKind.TIMEOUT), state)
    bench.ask(BROKEN, state)
    assert (state.timeouts, state.failures) == (1, 2)


@pytest.mark.parametrize("first_contact_s", [10.0, 3.0])
def test_who_was_never_reached_is_tried_for_ten_seconds(first_contact_s: float) -> None:
    """From the first request on, and until then more than once; no record loses an attempt."""
    bench = rig(config={"first_contact_s": first_contact_s})
    began, tries = bench.hand.now_s, 0
    while not bench.has_stopped():
        bench.until_ready()
        state = bench.state()
        assert bench.ask(AWAY, state, takes_s=0.0) == 0.0
        assert state.failures == 0
        tries += 1
    assert bench.hand.now_s - began == first_contact_s
    assert tries >= 3
    assert str(bench.endpoint.stopped).startswith("because unreachable - check the address")


@pytest.mark.parametrize("answered", [False, True])
def test_a_stated_wait_of_an_error_is_bounded(*, answered: bool) -> None:
    """A 500 that asks for a day: what was never reached is given up as soon as without it, the others after theirs."""
    bench = rig(config={"first_contact_s": 10.0, "outage_s": 1800.0})
    if answered:
        bench.ask(GOOD)
    states = [bench.state() for _ in range(RECORDS_IN_A_ROW)]
    began = bench.hand.now_s
    for state in states:
        bench.ask(fail(ErrorKind.SERVER_ERROR, status=500, retry_after_s=86_400.0), state, takes_s=0.0)
    assert not bench.has_stopped()
    while not bench.has_stopped():
        bench.until_ready()
        bench.ask(fail(ErrorKind.SERVER_ERROR, status=500, retry_after_s=86_400.0), takes_s=0.0)
    assert bench.hand.now_s - began == (1800.0 if answered else 10.0)


def test_who_was_reached_is_waited_for_half_an_hour() -> None:
    """After an answer the patience is `outage_s`, and the return costs no record an attempt."""
    bench = rig(config={"outage_s": 1800.0})
    bench.ask(GOOD)
    began = bench.hand.now_s
    while bench.hand.now_s < began + 180:
        assert bench.ask(AWAY, takes_s=0.0) == 0.0
        bench.until_ready()
    assert not bench.has_stopped()
    bench.ask(GOOD)
    assert bench.ready_in() == 0
    began = bench.hand.now_s
    while not bench.has_stopped():
        bench.until_ready()
        bench.ask(AWAY, takes_s=0.0)
    assert bench.hand.now_s - began == 1800.0


def test_a_probe_is_never_more_than_a_minute_away() -> None:
    """Without a hint from the endpoint its return is noticed within a minute, however long it was gone."""
    bench = rig(config={"outage_s": 1e6})
    bench.ask(GOOD)
    for _ in range(100):
        bench.ask(AWAY, takes_s=0.0)
        assert 0 < bench.ready_in() <= 60.0
        bench.until_ready()


def test_an_error_status_shows_that_it_can_be_reached() -> None:
    """After a network outage a 500 comes: there is no pause any more, and the 500 is the record's."""
    bench = rig()
    bench.ask(GOOD)
    bench.ask(AWAY)
    bench.until_ready()
    state = bench.state()
    bench.ask(BROKEN, state)
    assert bench.ready_in() == 0
    assert state.failures == 1


# ---------------------------------------------------------------- keys, quotas, sleep


@pytest.mark.parametrize("kind", [ErrorKind.AUTHENTICATION, ErrorKind.PERMISSION, ErrorKind.MODEL_NOT_FOUND])
def test_a_refused_key_is_never_tried_again(kind: ErrorKind) -> None:
    """Nor is an unknown model: no time makes that endpoint ready, and the words say what to do."""
    bench = rig()
    assert bench.ask(fail(kind)) == 0.0
    bench.hand.now_s += 1e6
    assert bench.ready_in() == NEVER
    assert str(bench.endpoint.stopped).startswith(f"because {kind} - ")


def test_a_spent_quota_is_tried_again_after_five_minutes() -> None:
    """Where other endpoints go on; the account may have credit by then, and an answer shows it."""
    bench = rig()
    bench.ask(GOOD)
    bench.ask(fail(ErrorKind.QUOTA_EXHAUSTED, status=429))
    assert "no credit" in str(bench.endpoint.stopped)
    assert bench.ready_in() == QUOTA_PAUSE_S
    bench.until_ready()
    bench.ask(fail(ErrorKind.QUOTA_EXHAUSTED, status=429))
    assert bench.ready_in() == QUOTA_PAUSE_S
    bench.until_ready()
    bench.ask(GOOD)
    assert bench.ready_in() == 0
    assert bench.endpoint.stopped is None


@pytest.mark.parametrize("kind", [ErrorKind.TIMEOUT, ErrorKind.CONNECTION, ErrorKind.UNREACHABLE])
def test_sleep_costs_nobody_an_attempt(kind: ErrorKind) -> None:
    """What was in flight while the machine slept, or was sent on dead connections just after, is void."""
    bench = rig()
    asleep = bench.send()
    bench.hand.now_s += 1.0
    bench.endpoint.woke()
    bench.hand.now_s += AWAKE_S - 0.1
    just_awake = bench.send()
    for flying in (asleep, just_awake):
        assert bench.home(flying, fail(kind)) == 0.0
        assert flying.state.failures == 0
    assert bench.ready_in() == 0


def test_a_while_after_sleep_failures_count_again() -> None:
    """And a status is an answer of the endpoint at any time."""
    bench = rig()
    bench.endpoint.woke()
    state, late = bench.state(), bench.state()
    bench.ask(BROKEN, state)
    bench.hand.now_s += AWAKE_S
    bench.ask(fail(ErrorKind.TIMEOUT), late)
    assert (state.failures, late.failures) == (1, 1)


# ---------------------------------------------------------------- what it learns


def test_a_rate_limit_lowers_the_concurrency() -> None:
    """It may be that too many are in flight."""
    bench = rig(concurrency=None)
    before = bench.endpoint.concurrency
    bench.ask(GOOD)
    for _ in range(3):
        bench.until_ready()
        bench.ask(BUSY)
    assert bench.endpoint.concurrency < before


@pytest.mark.parametrize(
    ("kind", "after_s", "is_paced"),
    [(ErrorKind.OVERLOADED, 5, False), (ErrorKind.OVERLOADED, 70, True), (ErrorKind.RATE_LIMITED, 5, True)],
)
def test_a_moment_without_capacity_at_the_start_paces_no_run(kind: ErrorKind, after_s: int, *, is_paced: bool) -> None:
    """Three in a row are refused without a time. A 429 is about a rate; a 503 within the first minute may be a hiccup,
    and what those seconds granted says little about a minute.
    """
    bench = rig()
    for _ in range(2 * after_s):
        bench.ask(GOOD)
    for _ in range(3):
        bench.ask(fail(kind))
        bench.until_ready()
    bench.ask(GOOD)
    assert (bench.endpoint.limits.requests.learned is not None) == is_paced


def test_a_window_that_is_nearly_used_explains_a_throttle() -> None:
    """Four of five a minute are used: a 429 is about that, and lowers no concurrency."""
    limits = rig().endpoint.limits
    limits.advertise(RateLimitInfo(requests=Quota(limit=5, reset_s=1.0)))
    for second in range(4):
        assert not limits.is_tight(float(second))
        limits.take(float(second), 1)
    assert limits.is_tight(4.0)
    assert not limits.is_tight(90.0)


def test_the_timeout_follows_the_answers() -> None:
    """After twenty answers of 5 s a request gets 20 s, not the endpoint's five minutes."""
    bench = rig(timeout_s=300.0)
    assert bench.endpoint.timeout.timeout_s(0) == 300.0
    for _ in range(20):
        bench.ask(GOOD, takes_s=5.0)
    assert bench.endpoint.timeout.timeout_s(0) == 20.0


@pytest.mark.parametrize(
    "kind",
    [ErrorKind.BAD_REQUEST, ErrorKind.CONTENT_FILTER, ErrorKind.REQUEST_TOO_LARGE, ErrorKind.REASONING_EXHAUSTED],
)
def test_what_is_wrong_with_a_record_ends_that_record(kind: ErrorKind) -> None:
    """At once; and it shows that the endpoint is well, so that a pause is over."""
    bench = rig()
    bench.ask(BUSY)
    bench.until_ready()
    assert bench.ask(fail(kind, status=400)) is None
    assert bench.ready_in() == 0


def test_at_once_is_no_answer_to_the_refused() -> None:
    """Retry-After: 0, or a date gone by, is waited out like none: 1, 2, 4 seconds."""
    bench, waits = rig(), []
    for _ in range(3):
        bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=0.0), takes_s=0.0)
        waits.append(bench.ready_in())
        bench.until_ready()
    assert waits == [1, 2, 4]


def test_another_reason_shortens_no_pause() -> None:
    """Told to wait for sixty seconds: a late connection error of a request sent before does not end that."""
    bench = rig()
    late = bench.send()
    bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=60.0), takes_s=0.0)
    bench.home(late, AWAY)
    assert bench.ready_in() == 60.0


# ---------------------------------------------------------------- what a refusal's own headers tell


def used_up(reset_s: float | None, remaining: float = 0) -> Failure:
    quota = Quota(limit=600, remaining=remaining, reset_s=reset_s)
    return fail(ErrorKind.RATE_LIMITED, status=429, limits=RateLimitInfo(requests=quota))


def test_a_refusal_that_tells_the_reset_is_waited_out() -> None:
    """No Retry-After, nothing remains, and all is back in 42 s: the next request goes then, not after 1, 2, 4 ... s."""
    bench = rig()
    assert bench.ask(used_up(42.0), takes_s=0.0) == 0.0
    assert bench.ready_in() == 42.0
    bench.until_ready()
    bench.ask(used_up(30.0), takes_s=0.0)
    assert bench.ready_in() == 30.0


def test_of_two_that_are_used_up_the_later_counts() -> None:
    """Requests are back in 5 s, tokens in 50 s; a quota with a remainder does not count."""
    told = RateLimitInfo(
        requests=Quota(limit=600, remaining=0, reset_s=5.0), tokens=Quota(limit=90_000, remaining=0, reset_s=50.0)
    )
    bench = rig()
    bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, limits=told), takes_s=0.0)
    assert bench.ready_in() == 50.0
    other = rig()
    other.ask(used_up(42.0, remaining=3), takes_s=0.0)
    assert other.ready_in() == 1.0


def test_retry_after_beats_the_reset() -> None:
    """What is said of this refusal counts before what is said of the quota."""
    bench = rig()
    bench.ask(replace(used_up(42.0), retry_after_s=7.0), takes_s=0.0)
    assert bench.ready_in() == 7.0


def test_a_day_s_quota_that_is_used_up_stops_the_run() -> None:
    """It is back in eight hours: exit 4, and when to go on."""
    bench = rig()
    bench.ask(used_up(8 * 3600.0), takes_s=0.0)
    assert "go on after 2026-01-01 08:00 UTC" in str(bench.endpoint.stopped)


@pytest.mark.parametrize("told_s", [1e300, 2.5e11, 1e14])
def test_no_wait_is_too_long_for_words(told_s: float) -> None:
    """A number or a date that is absurd, with any patience at all: words with a time of day, never an exception."""
    bench = rig(config={"max_wait_s": inf})
    bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=told_s), takes_s=0.0)
    assert str(bench.endpoint.waiting).startswith("rate limited until ")
    assert bench.endpoint.stopped is None


# ---------------------------------------------------------------- errors of the last records


def failing(bench: Rig, kind: ErrorKind = ErrorKind.SERVER_ERROR, status: int | None = 500) -> list[RequestState]:
    """Nine records that meet nothing but errors, one after the other, until the endpoint gives up or blames them."""
    states = [bench.state() for _ in range(RECORDS_IN_A_ROW + 1)]
    began = bench.hand.now_s
    while not bench.has_stopped() and all(state.failures < 3 for state in states) and bench.hand.now_s < began + 5000:
        for state in states:
            if not bench.has_stopped() and state.failures < 3:
                bench.until_ready()
                bench.ask(fail(kind, status=status), state)
                if bench.has_stopped() and bench.endpoint.may_be_records:
                    bench.endpoint.count_records()
    return states


@pytest.mark.parametrize("answered", ["in this run", "before"])
def test_the_last_records_are_to_blame_themselves(answered: str) -> None:
    """Nothing else is left, and the endpoint has answered others: once the patience is over, each record fails for
    itself, after all its tries; none has lost one before.
    """
    bench = rig(config={"max_failures": 3, "has_answers": answered == "before", "outage_s": 300.0})
    if answered == "in this run":
        bench.ask(GOOD)
    bench.endpoint.left = lambda: 8
    began = bench.hand.now_s
    states = failing(bench)
    assert bench.endpoint.stopped is None
    assert {state.failures for state in states} <= {2, 3}
    assert bench.hand.now_s - began >= (300.0 if answered == "in this run" else 10.0)
    assert bench.ask(BROKEN, states[0]) is None
    assert bench.ask(GOOD) is None


@pytest.mark.parametrize(
    "why", ["it never answered", "others follow", "it says nothing", "it cannot be reached", "it breaks off"]
)
def test_an_endpoint_that_is_gone_costs_nobody_an_attempt(why: str) -> None:
    """Otherwise the run stops, as it always did, and no record has lost anything."""
    bench = rig(config={"max_failures": 3, "has_answers": why != "it never answered"})
    bench.endpoint.left = lambda: inf if why == "others follow" else 8
    kinds = {
        "it says nothing": ErrorKind.TIMEOUT,
        "it cannot be reached": ErrorKind.UNREACHABLE,
        "it breaks off": ErrorKind.CONNECTION,
    }
    kind = kinds.get(why, ErrorKind.SERVER_ERROR)
    states = failing(bench, kind, 500 if kind is ErrorKind.SERVER_ERROR else None)
    assert bench.has_stopped()
    assert [state.failures for state in states] == [0] * len(states)


# ---------------------------------------------------------------- waits that are shown


def test_a_wait_for_the_limits_is_shown() -> None:
    """Once a minute: whose limit, and when the next request goes; nothing of a wait that is short."""
    bench = rig(rpm=1)
    bench.ask(GOOD, takes_s=0.0)
    request, now = request_of(7), bench.hand.now_s
    at = (START + timedelta(seconds=bench.ready_in())).astimezone()
    words = bench.endpoint.pacing(now, now + bench.ready_in(), request)
    assert words == f"`limits.rpm` allows 1 request a minute: next at {at:%H:%M:%S}"
    assert bench.endpoint.pacing(now, now + 2.0, request) is None
    assert bench.endpoint.pacing(now, NEVER, request) is None


def test_whose_limit_it_is() -> None:
    """The endpoint's where it is the smaller one; tokens where these are what is waited for."""
    bench = rig(rpm=100, tpm=90_000)
    bench.ask(replace(GOOD, limits=RateLimitInfo(requests=Quota(limit=2), tokens=Quota(limit=1200))), takes_s=0.0)
    now = bench.hand.now_s
    assert str(bench.endpoint.pacing(now, now + 60, request_of(7))).startswith("the endpoint allows 2 requests a min")
    bench.endpoint.limits.requests.advertised = 6_000_000
    for _ in range(2):
        bench.until_ready()
        bench.send()
    now = bench.hand.now_s
    assert str(bench.endpoint.pacing(now, now + 60, request_of(7))).startswith(
        "the endpoint allows 1,200 tokens a minu"
    )


def test_a_limit_below_what_was_granted_is_disbelieved() -> None:
    """`limit-tokens: 40` beside an answer of 120: said once, and no request waits for it; a sane one later counts."""
    bench = rig()
    nonsense = RateLimitInfo(tokens=Quota(limit=40, remaining=40, reset_s=1.0))
    for _ in range(3):
        bench.ask(replace(GOOD, limits=nonsense))
        assert bench.ready_in() == 0
    (remark,) = bench.endpoint.remarks
    assert remark.startswith("here advertises a limit of 40 tokens a minute, and granted 120 to a single request")
    assert bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, limits=nonsense)) == 0.0
    assert bench.last_kind() is None
    bench.until_ready()
    bench.ask(replace(GOOD, limits=RateLimitInfo(tokens=Quota(limit=700))))
    assert bench.endpoint.limits.tokens.per_minute == 700
    assert len(bench.endpoint.remarks) == 1


def test_a_pause_goes_on_while_this_machine_sleeps() -> None:
    """Told to wait for an hour; it slept for fifty minutes, in which its clock stood still: ten are left."""
    bench = rig()
    bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=3600.0), takes_s=0.0)
    bench.endpoint.woke(3000.0)
    assert bench.ready_in() == 600.0
    bench.endpoint.woke(86_400.0)
    assert bench.ready_in() == 0.0


def test_a_quota_of_unknown_length_is_waited_for() -> None:
    """OpenRouter's 429: `X-RateLimit-Remaining: 0` and the moment of its reset."""
    bench = rig()
    bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, limits=RateLimitInfo(reset_s=33.0)), takes_s=0.0)
    assert bench.ready_in() == 33.0


@pytest.mark.parametrize("limit", [0.0, 1e-9, 0.5])
def test_less_than_one_a_minute_is_no_limit(limit: float) -> None:
    """Nonsense in a header stalls no request."""
    bench = rig()
    bench.ask(replace(GOOD, limits=RateLimitInfo(requests=Quota(limit=limit), tokens=Quota(limit=limit))))
    assert bench.ready_in() == 0


def test_a_throttled_probe_waits_as_stated() -> None:
    """After a probe that is refused with Retry-After 1 s, the next one goes a second later."""
    bench = rig()
    for _ in range(3):
        bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=1.0), takes_s=0.5)
        assert bench.ready_in() == 1.0
        bench.until_ready()


def test_pauses_double() -> None:
    """An endpoint that cannot be reached is probed after 1, 2, 4 ... 60 s, as Circuit.open() says."""
    bench, waits = rig(config={"outage_s": 1e6}), []
    bench.ask(GOOD)
    for _ in range(8):
        bench.ask(AWAY, takes_s=0.0)
        waits.append(bench.ready_in())
        bench.until_ready()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_wait_of_a_million_years() -> None:
    """Retry-After 99999999999999 stops the run like any wait that is too long."""
    bench = rig()
    bench.ask(fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=1e14))
    assert bench.endpoint.stopped is not None


def test_a_busy_hour_fails_no_record() -> None:
    """One other record was answered before the endpoint became busy for all: no record fails."""
    bench = rig()
    state = bench.state()
    bench.ask(GOOD)
    for _ in range(30):
        bench.until_ready()
        assert bench.ask(BUSY, state) is not None
