"""A server may put anything anywhere: whatever stands in a body or a header is an answer or a failure, no exception."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.endpoints import chat_response, ocr_response, ofr_response, responses_answer
from pipeline.endpoints.reading import Response, read_response
from pipeline.limits.budget import Amounts
from pipeline.records import Answer, Failure

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**400,
    -(10**400),
    1e308,
    float("nan"),
    "",
    "x",
    "1e1000000",
    "-1e-1000000",
    "NaN",
    "Infinity",
    "9" * 5000,
    "\ud800\0",
    [],
    ["x"],
    [[[]]],
    {},
    {"a": {"b": ["x"]}},
)
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 10,
    "total_tokens": 110,
    "cost": "0.001",
    "is_byok": True,
    "cost_details": {"upstream_inference_cost": "0.002"},
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 3},
    "cache_read_input_tokens": 3,
    "thoughts_token_count": 1,
    "input_tokens": 5,
}
HEAD = {
    "id": "i",
    "model": "m",
    "provider": "p",
    "service_tier": "flex",
    "usage": USAGE,
    "meta": {"usage": {"usd_spent": 0.1, "credits_used": 20}},
}
TOKEN = {"token": "a", "logprob": -0.5, "top_logprobs": []}
MESSAGE = {
    "content": [{"type": "text", "text": "a cat"}, {"type": "refusal", "refusal": "no"}, "x"],
    "refusal": "",
    "provider_specific_fields": {"refusal": ""},
}
CHAT = HEAD | {
    "choices": [{"index": 0, "finish_reason": "stop", "message": MESSAGE, "logprobs": {"content": [TOKEN]}}],
}
ERROR = {
    "error": {
        "code": "x",
        "type": "y",
        "message": "z",
        "param": "p",
        "metadata": {"raw": "r", "provider_name": "n", "flagged_input": "f", "reasons": ["a"]},
        "innererror": {"code": "c", "content_filter_result": {"hate": {"filtered": True}}},
        "details": [{"@type": "RetryInfo", "retryDelay": "3s"}],
        "status": "INVALID_ARGUMENT",
    },
    "message": "m",
    "statusCode": 400,
    "detail": [{"loc": ["body"], "msg": "wrong", "type": "value_error"}],
    "meta": [{"path": ["a"], "message": "b"}],
}
CHUNK = HEAD | {
    "choices": [{"index": 0, "finish_reason": "stop", "delta": {"content": "a"}, "logprobs": {"content": [TOKEN]}}]
}
RESPONSES = HEAD | {
    "status": "incomplete",
    "incomplete_details": {"reason": "max_output_tokens"},
    "error": None,
    "output_text": "t",
    "output": [
        {
            "type": "message",
            "phase": "final",
            "content": [{"type": "output_text", "text": "a", "logprobs": [TOKEN]}, {"type": "refusal", "refusal": "n"}],
        }
    ],
}
EVENT = {"type": "response.completed", "response": RESPONSES, "error": None, "item": {"type": "message"}, "code": "c"}
OCR = HEAD | {
    "pages": [
        {
            "index": 0,
            "markdown": "a",
            "dimensions": {"width": 10, "height": 10},
            "images": [{"id": "i", "top_left_x": 1, "bottom_right_x": 3, "image_base64": "x", "image_annotation": "y"}],
            "blocks": [{"type": "t", "content": "c", "top_left_x": 1, "top_left_y": 1}],
        }
    ],
    "usage_info": {"pages_processed": 1},
    "document_annotation": "{}",
}
OFR = {
    "responses": [
        {
            "labelAnnotations": [
                {"description": "cat", "score": 0.5, "boundingPoly": {"vertices": [{"x": 1, "y": 2}]}}
            ],
            "safeSearchAnnotation": {"adult": "LIKELY"},
            "imagePropertiesAnnotation": {
                "dominantColors": {"colors": [{"color": {"red": 1, "green": 2, "blue": 3}, "score": 0.5}]}
            },
            "fullTextAnnotation": {"text": "t"},
            "error": {"code": 3, "message": "m"},
        }
    ],
    "meta": HEAD["meta"],
}
HEADERS = {
    "retry-after": "3",
    "retry-after-ms": "300",
    "date": "Mon, 01 Jan 2024 00:00:00 GMT",
    "x-request-id": "r",
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "3",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-limit-tokens": "1000",
    "x-ratelimit-renewalperiod-tokens": "60",
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-reset": "2024-01-01T00:00:00Z",
    "x-aimlapi-usd-spent": "0.1",
    "x-litellm-response-cost": "0.1",
    "x-aimlapi-credits-used": "10",
}
Read = Callable[[Response], Answer | Failure]


def oddities(value: Any) -> Iterator[Any]:
    """`value` with one odd thing in it, wherever it may stand."""
    yield from ODD
    if isinstance(value, dict):
        for name, inner in value.items():
            yield {other: one for other, one in value.items() if other != name}
            yield from ({**value, name: odd} for odd in oddities(inner))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from ([*value[:at], odd, *value[at + 1 :]] for odd in oddities(inner))


def read(body: bytes, reader: Read, status: int = 200, headers: dict[str, str] | None = None) -> None:
    most = Amounts(1000, 1000, 1)
    came = Response(status=status, headers=headers or {}, body=body, latency_s=1.0, most=most)
    assert isinstance(read_response(came, reader), Answer | Failure)


@pytest.mark.parametrize(
    ("whole", "reader", "status"),
    [
        (CHAT, chat_response.read_answer, 200),
        (ERROR, chat_response.read_answer, 200),
        *((ERROR, chat_response.read_answer, status) for status in (400, 403, 404, 422, 429, 500)),
        (RESPONSES, responses_answer.read_answer, 200),
        (OCR, ocr_response.read_ocr, 200),
        (OFR, ofr_response.read_ofr, 200),
    ],
)
def test_any_value_anywhere(whole: dict[str, Any], reader: Read, status: int) -> None:
    """Lists, objects, numbers of 400 digits, and texts that are no numbers, in each place of a body."""
    for body in oddities(whole):
        read(json.dumps(body).encode(), reader, status)


@pytest.mark.parametrize(
    ("whole", "reader"), [(CHUNK, chat_response.read_answer), (EVENT, responses_answer.read_answer)]
)
def test_any_value_in_a_stream(whole: dict[str, Any], reader: Read) -> None:
    """The same in each place of an event, before one that is whole."""
    last = b"data: " + json.dumps(whole).encode() + b"\n\ndata: [DONE]\n\n"
    for body in oddities(whole):
        read(b"data: " + json.dumps(body).encode() + b"\n\n" + last, reader)


@pytest.mark.parametrize("status", [200, 429, 503])
def test_any_text_in_a_header(status: int) -> None:
    """The same in each header that is read."""
    body = json.dumps(CHAT if status == 200 else ERROR).encode()
    for headers in oddities(HEADERS):
        if isinstance(headers, dict):
            texts = {name: value for name, value in headers.items() if isinstance(value, str)}
            read(body, chat_response.read_answer, status, texts)
