"""One endpoint during a run: how many requests it may have, when the next may go, and what its results show.

Nothing waits here: the state reports when it is ready, and observes the result of each request.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from math import inf

from pipeline.engine.failures import FirstFailures
from pipeline.engine.stages import Clock, Endpoint, EngineConfig, RequestState
from pipeline.engine.throttles import Suspects, Throttles
from pipeline.errors import ErrorKind
from pipeline.limits.circuit import Circuit, PauseReason
from pipeline.limits.concurrency import Cause, ConcurrencyLimit, Sent
from pipeline.limits.decision import (
    FAILING,
    FINAL_STOPS,
    VOID_ASLEEP,
    Known,
    Reaction,
    reaction,
    stop_message,
)
from pipeline.limits.notices import Notices
from pipeline.limits.rate_window import RateLimits, Taken, back_in_s
from pipeline.limits.timeouts import AdaptiveTimeout
from pipeline.records import Answer, Failure, PreparedRequest

NEVER = inf
"""When a request may be sent that waits for a result, not for a time."""
REJECTED = 8
"""Rejections in a row that another endpoint answered: this one rejects everything, and would halve the run."""
PACED_S = 5.0
"""A wait for the limits that is worth showing; a shorter one would only flicker."""
AWAKE_S = 5.0
"""Connections that slept with this machine fail for this long after it woke; those failures count against nothing."""
QUOTA_PAUSE_S = 300.0
"""Until an endpoint without credit is tried again, where others go on; sooner would only repeat the 429."""
LONGEST_S = 10 * 365 * 86_400.0
"""No pause is longer, whatever an endpoint states: the date of its end must exist."""
UNKNOWN_TOKENS = 1_000
"""Of a prompt whose image tokens no rule predicts, until answers show them; 0 would send a whole minute at once."""
SMOOTHING = 0.05
"""The weight of one answer in what requests usually come to; one odd answer must not change the pace."""


@dataclass(slots=True)
class Usual:
    """What answers of this endpoint come to, against what was predicted; of the last hundred or so."""

    prompt_ratio: float = 1.0
    completion_tokens: float | None = None

    def add(self, request: PreparedRequest, answer: Answer) -> None:
        billed, predicted = answer.usage.prompt_tokens, _expected(request)
        if billed and predicted:
            self.prompt_ratio += (billed / predicted - self.prompt_ratio) * SMOOTHING
        if (completion := answer.usage.completion_tokens) is not None:
            usual = completion if self.completion_tokens is None else self.completion_tokens
            self.completion_tokens = usual + (completion - usual) * SMOOTHING

    def tokens(self, request: PreparedRequest, *, counts_billed: bool) -> float:
        """The tokens that the endpoint will count for a request."""
        prompt = _expected(request) * self.prompt_ratio
        asked = request.max_answer_tokens or 0
        if not counts_billed or self.completion_tokens is None:
            return prompt + asked
        return prompt + self.completion_tokens


def _expected(request: PreparedRequest) -> int:
    """Tokens of the prompt as predicted; without a prediction no more than it may have: none where pages are billed."""
    most = request.most_prompt_tokens
    return request.predicted_prompt_tokens or (UNKNOWN_TOKENS if most is None else min(UNKNOWN_TOKENS, most))


@dataclass(frozen=True, slots=True)
class Share:
    """One request's share of an endpoint: of its concurrency, and of its rates."""

    sent: Sent
    taken: Taken


def _concurrency_of(endpoint: Endpoint) -> ConcurrencyLimit:
    if endpoint.concurrency is None:
        return ConcurrencyLimit(most=endpoint.max_concurrency)
    return ConcurrencyLimit(endpoint.concurrency, endpoint.concurrency, is_adaptive=False)


def _limits_of(endpoint: Endpoint, clock: Clock) -> RateLimits:
    shard = endpoint.shard
    if shard is None:
        return RateLimits(endpoint.rpm, endpoint.tpm)
    limits = RateLimits(endpoint.rpm, endpoint.tpm, shard.count)
    limits.stagger(clock.now(), clock.utc().timestamp(), shard.index)
    return limits


def _time_of_day(clock: Clock, at: float) -> str:
    when = clock.utc() + timedelta(seconds=min(max(0.0, at - clock.now()), LONGEST_S))
    return f"{when.astimezone():%H:%M:%S}"


def _in_utc(clock: Clock, wait_s: float) -> str:
    return f"{clock.utc() + timedelta(seconds=wait_s):%Y-%m-%d %H:%M} UTC"


def _granted(request: PreparedRequest, result: Answer | Failure) -> int:
    """The tokens that one request was granted, as far as its answer shows."""
    return (result.usage.billed_tokens or request.predicted_prompt_tokens or 0) if isinstance(result, Answer) else 0


