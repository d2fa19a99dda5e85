"""Values of HTTP headers that say when: durations, dates, `Retry-After`."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from pipeline.config.durations import duration_s


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, never negative; None where it does not ask, or not legibly.

    Reads `retry-after-ms`, then `retry-after` as seconds, Go duration or HTTP date. A date counts
    against the response's own `Date`, so that a wrong clock on this machine changes nothing.
    `headers` are case-insensitive, or in lower case.
    """
    wait_ms = _number(headers.get("retry-after-ms"))
    if wait_ms is not None:
        return max(0.0, wait_ms / 1000.0)
    stated = headers.get("retry-after")
    if stated is None:
        return None
    for wait_s in (_number(stated), duration_s(stated), _seconds_until(stated, headers.get("date"))):
        if wait_s is not None:
            return max(0.0, wait_s)
    return None


def epoch_s(text: str) -> float | None:
    """Seconds since 1970 of an HTTP date, or of a time in RFC 3339; None where the text is neither."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            date = read(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds_until(text: str, now: str | None) -> float | None:
    then, start = epoch_s(text), epoch_s(now or "")
    return None if then is None or start is None else then - start
