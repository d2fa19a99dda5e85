"""Durations, dates and `Retry-After` as servers write them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.durations import duration_s
from pipeline.endpoints.ratelimit_headers import reset_s
from pipeline.http.values import retry_after


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [
        ("12ms", 0.012),
        ("1s", 1),
        ("6m0s", 360),
        ("2m59.56s", 179.56),
        ("1h2m3s", 3723),
        ("250µs", 250e-6),
        ("7.66s", 7.66),
        ("", None),
        ("12", None),
        ("soon", None),
        ("1s later", None),
    ],
)
def test_go_durations(text: str, expected_s: float | None) -> None:
    """As OpenAI and Groq write them; what is none is None."""
    assert duration_s(text) == pytest.approx(expected_s) if expected_s else duration_s(text) is None


DATE = "Fri, 20 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "6m0s"}, 360),
        ({"retry-after-ms": "150", "retry-after": "1"}, 0.15),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:30 GMT", "date": DATE}, 30),
        ({"retry-after": "Fri, 20 Nov 2026 09:00:00 GMT", "date": DATE}, 0),
        ({"retry-after": "Fri, 20 Nov 2026 10:00:30 GMT"}, None),
        ({"retry-after": "tomorrow", "date": DATE}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e300"}, 1e300),
        ({"retry-after": "-1e300"}, 0),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "9" * 400 + "s"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT", "date": DATE}, 251_607_131_999),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 -2359", "date": DATE}, 251_607_218_339),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359", "date": DATE}, 0),
        ({"retry-after": ""}, None),
    ],
)
def test_retry_after(headers: dict[str, str], expected_s: float | None) -> None:
    """Milliseconds first, then seconds, durations and dates against the response's own clock."""
    assert retry_after(headers) == expected_s


@given(st.text(), st.text())
def test_retry_after_survives_anything(told: str, date: str) -> None:
    """Whatever a server writes there, it is a finite wait or none."""
    wait_s = retry_after({"retry-after": told, "retry-after-ms": date, "date": date})
    assert wait_s is None or (math.isfinite(wait_s) and wait_s >= 0)


DATE = "Wed, 01 Jan 2025 00:00:00 GMT"


@pytest.mark.parametrize(
    "text", ["1 Jan 2020 00:00:00 +99999999999999999", "Mon, 99999999999999999999 Jan 2020 00:00:00 GMT"]
)
def test_no_date_is_an_error(text: str) -> None:
    """A header that is nonsense is None."""
    assert reset_s(text, DATE) is None
    assert retry_after({"retry-after": text, "date": DATE}) is None
