"""An answer as the Responses API writes it: `output`, `status`, `usage`, and what the request said.

Source: OpenAI's API reference, "Responses", as the official client's types have it (package openai 3.52.0).
"""

import time
import uuid
from collections.abc import Mapping
from typing import Any, Final

from pipeline.emulator.answers import Reply, reported_prompt_tokens
from pipeline.emulator.apis import Api, Made
from pipeline.emulator.faults import Fault
from pipeline.emulator.logprobs import logprobs_of
from pipeline.emulator.responses_api_events import failed_events, response_events
from pipeline.emulator.responses_api_request import parse_responses_request

_REASONS: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ECHOED: Final[Mapping[str, Any]] = {
    "instructions": None, "max_output_tokens": None, "metadata": {}, "parallel_tool_calls": True, "temperature": 1.0,
    "top_p": 1.0, "top_logprobs": 0, "tool_choice": "auto", "tools": [], "truncation": "disabled", "store": True,
    "user": None, "previous_response_id": None, "background": False,
}  # fmt: skip
"""Fields of the request that the response repeats, with their defaults."""
_ERROR: Final = {"code": "server_error", "message": "The model failed to generate a response."}


def response_body(made: Made) -> dict[str, Any]:
    """The body of a `response`."""
    reason = _REASONS.get(made.answer.finish_reason)
    return {
        **_head(made.payload),
        "status": "completed" if reason is None else "incomplete",
        "error": None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "model": made.asked.model,
        "output": _output(made),
        "reasoning": {"effort": None, "summary": None, **(made.payload.get("reasoning") or {})},
        "service_tier": made.asked.options.tier,
        "text": {"format": {"type": "text"}, **(made.payload.get("text") or {})},
        "usage": _usage(made),
    }


def _head(payload: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: payload.get(name) for name in _ECHOED}
    kept = {name: default if said[name] is None else said[name] for name, default in _ECHOED.items()}
    return {"id": f"resp_{uuid.uuid4().hex}", "object": "response", "created_at": int(time.time()), **kept}


def _output(made: Made) -> list[dict[str, Any]]:
    answer, items = made.answer, list[dict[str, Any]]()
    if answer.reasoning_tokens:
        items.append({"id": f"rs_{uuid.uuid4().hex}", "type": "reasoning", "summary": []})
    if made.fault is Fault.EMPTY_CHOICES or (answer.finish_reason in _REASONS and not answer.content):
        return items
    status = "incomplete" if answer.finish_reason in _REASONS else "completed"
    message = {"type": "message", "role": "assistant", "status": status, "content": [_part(made, answer)]}
    return [*items, {"id": f"msg_{uuid.uuid4().hex}", **message}]


def _part(made: Made, answer: Reply) -> dict[str, Any]:
    if answer.refusal is not None:
        return {"type": "refusal", "refusal": answer.refusal}
    text, options = answer.content or "", made.asked.options
    logprobs = logprobs_of(text, options.top_logprobs)["content"] if options.logprobs else []
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _usage(made: Made) -> dict[str, Any]:
    billed = made.billed
    return {
        "input_tokens": reported_prompt_tokens(billed, made.fault),
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": billed.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": made.answer.reasoning_tokens},
        "total_tokens": billed.prompt_tokens + billed.completion_tokens,
    }


FAILED: Final[Mapping[str, Any]] = {
    "id": "resp_failed", "object": "response", "created_at": 0, "status": "failed", "error": _ERROR, "output": [],
    "incomplete_details": None, "model": "", "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "usage": None,
}  # fmt: skip

RESPONSES: Final = Api(
    parse_responses_request, response_body, lambda body, _: response_events(body), FAILED, lambda: failed_events(FAILED)
)
