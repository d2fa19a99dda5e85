"""Responses of the Responses API, whole and streamed: what each means for a row and its bill."""

import json
from typing import Any

import pytest

from pipeline.endpoints.reading import Response, read_response
from pipeline.endpoints.responses import RESPONSES
from pipeline.errors import ErrorKind
from pipeline.records import Answer, Failure, Status, Usage

USAGE = {
    "input_tokens": 120, "input_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 0}, "output_tokens": 40,
    "output_tokens_details": {"reasoning_tokens": 30}, "total_tokens": 160,
}  # fmt: skip
BILL = Usage(prompt_tokens=120, cached_tokens=100, completion_tokens=40, reasoning_tokens=30, total_tokens=160)
THOUGHTS = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
CUT = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
FILTERED = {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "output_text", "text": words, "annotations": [], "logprobs": [], **more}


def message(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": parts, **more}


def response(*output: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1", "object": "response", "model": "gpt-5.1-2025", "status": "completed", "error": None,
        "incomplete_details": None, "output": output, "service_tier": "flex", "usage": USAGE, **more,
    }  # fmt: skip


def read(body: object, kind: str = "application/json", status: int = 200) -> Answer | Failure:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    came = Response(status=status, headers={"content-type": kind}, body=data, latency_s=0.5)
    return read_response(came, RESPONSES.read)


def streamed(*events: dict[str, Any]) -> bytes:
    lines = [f"event: {event['type']}\r\ndata: {json.dumps(event)}\r\n\r\n" for event in events]
    return b": comment\r\n\r\n" + "".join(lines).encode()


A_CAT = text("A cat.")
ANSWERS: dict[str, tuple[dict[str, Any], Status, str | None, ErrorKind | None, str]] = {
    "text": (response(THOUGHTS, message(A_CAT)), Status.OK, "A cat.", None, "completed"),
    "parts": (response(message(text("A "), text("cat."))), Status.OK, "A cat.", None, "completed"),
    "phases": (
        response(message(text("Let me see."), phase="commentary"), message(A_CAT, phase="final_answer")),
        Status.OK, "A cat.", None, "completed",
    ),
    "only commentary": (response(message(A_CAT, phase="commentary")), Status.OK, "A cat.", None, "completed"),
    "output_text alone": ({"id": "r", "output_text": "A cat.", "usage": USAGE}, Status.OK, "A cat.", None, ""),
    "cut": (response(message(A_CAT), **CUT), Status.TRUNCATED, "A cat.", None, "max_output_tokens"),
    "cut while thinking": (
        response(THOUGHTS, **CUT), Status.TRUNCATED, None, ErrorKind.REASONING_EXHAUSTED, "max_output_tokens",
    ),
    "nothing, cut": (response(**CUT), Status.TRUNCATED, None, ErrorKind.REASONING_EXHAUSTED, "max_output_tokens"),
    "filtered": (response(**FILTERED), Status.REFUSED, None, ErrorKind.CONTENT_FILTER, "content_filter"),
    "refused": (
        response(message({"type": "refusal", "refusal": "I cannot."})), Status.REFUSED, None, ErrorKind.REFUSED,
        "completed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("is_streamed", [False, True])
def test_answers(name: str, *, is_streamed: bool) -> None:
    """Status, text, reason and bill; a stream's last event has the same response."""
    body, status, caption, kind, reason = ANSWERS[name]
    if is_streamed:
        begun = {"type": "response.created", "response": {**body, "status": "in_progress", "output": []}}
        ended = {"type": f"response.{body.get('status', 'completed')}", "response": body}
        answer = read(streamed(begun, {"type": "response.output_text.delta", "delta": "A"}, ended), "text/event-stream")
    else:
        answer = read(body)
    assert isinstance(answer, Answer), answer
    assert (answer.status, answer.caption, answer.error_kind) == (status, caption, kind)
    assert (answer.finish_reason or "", answer.usage) == (reason, BILL)
    assert answer.service_tier == body.get("service_tier")


def failed(code: str, words: str = "their words", **more: Any) -> dict[str, Any]:
    return response(status="failed", error={"code": code, "message": words, **more}, usage=None)


FAILURES: dict[str, tuple[Any, ErrorKind]] = {
    "failed": (failed("server_error"), ErrorKind.SERVER_ERROR),
    "throttled": (failed("rate_limit_exceeded"), ErrorKind.RATE_LIMITED),
    "no capacity": (failed("resource_unavailable"), ErrorKind.OVERLOADED),
    "a bad image": (failed("invalid_base64_image"), ErrorKind.BAD_REQUEST),
    "a large image": (failed("image_too_large"), ErrorKind.BAD_REQUEST),
    "not downloaded": (failed("failed_to_download_image"), ErrorKind.FETCH_FAILED),
    "an address": (failed("invalid_image_url", "Timeout while downloading it."), ErrorKind.FETCH_FAILED),
    "no address": (failed("invalid_image_url", "Expected a base64 data URL."), ErrorKind.BAD_REQUEST),
    "not finished": (response(status="queued"), ErrorKind.SERVER_ERROR),
    "cancelled": (response(status="cancelled"), ErrorKind.SERVER_ERROR),
    "no text": (response(THOUGHTS), ErrorKind.EMPTY_ANSWER),
    "a tool's call": (response({"type": "function_call", "name": "f", "arguments": "{}"}), ErrorKind.EMPTY_ANSWER),
    "no output": ({"id": "resp_1", "object": "response"}, ErrorKind.INVALID_RESPONSE),
    "a chat completion": ({"choices": [{"message": {"content": "x"}}]}, ErrorKind.INVALID_RESPONSE),
    "a list": ([], ErrorKind.INVALID_RESPONSE),
    "no JSON": (b"<html>busy</html>", ErrorKind.INVALID_RESPONSE),
    "odd output": (response(output=[None, 3, {"type": "message", "content": "x"}]), ErrorKind.EMPTY_ANSWER),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_inside_a_200(name: str) -> None:
    """What goes wrong once the model works has the kind of its code; nothing in a body is a bug of ours."""
    body, kind = FAILURES[name]
    result = read(body)
    assert isinstance(result, Failure), result
    assert result.kind is kind


@pytest.mark.parametrize("code", ["image_content_policy_violation", "bio_policy", "misalignment_policy_violation"])
@pytest.mark.parametrize("status", [200, 400])
def test_policies_refuse(code: str, status: int) -> None:
    """A violated policy is a refusal, as an error and inside a response."""
    error = {"code": code, "message": "their words"}
    result = read(response(status="failed", error=error) if status == 200 else {"error": error}, status=status)
    assert isinstance(result, Answer)
    assert (result.status, result.error_message) == (Status.REFUSED, "their words")


def test_streams_that_end_otherwise() -> None:
    """Items stand in for an empty output; an error event is an error; a stream without an end is a lost connection."""
    item = {"type": "response.output_item.done", "output_index": 0, "item": message(A_CAT)}
    whole = read(streamed(item, {"type": "response.completed", "response": response()}), "text/event-stream")
    assert isinstance(whole, Answer)
    assert whole.caption == "A cat."
    flat = {"type": "error", "code": "rate_limit_exceeded", "message": "slow down"}
    for error in (flat, {"type": "error", "error": {"code": "rate_limit_exceeded", "message": "slow down"}}):
        failure = read(streamed(error), "text/event-stream")
        assert isinstance(failure, Failure)
        assert (failure.kind, failure.message) == (ErrorKind.RATE_LIMITED, "slow down")
    begun = {"type": "response.created", "response": response(status="in_progress", usage=None)}
    lost = read(streamed(begun, item), "text/event-stream")
    assert isinstance(lost, Failure)
    assert (lost.kind, lost.model) == (ErrorKind.CONNECTION, "gpt-5.1-2025")


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "text/event-stream"])
def test_the_body_says_whether_it_is_a_stream(kind: str) -> None:
    """A stream that comes as another type is read, and a whole answer that comes as a stream."""
    whole = response(message(text("A boat.")))
    for body in (streamed({"type": "response.completed", "response": whole}), whole):
        answer = read(body, kind)
        assert isinstance(answer, Answer)
        assert answer.caption == "A boat."


def test_probabilities() -> None:
    """The column `confidence` follows from the tokens of all parts."""
    tokens = [{"token": "A", "logprob": 0.0}, {"token": "cat", "logprob": -1000.0}]
    answer = read(response(message(text("A", logprobs=tokens[:1]), text("cat", logprobs=tokens[1:]))))
    assert isinstance(answer, Answer)
    assert answer.confidence == 0.5
