"""A response of chat/completions -> `Answer` or `Failure`.

Sources: OpenAI's API reference (chat/completions), and the pages of OpenRouter, AI/ML API ("Vision models"),
Google ("OpenAI compatibility"), Anthropic ("OpenAI SDK compatibility") and Alibaba Cloud Model Studio for where they
differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pipeline.endpoints.confidence import mean_probability
from pipeline.endpoints.errors import (
    ErrorBody,
    excerpt,
    parse_json,
    read_error,
)
from pipeline.endpoints.json_values import dict_of, dicts_of, string_of
from pipeline.endpoints.parsed import Parsed
from pipeline.endpoints.reading import Response
from pipeline.endpoints.streamed import is_stream, joined
from pipeline.endpoints.texts import refusal_in, share_of_thoughts, text_of, without_thoughts
from pipeline.errors import ErrorKind
from pipeline.records import Answer, Failure, Status, Usage
from pipeline.redaction.redactor import one_line

_LENGTH: Final = frozenset(
    {
        "length", "max_tokens", "model_context_window_exceeded",
        "max_output_tokens", "max_messages", "steered", "incomplete",  # the Responses API
    }
)  # fmt: skip
_FILTERED: Final = frozenset(
    {
        "content_filter", "refusal",
        "safety", "prohibited_content", "recitation", "blocklist", "spii", "image_safety",  # Gemini, `FinishReason`
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    text: str
    """The answer, without thoughts."""
    whole: str
    finish_reason: str | None
    refusal: str | None
    confidence: float | None


def read_answer(response: Response) -> Answer | Failure:
    """What a response with a 2xx status means."""
    if is_stream(response.headers, response.body):
        return _read_stream(response)
    parsed = parse_json(response.body)
    return read_body(
        response, dict_of(parsed), "without choices" if isinstance(parsed, dict) else "that is no JSON object"
    )


def _read_stream(response: Response) -> Answer | Failure:
    stream = joined(response.body)
    if not stream.is_whole and _error_in(stream.body, _choices(stream.body)) is None:
        return broken_off(response, stream.body)
    return read_body(response, stream.body, "without choices")


def broken_off(response: Response, body: Mapping[str, Any]) -> Failure:
    """Of a stream that ended before its answer did; `body` is what came of it."""
    message = "the stream broke off before the end of the answer"
    return Parsed(response, body).failure(ErrorKind.CONNECTION, message)


def read_body(response: Response, body: Mapping[str, Any], what: str) -> Answer | Failure:
    """What the body of a completion means; `what` says how one without choices is called."""
    parsed, choices = Parsed(response, body), _choices(body)
    error = _error_in(parsed.body, choices)
    if error is not None:
        return parsed.error_inside(error)
    if not choices:
        message = (
            f"HTTP {parsed.response.status} with a body {what}: {excerpt(parsed.response.body).strip() or 'nothing'}"
        )
        return parsed.failure(ErrorKind.INVALID_RESPONSE, message)
    return _chosen([_choice(item) for item in choices], parsed)


def _chosen(choices: list[_Choice], parsed: Parsed) -> Answer | Failure:
    chosen = next((choice for choice in choices if choice.text), choices[0])
    reason = (chosen.finish_reason or "").lower().partition(":")[0]  # Gemini: "content_filter: RECITATION"
    if reason == "error":
        return parsed.failure(ErrorKind.SERVER_ERROR, "the answer broke off (finish_reason error)")
    if not (chosen.text or chosen.refusal or reason in _LENGTH or reason in _FILTERED):
        what = "of thoughts alone" if chosen.whole else "without text"
        message = f"an answer {what} (finish_reason {chosen.finish_reason or 'not given'})"
        return parsed.failure(ErrorKind.EMPTY_ANSWER, message)
    status, kind, message_or_none = _status_of(chosen, reason)
    bill = parsed.bill(has_text=any(choice.whole for choice in choices))
    texts = [choice.whole if parsed.response.keep_thinking else choice.text for choice in choices]
    return Answer(
        status=status,
        caption=texts[choices.index(chosen)] or None,
        captions=tuple(texts) if len(choices) > 1 else (),
        model=parsed.model,
        provider=string_of(parsed.body.get("provider")),
        finish_reason=chosen.finish_reason,
        request_id=parsed.request_id,
        usage=_with_thoughts(bill.usage, choices),
        cost_usd=bill.cost_usd,
        doubts=bill.doubts,
        latency_s=parsed.response.latency_s,
        error_kind=kind,
        error_message=None if message_or_none is None else one_line(message_or_none, parsed.response.redactor),
        confidence=chosen.confidence,
        service_tier=string_of(parsed.body.get("service_tier")),
    )


def _with_thoughts(usage: Usage, choices: list[_Choice]) -> Usage:
    """The usage with the thoughts among the text as reasoning, by their share of it, where none is stated."""
    share = share_of_thoughts([choice.whole for choice in choices], [choice.text for choice in choices])
    if usage.reasoning_tokens or not share or usage.completion_tokens is None:
        return usage
    return replace(usage, reasoning_tokens=round(share * usage.completion_tokens))


def _status_of(choice: _Choice, reason: str) -> tuple[Status, ErrorKind | None, str | None]:
    if choice.refusal:
        return Status.REFUSED, ErrorKind.REFUSED, choice.refusal
    if reason in _FILTERED:
        message = f"stopped by the provider (finish_reason {choice.finish_reason})"
        return Status.REFUSED, ErrorKind.CONTENT_FILTER, message
    if reason in _LENGTH and not choice.text:
        message = "all allowed tokens went into reasoning, none into an answer: raise request.reasoning_allowance"
        return Status.TRUNCATED, ErrorKind.REASONING_EXHAUSTED, message
    return (Status.TRUNCATED if reason in _LENGTH else Status.OK), None, None


def _error_in(body: Mapping[str, Any], choices: list[dict[str, Any]]) -> ErrorBody | None:
    """OpenRouter, "Errors": what goes wrong once the model works comes with status 200. Others leave `error` out."""
    inside = body.get("error") or next((choice["error"] for choice in choices if choice.get("error")), None)
    if inside:
        return read_error({**body, "error": inside})
    error = None if choices else read_error(dict(body))
    return error if error is not None and error.number is not None else None


def _choices(parsed: Mapping[str, Any]) -> list[dict[str, Any]]:
    return sorted(dicts_of(parsed.get("choices")), key=_place)


def _place(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) and index >= 0 else 0


def _choice(item: Mapping[str, Any]) -> _Choice:
    message = dict_of(item.get("message"))
    whole = text_of(message.get("content")).strip()
    passed_on = dict_of(message.get("provider_specific_fields"))  # LiteLLM's proxy
    return _Choice(
        text=without_thoughts(whole),
        whole=whole,
        finish_reason=string_of(item.get("finish_reason")),
        refusal=string_of(message.get("refusal"))
        or string_of(passed_on.get("refusal"))
        or refusal_in(message.get("content")),
        confidence=mean_probability(item.get("logprobs")),
    )