def _refusal(failure: Failure, record_id: str | None) -> str:
    """Why a run stops. `record_id`: this run has answers, and it may be about this record alone."""
    is_named = record_id is not None and failure.kind in FINAL_STOPS
    return stop_message(failure) + (f" (asked about {record_id!r}; others were answered)" if is_named else "")


def _doubt_words(name: str, doubts: Sequence[str]) -> str:
    return (
        f"{name} reports usage that cannot be ({'; '.join(doubts)}): it is not believed, and a "
        "request whose cost stays unknown counts as the most that it can cost"
    )


Left = Callable[[], float]
"""How many records are left in a run."""


class EndpointState:
    """The state of one endpoint. Times are in seconds of the engine's clock."""

    def __init__(self, endpoint: Endpoint, config: EngineConfig, clock: Clock, left: Left = lambda: inf) -> None:
        self.endpoint, self.name, self.left = endpoint, endpoint.name, left
        self._config, self._clock = config, clock
        self._concurrency = _concurrency_of(endpoint)
        self.limits = _limits_of(endpoint, clock)
        self.timeout = AdaptiveTimeout(min(config.straggler_s, endpoint.timeout_s), endpoint.timeout_s)
        self.circuit = Circuit()
        self.in_flight = self.requests = self.answers = self._rejected = 0
        self.most_in_flight, self.held_until = inf, -inf  # this run's part of the number, and a pause that others met
        self.virtual_time = 0.0
        """Requests divided by weight, for the scheduler's fair shares."""
        self.stopped: str | None = None
        """Why a run that had only this endpoint would end."""
        self.may_be_records = False
        """Whether the failures that made it stop may be the last records' own."""
        self.remarks: list[str] = []
        """Lines for the user; the scheduler takes them out."""
        self.notices = Notices(endpoint.name)  # the same about its pauses, in the server's words
        self._is_shut = self._counts_records = self._has_doubted = False
        self._throttles, self._woke_at = Throttles(endpoint.name), -NEVER
        self._rate: tuple[float, bool] | None = None
        """When a rate was exceeded, and whether a wait was stated: it is learned when the pause is over."""
        self._usual, self._first_failures = Usual(), FirstFailures()

    @property
    def concurrency(self) -> int:
        """The concurrency limit."""
        return self._concurrency.limit(self._clock.now())

    @property
    def waiting(self) -> str | None:
        """What it waits for, in words."""
        if self.circuit.reason is None:
            return None
        return f"{self.circuit.reason} until {_time_of_day(self._clock, self.circuit.until)}"

    def pacing(self, now: float, ready_at: float, request: PreparedRequest) -> str | None:
        """The same where a rate makes this request wait, and for long."""
        if self.waiting is not None or not PACED_S <= ready_at - now < NEVER:
            return None
        words = self.limits.words(now, self.tokens_of(request))
        return words and f"{words}: next at {_time_of_day(self._clock, ready_at)}"

    def ready_at(self, now: float, request: PreparedRequest) -> float:
        """When this request may be sent: `now`, later, or NEVER unless a result changes something."""
        limit = min(self._concurrency.limit(now), self.most_in_flight)
        if self._is_shut or limit < 1 or (self.in_flight and self.in_flight >= limit):
            return NEVER
        free_at = self._throttles.free_at(now, int(limit) - self.in_flight) if self.in_flight else now
        return max(free_at, self.held_until, self.circuit.ready_at, self.limits.ready_at(now, self.tokens_of(request)))

    def begin(self, now: float, request: PreparedRequest) -> Share:
        """A request is sent. After a pause it goes alone: the others wait for what it finds."""
        self.circuit.probe(now, self._config.first_contact_s)
        if self._rate is not None:
            self.limits.requests.learn(*self._rate)
            self._rate = None
        sent = self._concurrency.sent(now, self.in_flight)
        self.in_flight, self.requests = self.in_flight + 1, self.requests + 1
        return Share(sent, self.limits.take(now, self.tokens_of(request)))

    def tokens_of(self, request: PreparedRequest) -> float:
        """The tokens that the endpoint will count for it."""
        return self._usual.tokens(request, counts_billed=self.endpoint.counts_billed)

    def end(self, share: Share, request: PreparedRequest, result: Answer | Failure | None) -> None:
        """Its place is free. `result` is None for a request that was given up."""
        self.in_flight -= 1
        if not isinstance(result, Answer):
            self._concurrency.lost(share.sent)
        if result is None:
            return
        if result.limits is not None:
            doubted = self.limits.advertise(result.limits, _granted(request, result))
            if doubted is not None:
                self.remarks.append(f"{self.name} advertises {doubted}: it is not believed; `limits.tpm` sets one")
        if result.doubts and not self._has_doubted:
            self._has_doubted = True
            self.remarks.append(_doubt_words(self.name, result.doubts))
        if isinstance(result, Answer):
            now = self._clock.now()
            self._usual.add(request, result)
            self.timeout.add(now - share.sent.at)
            self._concurrency.answered(now, share.sent)
            self.limits.requests.granted(now, share.sent.at)
            if self.endpoint.counts_billed and (billed := result.usage.billed_tokens) is not None:
                self.limits.settle(share.taken, billed)

    def observe(self, state: RequestState, share: Share, result: Answer | Failure) -> Known:
        """Count the result of an attempt -> what `decide` needs."""
        sent_at, suspects = share.sent.at, self._throttles.before(share.sent.number)
        if isinstance(result, Answer):
            self._throttles.answered(suspects)
            self._answered(sent_at)
            return Known()
        if result.kind in VOID_ASLEEP and sent_at < self._woke_at + AWAKE_S:
            return Known(is_void=True)
        match reaction(result.kind):
            case Reaction.STOP:
                self._shut(result, state.request.record.id)
            case Reaction.RECORD | Reaction.REWRITE:  # rejected, and so reached
                self._concurrency.admit(share.sent)
                self._recovered(sent_at)
            case Reaction.RETRY:
                return self._failed(state, result, sent_at)
            case Reaction.THROTTLE:
                return self._throttled(state, result, share.sent, suspects)
            case Reaction.CIRCUIT:
                self._open(PauseReason.UNREACHABLE, result, sent_at)
        return Known()

    def woke(self, asleep_s: float = 0.0) -> None:
        """The machine has slept: requests that were in flight are lost, and show nothing; a pause went on meanwhile."""
        self._woke_at = self._clock.now()
        self.circuit.slept(asleep_s)

    def rejects(self, rejection: str) -> None:
        """Another endpoint has answered what this one rejected with these words."""
        self._rejected += 1
        if self._rejected < REJECTED or self._is_shut:
            return
        self._is_shut, self.stopped = True, f"it refuses what others answer: {rejection}"
        self.remarks.append(f"{self.name} refuses what others answer, and is asked no more: {rejection}")

    def _answered(self, sent_at: float) -> None:
        self.answers += 1
        self._rejected, self._counts_records = 0, False
        if self.circuit.reason is PauseReason.THROTTLED:  # busy, and at work
            self.circuit.since = self._clock.now()
        self._recovered(sent_at)

    def _recovered(self, sent_at: float) -> None:
        self._first_failures.clear()
        if self.circuit.is_closed_by(sent_at):
            self.circuit.close(self._clock.now())
            self.notices.answered(self._clock.now())
            self.stopped = self.stopped if self._is_shut else None

    def _failed(self, state: RequestState, failure: Failure, sent_at: float) -> Known:
        state.timeouts += failure.kind is ErrorKind.TIMEOUT  # its next request may take longer in any case
        if failure.kind in FAILING and self._is_failing(state, failure, sent_at):
            return Known(is_void=True)
        if (
            failure.status is not None
            and self.circuit.reason is not PauseReason.FAILING
            and self.circuit.is_closed_by(sent_at)
        ):
            self.circuit.close(self._clock.now())
        state.failures, state.failed_on = state.failures + 1, self.name
        return Known(state.failures, max_failures=self._config.max_failures, random=self._clock.random.random())

    def _is_failing(self, state: RequestState, failure: Failure, sent_at: float) -> bool:
        """Whether the endpoint fails, and not this record: many first attempts failed, with no answer between them."""
        if self._counts_records:
            return False
        is_first = state.failures == 0
        if self.circuit.reason is PauseReason.FAILING:
            self._open(PauseReason.FAILING, failure, sent_at)
            return is_first
        if is_first:
            self._first_failures.add(state, sent_at)
        if not self._first_failures.are_many:
            return False
        self._first_failures.clear(forgets=True)
        self._open(PauseReason.FAILING, failure, self._first_failures.since)
        return True

    def _throttled(self, state: RequestState, failure: Failure, sent: Sent, suspects: Suspects) -> Known:
        """The endpoint is busy; no record loses an attempt by it."""
        self._throttles.add(state)
        is_limit = failure.kind is ErrorKind.RATE_LIMITED
        if is_limit and not self.limits.allows(self.tokens_of(state.request)):
            return Known(exceeds_limit=True)
        known = self._throttles.known(state, self.answers)
        known = replace(known, is_alone=self.left() == 1, random=self._clock.random.random())
        if is_limit:
            self._throttles.suspect(state, sent.number, suspects)
        else:
            known = replace(known, throttles=0)
        stated_s = failure.retry_after_s or (back_in_s(failure.limits) if is_limit else None)
        is_rate, is_open = self._is_rate(state, sent, stated_s), self.circuit.reason is not None
        self.limits.requests.throttled(self._clock.now())
        if (stated_s is None and self.in_flight and not (is_rate or is_open)) or known.is_unwanted:
            self._throttles.keep_place(sent.at + self._concurrency.latency_s)
            return known
        self._pause(failure, stated_s, sent.at, is_rate=is_rate)
        return replace(known, is_paused=True)

    def _is_rate(self, state: RequestState, sent: Sent, stated_s: float | None) -> bool:
        """Whether a throttle is about a rate, rather than about the number in flight, this record, or chance."""
        now, again = self._clock.now(), state.times_throttled > 1  # it may be throttled whatever the limits are
        has_wait, rate = stated_s is not None, self.limits.requests
        may_be_chance = rate.learned is None and self._throttles.are_rare(have_wait=has_wait)
        if self.circuit.reason is not None:  # a second record, when it probes
            is_throttled = self.circuit.reason is PauseReason.THROTTLED and self.circuit.is_closed_by(sent.at)
            return is_throttled and not (again or (may_be_chance and rate.is_doubted))
        if not again and self.limits.is_tight(now):
            return True
        cause = self._concurrency.throttled(now, sent, state.request.record.id, has_wait=has_wait, again=again)
        if cause is Cause.CHANCE and has_wait and not again and sent.beside > 0:  # each of many states its wait
            return not self._throttles.are_rare(have_wait=True)
        return cause is Cause.RATE and not may_be_chance

    def _pause(self, failure: Failure, stated_s: float | None, sent_at: float, *, is_rate: bool) -> None:
        now, max_wait_s = self._clock.now(), self._config.max_wait_s
        stated_s = None if stated_s is None or stated_s <= 0 else min(stated_s, LONGEST_S)
        if is_rate and (failure.kind is ErrorKind.RATE_LIMITED or not self.limits.requests.is_young(now)):
            self._rate = (now, stated_s is not None)
        if stated_s is not None and stated_s > max_wait_s:
            self.stopped = f"{failure.message} (go on after {_in_utc(self._clock, stated_s)})"
        is_opened = self.circuit.open(now, PauseReason.THROTTLED, stated_s, sent_at, max_wait_s)
        if is_opened and not (self.limits.requests.is_doubted and self._throttles.are_proven_rare):
            self._concurrency.paused(now)
        if self.circuit.failed_at - self.circuit.since >= max_wait_s:
            self.stopped = self.stopped or f"{stop_message(failure)} (refused for {max_wait_s:g} s: limits.max_wait_s)"
        self.notices.pausing(now, self.circuit.since, failure, max_wait_s, "limits.max_wait_s")

    def _open(self, reason: PauseReason, failure: Failure, sent_at: float) -> None:
        """The circuit opens: one record probes, and none loses an attempt by it."""
        now, most_s, setting = self._clock.now(), self._config.outage_s, "limits.outage_s"
        if not self.answers:
            most_s, setting = self._config.first_contact_s, "limits.first_contact_s"
        if self.circuit.open(now, reason, failure.retry_after_s, sent_at, most_s):
            self._concurrency.paused(now)
        if self.circuit.failed_at - self.circuit.since >= most_s:
            self.stopped = stop_message(failure)
            has_answered = self.answers > 0 or self._config.has_answers
            # No other record could show whose failures these are: the last ones are with workers.
            is_open = failure.status is not None and has_answered and self.left() < inf
            self.may_be_records = reason is PauseReason.FAILING and is_open
        self.notices.pausing(now, self.circuit.since, failure, most_s, setting)

    def count_records(self) -> None:
        """Errors count against each record from now on: no other record could show that the endpoint fails."""
        self._counts_records, self.may_be_records = True, False
        self.circuit.close(self._clock.now())
        self.stopped = None

    def _shut(self, failure: Failure, record_id: str) -> None:
        """The endpoint refuses all requests: for good, or until the account has credit."""
        self.stopped = _refusal(failure, record_id if self.answers else None)
        self._is_shut, self.may_be_records = failure.kind in FINAL_STOPS, False
        now, follows = self._clock.now(), "is asked no more" if self._is_shut else "the others go on without it"
        self.notices.refused(now, now, failure, follows)
        if not self._is_shut:
            self.circuit.open(now, PauseReason.NO_CREDIT, QUOTA_PAUSE_S, now)
