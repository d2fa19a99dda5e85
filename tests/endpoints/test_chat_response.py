"""Responses of the known providers, as their documents show them, and what is made of them."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.endpoints.chat import CHAT
from pipeline.endpoints.reading import Response, read_response
from pipeline.endpoints.usage import believed
from pipeline.errors import ErrorKind
from pipeline.records import Answer, Failure, Status, Usage


def completion(content: object = "A red boat.", finish_reason: str | None = "stop", **more: object) -> dict[str, Any]:
    """A response as OpenAI's API reference shows it."""
    return {
        "id": "chatcmpl-123",
        "object": "chat.completion",
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 780, "completion_tokens": 5, "total_tokens": 785},
        **more,
    }


def read(body: object, status: int = 200, **headers: str) -> Answer | Failure:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_response(Response(status=status, headers=named, body=raw, latency_s=0.25), CHAT.read)


def answer(body: object, status: int = 200, **headers: str) -> Answer:
    result = read(body, status, **headers)
    assert isinstance(result, Answer), result
    return result


def failure(body: object, status: int = 200, **headers: str) -> Failure:
    result = read(body, status, **headers)
    assert isinstance(result, Failure), result
    return result


def test_an_answer() -> None:
    """Every field of the documented response reaches the answer."""
    assert answer(completion("  A red boat.\n"), x_request_id="req_1") == Answer(
        status=Status.OK,
        caption="A red boat.",
        model="gpt-4o-2024-08-06",
        finish_reason="stop",
        request_id="req_1",
        usage=Usage(prompt_tokens=780, completion_tokens=5, total_tokens=785),
        latency_s=0.25,
    )


def test_the_body_s_id_stands_in_for_a_header() -> None:
    """Servers without a request header are still named in a support case."""
    assert answer(completion()).request_id == "chatcmpl-123"
    assert answer(completion(), x_inference_id="inf_1").request_id == "inf_1"


