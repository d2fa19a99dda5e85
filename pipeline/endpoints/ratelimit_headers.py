"""The limits that response headers advertise.

Sources: OpenAI, "Rate limits" (`x-ratelimit-limit-requests`, reset as a Go duration: the time until all is back);
Azure OpenAI, "Manage quota" (bare seconds; requests may be counted by ten seconds, and
`x-ratelimit-renewalperiod-requests` says so); Anthropic, "Rate limits" (`anthropic-ratelimit-*`,
reset in RFC 3339).
Headers without `-requests` or `-tokens` (OpenRouter, Mistral; IETF draft "RateLimit header fields") do not say
what span they are for, and are no limit; but where nothing remains, they say when it is back.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from math import inf, isfinite
from typing import Final

from pipeline.config.durations import duration_s
from pipeline.http.values import epoch_s
from pipeline.records import Quota, RateLimitInfo

_OPENAI: Final = ("x-ratelimit-limit-{}", "x-ratelimit-remaining-{}", "x-ratelimit-reset-{}")
_ANTHROPIC: Final = (
    "anthropic-ratelimit-{}-limit", "anthropic-ratelimit-{}-remaining", "anthropic-ratelimit-{}-reset",
)  # fmt: skip
_PERIOD: Final = "x-ratelimit-renewalperiod-{}"
MINUTE_S: Final = 60.0
_EPOCH_S: Final = 1e9
"""A bare number beyond this is no duration but seconds since 1970; beyond a thousand times this, milliseconds."""
_NUMBER: Final = re.compile(r"\d{1,3}(?:[,_]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")


def rate_limit_info(headers: Mapping[str, str]) -> RateLimitInfo | None:
    """Requests and tokens as these headers advertise them; None where they advertise nothing.

    `headers` are case-insensitive, or in lower case. Points in time count against the response's own `Date`.
    """
    requests, tokens = _quota(headers, "requests"), _quota(headers, "tokens")
    back_s = None if requests or tokens else _unnamed_reset_s(headers)
    if requests is None and tokens is None and back_s is None:
        return None
    return RateLimitInfo(requests=requests, tokens=tokens, reset_s=back_s)


def _unnamed_reset_s(headers: Mapping[str, str]) -> float | None:
    for prefix in ("x-ratelimit", "ratelimit"):
        remaining, reset = headers.get(f"{prefix}-remaining"), headers.get(f"{prefix}-reset")
        if remaining is not None and reset is not None and number(remaining) == 0:
            return reset_s(reset, headers.get("date"))
    return None


def _quota(headers: Mapping[str, str], of: str) -> Quota | None:
    for names in (_OPENAI, _ANTHROPIC):
        stated = headers.get(names[0].format(of))
        limit = None if stated is None else number(stated)
        if limit is not None:
            remaining, reset = (headers.get(name.format(of)) for name in names[1:])
            quota = Quota(
                limit=limit,
                remaining=None if remaining is None else number(remaining),
                reset_s=None if reset is None else reset_s(reset, headers.get("date")),
            )
            return _of_a_minute(quota, number(headers.get(_PERIOD.format(of), "")))
    return None


def _of_a_minute(quota: Quota, period_s: float | None) -> Quota:
    """A limit of ten seconds as six times as much a minute; one of a day is back when the day is over, or as stated."""
    if not period_s or period_s == MINUTE_S:
        return quota
    if period_s > MINUTE_S:
        return replace(quota, reset_s=period_s if quota.reset_s is None else max(quota.reset_s, period_s))
    return replace(quota, limit=quota.limit * MINUTE_S / period_s)


def number(text: str) -> float | None:
    """`600`, `1,500,000`, `29999.5`; None for what is none, or is negative."""
    found = _NUMBER.fullmatch(text.strip())
    value = inf if found is None else float(found[0].replace(",", "").replace("_", ""))
    return value if isfinite(value) else None


def reset_s(text: str, date: str | None) -> float | None:
    """Seconds until a quota is back: a Go duration, bare seconds, or a point in time against `date`."""
    text = text.strip()
    bare = number(text)
    if bare is not None and bare < _EPOCH_S:
        return bare
    lasts_s = duration_s(text)
    if lasts_s is not None:
        return lasts_s
    then, now = _seconds(text, bare), _seconds(date or "", None)
    return None if then is None or now is None else max(0.0, then - now)


def _seconds(text: str, bare: float | None) -> float | None:
    """Since 1970."""
    if bare is not None:
        return bare / 1000 if bare >= 1000 * _EPOCH_S else bare
    return epoch_s(text)
