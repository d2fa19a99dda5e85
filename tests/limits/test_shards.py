"""Rates that N runs have together: what they send never exceeds what was granted, and most of it is used."""

from collections import deque

import pytest

from pipeline.limits.rate_window import RateLimits
from pipeline.records import Quota, RateLimitInfo

MINUTE_S = 60.0


def sent(
    rpm: float | None, tpm: float | None, shards: int, *, tokens: float, minutes: float
) -> list[tuple[float, float]]:
    """(when, tokens) of every request of all shards, which begin at different times and send whenever they may."""
    found = []
    for index in range(shards):
        began, wall_s = 3.7 * index, 1_795_000_000.0
        limits = RateLimits(rpm, tpm, shards)
        limits.stagger(began, wall_s + began, index)
        now = began
        while (now := limits.ready_at(now, tokens)) < minutes * MINUTE_S:
            limits.take(now, tokens)
            found.append((now, tokens))
            now += 0.001
    return sorted(found)


def most_in_a_minute(requests: list[tuple[float, float]], at: int) -> float:
    """Of requests (`at` 0) or tokens (1), in any sixty seconds; requests count from 0.5 s apart on."""
    window: deque[tuple[float, float]] = deque()
    most = 0.0
    for when, tokens in requests:
        window.append((when, tokens if at else 1.0))
        while window[0][0] <= when - MINUTE_S + 0.5:
            window.popleft()
        most = max(most, sum(amount for _, amount in window))
    return most


@pytest.mark.parametrize(
    ("rpm", "shards", "used"), [(240, 4, 0.97), (210, 7, 0.97), (1, 8, 0.97), (3, 8, 0.97), (10, 8, 0.75)]
)
def test_requests_of_all_shards(rpm: float, shards: int, used: float) -> None:
    """Also where a share is no whole number: one request of eight shards' one a minute is one in eight minutes."""
    minutes = 32.0
    requests = sent(rpm, None, shards, tokens=0, minutes=minutes)
    assert most_in_a_minute(requests, 0) <= rpm
    assert used * rpm * minutes <= len(requests) + shards


def test_a_request_that_is_larger_than_a_share() -> None:
    """It counts whole: a shard waits as long as all of its tokens take."""
    requests = sent(None, 10_000, 8, tokens=3_000, minutes=60)
    assert sum(tokens for _, tokens in requests) <= 60 * 10_000 + 8 * 3_000
    assert len(requests) >= 0.9 * 60 * 10_000 / 3_000


def test_what_the_endpoint_advertises_is_divided_too() -> None:
    """A request that only the whole limit holds is allowed, and a limit of all shards is believed."""
    limits = RateLimits(None, None, 8)
    quota = RateLimitInfo(requests=Quota(limit=600, remaining=1), tokens=Quota(limit=8_000, remaining=1))
    assert limits.advertise(quota, granted_tokens=5_000) is None
    assert (limits.requests.per_minute, limits.tokens.per_minute) == (75, 1_000)
    assert limits.allows(8_000)
    assert not limits.allows(8_001)
    assert limits.advertise(quota, granted_tokens=9_000) is not None
