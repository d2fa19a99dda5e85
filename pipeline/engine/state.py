"""One endpoint of a run: how many requests it may have, when the next may go, and what its answers say about it.

No waiting is here: a channel says when it is ready, and is told what came of each request.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from pipeline.engine.stages import Clock, Endpoint, EngineConfig, Trial
from pipeline.errors import ErrorKind
from pipeline.limits.ceiling import Ceiling
from pipeline.limits.concurrency import Climb
from pipeline.limits.decision import FINAL_STOPS, Reaction, backoff_s, max_attempts_of, reaction, stop_message
from pipeline.limits.notices import Notices
from pipeline.limits.rate_window import WINDOW_S, Cooldown, Limits, Taken, back_in_s
from pipeline.limits.refusals import Refusals
from pipeline.limits.surge import Surge
from pipeline.limits.timeouts import Patience
from pipeline.records import Answer, Failure, PreparedRequest, RateLimitInfo

NEVER = float("inf")
STREAK = 8
"""Records whose first request fails, with no answer between them, that open the circuit."""
REFUTED = 8
"""Refusals of single records in a row that another endpoint answered: this one refuses everything."""
PACED_S = 5.0
"""A wait for the limits that is worth telling."""
AWAKE_S = 5.0
"""Connections that were asleep with this machine fail for so long after it woke, and nobody is to blame."""
QUOTA_PAUSE_S = 300.0
"""Until an endpoint without credit is tried again, where others go on."""
LONGEST_S = 10 * 365 * 86_400.0
"""Nobody waits longer, whatever an endpoint says."""
UNKNOWN_TOKENS = 1_000
"""Of a prompt whose image tokens nobody can predict, until answers tell."""

AILING = frozenset({ErrorKind.SERVER_ERROR, ErrorKind.TIMEOUT, ErrorKind.CONNECTION})
VOID_ASLEEP = frozenset({ErrorKind.TIMEOUT, ErrorKind.CONNECTION, ErrorKind.UNREACHABLE})


class Trouble(StrEnum):
    """Why a channel pauses."""

    BUSY = "rate limited"
    AWAY = "cannot be reached"
    SPENT = "out of credit"
    AILING = "answers with errors only"


@dataclass(slots=True)
class Usual:
    """What answers of this endpoint come to, against what was predicted; of the last hundred or so."""

    prompt_ratio: float = 1.0
    completion_tokens: float | None = None

    def add(self, request: PreparedRequest, answer: Answer) -> None:
        billed, predicted = answer.usage.prompt_tokens, request.predicted_prompt_tokens or UNKNOWN_TOKENS
        if billed:
            self.prompt_ratio += (billed / predicted - self.prompt_ratio) * 0.05
        if (completion := answer.usage.completion_tokens) is not None:
            usual = completion if self.completion_tokens is None else self.completion_tokens
            self.completion_tokens = usual + (completion - usual) * 0.05


class Channel:
    """The state of one endpoint. Times are in seconds of the engine's clock."""

    def __init__(self, endpoint: Endpoint, config: EngineConfig, clock: Clock) -> None:
        self.endpoint, self.name = endpoint, endpoint.name
        self._config, self._clock = config, clock
        self._climb = Climb(most=endpoint.most_slots) if endpoint.slots is None else None
        self._ceiling, self._surge = Ceiling(), Surge()
        self.limits = Limits(endpoint.rpm, endpoint.tpm)
        self.patience = Patience(min(config.straggler_s, endpoint.timeout_s), endpoint.timeout_s)
        self.in_flight = self.requests = self.answers = 0
        self.turn_of = 0.0
        """Its place among several: requests by weight."""
        self.stopped: str | None = None
        """Why a run that had only this endpoint would end."""
        self.nothing_follows = False
        """Whether the source is at its end: all records that are left are at work."""
        self.may_blame_records = False
        """Whether what made it stop may be the fault of the last records."""
        self.remarks: list[str] = []
        """What the user should be told, once; whoever tells it takes it out."""
        self.notices = Notices(endpoint.name)
        """The same about its pauses, in the server's words."""
        self._is_barred = self._blames_records = self._has_doubted = False
        self._refuted = self._refusals = self._forgiven = 0
        self._cooldown: Cooldown | None = None
        self._trouble: Trouble | None = None
        self._streak: list[Trial] = []
        self._streak_since = 0.0
        self._woke_at = self._good_sent_at = -NEVER
        self._usual = Usual()

    @property
    def slots(self) -> int:
        most = self._climb.limit if self._climb else self.endpoint.slots or 1
        return int(min(most, self._ceiling.held(self._clock.now())))

    @property
    def waiting(self) -> str | None:
        """What it waits for, in words."""
        if self._cooldown is None or self._trouble is None:
            return None
        return f"{self._trouble} until {self._time_of_day(self._cooldown.until)}"

    def pacing(self, now: float, ready_at: float, request: PreparedRequest) -> str | None:
        """The same where it is the limits that make this request wait, and for long."""
        if self.waiting is not None or not PACED_S <= ready_at - now < NEVER:
            return None
        return f"{self.limits.words(now, self.tokens_of(request))}: next at {self._time_of_day(ready_at)}"

    def _time_of_day(self, at: float) -> str:
        when = self._clock.utc() + timedelta(seconds=min(max(0.0, at - self._clock.now()), LONGEST_S))
        return f"{when.astimezone():%H:%M:%S}"

    # ---------------------------------------------------------------- before a request

    def ready_at(self, now: float, request: PreparedRequest) -> float:
        """When this request may be sent: `now`, later, or NEVER unless an answer changes something."""
        if self._is_barred or (self.in_flight and self._is_full(now)):
            return NEVER
        if self._cooldown is not None and now < self._cooldown.over_at:
            return self._cooldown.over_at
        return self.limits.ready_at(now, self.tokens_of(request))

    def _is_full(self, now: float) -> bool:
        """Whether the next request waits for one in flight; where there is none, nobody could come home."""
        return self.in_flight >= min(self.slots, self._ceiling.limit(now)) or self._surge.room < 1

    def begin(self, now: float, request: PreparedRequest) -> Taken:
        """A request is sent. After a pause it goes alone: the others wait for what it finds."""
        if self._cooldown is not None:
            self._cooldown = self._cooldown.probing(now, self._config.first_contact_s)
        self.in_flight += 1
        self.requests += 1
        self._ceiling.sent(now, self.in_flight)
        self._surge.sent()
        if self._climb is not None:
            self._climb.capped(now, self._ceiling.held(now))
            self._climb.sent(now, self.in_flight)
        return self.limits.take(now, self.tokens_of(request))

    def tokens_of(self, request: PreparedRequest) -> float:
        """What the endpoint will count against its tokens a minute."""
        prompt = (request.predicted_prompt_tokens or UNKNOWN_TOKENS) * self._usual.prompt_ratio
        asked = request.max_answer_tokens or 0
        if not self.endpoint.counts_billed:
            return prompt + asked
        return prompt + (asked if self._usual.completion_tokens is None else self._usual.completion_tokens)

    # ---------------------------------------------------------------- after it

    def end(self, taken: Taken, request: PreparedRequest, result: Answer | Failure | None, sent_at: float) -> None:
        """Its slot is free. `result` is None for a request that nobody waited for."""
        self.in_flight -= 1
        if not isinstance(result, Failure) or reaction(result.kind) is not Reaction.COOLDOWN:
            self._ceiling.home()
        if self._climb is not None and not isinstance(result, Answer):
            self._climb.lost(self._clock.now(), sent_at)
        if result is None:
            return
        if result.limits is not None:
            self._learn(request, result, result.limits)
        if result.doubts and not self._has_doubted:
            self._has_doubted = True
            self.remarks.append(
                f"{self.name} reports usage that cannot be ({'; '.join(result.doubts)}): it is not believed, and a "
                "request whose cost stays unknown counts as the most that it can cost"
            )
        if isinstance(result, Answer):
            now = self._clock.now()
            self._usual.add(request, result)
            self.patience.add(now - sent_at)
            self._ceiling.answered(sent_at)
            self._surge.answered()
            if self._climb is not None:
                self._climb.answered(now, sent_at)
            if self.endpoint.counts_billed and (billed := result.usage.billed_tokens) is not None:
                self.limits.settle(taken, billed)

    def _learn(self, request: PreparedRequest, result: Answer | Failure, told: RateLimitInfo) -> None:
        granted = 0
        if isinstance(result, Answer):
            granted = result.usage.billed_tokens or request.predicted_prompt_tokens or 0
        doubted = self.limits.learn(told, granted)
        if doubted is not None:
            self.remarks.append(f"{self.name} tells {doubted}: it is not believed; `limits.tpm` sets one")

    def judge(self, trial: Trial, result: Answer | Failure, sent_at: float) -> float | None:
        """How long this record waits for its next attempt (seconds); None when there is none."""
        if isinstance(result, Answer):
            self.answers += 1
            self._forgiven += trial.rate_limits
            self._refuted, self._blames_records = 0, False
            self._good_sent_at = max(self._good_sent_at, sent_at)
            if self._cooldown is not None and self._trouble is Trouble.BUSY:  # busy, and at work
                self._cooldown = replace(self._cooldown, since=self._clock.now())
            self._recovered(sent_at)
            return None
        if result.kind in VOID_ASLEEP and sent_at < self._woke_at + AWAKE_S:
            return 0.0
        pause_s: float | None = 0.0
        match reaction(result.kind):
            case Reaction.STOP:
                self._shut_out(result)
            case Reaction.RECORD_FAILS:
                self._recovered(sent_at)
                pause_s = None
            case Reaction.RETRY:
                pause_s = self._retry(trial, result, sent_at)
            case Reaction.COOLDOWN:
                pause_s = self._cool(trial, result, sent_at)
            case Reaction.CONNECTION:
                self._open_circuit(Trouble.AWAY, result, sent_at)
        return pause_s

    def woke(self, asleep_s: float = 0.0) -> None:
        """The machine has slept: what was under way then is lost, and proves nothing; a pause went on meanwhile."""
        self._woke_at = self._clock.now()
        if self._cooldown is not None:
            self._cooldown = self._cooldown.slept(asleep_s)

    def refuted(self, refusal: str) -> None:
        """Another endpoint has answered what this one refused with these words."""
        self._refuted += 1
        if self._refuted < REFUTED or self._is_barred:
            return
        self._is_barred, self.stopped = True, f"it refuses what others answer: {refusal}"
        self.remarks.append(f"{self.name} refuses what others answer, and is asked no more: {refusal}")

    def _retry(self, trial: Trial, failure: Failure, sent_at: float) -> float | None:
        trial.timeouts += failure.kind is ErrorKind.TIMEOUT  # the next one waits longer, whoever is to blame
        if failure.kind in AILING and self._is_struck(trial, failure, sent_at):
            return 0.0
        if failure.status is not None:  # ailing, but reached
            self._end_pause(sent_at)
        trial.failures, trial.failed_on = trial.failures + 1, self.name
        if trial.failures >= max_attempts_of(failure.kind, self._config.max_failures):
            return None
        return backoff_s(trial.failures, self._clock.random.random())

    def _is_struck(self, trial: Trial, failure: Failure, sent_at: float) -> bool:
        """Whether it is the endpoint that ails, and not this record.

        A record that has failed while others were answered proves nothing against the endpoint; many that never
        have, one after the other and with no answer between them, do.
        """
        if self._blames_records:
            return False
        is_first = trial.failures == 0
        if self._trouble is Trouble.AILING:
            self._open_circuit(Trouble.AILING, failure, sent_at)
            return is_first
        if is_first:
            self._streak_since = self._streak_since if self._streak else sent_at
            self._streak.append(trial)
        if len(self._streak) < STREAK:
            return False
        for struck in self._streak:  # it was not their fault
            struck.failures = 0
        self._streak.clear()
        self._open_circuit(Trouble.AILING, failure, self._streak_since)
        return True

    def _cool(self, trial: Trial, failure: Failure, sent_at: float) -> float | None:
        """The endpoint is busy: all wait together, and the record loses no attempt by it."""
        is_limit = failure.kind is ErrorKind.RATE_LIMITED
        if is_limit and not self.limits.allows(self.tokens_of(trial.request)):
            trial.exceeds_limit = True
            return None
        if is_limit and self._is_unwanted(trial, failure, sent_at):
            return None
        told_s = failure.retry_after_s or (back_in_s(failure.limits) if is_limit else None)
        told_until = self._told_until
        now, is_tight = self._clock.now(), self.limits.is_tight(self._clock.now())
        if told_s is None and not is_tight and self._ceiling.refused(now, sent_at, self.in_flight):
            return 0.0
        if self._climb is not None and not is_tight:
            self._climb.refused(now, sent_at)
        told_s = None if told_s is None else min(told_s, LONGEST_S)
        max_wait_s = self._config.max_wait_s
        if told_s is not None and told_s > max_wait_s:
            resume_at = self._clock.utc() + timedelta(seconds=told_s)
            self.stopped = f"{failure.message} (go on after {resume_at:%Y-%m-%d %H:%M} UTC)"
        pause = self._pause(Trouble.BUSY, told_s, sent_at)
        if pause.refused_at - pause.since >= max_wait_s:
            self.stopped = self.stopped or f"{stop_message(failure)} (refused for {max_wait_s:g} s: limits.max_wait_s)"
        elif told_s is None:
            self._cooldown = pause.no_longer_than(max(pause.since + max_wait_s, told_until))
        self._try_again(failure, pause, max_wait_s, "limits.max_wait_s")
        return 0.0

    def _is_unwanted(self, trial: Trial, failure: Failure, sent_at: float) -> bool:
        """Whether it is this record that the endpoint does not want; else it may go before the others."""
        self._refusals += 1
        done = Refusals(self._refusals, self._forgiven, self.answers)
        meanwhile = done.since(trial.refused_after.setdefault(self.name, done))
        if self._good_sent_at >= trial.refused_at.get(self.name, -NEVER):
            trial.rate_limits += 1
        trial.refused_at[self.name] = self._clock.now()
        has_tried = self._has_tried(failure, sent_at, is_usual=meanwhile.are_usual)
        trial.goes_first = not has_tried and (meanwhile.are_usual or trial.rate_limits <= 1)
        return meanwhile.blame(trial.rate_limits)

    def _has_tried(self, failure: Failure, sent_at: float, *, is_usual: bool) -> bool:
        """Whether it was first after a pause and refused all the same, where such a pause should have been enough."""
        pause = self._cooldown
        if pause is None or sent_at < pause.until:
            return False
        return failure.retry_after_s is not None or not is_usual or sent_at - pause.since >= WINDOW_S

    def _open_circuit(self, trouble: Trouble, failure: Failure, sent_at: float) -> None:
        """The circuit opens: one record probes, and none loses an attempt by it."""
        told_until = self._told_until
        pause = self._pause(trouble, failure.retry_after_s, sent_at)
        patience_s, setting = self._config.outage_s, "limits.outage_s"
        if not self.answers:
            patience_s, setting = self._config.first_contact_s, "limits.first_contact_s"
        if pause.refused_at - pause.since >= patience_s:
            self.stopped = stop_message(failure)
            self.may_blame_records = trouble is Trouble.AILING and self._has_better_days(failure)
        else:
            self._cooldown = pause.no_longer_than(max(pause.since + patience_s, told_until))
        self._try_again(failure, pause, patience_s, setting)

    @property
    def _told_until(self) -> float:
        """When the pause that there is already will be over."""
        return self._cooldown.until if self._cooldown is not None else 0.0

    def _try_again(self, failure: Failure, pause: Cooldown, patience_s: float, setting: str) -> None:
        follows = f"sending pauses and tries again, for at most {patience_s:g} s ({setting})"
        self.notices.refused(self._clock.now(), pause.since, failure, follows)

    def blame_records(self) -> None:
        """Errors count against each record from now on, since nothing is left that could tell whose they are."""
        self._blames_records, self.may_blame_records = True, False
        self._cooldown = self._trouble = self.stopped = None

    def _has_better_days(self, failure: Failure) -> bool:
        """Whether errors may be the records' own: the endpoint speaks, has answered the same question about others,
        and there are no others left to ask.
        """
        has_answered = self.answers > 0 or self._config.has_answers
        return failure.status is not None and has_answered and self.nothing_follows

    def _shut_out(self, failure: Failure) -> None:
        """The endpoint refuses all requests: for good, or until somebody has paid."""
        self.stopped = stop_message(failure)
        self._is_barred, self.may_blame_records = failure.kind in FINAL_STOPS, False
        now, follows = self._clock.now(), "is asked no more" if self._is_barred else "the others go on without it"
        self.notices.refused(now, now, failure, follows)
        if not self._is_barred:
            self._pause(Trouble.SPENT, QUOTA_PAUSE_S, now)

    def _pause(self, trouble: Trouble, told_s: float | None, sent_at: float) -> Cooldown:
        other = None
        if self._trouble is not trouble:
            other, self._cooldown, self._trouble = self._cooldown, None, trouble
        rounds = self._cooldown.rounds if self._cooldown is not None else 0
        self._cooldown = Cooldown.after(self._cooldown, self._clock.now(), told_s, since=sent_at).joined(other)
        if trouble is Trouble.BUSY and self._cooldown.rounds > rounds:
            self._surge.refused()
        return self._cooldown

    def _recovered(self, sent_at: float) -> None:
        self._streak.clear()
        if self._cooldown is not None and self._cooldown.ended_by(sent_at):
            self._cooldown = self._trouble = None
            self.notices.answered(self._clock.now())
            self.stopped = self.stopped if self._is_barred else None

    def _end_pause(self, sent_at: float) -> None:
        if self._trouble is not Trouble.AILING and self._cooldown is not None and self._cooldown.ended_by(sent_at):
            self._cooldown = self._trouble = None
