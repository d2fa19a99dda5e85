"""What limits tell in headers, in each provider's way of writing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.durations import duration_s
from pipeline.emulator.headers import (
    HeaderStyle,
    LimitState,
    RetryAfter,
    go_duration,
    limit_headers,
    retry_after_headers,
)
from pipeline.http.values import retry_after

NOON_NS = 1_767_268_800 * 10**9  # 1 January 2026, 12:00 UTC
REQUESTS, TOKENS = LimitState(600, 59, 100_000_000), LimitState(2_000_000, 30_000, 360 * 10**9)


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0ms"),
        (12_000_000, "12ms"),
        (1, "1ms"),
        (1_000_000_000, "1s"),
        (8_640_000_000, "8.64s"),
        (90_000_000_000, "1m30s"),
        (360_000_000_000, "6m0s"),
        (3_600_000_000_000, "1h0m0s"),
    ],
)
def test_durations_read_as_openai_writes_them(duration_ns: int, text: str) -> None:
    """Go's notation, as in OpenAI's `x-ratelimit-reset-*`, rounded up to milliseconds."""
    assert go_duration(duration_ns) == text


@given(duration_ms=st.integers(0, 10**8))
def test_durations_come_back_as_they_were(duration_ms: int) -> None:
    """The client reads every duration as the emulator means it."""
    assert duration_s(go_duration(duration_ms * 1_000_000)) == pytest.approx(duration_ms / 1000, abs=1e-9)


@pytest.mark.parametrize(
    ("style", "headers"),
    [
        (
            HeaderStyle.OPENAI,
            {
                "x-ratelimit-limit-requests": "600",
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-requests": "100ms",
                "x-ratelimit-limit-tokens": "2000000",
                "x-ratelimit-remaining-tokens": "30000",
                "x-ratelimit-reset-tokens": "6m0s",
            },
        ),
        (
            HeaderStyle.OPENAI_COMMAS,
            {
                "x-ratelimit-limit-requests": "600",
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-requests": "100ms",
                "x-ratelimit-limit-tokens": "2,000,000",
                "x-ratelimit-remaining-tokens": "30,000",
                "x-ratelimit-reset-tokens": "6m0s",
            },
        ),
        (
            HeaderStyle.AZURE,
            {
                "x-ratelimit-limit-requests": "600",
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-requests": "1",
                "x-ratelimit-renewalperiod-requests": "60",
                "x-ratelimit-limit-tokens": "2000000",
                "x-ratelimit-remaining-tokens": "30000",
                "x-ratelimit-reset-tokens": "360",
                "x-ratelimit-renewalperiod-tokens": "60",
            },
        ),
        (
            HeaderStyle.OPENROUTER,
            {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": "59", "X-RateLimit-Reset": "1767268800100"},
        ),
        (
            HeaderStyle.ANTHROPIC,
            {
                "anthropic-ratelimit-requests-limit": "600",
                "anthropic-ratelimit-requests-remaining": "59",
                "anthropic-ratelimit-requests-reset": "2026-01-01T12:00:01Z",
                "anthropic-ratelimit-tokens-limit": "2000000",
                "anthropic-ratelimit-tokens-remaining": "30000",
                "anthropic-ratelimit-tokens-reset": "2026-01-01T12:06:00Z",
            },
        ),
        (HeaderStyle.MISTRAL, {"X-RateLimit-Remaining": "59"}),
        (HeaderStyle.NONE, {}),
    ],
)
def test_each_provider_writes_its_own(style: HeaderStyle, headers: dict[str, str]) -> None:
    """Names, units and rounding of each; the reset is the time until all is there again, never stated too early."""
    assert limit_headers(style, REQUESTS, TOKENS, NOON_NS) == headers


@pytest.mark.parametrize("style", list(HeaderStyle))
def test_what_is_not_limited_is_not_advertised(style: HeaderStyle) -> None:
    """A limit that there is not has no header, in any style."""
    assert limit_headers(style, None, None, NOON_NS) == {}
    assert not [name for name in limit_headers(style, REQUESTS, None, NOON_NS) if "tokens" in name]
    assert not [name for name in limit_headers(style, None, TOKENS, NOON_NS) if "requests" in name]


@pytest.mark.parametrize(
    ("style", "headers"),
    [
        (RetryAfter.BOTH, {"retry-after-ms": "1500", "retry-after": "2"}),
        (RetryAfter.SECONDS, {"retry-after": "2"}),
        (RetryAfter.MS, {"retry-after-ms": "1500"}),
        (
            RetryAfter.DATE,
            {"retry-after": "Thu, 01 Jan 2026 12:00:02 GMT", "Date": "Thu, 01 Jan 2026 12:00:00 GMT"},
        ),
        (RetryAfter.NONE, {}),
    ],
)
def test_a_wait_is_stated_in_each_way(style: RetryAfter, headers: dict[str, str]) -> None:
    """Milliseconds, seconds, both, a date, or not at all."""
    assert retry_after_headers(style, 1_499_999_999, NOON_NS) == headers


@given(
    style=st.sampled_from([style for style in RetryAfter if style is not RetryAfter.NONE]),
    wait_ns=st.integers(0, 10**13),
    wall_ns=st.integers(NOON_NS, NOON_NS + 10**12),
)
def test_the_stated_wait_is_long_enough(style: RetryAfter, wait_ns: int, wall_ns: int) -> None:
    """The client reads from each style at least the wait, and less than two seconds more."""
    headers = {name.lower(): value for name, value in retry_after_headers(style, wait_ns, wall_ns).items()}
    told_s = retry_after(headers)
    assert told_s is not None
    assert wait_ns / 1e9 - 1e-6 <= told_s < wait_ns / 1e9 + 2
