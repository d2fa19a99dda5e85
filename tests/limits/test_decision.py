"""What follows from a failure, and how long to wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ErrorKind
from pipeline.limits.decision import (
    LAST_ALONE,
    MAX_THROTTLES,
    RETRY_S,
    TRANSIENT,
    Action,
    Decision,
    Known,
    Reaction,
    backoff_s,
    decide,
    max_attempts_of,
    reaction,
    stop_message,
)
from pipeline.records import Answer, Failure, Status


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_has_a_reaction(kind: ErrorKind) -> None:
    """A kind that is added without saying what the run does about it fails here."""
    assert isinstance(reaction(kind), Reaction)


def test_invalid_labels_are_corrected_once() -> None:
    """The answer to a correction is the last one; what an endpoint does not take is sent otherwise, and counts not."""
    invalid = Answer(status=Status.INVALID, caption="{}", error_kind=ErrorKind.LABELS_INVALID)
    assert decide(invalid, Known()) == Decision(Action.CORRECT)
    assert decide(invalid, Known(is_correction=True)) == Decision(Action.DONE, result=invalid)
    rejected = Failure(kind=ErrorKind.FORMAT_REJECTED, message="no response_format")
    assert decide(rejected, Known(failures=6)) == Decision(Action.REQUEUE)


def test_what_stops_a_run() -> None:
    """Only key, permission, quota, model, and a parameter that was set, stop everything at once."""
    stopping = {kind for kind in ErrorKind if reaction(kind) is Reaction.STOP}
    assert stopping == {
        ErrorKind.AUTHENTICATION,
        ErrorKind.PERMISSION,
        ErrorKind.QUOTA_EXHAUSTED,
        ErrorKind.MODEL_NOT_FOUND,
        ErrorKind.PARAMETER_REJECTED,
    }


def test_the_next_run_asks_again_for_what_the_images_are_not_to_blame() -> None:
    """Every transient kind is one that the run itself retries or waits for."""
    assert all(reaction(kind) in {Reaction.RETRY, Reaction.THROTTLE, Reaction.CIRCUIT} for kind in TRANSIENT)
    assert ErrorKind.EMPTY_ANSWER not in TRANSIENT
    assert ErrorKind.BAD_REQUEST not in TRANSIENT


def test_billed_failures_are_asked_only_once_more() -> None:
    """An empty answer is paid for: two attempts, even where six failures are allowed."""
    assert max_attempts_of(ErrorKind.EMPTY_ANSWER, 6) == 2
    assert max_attempts_of(ErrorKind.IMAGE_IGNORED, 6) == 2
    assert max_attempts_of(ErrorKind.EMPTY_ANSWER, 1) == 1
    assert max_attempts_of(ErrorKind.SERVER_ERROR, 6) == 6
    assert max_attempts_of(ErrorKind.BAD_REQUEST, 6) == 1


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_full_jitter_within_its_bound(failures: int, rand: float) -> None:
    """Anywhere from nothing to the doubled time, never above 60 s, for any number of failures."""
    wait_s = backoff_s(failures, rand)
    assert 0 <= wait_s <= min(60, 0.5 * 2.0 ** min(failures - 1, 20))


def test_backoff_doubles() -> None:
    """0.5, 1, 2, ... seconds at the most."""
    assert [backoff_s(failures, 1.0) for failures in range(1, 10)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


def test_what_stops_a_run_says_what_to_do() -> None:
    """Every kind that ends a run has a way out beside the provider's own words."""
    for kind in ErrorKind:
        if reaction(kind) in {Reaction.STOP, Reaction.CIRCUIT}:
            message = stop_message(Failure(kind=kind, message="their words"))
            assert message.startswith("their words - ")
    assert stop_message(Failure(kind=ErrorKind.BAD_REQUEST, message="their words")) == "their words"


def fail(kind: ErrorKind) -> Failure:
    return Failure(kind=kind, message="their words", status=429)


def test_an_answer_is_the_last_word() -> None:
    """Whatever is known of the endpoint."""
    answer = Answer(status=Status.OK, caption="a cat")
    assert decide(answer, Known(is_void=True)) == Decision(Action.DONE, result=answer)


@pytest.mark.parametrize(
    ("kind", "known", "action", "wait_s"),
    [
        (ErrorKind.RATE_LIMITED, Known(throttles=1, is_paused=True), Action.REQUEUE, 0.0),
        (ErrorKind.RATE_LIMITED, Known(throttles=1), Action.RETRY_AFTER, RETRY_S),
        (ErrorKind.RATE_LIMITED, Known(throttles=3, is_paused=True), Action.RETRY_AFTER, 4 * RETRY_S),
        (
            ErrorKind.RATE_LIMITED,
            Known(throttles=MAX_THROTTLES, times_throttled=MAX_THROTTLES, is_paused=True),
            Action.FAIL,
            0.0,
        ),
        (
            ErrorKind.RATE_LIMITED,
            Known(throttles=LAST_ALONE, times_throttled=MAX_THROTTLES, is_alone=True),
            Action.FAIL,
            0.0,
        ),
        (
            ErrorKind.RATE_LIMITED,
            Known(throttles=LAST_ALONE, times_throttled=MAX_THROTTLES, is_paused=True),
            Action.RETRY_AFTER,
            2 * RETRY_S,
        ),
        (ErrorKind.OVERLOADED, Known(), Action.RETRY_AFTER, RETRY_S),
        (ErrorKind.UNREACHABLE, Known(), Action.REQUEUE, 0.0),
        (ErrorKind.AUTHENTICATION, Known(has_other=True), Action.STOP, 0.0),
        (ErrorKind.SERVER_ERROR, Known(failures=1, random=0.5), Action.RETRY_AFTER, 0.25),
        (ErrorKind.SERVER_ERROR, Known(failures=6), Action.FAIL, 0.0),
        (ErrorKind.SERVER_ERROR, Known(failures=6, is_void=True), Action.REQUEUE, 0.0),
        (ErrorKind.EMPTY_ANSWER, Known(failures=2), Action.FAIL, 0.0),
        (ErrorKind.BAD_REQUEST, Known(), Action.FAIL, 0.0),
        (ErrorKind.BAD_REQUEST, Known(has_other=True), Action.OTHER_ENDPOINT, 0.0),
        (ErrorKind.CONTENT_FILTER, Known(has_other=True), Action.FAIL, 0.0),
    ],
)
def test_the_table(kind: ErrorKind, known: Known, action: Action, wait_s: float) -> None:
    """A failure and what is known -> what follows."""
    decision = decide(fail(kind), known)
    assert (decision.action, decision.wait_s) == (action, wait_s)
    assert decision.is_final == (action is Action.FAIL)


@pytest.mark.parametrize(("has_other", "action"), [(True, Action.OTHER_ENDPOINT), (False, Action.FAIL)])
def test_a_request_larger_than_a_minute_says_so(has_other: bool, action: Action) -> None:  # noqa: FBT001 - a parameter
    """The row names `request_exceeds_limit`, in the server's words; another endpoint may have room for it."""
    decision = decide(fail(ErrorKind.RATE_LIMITED), Known(exceeds_limit=True, has_other=has_other))
    assert decision.action is action
    assert isinstance(decision.result, Failure)
    assert (decision.result.kind, decision.result.message) == (ErrorKind.REQUEST_EXCEEDS_LIMIT, "their words")
