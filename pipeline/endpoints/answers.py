"""A response of chat/completions -> `Answer` or `Failure`.

Sources: OpenAI's API reference (chat/completions), and the pages of OpenRouter, AI/ML API ("Vision models"),
Google ("OpenAI compatibility"), Anthropic ("OpenAI SDK compatibility") and Alibaba Cloud Model Studio for where they
differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pipeline.endpoints.errors import (
    ErrorBody,
    classify,
    excerpt,
    parse_json,
    read_error,
    read_failure,
    request_id,
    status_inside,
)
from pipeline.endpoints.usage import StatedBill, believed
from pipeline.errors import ErrorKind
from pipeline.limits.budget import Amounts
from pipeline.limits.decision import SUCCESSES, retry_after
from pipeline.records import Answer, Failure, Status, Usage
from pipeline.redaction.redactor import NOTHING_SECRET, Redactor, one_line

_LENGTH: Final = frozenset({"length", "max_tokens", "model_context_window_exceeded"})
_FILTERED: Final = frozenset({"content_filter", "safety", "prohibited_content", "refusal"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Response:
    status: int
    headers: Mapping[str, str]
    parsed: Mapping[str, Any]
    latency_s: float
    redactor: Redactor
    most: Amounts | None

    def bill(self, *, has_text: bool) -> StatedBill:
        bill = believed(self.parsed, self.headers, self.most, has_text=has_text)
        return replace(bill, doubts=tuple(one_line(doubt, self.redactor) for doubt in bill.doubts))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    text: str
    finish_reason: str | None
    refusal: str | None


def read_answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    latency_s: float,
    redactor: Redactor = NOTHING_SECRET,
    *,
    most: Amounts | None = None,
) -> Answer | Failure:
    """What one response means.

    A refusal, of the model or of a content filter, is an Answer with status REFUSED: it is final, and may
    have been billed. Usage and the provider's own cost are kept of failures, too. `headers` are
    case-insensitive, or in lower case. `latency_s` are seconds from sending to the last byte. `redactor`
    cleans every text in it: nothing above has to. `most` is the predicted upper bound of the request: usage far
    beyond it is not believed.
    """
    if status not in SUCCESSES:
        return redactor.result(_refused_or_failed(read_failure(status, headers, body, redactor), latency_s))
    parsed = parse_json(body)
    response = _Response(
        status=status, headers=headers, parsed=_dict(parsed), latency_s=latency_s, redactor=redactor, most=most
    )
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
    bill = response.bill(has_text=any(choice.text for choice in choices))
    return Answer(
        status=status,
        caption=chosen.text or None,
        captions=tuple(choice.text for choice in choices) if len(choices) > 1 else (),
        model=_string(response.parsed.get("model")),
        provider=_string(response.parsed.get("provider")),
        finish_reason=chosen.finish_reason,
        request_id=request_id(response.headers, response.parsed),
        usage=bill.usage,
        cost_usd=bill.cost_usd,
        doubts=bill.doubts,
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
        doubts=failure.doubts,
        latency_s=latency_s,
        error_kind=failure.kind,
        error_message=failure.message,
    )


def _failure(kind: ErrorKind, message: str, response: _Response) -> Failure:
    bill = response.bill(has_text=False)
    return Failure(
        kind=kind,
        message=one_line(message, response.redactor),
        status=response.status,
        retry_after_s=retry_after(response.headers),
        request_id=request_id(response.headers, response.parsed),
        model=_string(response.parsed.get("model")),
        usage=None if bill.usage == Usage() else bill.usage,
        cost_usd=bill.cost_usd,
        doubts=bill.doubts,
    )


def _choices(parsed: Mapping[str, Any]) -> list[dict[str, Any]]:
    choices = parsed.get("choices")
    found = [item for item in choices if isinstance(item, dict)] if isinstance(choices, list) else []
    return sorted(found, key=_place)


def _place(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) and index >= 0 else 0


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


def _string(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
