"""When an image host is asked again."""

from math import inf

from pipeline.errors import ErrorKind
from pipeline.limits.fetching import fetch_retry_s
from pipeline.records import Failure


def retry(failure: Failure, failures: int = 1, max_wait_s: float = 60.0) -> float | None:
    return fetch_retry_s(failure, failures, max_failures=3, max_wait_s=max_wait_s, rand=0.5)


def throttled(retry_after_s: float | None) -> Failure:
    return Failure(kind=ErrorKind.FETCH_FAILED, message="HTTP 429", status=429, retry_after_s=retry_after_s)


def test_the_hosts_own_wait_counts_before_the_back_off() -> None:
    """Half of 0.5 s and of 1 s without Retry-After; with it exactly that long, zero included."""
    assert [retry(throttled(None), failures) for failures in (1, 2)] == [0.25, 0.5]
    assert [retry(throttled(wait_s)) for wait_s in (0.0, 7.5, 60.0)] == [0.0, 7.5, 60.0]


def test_when_an_image_is_given_up() -> None:
    """After the last attempt, for a longer wait than is allowed, and where the host says no."""
    assert retry(throttled(1.0), failures=3) is None
    assert retry(throttled(60.5)) is None
    assert retry(throttled(60.5), max_wait_s=inf) == 60.5
    assert retry(Failure(kind=ErrorKind.FETCH_FAILED, message="HTTP 403", status=403, retry_after_s=1.0)) is None
    assert retry(Failure(kind=ErrorKind.IMAGE_MISSING, message="HTTP 404", status=404)) is None
