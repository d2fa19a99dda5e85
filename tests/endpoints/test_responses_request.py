"""Bodies of the Responses API: every setting that it has, in its own words; clear refusals of what it lacks."""

import json
from typing import Any

import pytest

from pipeline.config.loading import load_config
from pipeline.config.sections import RequestConfig
from pipeline.endpoints.responses import RESPONSES
from pipeline.endpoints.rewording import with_prompt
from pipeline.errors import InputError
from pipeline.labels.sending import LabelsMode
from pipeline.records import Answer, ImageFacts, PreparedImage, Status

FACTS = ImageFacts(width=8, height=6, sent_width=8, sent_height=6, sent_bytes=1, source_bytes=1, sha256="00")
SCHEMA = '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}'
INVALID = Answer(status=Status.INVALID, caption='{"a":1}\ud800', problems=("a: 1 is not of type 'string'",))
PDF = "application/pdf"
ODD = 'He said "\\input":[ <image-0>'
EXAMPLES = [{"role": "developer", "text": "Look."}, {"role": "user", "text": "And?", "images": ["s.png"]}]
EXAMPLES += [{"role": "assistant", "text": "A cat."}]


def image(data: bytes = b"abc", kind: str = "image/png", text: str | None = None, url: str | None = None) -> Any:
    return PreparedImage(data=data, media_type=kind, sha256=data.hex() + (url or ""), facts=FACTS, text=text, url=url)


def made(**settings: Any) -> Any:
    config = load_config(None, {f"request.{name}": value for name, value in settings.items()}, {})
    return RESPONSES.template(config.request, "gpt-5.1", "max_tokens")


def words(text: str) -> dict[str, str]:
    return {"type": "input_text", "text": text}


def picture(address: str = "data:image/png;base64,YWJj", detail: str = "auto") -> dict[str, str]:
    return {"type": "input_image", "image_url": address, "detail": detail}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


@pytest.mark.parametrize(
    ("settings", "images", "asked"),
    [
        ({"detail": "original"}, [image()], [user(words("?"), picture(detail="original"))]),
        ({"image_position": "before"}, [image(), image()], [user(picture(), picture(), words("?"))]),
        ({"message_layout": "apart"}, [image()], [{"role": "user", "content": "?"}, user(picture())]),
        ({}, [image(text="left"), image()], [user(words("?"), words("left"), picture(), picture())]),
        ({}, [image(url='https://a.test/"x".png?s=1')], [user(words("?"), picture('https://a.test/"x".png?s=1'))]),
        (
            {},
            [image(kind=PDF), image()],
            [
                user(
                    words("?"),
                    {"type": "input_file", "filename": "document.pdf", "file_data": f"data:{PDF};base64,YWJj"},
                    picture(),
                )
            ],
        ),
        (
            {"messages": EXAMPLES},
            [image(), image()],
            [
                {"role": "developer", "content": "Look."},
                user(words("And?"), picture()),
                {"role": "assistant", "content": "A cat."},
                user(words("?"), picture()),
            ],
        ),
    ],
)
def test_every_shape(settings: dict[str, Any], images: list[Any], asked: list[Any]) -> None:
    """Messages, parts and their order; in pieces, previewed and for another model it is the same body."""
    template = made(prompt="?", system="Be brief.", **settings)
    body = json.loads(template.body(images))
    assert body == {
        "model": "gpt-5.1", "instructions": "Be brief.", "input": asked, "max_output_tokens": 300, "store": False,
    }  # fmt: skip
    assert b"".join(template.pieces(images)) == template.body(images)
    assert json.loads(template.preview(images)).keys() == body.keys()
    assert "YWJj" not in template.preview(images)
    assert json.loads(template.renamed(template.body(images), "other")) == {**body, "model": "other"}
    again = json.loads(with_prompt(template.body(images), "?", "again")) if "message_layout" not in settings else None
    assert again is None or json.dumps(again).replace('"again"', '"?"') == json.dumps(body)


def test_equal_requests_have_equal_digests() -> None:
    """Where an image comes from, its text and its kind tell requests apart; how its schema is sent does not."""
    each = [[image()], [image(text="x")], [image(b"", url="https://a.test/1")], [image(b"", url="https://a.test/2")]]
    assert len({made().digest(images) for images in [*each, *each, [image(kind=PDF)]]}) == 5
    modes = {made(labels=SCHEMA, labels_mode=mode.value).digest([image()]) for mode in LabelsMode}
    assert len(modes | {made().digest([image()])}) == 2


@pytest.mark.parametrize("mode", LabelsMode)
def test_labels_in_each_mode(mode: LabelsMode) -> None:
    """`text.format` lies flat; a body becomes that of another mode, and repeats an answer that is to be corrected."""
    more: dict[str, Any] = {"prompt": ODD, "labels": SCHEMA, "extra": {"text": {"verbosity": "low"}}}
    bodies = {one: made(labels_mode=one.value, **more).body([image()]) for one in LabelsMode}
    template = made(labels_mode=mode.value, **more)
    for other in LabelsMode:
        assert template.adapted(bodies[mode], other) == bodies[other]
    formats = {"json_schema": {"name", "schema", "strict", "type"}, "json_object": {"type"}, "prompt": set[str]()}
    body = json.loads(bodies[mode])
    assert body["text"].get("format", {}).keys() == formats[mode.value]
    assert body["text"]["verbosity"] == "low"
    corrected = json.loads(template.adapted(bodies[mode], mode, INVALID))
    *before, said, asked = corrected["input"]
    assert {**corrected, "input": before} == body
    assert said == {"role": "assistant", "content": '{"a":1}?'}
    assert "\n- a: 1 is not of type 'string'\n" in asked["content"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n": 2}, "`request.n`: the Responses API has no such parameter"),
        ({"stop": "END"}, "`request.stop`"),
        ({"seed": 1}, "`request.seed`"),
        ({"presence_penalty": 1}, "`request.presence_penalty`"),
        ({"frequency_penalty": 1}, "`request.frequency_penalty`"),
        ({"logit_bias": {"1": 1}}, "`request.logit_bias`"),
        ({"user_name": "ann"}, "`request.user_name`: messages of the Responses API have no name"),
        ({"messages": [{"role": "assistant", "text": "x", "images": ["a.png"]}]}, "holds no images"),
        ({"extra": {"messages": []}}, "request.extra.messages: set request.prompt and request.messages instead"),
        ({"extra": {"max_tokens": 3}}, "request.extra.max_tokens: set request.max_tokens instead"),
        ({"extra": {"reasoning": {"effort": "low"}}}, "request.extra.reasoning.effort: set request.reasoning_effort"),
        ({"extra": {"reasoning": "low"}}, "request.extra.reasoning: write a table of fields"),
        ({"extra": {"include": "x"}}, "request.extra.include: write a list"),
        ({"labels": SCHEMA, "extra": {"text": {"format": {}}}}, "request.extra.text.format: request.labels sets it"),
    ],
)
def test_what_it_lacks_is_refused(settings: dict[str, Any], words: str) -> None:
    """Each setting by its name, before anything is sent."""
    with pytest.raises(InputError, match=words.replace(".", r"\.")):
        RESPONSES.template(RequestConfig(**settings), "gpt-4o", "max_tokens")