def test_content_in_parts() -> None:
    """Text parts are joined, thoughts in parts of their own are left out."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "A red "},
        {"type": "text", "text": "boat."},
    ]
    assert answer(completion(parts)).caption == "A red boat."


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "text/event-stream", ""])
def test_the_body_says_whether_it_is_a_stream(kind: str) -> None:
    """Some gateways send a stream as another type, or one whole answer as a stream: it is paid for, and read."""
    pieces: list[dict[str, Any]] = [
        {"delta": {"content": "A red "}},
        {"delta": {"content": "boat."}, "finish_reason": "stop"},
    ]
    chunks = [json.dumps({"choices": [{"index": 0, **piece}]}) for piece in pieces]
    stream = "".join(f"data: {chunk}\n\n" for chunk in chunks)
    for body in (stream, f": waiting\r\n\r\n{stream}", f"\nevent: message\n{stream}", json.dumps(completion())):
        assert answer(body.encode(), content_type=kind).caption == "A red boat."


def test_several_choices() -> None:
    """All choices are kept in the order of their index; the first with text is the caption."""
    body = completion()
    body["choices"] = [
        {"index": 2, "message": {"content": "c"}, "finish_reason": "length"},
        {"index": 1, "message": {"content": "b"}, "finish_reason": "stop"},
        {"index": 0, "message": {"content": ""}, "finish_reason": "stop"},
    ]
    got = answer(body)
    assert (got.caption, got.captions, got.status) == ("b", ("", "b", "c"), Status.OK)


def test_a_number_of_tokens_that_did_not_suffice() -> None:
    """Cut text is `truncated`; no text at all means that reasoning took the allowance."""
    cut = answer(completion("A red", "length"))
    assert (cut.status, cut.caption, cut.error_kind) == (Status.TRUNCATED, "A red", None)
    nothing = answer(completion("", "length"))
    assert (nothing.status, nothing.caption) == (Status.TRUNCATED, None)
    assert nothing.error_kind is ErrorKind.REASONING_EXHAUSTED
    assert nothing.usage.completion_tokens == 5


def test_refusals() -> None:
    """The model's refusal, and the provider's filter, are answers with the reason in words."""
    body = completion(None)
    body["choices"][0]["message"]["refusal"] = "I can't help with that."
    refused = answer(body)
    assert (refused.status, refused.error_kind) == (Status.REFUSED, ErrorKind.REFUSED)
    assert refused.error_message == "I can't help with that."
    in_parts = answer(completion([{"type": "refusal", "refusal": "I can't "}, {"type": "refusal", "refusal": "help."}]))
    assert (in_parts.status, in_parts.caption, in_parts.error_message) == (Status.REFUSED, None, "I can't help.")
    filtered = answer(completion(None, "content_filter"))
    assert (filtered.status, filtered.error_kind) == (Status.REFUSED, ErrorKind.CONTENT_FILTER)


def test_an_empty_answer_keeps_what_it_cost() -> None:
    """Nothing said, yet billed: the failure carries usage and cost."""
    body = completion(None)
    body["usage"]["cost"] = 0.0021
    got = failure(body)
    assert got.kind is ErrorKind.EMPTY_ANSWER
    assert got.usage == Usage(prompt_tokens=780, completion_tokens=5, total_tokens=785)
    assert got.cost_usd == Decimal("0.0021")
    assert got.model == "gpt-4o-2024-08-06"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>login</html>",
        b"data {}",
        b"[]",
        b"null",
        b'{"choices": [',
        b"{}",
        b'{"choices": []}',
        b'{"choices": null}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_answer(body: bytes) -> None:
    """No JSON, no object, no choices: an invalid response that shows what came instead."""
    got = failure(body)
    assert got.kind is ErrorKind.INVALID_RESPONSE
    assert got.status == 200
    assert len(got.message) <= 300
    assert "\n" not in got.message


def test_a_login_page_says_what_it_is() -> None:
    """The words of an HTML page reach the message, its markup does not."""
    page = b"<!doctype html>\n<script>var a='<b>';</script><title>Log in &amp; go</title>"
    assert failure(page).message == "HTTP 200 with a body that is no JSON object: Log in & go"


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[{"message":{"content":"\\ud83d boat"},"logprobs":NaN}]}',
        b'{"choices":[{"message":{"content":"\\ud83d boat"}}]}',
        b'\xef\xbb\xbf{"choices":[{"message":{"content":"\xff boat"}}]}',
    ],
)
def test_a_paid_answer_in_careless_json_is_kept(body: bytes) -> None:
    """NaN, half an emoji, bytes that are no UTF-8, a byte order mark: read as well as possible."""
    assert answer(body).caption == "� boat"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 502, "message": "Provider returned error"}, ErrorKind.SERVER_ERROR),
        ({"code": 429, "message": "slow down"}, ErrorKind.RATE_LIMITED),
        ({"code": "429", "message": "slow down"}, ErrorKind.RATE_LIMITED),
        ({"code": 402, "message": "no credits"}, ErrorKind.QUOTA_EXHAUSTED),
        ({"code": 408, "message": "took too long"}, ErrorKind.TIMEOUT),
        ({"code": 503, "message": "no provider"}, ErrorKind.OVERLOADED),
        ({"type": "overloaded_error", "message": "busy"}, ErrorKind.OVERLOADED),
        ({"type": "invalid_request_error", "message": "bad"}, ErrorKind.BAD_REQUEST),
        ({"message": "something"}, ErrorKind.SERVER_ERROR),
        ("something", ErrorKind.SERVER_ERROR),
    ],
)
def test_errors_inside_a_200(error: object, kind: ErrorKind) -> None:
    """OpenRouter answers 200 and puts the error into the body, or into the choice: classified by its code."""
    assert failure({"error": error}).kind is kind
    inside = completion("A re", "error")
    inside["choices"][0]["error"] = error
    got = failure(inside)
    assert got.kind is kind
    assert got.usage == Usage(prompt_tokens=780, completion_tokens=5, total_tokens=785)


def test_an_answer_that_broke_off() -> None:
    """`finish_reason: error` without an error is no answer, whatever text there is."""
    assert failure(completion("A re", "error")).kind is ErrorKind.SERVER_ERROR


@pytest.mark.parametrize("reason", ["content_filter: PROHIBITED_CONTENT", "content_filter: RECITATION", "SPII"])
@pytest.mark.parametrize("text", ["half an answer", None])
def test_reasons_of_gemini(reason: str, text: str | None) -> None:
    """With words behind a colon, in capitals, and without any message: refused, and not asked again."""
    body = completion(text, reason)
    if text is None:
        del body["choices"][0]["message"]
    found = answer(body)
    assert (found.status, found.error_kind, found.finish_reason) == (Status.REFUSED, ErrorKind.CONTENT_FILTER, reason)


def test_comments_before_a_whole_answer() -> None:
    """A gateway sends them while it waits, whatever the content type says; the body is read, and no stream."""
    whole = b": PROCESSING\n\n" * 3 + json.dumps(completion()).encode()
    found = CHAT.read(Response(status=200, headers={"content-type": "application/json"}, body=whole, latency_s=0.5))
    assert isinstance(found, Answer)
    assert found.caption == "A red boat."


def test_null_errors_are_none() -> None:
    """A field `error` that is null does not spoil an answer."""
    assert answer(completion(error=None)).caption == "A red boat."


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"code": "content_policy_violation", "message": "not allowed", "type": "image_generation"}}),
        (
            400,
            {
                "error": {
                    "message": "not allowed",
                    "code": "content_filter",
                    "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {}},
                }
            },
        ),
        (400, {"error": {"message": "not allowed", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
        (403, {"error": {"code": 403, "message": "not allowed", "metadata": {"reasons": ["violence"]}}}),
        (200, {"error": {"code": 403, "message": "not allowed", "metadata": {"flagged_input": "..."}}}),
    ],
)
def test_a_filtered_image_is_refused(status: int, body: object) -> None:
    """OpenAI's, Azure's and OpenRouter's refusals of this input are final answers, in the provider's words."""
    got = answer(body, status)
    assert (got.status, got.caption) == (Status.REFUSED, None)
    assert (got.error_kind, got.error_message) == (ErrorKind.CONTENT_FILTER, "not allowed")


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        pytest.param(
            {
                "prompt_tokens": 780,
                "completion_tokens": 105,
                "total_tokens": 885,
                "prompt_tokens_details": {"cached_tokens": 512, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 100, "audio_tokens": 0},
            },
            (780, 512, 105, 100, 885),
            id="OpenAI",
        ),
        pytest.param(
            {
                "input_tokens": 328,
                "input_tokens_details": {"cached_tokens": 300},
                "output_tokens": 52,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 380,
            },
            (328, 300, 52, 0, 380),
            id="Responses",
        ),
        pytest.param(
            {
                "input_tokens": 10,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 1000,
                "output_tokens": 7,
            },
            (1110, 100, 7, None, 1117),
            id="Anthropic: input without the cache",
        ),
        pytest.param(
            {
                "prompt_token_count": 20,
                "cached_content_token_count": 5,
                "candidates_token_count": 198,
                "thoughts_token_count": 405,
                "total_token_count": 623,
            },
            (20, 5, 603, 405, 623),
            id="Gemini: thoughts apart",
        ),
        pytest.param(
            {"prompt_tokens": 20, "completion_tokens": 151, "total_tokens": 553},
            (20, None, 533, 382, 553),
            id="Gemini's compatible layer: thoughts only in the total",
        ),
        pytest.param(
            {
                "prompt_tokens": 21,
                "completion_tokens": 9,
                "total_tokens": 90,
                "completion_tokens_details": {"reasoning_tokens": 60},
            },
            (21, None, 69, 60, 90),
            id="xAI: thoughts beside the completion",
        ),
        pytest.param(
            {
                "prompt_tokens": 21,
                "completion_tokens": 9,
                "total_tokens": 130,
                "prompt_tokens_details": {"cached_tokens": 100},
            },
            (121, 100, 9, None, 130),
            id="cache beside the prompt, in the total",
        ),
        pytest.param(
            {
                "prompt_tokens": 1254,
                "completion_tokens": 30,
                "total_tokens": 1284,
                "prompt_tokens_details": {"text_tokens": 20, "image_tokens": 1234},
            },
            (1254, None, 30, None, 1284),
            id="DashScope",
        ),
        pytest.param({"prompt_tokens": 5.0, "completion_tokens": 2}, (5, None, 2, None, 7), id="floats, no total"),
        pytest.param({"prompt_tokens": -1, "completion_tokens": True}, (None,) * 5, id="nonsense"),
        pytest.param({"prompt_tokens": "5", "completion_tokens": 2**70}, (None,) * 5, id="more nonsense"),
        pytest.param(None, (None,) * 5, id="nothing"),
    ],
)
def test_usage(told: object, usage: tuple[int | None, ...]) -> None:
    """Prompt, cached, completion, reasoning and total, however the provider counts them."""
    got = believed({"usage": told}, {}).usage
    assert (
        got.prompt_tokens,
        got.cached_tokens,
        got.completion_tokens,
        got.reasoning_tokens,
        got.total_tokens,
    ) == usage


def test_openrouter_s_cost() -> None:
    """The stated cost is a Decimal without float noise, and the provider behind the router is named."""
    body = completion(provider="OpenAI")
    body["usage"]["cost"] = 0.0021
    got = answer(body)
    assert str(got.cost_usd) == "0.0021"
    assert got.provider == "OpenAI"


def test_a_key_of_one_s_own_at_openrouter_costs_both() -> None:
    """With `is_byok` the router's fee and the provider's bill are added."""
    body = completion()
    body["usage"] |= {"cost": 0.00005, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.001}}
    assert answer(body).cost_usd == Decimal("0.00105")


def test_aimlapi_s_cost() -> None:
    """`meta.usage.usd_spent`, or the header where the body has none."""
    meta = {"usage": {"credits_used": 2574, "usd_spent": 0.001287}}
    assert answer(completion(meta=meta)).cost_usd == Decimal("0.001287")
    assert answer(completion(), x_aimlapi_usd_spent="0.001287").cost_usd == Decimal("0.001287")


@pytest.mark.parametrize("cost", [None, "free", -1, float("inf"), True, {"total_cost": 1}])
def test_costs_that_are_none(cost: object) -> None:
    """What is no amount of money is no cost, rather than a wrong one."""
    body = completion()
    body["usage"]["cost"] = cost
    assert answer(body).cost_usd is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    status=st.integers(200, 599),
    fields=st.dictionaries(
        st.sampled_from(["choices", "usage", "error", "model", "id", "meta", "message", "detail", "statusCode"]), JSON
    ),
    choice=st.dictionaries(st.sampled_from(["message", "finish_reason", "index", "error"]), JSON),
)
def test_no_body_breaks_the_reader(status: int, fields: dict[str, Any], choice: dict[str, Any]) -> None:
    """Whatever JSON a server sends is an answer or a failure, with a message of one short line."""
    for body in (fields, {**fields, "choices": [choice]}):
        result = read(body, status)
        message = result.message if isinstance(result, Failure) else result.error_message or ""
        assert len(message) <= 300
        assert message.isprintable()


@given(st.integers(100, 599), st.binary())
def test_no_bytes_break_the_reader(status: int, body: bytes) -> None:
    """Nor do any bytes."""
    assert isinstance(read(body, status), Answer | Failure)
