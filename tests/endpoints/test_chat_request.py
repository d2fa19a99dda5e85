"""The request body: the documented shape, spliced without touching what the user wrote."""

import base64
import hashlib
import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.loading import load_config
from pipeline.config.sections import RequestConfig
from pipeline.endpoints.chat_request import ChatTemplate
from pipeline.errors import InputError
from pipeline.records import ImageFacts, PreparedImage

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def image(data: bytes = b"\xff\xd8bytes", media_type: str = "image/jpeg") -> PreparedImage:
    sha256 = hashlib.sha256(data).hexdigest()
    facts = ImageFacts(
        width=8,
        height=6,
        sent_width=8,
        sent_height=6,
        sent_bytes=len(data),
        source_bytes=len(data),
        sha256=sha256,
    )
    return PreparedImage(data=data, media_type=media_type, sha256=sha256, facts=facts)


def rendered(request: RequestConfig, of: PreparedImage | None = None) -> Any:
    return json.loads(ChatTemplate(request, "gpt-4o", "max_tokens").body([of or image()]))


def test_the_documented_shape() -> None:
    """Model, one user message of text and data URL, max_tokens: as AI/ML API and OpenAI document it."""
    assert rendered(RequestConfig(prompt="What's in this image? 猫")) == {
        "model": "gpt-4o",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What's in this image? 猫"},
                    {
                        "type": "image_url",
                        "image_url": {"url": f"data:image/jpeg;base64,{base64.b64encode(image().data).decode()}"},
                    },
                ],
            }
        ],
        "max_tokens": 300,
    }


def test_every_option() -> None:
    """System prompt, detail, temperature, the newer field for tokens and extra fields stand where they belong."""
    request = RequestConfig(
        prompt="p", system="s", detail="low", max_tokens=7, temperature=0.0, extra={"seed": 3, "ocr_model": "gpt-4o"}
    )
    body = json.loads(ChatTemplate(request, "gpt-5", "max_completion_tokens").body([image()]))
    assert body["messages"][0] == {"role": "system", "content": "s"}
    assert body["messages"][1]["content"][1]["image_url"]["detail"] == "low"
    assert {key: body[key] for key in body if key != "messages"} == {
        "model": "gpt-5",
        "max_completion_tokens": 7,
        "temperature": 0.0,
        "seed": 3,
        "ocr_model": "gpt-4o",
    }


def test_no_limit_of_tokens_is_no_field() -> None:
    """Without max_tokens the endpoint's own limit holds."""
    assert "max_tokens" not in rendered(RequestConfig(max_tokens=None))


@given(prompt=TEXT, system=TEXT, extra=TEXT, data=st.binary())
def test_any_text_arrives_as_written(prompt: str, system: str, extra: str, data: bytes) -> None:
    """Prompts of any Unicode and images of any bytes survive the splice."""
    body = rendered(RequestConfig(prompt=prompt, system=system, extra={"user": extra}), image(data))
    assert body["messages"][0]["content"] == system
    assert body["messages"][1]["content"][0]["text"] == prompt
    url = body["messages"][1]["content"][1]["image_url"]["url"]
    assert base64.b64decode(url.removeprefix("data:image/jpeg;base64,")) == data
    assert body["user"] == extra


def test_a_prompt_may_hold_the_placeholder() -> None:
    """What marks the image's place while a template is built is chosen so that no prompt holds it."""
    request = RequestConfig(prompt="<image-0>", system="<image-1>", extra={"stop": ["<image-2>"]})
    body = rendered(request)
    assert body["messages"][1]["content"][0]["text"] == "<image-0>"
    assert body["stop"] == ["<image-2>"]
    assert body["messages"][1]["content"][1]["image_url"]["url"].startswith("data:image/jpeg;base64,")


def test_one_template_serves_all_media_types() -> None:
    """The media type is the image's, not the template's."""
    url = rendered(RequestConfig(), image(b"x", "image/webp"))["messages"][0]["content"][1]["image_url"]["url"]
    assert url == "data:image/webp;base64,eA=="


@pytest.mark.parametrize("key", ["model", "messages", "stream", "max_tokens", "max_completion_tokens", "temperature"])
def test_extra_fields_override_nothing(key: str) -> None:
    """A field with an option of its own, and streaming, are refused by name before anything is sent."""
    with pytest.raises(InputError, match=rf"request\.extra\.{key}"):
        ChatTemplate(RequestConfig(extra={key: 1}), "gpt-4o", "max_tokens")


@pytest.mark.parametrize("value", [float("nan"), date(2026, 1, 1)])
def test_extra_fields_that_json_cannot_hold(value: object) -> None:
    """TOML knows dates and nan, JSON does not: said before anything is sent."""
    with pytest.raises(InputError, match=r"request\.extra: not possible in JSON"):
        load_config(None, {"request.extra": {"field": value}}, {})


def test_a_prompt_that_is_no_unicode() -> None:
    """Half a surrogate pair (from a badly decoded argument) is an input error, not a crash."""
    request = RequestConfig.model_construct(**{**RequestConfig().__dict__, "prompt": "a\udc80"})
    with pytest.raises(InputError, match="Unicode"):
        ChatTemplate(request, "gpt-4o", "max_tokens")


def test_digest_tells_requests_apart() -> None:
    """Equal for equal question and image, different as soon as either differs."""
    one = ChatTemplate(RequestConfig(prompt="a"), "gpt-4o", "max_tokens")
    same = ChatTemplate(RequestConfig(prompt="a"), "gpt-4o", "max_tokens")
    other = ChatTemplate(RequestConfig(prompt="b"), "gpt-4o", "max_tokens")
    zero, first = image(b"0"), image(b"1")
    assert one.digest([zero]) == same.digest([zero])
    digests = {one.digest([zero]), one.digest([first]), other.digest([zero]), one.digest([zero, first])}
    assert len({*digests, one.digest([first, zero])}) == 5
    assert len(one.digest([zero])) == 64


def test_several_images() -> None:
    """Text, image, text, image, text: in the record's order, each with its own type, whatever the prompt holds."""
    prompt = "<image-0> and <image-1>, or <image-2>?"
    template = ChatTemplate(RequestConfig(prompt=prompt, detail="low"), "gpt-4o", "max_tokens")
    images = [image(b"first"), image(b"second", "image/png")]
    (message,) = json.loads(template.body(images))["messages"]
    text, first, second = message["content"]
    assert text == {"type": "text", "text": prompt}
    urls = [f"data:{one.media_type};base64,{base64.b64encode(one.data).decode()}" for one in images]
    assert [first["image_url"], second["image_url"]] == [{"url": url, "detail": "low"} for url in urls]
    assert template.preview(images).count("characters>") == 2


def test_another_name_for_the_model() -> None:
    """Only the field `model` changes, also where the prompt quotes it."""
    template = ChatTemplate(RequestConfig(prompt='{"model":"gpt-4o"'), "gpt-4o", "max_tokens")
    body = template.body([image()])
    renamed = json.loads(template.renamed(body, "mine"))
    assert renamed == {**json.loads(body), "model": "mine"}
    assert template.renamed(body, "gpt-4o") is body


def test_preview_elides_the_image_only() -> None:
    """What --dry-run shows is the request, readable, with the length in place of the base64."""
    of = image(b"x" * 138_244)
    template = ChatTemplate(RequestConfig(prompt="Größe?"), "gpt-4o", "max_tokens")
    preview = template.preview([of])
    assert "Größe?" in preview
    assert "data:image/jpeg;base64,<184,328 characters>" in preview
    assert len(base64.b64encode(of.data)) == 184_328
    assert json.loads(preview)["model"] == "gpt-4o"
