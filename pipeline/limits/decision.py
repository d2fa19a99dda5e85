"""The decision after an attempt: `decide` maps a failure, and what is known of its record, to a frozen value.

The table is DESIGN's "What each failure does". Counting is the endpoint state's, waiting the engine's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pipeline.errors import ErrorKind
from pipeline.records import Answer, Failure, Status

USUAL = 0.25
"""Throttles for each answer from which on more of them prove nothing against a record: it is the endpoint's way."""
MAX_THROTTLES, ALONE = 10, 0.6
"""429s of one record that end it, where others are answered after this share of them: without the first a poison
record is sent for ever, without the second a good record is lost to a limit.
"""
LAST_ALONE = 2
"""The same of the last record, as a number, its last 429 included: without it one record that is always throttled holds
up the end of a run for `limits.max_wait_s`, and then stops it.
"""
RETRY_S = 1.0
"""A throttled record lets others pass for this long, twice as long each time; without it, it would be sent again at
once, and throttled.
"""


class Reaction(StrEnum):
    """What a kind of failure is about."""

    RECORD = "record"
    """This record alone: its row says `failed`."""
    RETRY = "retry"
    """Perhaps this record: it is sent again after a back-off, and the attempt counts."""
    THROTTLE = "throttle"
    """The endpoint's limits; no record loses an attempt."""
    CIRCUIT = "circuit"
    """The endpoint cannot be reached: one record probes; no record loses an attempt."""
    REWRITE = "rewrite"
    """What the endpoint does not take is left out from now on; no record loses an attempt."""
    STOP = "stop"
    """Every further request would fail alike: exit code 4."""


FETCHING: Final = frozenset({ErrorKind.FETCH_FAILED, ErrorKind.FETCH_TIMEOUT, ErrorKind.FETCH_STATUS})
"""Failures of hosts of images that may pass."""

_REACTIONS: Final[Mapping[ErrorKind, Reaction]] = {
    **dict.fromkeys(FETCHING, Reaction.RETRY),
    ErrorKind.RATE_LIMITED: Reaction.THROTTLE,
    ErrorKind.OVERLOADED: Reaction.THROTTLE,
    ErrorKind.SERVER_ERROR: Reaction.RETRY,
    ErrorKind.TIMEOUT: Reaction.RETRY,
    ErrorKind.CONNECTION: Reaction.RETRY,
    ErrorKind.UNREACHABLE: Reaction.CIRCUIT,
    ErrorKind.INVALID_RESPONSE: Reaction.RETRY,
    ErrorKind.EMPTY_ANSWER: Reaction.RETRY,
    ErrorKind.IMAGE_IGNORED: Reaction.RETRY,
    ErrorKind.FORMAT_REJECTED: Reaction.REWRITE,
    ErrorKind.AUTHENTICATION: Reaction.STOP,
    ErrorKind.PERMISSION: Reaction.STOP,
    ErrorKind.QUOTA_EXHAUSTED: Reaction.STOP,
    ErrorKind.MODEL_NOT_FOUND: Reaction.STOP,
    ErrorKind.PARAMETER_REJECTED: Reaction.STOP,
    **dict.fromkeys(
        (
            ErrorKind.IMAGE_MISSING,
            ErrorKind.IMAGE_EMPTY,
            ErrorKind.IMAGE_FORBIDDEN,
            ErrorKind.IMAGE_UNREADABLE,
            ErrorKind.IMAGE_TRUNCATED,
            ErrorKind.IMAGE_UNSUPPORTED,
            ErrorKind.IMAGE_BOMB,
            ErrorKind.IMAGE_TOO_LARGE,
            ErrorKind.DECODER_CRASHED,
            ErrorKind.FETCH_FORBIDDEN,
            ErrorKind.FETCH_TOO_LARGE,
            ErrorKind.REQUEST_EXCEEDS_LIMIT,
            ErrorKind.BAD_REQUEST,
            ErrorKind.REQUEST_TOO_LARGE,
            ErrorKind.CONTENT_FILTER,
            ErrorKind.REFUSED,
            ErrorKind.REASONING_EXHAUSTED,
            ErrorKind.HOOK_FAILED,
            ErrorKind.LABELS_INVALID,
        ),
        Reaction.RECORD,
    ),
}

