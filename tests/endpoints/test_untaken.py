"""Rejections that name a field of the request, in the words of those who are known to reject."""

import pytest

from pipeline.endpoints.errors import read_error
from pipeline.endpoints.untaken import untaken_fields

SENT = (
    "max_tokens",
    "temperature",
    "stop",
    "n",
    "user",
    "reasoning_effort",
    "stream_options",
    "presence_penalty",
    "top_k",
)


def openai(message: str, code: str | None = None, param: str | None = None) -> dict[str, object]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


NAMED: list[tuple[object, str]] = [
    (openai("words", "unsupported_parameter", "max_tokens"), "max_tokens"),
    (openai("words", "unsupported_value", "temperature"), "temperature"),
    (openai("words", "unknown_parameter", "top_k"), "top_k"),
    (
        openai(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        ),
        "max_tokens",
    ),
    (openai("Unsupported value: 'temperature' does not support 0.2 with this model."), "temperature"),
    (openai("Unrecognized request argument supplied: reasoning_effort"), "reasoning_effort"),
    (openai("Unrecognized request arguments supplied: stop, user"), "stop user"),
    (openai("litellm.UnsupportedParamsError: x does not support parameters: ['n', 'stop'], for model=m."), "stop n"),
    (openai("litellm.UnsupportedParamsError: gpt-5 models don't support temperature=0.1. Only 1 is."), "temperature"),
    (openai("`temperature` is deprecated for this model."), "temperature"),
    (openai("temperature: Extra inputs are not permitted"), "temperature"),
    (openai('Invalid JSON payload received. Unknown name "reasoning_effort": Cannot find field.'), "reasoning_effort"),
    (openai("Argument not supported on this model: presencePenalty"), "presence_penalty"),
    (openai("property 'user' is unsupported"), "user"),
    (
        {"object": "error", "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options'), 'input': {}}]"},
        "stream_options",
    ),
    ({"detail": [{"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "no"}]}, "top_k"),
    (openai("Unknown field 'top_k'. Allowed: temperature, max_tokens, reasoning_effort"), "top_k"),
    (openai("We can not use 'max_tokens' with this deployment. Try 'max_completion_tokens' instead."), "max_tokens"),
    (openai("`temperature` may not be specified for this model"), "temperature"),
    (openai("`temperature` may only be set to 1 when thinking is enabled."), "temperature"),
    ({"statusCode": 400, "message": "Bad", "meta": [{"path": ["top_k"], "message": "Unrecognized key"}]}, "top_k"),
]


@pytest.mark.parametrize(("body", "names"), NAMED)
def test_fields_that_are_named(body: object, names: str) -> None:
    """By code and `param`, or by the vendor's words."""
    error = read_error(body)
    assert set(untaken_fields(SENT, error.message or "", error.param)) == set(names.split())


@pytest.mark.parametrize(
    "body",
    [
        openai("You uploaded an unsupported image. Please stop, user n 1."),
        openai("Unsupported value: 'messages[0].role' does not support 'system' with this model."),
        openai("words", "unsupported_value", "messages[0].content[1].image_url.detail"),
        openai("max_tokens is too large: 99999. This model supports at most 16384 completion tokens."),
        openai("Invalid 'temperature': decimal above maximum value.", "decimal_above_max_value", "temperature"),
        openai("Unknown parameter: 'seed'.", "unknown_parameter", "seed"),
        openai("image_url is not supported by this model"),
        {"detail": [{"loc": ["body", "messages"], "msg": "field required"}]},
    ],
)
def test_rejections_of_something_else(body: object) -> None:
    """Of the image, of a value beyond its range, or of a field that was not sent."""
    error = read_error(body)
    assert untaken_fields(SENT, error.message or "", error.param) == ()
