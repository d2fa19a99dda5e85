"""Requests are checked as OpenAI checks them."""

from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from pipeline.emulator.admission import Admission
from pipeline.emulator.api_errors import ApiError
from pipeline.emulator.chat_request import elided, parse_chat_request, parse_json
from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.server import serve

Body = Callable[..., dict[str, Any]]
IMAGE = "messages[0].content[0].image_url"
FILE = "messages[0].content[0].file"
PDF = "data:application/pdf;base64,JVBERi0xLjcK"


def _error(payload: object) -> dict[str, Any]:
    with pytest.raises(ApiError) as raised:
        parse_chat_request(payload, serves=lambda _: True)
    assert raised.value.status == 400
    error: dict[str, Any] = raised.value.body["error"]
    return error


def _ask(*messages: object, **options: object) -> dict[str, object]:
    return {"model": "gpt-4o", "messages": list(messages), **options}


def _image(url: object, **options: object) -> dict[str, object]:
    part = {"type": "image_url", "image_url": {"url": url, **options}}
    return _ask({"role": "user", "content": [part]})


def _file(file: object) -> dict[str, object]:
    return _ask({"role": "user", "content": [{"type": "file", "file": file}]})


def _with(**options: object) -> dict[str, object]:
    return {**_ask({"role": "user", "content": "x"}), **options}


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://example.com/cat.jpg", "invalid_image_url"),
        ("HTTP://example.com/cat.jpg", "invalid_image_url"),
        ("iVBORw0KGgo", "invalid_value"),
        ("data:image/png,abc", "invalid_value"),
        ("data:image/png;base64,", "invalid_value"),
        ("data:image/png;base64,a", "invalid_value"),
        ("data:image/png;base64,ab cd", "invalid_value"),
        ("data:image/bmp;base64,Qk0=", "invalid_image_format"),
        ("data:application/pdf;base64,Qk0=", "invalid_image_format"),
    ],
)
def test_image_urls(url: str, code: str) -> None:
    """Only base64 data URLs of the four formats are taken; the error names the place."""
    error = _error(_image(url))
    assert (error["code"], error["param"], error["type"]) == (code, f"{IMAGE}.url", "invalid_request_error")


@pytest.mark.parametrize(
    ("payload", "code", "param"),
    [
        ([], None, None),
        ({"messages": []}, None, None),
        ({"model": "gpt-4o"}, "missing_required_parameter", "messages"),
        (_ask(), "empty_array", "messages"),
        ({"model": "gpt-4o", "messages": "hello"}, "invalid_type", "messages"),
        (_ask("hello"), "invalid_type", "messages[0]"),
        (_ask({"content": "x"}), "missing_required_parameter", "messages[0].role"),
        (_ask({"role": "king", "content": "x"}), "invalid_value", "messages[0].role"),
        (_ask({"role": ["user"], "content": "x"}), "invalid_value", "messages[0].role"),
        (_ask({"role": "user"}), "invalid_type", "messages[0].content"),
        (_ask({"role": "user", "content": ["x"]}), "invalid_type", "messages[0].content[0]"),
        (_ask({"role": "user", "content": [{"type": "text"}]}), "invalid_type", "messages[0].content[0].text"),
        (_ask({"role": "user", "content": [{"type": "input_audio"}]}), "invalid_value", "messages[0].content[0].type"),
        (_file(None), "invalid_type", FILE),
        (_file({"filename": "a.pdf"}), "missing_required_parameter", f"{FILE}.file_data"),
        (_file({"file_data": PDF}), "missing_required_parameter", f"{FILE}.filename"),
        (_file({"filename": "a.pdf", "file_data": 7}), "invalid_type", f"{FILE}.file_data"),
        (_file({"filename": "a.png", "file_data": "data:image/png;base64,QQ=="}), "invalid_value", f"{FILE}.file_data"),
        (_file({"filename": "a.pdf", "file_data": PDF[:-3]}), "invalid_value", f"{FILE}.file_data"),
        (_ask({"role": "user", "content": [{"type": "image_url", "image_url": "data:"}]}), "invalid_type", IMAGE),
        (_image(None), "missing_required_parameter", f"{IMAGE}.url"),
        (_image(3), "invalid_type", f"{IMAGE}.url"),
        (_image("data:image/png;base64,QQ==", detail="best"), "invalid_value", f"{IMAGE}.detail"),
        (_image("data:image/png;base64,QQ==", detail=["low"]), "invalid_value", f"{IMAGE}.detail"),
        (_ask({"role": "user", "content": "x"}, max_tokens=0), "integer_below_min_value", "max_tokens"),
        (_ask({"role": "user", "content": "x"}, max_tokens=True), "invalid_type", "max_tokens"),
        (_ask({"role": "user", "content": "x"}, n=129), "integer_above_max_value", "n"),
        (_ask({"role": "user", "content": "x"}, temperature=3), "decimal_out_of_range", "temperature"),
        (_ask({"role": "user", "content": "x"}, temperature="hot"), "invalid_type", "temperature"),
        (_with(stream="yes"), "invalid_type", "stream"),
        (_with(stream_options={"include_usage": True}), None, "stream_options"),
        (_with(top_p=2), "decimal_out_of_range", "top_p"),
        (_with(presence_penalty=-3), "decimal_out_of_range", "presence_penalty"),
        (_with(seed=1.5), "invalid_type", "seed"),
        (_with(stop=7), "invalid_type", "stop"),
        (_with(stop=["a"] * 5), "array_above_max_length", "stop"),
        (_with(logit_bias=[1]), "invalid_type", "logit_bias"),
        (_with(user=7), "invalid_type", "user"),
        (_with(top_logprobs=2), None, "top_logprobs"),
        (_with(service_tier="cheap"), "invalid_value", "service_tier"),
        (_with(service_tier="flex"), None, "service_tier"),
        (_with(reasoning_effort="low"), "unsupported_parameter", "reasoning_effort"),
        (_with(model="gpt-5", reasoning_effort="none"), "unsupported_value", "reasoning_effort"),
        (_with(model="gpt-5", reasoning_effort="much"), "invalid_value", "reasoning_effort"),
        (_with(model="gpt-5", temperature=0), "unsupported_value", "temperature"),
        (_with(model="gpt-5", logprobs=True), "unsupported_parameter", "logprobs"),
        (_with(model="o4-mini", temperature=1), "unsupported_parameter", "temperature"),
        (_with(model="gpt-5.1", reasoning_effort="low", top_p=0.5), "unsupported_parameter", "top_p"),
        (_with(model="claude-haiku-4-5", n=2), "unsupported_value", "n"),
        (_image("data:image/png;base64,QQ==", detail="original"), "invalid_value", f"{IMAGE}.detail"),
        (
            _ask({"role": "user", "content": "x"}, max_tokens=1, max_completion_tokens=1),
            "invalid_parameter_combination",
            "max_tokens",
        ),
    ],
)
def test_bad_requests(payload: object, code: str | None, param: str | None) -> None:
    """Each mistake is a 400 with OpenAI's code that names where it stands."""
    error = _error(payload)
    assert (error["code"], error["param"]) == (code, param)


