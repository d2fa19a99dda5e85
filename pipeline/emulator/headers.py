"""What a rate limit tells of itself in a response's headers, as each provider writes it.

Sources: OpenAI, "Rate limits"; Microsoft, "Azure OpenAI quotas and limits"; OpenRouter, "Limits";
Anthropic, "Rate limits"; what Mistral's endpoint sends.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from enum import StrEnum

SECOND_NS = 1_000_000_000
MILLISECOND_NS = 1_000_000


class HeaderStyle(StrEnum):
    """Whose headers tell the limits."""

    OPENAI = "openai"
    OPENAI_COMMAS = "openai-commas"
    """OpenAI's, with numbers as 30,000."""
    AZURE = "azure"
    OPENROUTER = "openrouter"
    ANTHROPIC = "anthropic"
    MISTRAL = "mistral"
    NONE = "none"


class RetryAfter(StrEnum):
    """How a 429 says when to come again."""

    BOTH = "both"
    """`retry-after-ms` and `retry-after`, as OpenAI does."""
    SECONDS = "seconds"
    MS = "ms"
    DATE = "date"
    """`retry-after` as an HTTP date."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class LimitState:
    """A limit as headers report it: the allowance a minute, the rest of it, and the time until it is whole again."""

    per_minute: float
    remaining: int
    reset_ns: int


def limit_headers(
    style: HeaderStyle, requests: LimitState | None, tokens: LimitState | None, wall_ns: int
) -> dict[str, str]:
    """The headers of a response; None stands for a limit that there is not. `wall_ns` is Unix time."""
    return _STYLES[style](requests, tokens, wall_ns)


def retry_after_headers(style: RetryAfter, wait_ns: int, wall_ns: int) -> dict[str, str]:
    """The headers of a 429 after which `wait_ns` have to pass, rounded up. `wall_ns` is Unix time."""
    wait_ms = _up(wait_ns, MILLISECOND_NS)
    values = {"retry-after-ms": str(wait_ms), "retry-after": str(_up(wait_ms, 1000))}
    if style is RetryAfter.NONE:
        return {}
    if style is RetryAfter.DATE:
        then = formatdate(_up(wall_ns + wait_ns, SECOND_NS), usegmt=True)
        return {"retry-after": then, "Date": formatdate(wall_ns // SECOND_NS, usegmt=True)}
    if style is RetryAfter.BOTH:
        return values
    name = "retry-after-ms" if style is RetryAfter.MS else "retry-after"
    return {name: values[name]}


def go_duration(duration_ns: int) -> str:
    """A duration as OpenAI's `x-ratelimit-reset-*` writes it: `12ms`, `8.64s`, `6m0s`, `1h0m0s`."""
    total_ms = _up(duration_ns, MILLISECOND_NS)
    if total_ms < 1000:  # noqa: PLR2004 -- milliseconds in a second
        return f"{total_ms}ms"
    minutes, rest_ms = divmod(total_ms, 60_000)
    seconds = f"{rest_ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def plain(number: float) -> str:
    """A limit without an exponent, and without a fraction where there is none."""
    return str(int(number)) if number == int(number) else str(number)


def _openai(requests: LimitState | None, tokens: LimitState | None, _: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, state in _each(requests, tokens):
        headers[f"x-ratelimit-limit-{name}"] = plain(state.per_minute)
        headers[f"x-ratelimit-remaining-{name}"] = str(state.remaining)
        headers[f"x-ratelimit-reset-{name}"] = go_duration(state.reset_ns)
    return headers


def _openai_commas(requests: LimitState | None, tokens: LimitState | None, wall_ns: int) -> dict[str, str]:
    headers = _openai(requests, tokens, wall_ns)
    return {name: f"{int(value):,}" if value.isdecimal() else value for name, value in headers.items()}


def _azure(requests: LimitState | None, tokens: LimitState | None, _: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, state in _each(requests, tokens):
        headers[f"x-ratelimit-limit-{name}"] = plain(state.per_minute)
        headers[f"x-ratelimit-remaining-{name}"] = str(state.remaining)
        headers[f"x-ratelimit-reset-{name}"] = str(_up(state.reset_ns, SECOND_NS))
        headers[f"x-ratelimit-renewalperiod-{name}"] = "60"
    return headers


def _openrouter(requests: LimitState | None, _: LimitState | None, wall_ns: int) -> dict[str, str]:
    if requests is None:
        return {}
    return {
        "X-RateLimit-Limit": plain(requests.per_minute),
        "X-RateLimit-Remaining": str(requests.remaining),
        "X-RateLimit-Reset": str(_up(wall_ns + requests.reset_ns, MILLISECOND_NS)),
    }


def _anthropic(requests: LimitState | None, tokens: LimitState | None, wall_ns: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, state in _each(requests, tokens):
        reset_s = _up(wall_ns + state.reset_ns, SECOND_NS)
        then = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=reset_s)
        headers[f"anthropic-ratelimit-{name}-limit"] = plain(state.per_minute)
        headers[f"anthropic-ratelimit-{name}-remaining"] = str(state.remaining)
        headers[f"anthropic-ratelimit-{name}-reset"] = then.strftime("%Y-%m-%dT%H:%M:%SZ")
    return headers


def _mistral(requests: LimitState | None, _: LimitState | None, __: int) -> dict[str, str]:
    return {} if requests is None else {"X-RateLimit-Remaining": str(requests.remaining)}


def _none(_: LimitState | None, __: LimitState | None, ___: int) -> dict[str, str]:
    return {}


_STYLES: Mapping[HeaderStyle, Callable[[LimitState | None, LimitState | None, int], dict[str, str]]] = {
    HeaderStyle.OPENAI: _openai,
    HeaderStyle.OPENAI_COMMAS: _openai_commas,
    HeaderStyle.AZURE: _azure,
    HeaderStyle.OPENROUTER: _openrouter,
    HeaderStyle.ANTHROPIC: _anthropic,
    HeaderStyle.MISTRAL: _mistral,
    HeaderStyle.NONE: _none,
}


def _each(requests: LimitState | None, tokens: LimitState | None) -> Iterator[tuple[str, LimitState]]:
    if requests is not None:
        yield "requests", requests
    if tokens is not None:
        yield "tokens", tokens


def _up(number: int, unit: int) -> int:
    return -(-number // unit)
