"""When an image host is asked again for one image."""

from pipeline.limits.decision import backoff_s, is_worth_fetching_again
from pipeline.records import Failure


def fetch_retry_s(
    failure: Failure, failures: int, *, max_failures: int, max_wait_s: float, rand: float
) -> float | None:
    """Seconds until the next attempt at one image; None where the image is given up.

    `failures` counts from 1. The host's own `Retry-After` counts before the back-off. A wait beyond `max_wait_s`
    gives the image up, for this run. `rand` in [0, 1) spreads the back-off.
    """
    if not is_worth_fetching_again(failure, failures, max_failures):
        return None
    wait_s = backoff_s(failures, rand) if failure.retry_after_s is None else failure.retry_after_s
    return wait_s if wait_s <= max_wait_s else None