@pytest.mark.parametrize(
    "options",
    [
        {"model": "gpt-5", "temperature": 1, "logprobs": False, "service_tier": "flex"},
        {"model": "gpt-5.1", "temperature": 0, "top_p": 0.5, "logprobs": True, "top_logprobs": 3},
        {"model": "gpt-5.6-sol", "reasoning_effort": "max"},
        {"model": "o3", "reasoning_effort": "low", "service_tier": "priority", "seed": -(2**63)},
        {"model": "claude-haiku-4-5", "n": 1, "seed": 7, "reasoning_effort": "low"},
        {"model": "a-private-name", "n": 128, "logit_bias": {"7": -100}, "reasoning_effort": "high"},
    ],
)
def test_what_a_family_takes(options: dict[str, object]) -> None:
    """Values that a family is documented to take pass, and so does everything that nothing is known of."""
    assert parse_chat_request(_with(**options), serves=lambda _: True).n == options.get("n", 1)


def test_a_body_that_is_no_json() -> None:
    """The message says that it could not be parsed."""
    with pytest.raises(ApiError, match="could not parse the JSON body"):
        parse_json(b"{")


def test_what_endpoints_add_is_accepted(chat_body: Body) -> None:
    """Fields of other endpoints (302.AI's `ocr_model`), null options and an assistant without text pass."""
    body = chat_body(ocr_model="gpt-4o-mini", temperature=None, max_tokens=None, response_format={"type": "text"})
    body["messages"].insert(0, {"role": "assistant", "content": None})
    request = parse_chat_request(body, serves=lambda _: True)
    assert (request.messages, request.texts, request.n) == (2, ("Describe this image.",), 1)


def test_a_key_of_odd_bytes_is_only_wrong() -> None:
    """A header that is not UTF-8 is compared and refused, not an error of the emulator's."""
    admission = Admission(EmulatorConfig(api_key="sk-right"), lambda: 0)
    with pytest.raises(ApiError) as raised:
        admission.check_key({"Authorization": "Bearer \udce4"})
    assert raised.value.status == 401


def test_long_texts_and_deep_nests_are_cut_for_show() -> None:
    """What is kept for people to read stays small, whatever was sent."""
    nest: object = "x"
    for _ in range(1000):
        nest = [nest]
    shown = elided({"text": "y" * 5000, "image": "data:image/png;base64,QUJD", "nest": nest})
    assert isinstance(shown, dict)
    assert shown["image"] == "data:image/png;base64,<4 characters elided>"
    assert shown["text"].endswith("...<5000 characters>")
    assert len(str(shown)) < 3000


async def test_the_last_requests_are_shown_without_images_and_keys(chat_body: Body) -> None:
    """`/emulator/requests` gives the newest bodies and headers; image data and keys are elided."""
    async with serve() as server, aiohttp.ClientSession() as session:
        headers = {"Authorization": "Bearer sk-secret", "api-key": "sk-secret", "X-Note": "seen"}
        for number in range(60):
            body = chat_body(b"not an image" if number else b"x", user=str(number))
            async with session.post(f"{server.url}/chat/completions", json=body, headers=headers) as response:
                assert response.status == 400
        listing = server.url.replace("/v1", "/emulator/requests")
        async with session.get(listing, params={"last": "1000"}) as response:
            kept = await response.json()
            text = await response.text()
        async with session.get(listing, params={"last": "-1"}) as response:
            assert response.status == 400
    assert [item["body"]["user"] for item in kept] == [str(number) for number in range(10, 60)]
    assert kept == server.requests()
    assert "sk-secret" not in text
    assert "<16 characters elided>" in text
    assert kept[-1]["number"] == 60
    assert kept[-1]["headers"]["Authorization"] == "Bearer ***"
    assert kept[-1]["headers"]["X-Note"] == "seen"
