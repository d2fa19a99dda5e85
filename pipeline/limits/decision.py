"""What follows from a failed attempt: who waits, how long, and how often one record may fail.

The table is DESIGN's "What each failure does"; counting, waiting and the circuit are the engine's.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from pipeline.errors import ErrorKind
from pipeline.records import Failure


class Reaction(StrEnum):
    """What the run does about a failure."""

    RECORD_FAILS = "record_fails"
    """This record's row says `failed`; the others go on."""
    RETRY = "retry"
    """This record is asked again after a back-off; the attempt counts."""
    COOLDOWN = "cooldown"
    """All wait together, as long as the endpoint says; no record loses an attempt."""
    CONNECTION = "connection"
    """The endpoint's circuit: sending pauses, one record probes; no record loses an attempt."""
    STOP = "stop"
    """The run ends with exit code 4: every further request would meet the same."""


_REACTIONS: Final[Mapping[ErrorKind, Reaction]] = {
    ErrorKind.IMAGE_MISSING: Reaction.RECORD_FAILS,
    ErrorKind.IMAGE_UNREADABLE: Reaction.RECORD_FAILS,
    ErrorKind.IMAGE_TRUNCATED: Reaction.RECORD_FAILS,
    ErrorKind.IMAGE_UNSUPPORTED: Reaction.RECORD_FAILS,
    ErrorKind.IMAGE_BOMB: Reaction.RECORD_FAILS,
    ErrorKind.IMAGE_TOO_LARGE: Reaction.RECORD_FAILS,
    ErrorKind.FETCH_FAILED: Reaction.RETRY,
    ErrorKind.RATE_LIMITED: Reaction.COOLDOWN,
    ErrorKind.REQUEST_EXCEEDS_LIMIT: Reaction.RECORD_FAILS,
    ErrorKind.OVERLOADED: Reaction.COOLDOWN,
    ErrorKind.SERVER_ERROR: Reaction.RETRY,
    ErrorKind.TIMEOUT: Reaction.RETRY,
    ErrorKind.CONNECTION: Reaction.RETRY,
    ErrorKind.UNREACHABLE: Reaction.CONNECTION,
    ErrorKind.INVALID_RESPONSE: Reaction.RETRY,
    ErrorKind.EMPTY_ANSWER: Reaction.RETRY,
    ErrorKind.IMAGE_IGNORED: Reaction.RETRY,
    ErrorKind.BAD_REQUEST: Reaction.RECORD_FAILS,
    ErrorKind.REQUEST_TOO_LARGE: Reaction.RECORD_FAILS,
    ErrorKind.CONTENT_FILTER: Reaction.RECORD_FAILS,
    ErrorKind.REFUSED: Reaction.RECORD_FAILS,
    ErrorKind.REASONING_EXHAUSTED: Reaction.RECORD_FAILS,
    ErrorKind.AUTHENTICATION: Reaction.STOP,
    ErrorKind.PERMISSION: Reaction.STOP,
    ErrorKind.QUOTA_EXHAUSTED: Reaction.STOP,
    ErrorKind.MODEL_NOT_FOUND: Reaction.STOP,
}

FINAL_STOPS: Final = frozenset({ErrorKind.AUTHENTICATION, ErrorKind.PERMISSION, ErrorKind.MODEL_NOT_FOUND})
"""What no waiting changes."""

TRANSIENT: Final = frozenset(
    {
        ErrorKind.TIMEOUT,
        ErrorKind.SERVER_ERROR,
        ErrorKind.OVERLOADED,
        ErrorKind.CONNECTION,
        ErrorKind.RATE_LIMITED,
        ErrorKind.FETCH_FAILED,
        ErrorKind.INVALID_RESPONSE,
        ErrorKind.UNREACHABLE,
    }
)
"""Rows that failed for one of these are asked again by the next run."""

ASKED_TWICE: Final = frozenset({ErrorKind.EMPTY_ANSWER, ErrorKind.IMAGE_IGNORED})
"""Each of these answers is billed, so one more try is all that they get."""


_WAY_OUT: Final[Mapping[ErrorKind, str]] = {
    ErrorKind.AUTHENTICATION: "the key was refused; check the variable that holds it (`endpoint.api_key_env`)",
    ErrorKind.PERMISSION: "the key may not do this; check the account, or name another model (`request.model`)",
    ErrorKind.QUOTA_EXHAUSTED: "the account has no credit left; add some, then run the same command to go on",
    ErrorKind.MODEL_NOT_FOUND: "check the model's name (`request.model`) and the address (`endpoint.base_url`)",
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
    """What the run does about a failure of this kind."""
    return _REACTIONS[kind]


def max_attempts_of(kind: ErrorKind, max_failures: int) -> int:
    """How many attempts of one record may fail with `kind` before its row says `failed`.

    `max_failures` is `request.max_failures`. Kinds for which no record loses an attempt (COOLDOWN,
    CONNECTION) are not counted by attempts at all: ask only for kinds whose reaction is RETRY.
    """
    if reaction(kind) is Reaction.RECORD_FAILS:
        return 1
    return min(2, max_failures) if kind in ASKED_TWICE else max_failures


def backoff_s(failures: int, rand: float, initial_s: float = 0.5, max_s: float = 60.0) -> float:
    """Seconds to wait after the `failures`-th failure (from 1): full jitter, `rand` in [0, 1).

    Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
    """
    ceiling_s = min(max_s, initial_s * 2.0 ** min(failures - 1, 64))
    return rand * ceiling_s


_TRY_AGAIN_STATUSES: Final = frozenset({408, 425, 429})


def is_worth_fetching_again(failure: Failure, failures: int, max_failures: int) -> bool:
    """Whether an image that a host did not give may be had by asking once more: not where it said no."""
    transient = failure.status is None or failure.status >= 500 or failure.status in _TRY_AGAIN_STATUSES  # noqa: PLR2004 - HTTP
    return failure.kind is ErrorKind.FETCH_FAILED and transient and failures < max_failures


SUCCESSES: Final = range(200, 300)