FINAL_STOPS: Final = frozenset(
    {ErrorKind.AUTHENTICATION, ErrorKind.PERMISSION, ErrorKind.MODEL_NOT_FOUND, ErrorKind.PARAMETER_REJECTED}
)
"""Failures that no waiting changes."""

FAILING: Final = frozenset({ErrorKind.SERVER_ERROR, ErrorKind.TIMEOUT, ErrorKind.CONNECTION})
"""Failures that many records in a row share where it is the endpoint that fails."""

VOID_ASLEEP: Final = frozenset({ErrorKind.TIMEOUT, ErrorKind.CONNECTION, ErrorKind.UNREACHABLE})
"""Failures of connections that slept with this machine."""

NOT_HERE: Final = frozenset({ErrorKind.BAD_REQUEST, ErrorKind.REQUEST_TOO_LARGE, ErrorKind.REQUEST_EXCEEDS_LIMIT})
"""Rejections of one record that another endpoint, with limits of its own, may not share."""

TRANSIENT: Final = frozenset(
    {
        ErrorKind.TIMEOUT,
        ErrorKind.SERVER_ERROR,
        ErrorKind.OVERLOADED,
        ErrorKind.CONNECTION,
        ErrorKind.RATE_LIMITED,
        *FETCHING,
        ErrorKind.INVALID_RESPONSE,
        ErrorKind.UNREACHABLE,
    }
)
"""Rows that failed for one of these are asked again by the next run."""

ASKED_TWICE: Final = frozenset({ErrorKind.EMPTY_ANSWER, ErrorKind.IMAGE_IGNORED})
"""Each of these answers is billed: a second attempt is the last."""


class Action(StrEnum):
    """What the engine does next with a record."""

    DONE = "done"
    RETRY_AFTER = "retry after"
    REQUEUE = "requeue"
    """At once, as soon as an endpoint is ready: the attempt does not count."""
    CORRECT = "correct"
    """At once, with the answer and what is wrong with it."""
    OTHER_ENDPOINT = "other endpoint"
    FAIL = "fail"
    STOP = "stop"
    """This endpoint gets no more requests; the record is sent to another, or the run ends."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from an attempt."""

    action: Action
    wait_s: float = 0.0
    """Of RETRY_AFTER."""
    result: Answer | Failure | None = None
    """The last word on a record that is DONE or FAILs."""

    @property
    def is_final(self) -> bool:
        return self.action in {Action.DONE, Action.FAIL}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a record and its endpoint once an attempt is over."""

    failures: int = 0
    """Attempts of this record that failed and count, this one included."""
    throttles: int = 0
    """429s of this record at this endpoint, between which others were answered."""
    times_throttled: int = 0
    """All its 429s."""
    throttle_share: float = 0.0
    """Throttles of other records, for each answer of this endpoint."""
    max_failures: int = 6
    is_void: bool = False
    """The machine slept through it, or a record's attempt counts against the endpoint."""
    exceeds_limit: bool = False
    """No minute of this endpoint has room for the request."""
    is_paused: bool = False
    """All records wait together."""
    is_alone: bool = False
    """It is the last record of the run: no other is left that could be answered between its 429s."""
    has_other: bool = False
    """Another endpoint may be asked once."""
    is_correction: bool = False
    """The request asked to correct invalid labels: it is the last one."""
    random: float = 0.0
    """In [0, 1), for the back-off."""

    @property
    def is_unwanted(self) -> bool:
        """Whether it is this record that is throttled, and not the endpoint that is busy."""
        most = MAX_THROTTLES * max(1.0, self.throttle_share / USUAL)
        return self.times_throttled >= most and self.throttles >= (LAST_ALONE if self.is_alone else ALONE * most)


def decide(result: Answer | Failure, known: Known) -> Decision:  # noqa: PLR0911 - a table
    """What follows from an attempt. Pure."""
    if isinstance(result, Answer):
        is_corrected = result.status is Status.INVALID and not known.is_correction
        return Decision(Action.CORRECT) if is_corrected else Decision(Action.DONE, result=result)
    what = reaction(result.kind)
    if known.is_void or what in {Reaction.CIRCUIT, Reaction.REWRITE}:
        return Decision(Action.REQUEUE)
    if what is Reaction.STOP:
        return Decision(Action.STOP)
    if what is Reaction.THROTTLE and known.exceeds_limit:
        return _last_word(replaced(result), known)
    if what is Reaction.THROTTLE and not known.is_unwanted:
        return _let_others_pass(known)
    if what is Reaction.RETRY and known.failures < max_attempts_of(result.kind, known.max_failures):
        return Decision(Action.RETRY_AFTER, backoff_s(known.failures, known.random))
    return _last_word(result, known)


