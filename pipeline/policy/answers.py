"""A response of chat/completions -> `Answer` or `Failure`.

Sources: OpenAI's API reference (chat/completions), and the pages of OpenRouter ("Usage accounting"),
AI/ML API ("Vision models"), Google ("OpenAI compatibility"), Anthropic ("OpenAI SDK compatibility")
and Alibaba Cloud Model Studio for where they differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from pipeline.errors import ErrorKind
from pipeline.policy.failures import (
    SUCCESSES,
    ErrorBody,
    classify,
    excerpt,
    one_line,
    parse_json,
    read_error,
    read_failure,
    request_id,
    status_inside,
)
from pipeline.policy.redaction import NOTHING_SECRET, Redactor
from pipeline.policy.retry import retry_after
from pipeline.records import Answer, Failure, Status, Usage

_LENGTH: Final = frozenset({"length", "max_tokens", "model_context_window_exceeded"})
_FILTERED: Final = frozenset({"content_filter", "safety", "prohibited_content", "refusal"})

_PROMPT = ("prompt_tokens", "prompt_token_count", "promptTokenCount")
_COMPLETION = ("completion_tokens", "output_tokens", "candidates_token_count", "candidatesTokenCount")
_TOTAL = ("total_tokens", "total_token_count", "totalTokenCount")
_THOUGHTS = ("thoughts_token_count", "thoughtsTokenCount")
_CACHED = (
    "cache_read_input_tokens",
    "cached_content_token_count",
    "cachedContentTokenCount",
    "prompt_cache_hit_tokens",  # DeepSeek
)
_MOST_TOKENS: Final = 2**53
_MOST_USD: Final = 10**6
"""No request costs more: what says so is in another unit, or a mistake, and would end every budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Response:
    status: int
    headers: Mapping[str, str]
    parsed: Mapping[str, Any]
    latency_s: float
    redactor: Redactor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    text: str
    finish_reason: str | None
    refusal: str | None


def read_answer(
    status: int, headers: Mapping[str, str], body: bytes, latency_s: float, redactor: Redactor = NOTHING_SECRET
) -> Answer | Failure:
    """What one response means.

    A refusal, of the model or of a content filter, is an Answer with status REFUSED: it is final, and may
    have been billed. Usage and the provider's own cost are kept of failures, too. `headers` are
    case-insensitive, or in lower case. `latency_s` are seconds from sending to the last byte. `redactor`
    cleans every text in it: nothing above has to.
    """
    if status not in SUCCESSES:
        return redactor.result(_refused_or_failed(read_failure(status, headers, body, redactor), latency_s))
    parsed = parse_json(body)
    response = _Response(status=status, headers=headers, parsed=_dict(parsed), latency_s=latency_s, redactor=redactor)
    return redactor.result(_read(response, body, is_object=isinstance(parsed, dict)))


def _read(response: _Response, body: bytes, *, is_object: bool) -> Answer | Failure:
    choices = _choices(response.parsed)
    error = _error_in(response.parsed, choices)
    if error is not None:
        return _error_inside(error, response)
    if not choices:
        what = "without choices" if is_object else "that is no JSON object"
        message = f"HTTP {response.status} with a body {what}: {excerpt(body).strip() or 'nothing'}"
        return _failure(ErrorKind.INVALID_RESPONSE, message, response)
    return _chosen([_choice(item) for item in choices], response)


def _chosen(choices: list[_Choice], response: _Response) -> Answer | Failure:
    chosen = next((choice for choice in choices if choice.text), choices[0])
    reason = (chosen.finish_reason or "").lower()
    if reason == "error":
        return _failure(ErrorKind.SERVER_ERROR, "the answer broke off (finish_reason error)", response)
    if not (chosen.text or chosen.refusal or reason in _LENGTH or reason in _FILTERED):
        message = f"an answer without text (finish_reason {chosen.finish_reason or 'not given'})"
        return _failure(ErrorKind.EMPTY_ANSWER, message, response)
    status, kind, message_or_none = _verdict(chosen, reason)
    return Answer(
        status=status,
        caption=chosen.text or None,
        captions=tuple(choice.text for choice in choices) if len(choices) > 1 else (),
        model=_string(response.parsed.get("model")),
        provider=_string(response.parsed.get("provider")),
        finish_reason=chosen.finish_reason,
        request_id=request_id(response.headers, response.parsed),
        usage=read_usage(response.parsed),
        cost_usd=read_cost(response.parsed, response.headers),
        latency_s=response.latency_s,
        error_kind=kind,
        error_message=None if message_or_none is None else one_line(message_or_none, response.redactor),
    )


def _verdict(choice: _Choice, reason: str) -> tuple[Status, ErrorKind | None, str | None]:
    if choice.refusal:
        return Status.REFUSED, ErrorKind.REFUSED, choice.refusal
    if reason in _FILTERED:
        message = f"stopped by the provider (finish_reason {choice.finish_reason})"
        return Status.REFUSED, ErrorKind.CONTENT_FILTER, message
    if reason in _LENGTH and not choice.text:
        message = "all allowed tokens went into reasoning, none into an answer: raise request.max_tokens"
        return Status.TRUNCATED, ErrorKind.REASONING_EXHAUSTED, message
    return (Status.TRUNCATED if reason in _LENGTH else Status.OK), None, None


