"""Limits as headers tell them, in every style that an endpoint is known for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.endpoints.ratelimit_headers import number, rate_limit_info, reset_s
from pipeline.records import Quota, RateLimitInfo

DATE = "Wed, 01 Jan 2025 00:00:00 GMT"


def info(requests: tuple[object, ...] | None = None, tokens: tuple[object, ...] | None = None) -> RateLimitInfo:
    """From (limit, remaining, reset_s) of each."""
    made = [None if it is None else Quota(limit=it[0], remaining=it[1], reset_s=it[2]) for it in (requests, tokens)]  # type: ignore[arg-type] # numbers by place
    return RateLimitInfo(requests=made[0], tokens=made[1])


STYLES = {
    "OpenAI, Go durations": (
        {
            "x-ratelimit-limit-requests": "5000",
            "x-ratelimit-remaining-requests": "4999",
            "x-ratelimit-reset-requests": "12ms",
            "x-ratelimit-limit-tokens": "800000",
            "x-ratelimit-remaining-tokens": "799000",
            "x-ratelimit-reset-tokens": "6m0s",
        },
        info((5000, 4999, 0.012), (800_000, 799_000, 360)),
    ),
    "OpenAI, an hour and a fraction": (
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "1h2m59.5s",
        },
        info((60, 0, 3779.5)),
    ),
    "Azure, bare seconds": (
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "59",
            "x-ratelimit-reset-requests": "58",
            "x-ratelimit-limit-tokens": "60000",
            "x-ratelimit-remaining-tokens": "55000",
        },
        info((60, 59, 58), (60_000, 55_000, None)),
    ),
    "Azure, a period of ten seconds": (
        {
            "x-ratelimit-limit-requests": "10",
            "x-ratelimit-remaining-requests": "9",
            "x-ratelimit-renewalperiod-requests": "10",
            "x-ratelimit-limit-tokens": "10000",
            "x-ratelimit-renewalperiod-tokens": "60",
        },
        info((60, 9, None), (10_000, None, None)),
    ),
    "Azure, a period of a day": (
        {"x-ratelimit-limit-requests": "1500", "x-ratelimit-renewalperiod-requests": "86400"},
        info((1500, None, 86400)),
    ),
    "a period that is none": (
        {"x-ratelimit-limit-requests": "60", "x-ratelimit-renewalperiod-requests": "0"},
        info((60, None, None)),
    ),
    "thousands with commas": (
        {
            "x-ratelimit-limit-tokens": "1,500,000",
            "x-ratelimit-remaining-tokens": "1,499,000",
            "x-ratelimit-reset-tokens": "0.5",
        },
        info(None, (1_500_000, 1_499_000, 0.5)),
    ),
    "Anthropic, RFC 3339 against Date": (
        {
            "date": DATE,
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "49",
            "anthropic-ratelimit-requests-reset": "2025-01-01T00:00:01Z",
            "anthropic-ratelimit-tokens-limit": "40000",
            "anthropic-ratelimit-tokens-remaining": "39000",
            "anthropic-ratelimit-tokens-reset": "2025-01-01T01:00:30+01:00",
        },
        info((50, 49, 1), (40_000, 39_000, 30)),
    ),
    "epoch seconds": (
        {"date": DATE, "x-ratelimit-limit-requests": "20", "x-ratelimit-reset-requests": "1735689660"},
        info((20, None, 60)),
    ),
    "epoch milliseconds": (
        {"date": DATE, "x-ratelimit-limit-requests": "20", "x-ratelimit-reset-requests": "1735689660500"},
        info((20, None, 60.5)),
    ),
    "an HTTP date": (
        {
            "date": DATE,
            "x-ratelimit-limit-requests": "20",
            "x-ratelimit-reset-requests": "Wed, 01 Jan 2025 00:02:00 GMT",
        },
        info((20, None, 120)),
    ),
    "a moment that has passed": (
        {
            "date": DATE,
            "x-ratelimit-limit-requests": "20",
            "x-ratelimit-reset-requests": "2024-12-31T23:59:00Z",
        },
        info((20, None, 0)),
    ),
    "a moment without a Date to count it against": (
        {"x-ratelimit-limit-requests": "20", "x-ratelimit-reset-requests": "2025-01-01T00:00:01Z"},
        info((20, None, None)),
    ),
    "a limit that is legible, and the rest is not": (
        {
            "x-ratelimit-limit-requests": "20",
            "x-ratelimit-remaining-requests": "plenty",
            "x-ratelimit-reset-requests": "soon",
        },
        info((20, None, None)),
    ),
    "both styles, one of them nonsense": (
        {"x-ratelimit-limit-tokens": "unlimited", "anthropic-ratelimit-tokens-limit": "1000"},
        info(None, (1000, None, None)),
    ),
}


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({"date": DATE, "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1735689660500"}, 60.5),
        ({"x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "12"}, 12),
        ({"ratelimit-limit": "20", "ratelimit-remaining": "0", "ratelimit-reset": "7"}, 7),
    ],
)
def test_a_quota_without_a_name(headers: dict[str, str], expected_s: float) -> None:
    """OpenRouter and others: the window is not named, only when the quota is back."""
    assert rate_limit_info(headers) == RateLimitInfo(reset_s=expected_s)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_of_headers(style: str) -> None:
    """Limit, remaining and the seconds until all is back, as the headers of each style mean them."""
    headers, expected = STYLES[style]
    assert rate_limit_info(headers) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/json", "date": DATE},
        {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "19", "x-ratelimit-reset": "1735689660"},
        {"x-ratelimit-limit-requests": "unlimited"},
        {"x-ratelimit-limit-requests": "-1", "x-ratelimit-limit-tokens": ""},
        {"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "1s"},
    ],
)
def test_what_tells_no_limit(headers: dict[str, str]) -> None:
    """Nothing stated, limits of an unknown length, and nonsense are all no limit."""
    assert rate_limit_info(headers) is None


@pytest.mark.parametrize(
    "text", ["", "-5", "1,50", "1,5000", "12,", ",5", "1e5", "0x10", "nan", "inf", "5 000", "5s", "9" * 400]
)
def test_what_is_no_number(text: str) -> None:
    """A limit is read only where it cannot be misread."""
    assert number(text) is None


@given(text=st.text(max_size=40) | st.from_regex(r"[0-9TZ:+ .,hms-]{1,30}", fullmatch=True))
def test_no_header_is_an_error(text: str) -> None:
    """Whatever a server writes there: a number of seconds that is not negative, or None."""
    seconds = reset_s(text, DATE)
    assert seconds is None or seconds >= 0
    reset_s("2025-01-01T00:00:01Z", text)
    rate_limit_info({"x-ratelimit-limit-requests": text, "x-ratelimit-remaining-requests": text})