def _let_others_pass(known: Known) -> Decision:
    if known.is_paused and known.throttles <= 1:  # it may go first, once
        return Decision(Action.REQUEUE)
    longer = (1 + known.random) * 2.0 ** min(max(0, known.throttles - 1), 4)  # else two would come back side by side
    return Decision(Action.RETRY_AFTER, RETRY_S * longer)


def _last_word(failure: Failure, known: Known) -> Decision:
    is_elsewhere = known.has_other and failure.kind in NOT_HERE
    return Decision(Action.OTHER_ENDPOINT if is_elsewhere else Action.FAIL, result=failure)


def replaced(failure: Failure) -> Failure:
    """The same, as the failure of a record that is larger than a whole minute's limit."""
    return Failure(
        kind=ErrorKind.REQUEST_EXCEEDS_LIMIT, message=failure.message, status=failure.status,
        request_id=failure.request_id, model=failure.model, usage=failure.usage, cost_usd=failure.cost_usd,
        limits=failure.limits, doubts=failure.doubts,
    )  # fmt: skip


_WAY_OUT: Final[Mapping[ErrorKind, str]] = {
    ErrorKind.AUTHENTICATION: "the key was refused; check the variable that holds it (`endpoint.api_key_env`)",
    ErrorKind.PERMISSION: "the key may not do this; check the account, or name another model (`request.model`)",
    ErrorKind.QUOTA_EXHAUSTED: "the account has no credit left; add some, then run the same command to go on",
    ErrorKind.MODEL_NOT_FOUND: "check the model's name (`request.model`) and the address (`endpoint.base_url`)",
    ErrorKind.PARAMETER_REJECTED: (
        "the endpoint does not take this setting: take it out, or have it left out with `request.adapt=true`"
    ),
    ErrorKind.SERVER_ERROR: "the endpoint answers with errors only; run the same command later to go on",
    ErrorKind.TIMEOUT: "the endpoint does not answer; run the same command later to go on",
    ErrorKind.CONNECTION: "the endpoint breaks every connection off; run the same command later to go on",
    ErrorKind.UNREACHABLE: "check the address (`endpoint.base_url`) and the network, then run the command again",
    ErrorKind.RATE_LIMITED: "run the same command later to go on",
    ErrorKind.OVERLOADED: "run the same command later to go on",
}


def stop_message(failure: Failure) -> str:
    """Why a run stops, in the provider's own words, and what to do about it."""
    way_out = _WAY_OUT.get(failure.kind)
    return failure.message if way_out is None else f"{failure.message.removesuffix('.')} - {way_out}"


def reaction(kind: ErrorKind) -> Reaction:
    """What a failure of this kind is about."""
    return _REACTIONS[kind]


def max_attempts_of(kind: ErrorKind, max_failures: int) -> int:
    """How many attempts of one record may fail with `kind` before its row says `failed`.

    `max_failures` is `request.max_failures`. Kinds for which no record loses an attempt (THROTTLE,
    CIRCUIT) are not counted by attempts at all: ask only for kinds whose reaction is RETRY.
    """
    if reaction(kind) is Reaction.RECORD:
        return 1
    return min(2, max_failures) if kind in ASKED_TWICE else max_failures


def backoff_s(failures: int, rand: float, initial_s: float = 0.5, max_s: float = 60.0) -> float:
    """Seconds to wait after the `failures`-th failure (from 1): full jitter, `rand` in [0, 1).

    Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
    """
    return rand * min(max_s, initial_s * 2.0 ** min(failures - 1, 64))


_TRY_AGAIN_STATUSES: Final = frozenset({408, 425, 429})


def is_worth_fetching_again(failure: Failure, failures: int, max_failures: int) -> bool:
    """Whether an image that a host did not return may be had by one more request: not where the host said no."""
    transient = failure.status is None or failure.status >= 500 or failure.status in _TRY_AGAIN_STATUSES  # noqa: PLR2004 - HTTP
    return failure.kind in FETCHING and transient and failures < max_failures


SUCCESSES: Final = range(200, 300)