def _error_in(parsed: Mapping[str, Any], choices: list[dict[str, Any]]) -> ErrorBody | None:
    """OpenRouter, "Errors": what goes wrong once the model works comes with status 200. Others leave `error` out."""
    inside = parsed.get("error") or next((choice["error"] for choice in choices if choice.get("error")), None)
    if inside:
        return read_error({**parsed, "error": inside})
    error = None if choices else read_error(dict(parsed))
    return error if error is not None and error.number is not None else None


def _error_inside(error: ErrorBody, response: _Response) -> Answer | Failure:
    message = error.message or "an error inside a successful response, without a message"
    failure = _failure(classify(status_inside(error), error), message, response)
    return _refused_or_failed(failure, response.latency_s)


def _refused_or_failed(failure: Failure, latency_s: float) -> Answer | Failure:
    if failure.kind is not ErrorKind.CONTENT_FILTER:
        return failure
    return Answer(
        status=Status.REFUSED,
        caption=None,
        model=failure.model,
        request_id=failure.request_id,
        usage=failure.usage or Usage(),
        cost_usd=failure.cost_usd,
        latency_s=latency_s,
        error_kind=failure.kind,
        error_message=failure.message,
    )


def _failure(kind: ErrorKind, message: str, response: _Response) -> Failure:
    usage = read_usage(response.parsed)
    return Failure(
        kind=kind,
        message=one_line(message, response.redactor),
        status=response.status,
        retry_after_s=retry_after(response.headers),
        request_id=request_id(response.headers, response.parsed),
        model=_string(response.parsed.get("model")),
        usage=None if usage == Usage() else usage,
        cost_usd=read_cost(response.parsed, response.headers),
    )


def _choices(parsed: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = parsed.get("choices")
    found = [item for item in choices if isinstance(item, dict)] if isinstance(choices, list) else []
    return sorted(found, key=lambda item: _count(item.get("index")) or 0)


def _choice(item: Mapping[str, Any]) -> _Choice:
    message = _dict(item.get("message"))
    return _Choice(
        text=_text_of(message.get("content")).strip(),
        finish_reason=_string(item.get("finish_reason")),
        refusal=_string(message.get("refusal")),
    )


def _text_of(content: object) -> str:
    """A string, or the text parts of a list (Mistral and others put their thoughts into parts of their own)."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part for part in content if isinstance(part, dict) and part.get("type") in {"text", "output_text"})
    return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def read_usage(parsed: Mapping[str, Any]) -> Usage:
    """Tokens as billed, from any of the known shapes; thoughts are part of the completion."""
    told = _dict(parsed.get("usage")) or _dict(parsed.get("usageMetadata"))
    prompt_details = _dict(told.get("prompt_tokens_details")) or _dict(told.get("input_tokens_details"))
    output_details = _dict(told.get("completion_tokens_details")) or _dict(told.get("output_tokens_details"))
    thoughts = _first(told, _THOUGHTS)
    completion = _first(told, _COMPLETION)
    cached = _count(prompt_details.get("cached_tokens"))
    reasoning = _count(output_details.get("reasoning_tokens"))
    usage = Usage(
        prompt_tokens=_prompt_tokens(told),
        cached_tokens=_first(told, _CACHED) if cached is None else cached,
        completion_tokens=completion if thoughts is None else (completion or 0) + thoughts,
        reasoning_tokens=thoughts if reasoning is None else reasoning,
        total_tokens=_first(told, _TOTAL),
    )
    return _balanced(usage)


def _prompt_tokens(told: Mapping[str, Any]) -> int | None:
    prompt, native = _first(told, _PROMPT), _count(told.get("input_tokens"))
    if prompt is not None or native is None or "input_tokens_details" in told:
        return native if prompt is None else prompt
    # Anthropic, Messages API: what is read from and written to the cache is not part of input_tokens.
    cache = ("cache_read_input_tokens", "cache_creation_input_tokens")
    return native + sum(_count(told.get(name)) or 0 for name in cache)


def _balanced(usage: Usage) -> Usage:
    """Where the total holds more than prompt and completion, the rest is thoughts, billed as output.

    Gemini's compatible layer leaves them out of `completion_tokens`, and often does not name them; xAI names them.
    """
    prompt, completion, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    if prompt is None or completion is None:
        return usage
    if total is None:
        return replace(usage, total_tokens=prompt + completion)
    missing = total - prompt - completion
    if missing > 0 and usage.reasoning_tokens in {missing, None} and usage.cached_tokens != missing:
        return replace(usage, completion_tokens=completion + missing, reasoning_tokens=missing)
    return usage


def read_cost(parsed: Mapping[str, Any], headers: Mapping[str, str]) -> Decimal | None:
    """The provider's own figure in US dollars: OpenRouter's `usage.cost`, AI/ML API's `usd_spent`."""
    usage = _dict(parsed.get("usage"))
    cost = _money(usage.get("cost"))
    if cost is not None:
        # With the user's own key OpenRouter's `cost` is its fee alone.
        upstream = _money(_dict(usage.get("cost_details")).get("upstream_inference_cost"))
        return cost + upstream if usage.get("is_byok") is True and upstream is not None else cost
    meta = _dict(_dict(parsed.get("meta")).get("usage"))
    spent = _money(meta.get("usd_spent"))
    return _money(headers.get("x-aimlapi-usd-spent")) if spent is None else spent


def _money(value: object) -> Decimal | None:
    # A float's shortest repr is the decimal that the provider wrote, up to 15 digits: nothing is lost by
    # parsing a thousand bodies fast instead of each with Decimals.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and 0 <= amount <= _MOST_USD else None


def _first(told: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((count for name in names if (count := _count(told.get(name))) is not None), None)


def _count(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MOST_TOKENS else None


def _string(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
