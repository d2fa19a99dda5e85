"""What follows from a failure, and how long to wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ErrorKind
from pipeline.limits.decision import (
    TRANSIENT,
    Reaction,
    backoff_s,
    max_attempts_of,
    reaction,
    stop_message,
)
from pipeline.records import Failure


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_has_a_reaction(kind: ErrorKind) -> None:
    """A kind that is added without saying what the run does about it fails here."""
    assert isinstance(reaction(kind), Reaction)


def test_what_stops_a_run() -> None:
    """Only key, permission, quota and model stop everything at once."""
    stopping = {kind for kind in ErrorKind if reaction(kind) is Reaction.STOP}
    assert stopping == {
        ErrorKind.AUTHENTICATION,
        ErrorKind.PERMISSION,
        ErrorKind.QUOTA_EXHAUSTED,
        ErrorKind.MODEL_NOT_FOUND,
    }


def test_the_next_run_asks_again_for_what_the_images_are_not_to_blame() -> None:
    """Every transient kind is one that the run itself retries or waits for."""
    assert all(reaction(kind) in {Reaction.RETRY, Reaction.COOLDOWN, Reaction.CONNECTION} for kind in TRANSIENT)
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
def test_backoff_is_full_jitter_under_a_ceiling(failures: int, rand: float) -> None:
    """Anywhere from nothing to the doubled time, never above 60 s, for any number of failures."""
    wait_s = backoff_s(failures, rand)
    assert 0 <= wait_s <= min(60, 0.5 * 2.0 ** min(failures - 1, 20))


def test_backoff_doubles() -> None:
    """0.5, 1, 2, ... seconds at the most."""
    assert [backoff_s(failures, 1.0) for failures in range(1, 10)] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


def test_what_stops_a_run_says_what_to_do() -> None:
    """Every kind that ends a run has a way out beside the provider's own words."""
    for kind in ErrorKind:
        if reaction(kind) in {Reaction.STOP, Reaction.CONNECTION}:
            message = stop_message(Failure(kind=kind, message="their words"))
            assert message.startswith("their words - ")
    assert stop_message(Failure(kind=ErrorKind.BAD_REQUEST, message="their words")) == "their words"
