"""Answers in JSON, through the official client: by schema, by JSON mode, by the prompt; wrong ones; and rejections."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Literal

import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field

from pipeline.catalogue import all_families
from pipeline.emulator.billing import Billing
from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.faults import Fault
from pipeline.emulator.instances import instance
from pipeline.emulator.server import RunningEmulator, serve
from pipeline.labels.loading import schema_text
from pipeline.labels.sending import LabelsMode, LabelsRequest

Picture = Callable[..., bytes]
Body = Callable[..., dict[str, Any]]


class Part(BaseModel):
    name: str
    share: float | None = Field(ge=0, le=1)


class Photo(BaseModel):
    """What a photograph shows."""

    scene: Literal["indoor", "outdoor"]
    count: int = Field(ge=3, le=9)
    parts: list[Part]
    main: Part | None


SENT: Any = LabelsRequest.of(schema_text(Photo)).formats[LabelsMode.JSON_SCHEMA]


def client_of(server: RunningEmulator) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=server.url, api_key="sk-test", max_retries=0)


@pytest.fixture
async def client() -> AsyncIterator[openai.AsyncOpenAI]:
    async with serve() as server, client_of(server) as opened:
        yield opened


async def test_the_official_client_parses_the_answer(
    client: openai.AsyncOpenAI, picture: Picture, chat_body: Body
) -> None:
    """`chat.completions.parse` with a pydantic model: the same image gives the same labels; the schema is billed."""
    first, again, other = [
        await client.chat.completions.parse(**chat_body(picture(width)), response_format=Photo)
        for width in (64, 64, 90)
    ]
    parsed = first.choices[0].message.parsed
    assert isinstance(parsed, Photo)
    assert parsed == again.choices[0].message.parsed != other.choices[0].message.parsed
    plain = await client.chat.completions.create(**chat_body(picture(64)))
    assert first.usage is not None
    assert plain.usage is not None
    assert first.usage.prompt_tokens - plain.usage.prompt_tokens == pytest.approx(len(schema_text(Photo)) / 4, abs=30)


async def test_json_mode_and_a_schema_in_the_prompt(
    client: openai.AsyncOpenAI, picture: Picture, chat_body: Body
) -> None:
    """JSON mode needs the word; the schema of the prompt counts, also where no format is asked for."""
    body = chat_body(picture(), response_format={"type": "json_object"})
    with pytest.raises(openai.BadRequestError, match="must contain the word 'json'"):
        await client.chat.completions.create(**body)
    words = LabelsRequest.of(schema_text(Photo)).instructions
    body["messages"].append({"role": "user", "content": words})
    for more in ({}, {"response_format": {"type": "text"}}):
        completion = await client.chat.completions.create(**{**body, **more})
        Photo.model_validate_json(completion.choices[0].message.content or "")
    body["messages"][-1]["content"] = "Any JSON."
    completion = await client.chat.completions.create(**body)
    assert {"description", "orientation"} == json.loads(completion.choices[0].message.content or "").keys()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"type": "json_schema"}, "Missing required parameter: 'response_format.json_schema'"),
        ({"type": "json_schema", "json_schema": {"schema": {}}}, "response_format.json_schema.name"),
        ({"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}, "does not match"),
        ({"type": "yaml"}, "Invalid value: 'yaml'"),
        ({}, "Missing required parameter: 'response_format.type'"),
        (
            {**SENT, "json_schema": {**SENT["json_schema"], "schema": {"type": "object", "properties": {}}}},
            r"Invalid schema for response_format 'Photo': In context=\(\), 'additionalProperties' is required",
        ),
    ],
)
async def test_rejections(client: openai.AsyncOpenAI, chat_body: Body, asked: dict[str, Any], words: str) -> None:
    """As OpenAI words them; a schema in strict mode has to be strict."""
    with pytest.raises(openai.BadRequestError, match=words):
        await client.chat.completions.create(**chat_body(response_format=asked))


@pytest.mark.parametrize(("fact", "is_json"), [("json_object", None), ("ignored", False), ("strict", True)])
async def test_each_family_takes_schemas_in_its_way(
    picture: Picture, chat_body: Body, fact: str, *, is_json: bool | None
) -> None:
    """Rejected where the catalogue has JSON mode only, passed over where it is ignored."""
    family = next(one.name for one in all_families() if one.json_schema == fact)
    config = EmulatorConfig(billing=Billing(model_family=family))
    async with serve(config) as server, client_of(server) as client:
        body = chat_body(picture(), response_format=SENT)
        if is_json is None:
            with pytest.raises(openai.BadRequestError, match="of type 'json_schema' is not supported with this model"):
                await client.chat.completions.create(**body)
            return
        text = (await client.chat.completions.create(**body)).choices[0].message.content or ""
    assert text.startswith("{") == is_json


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault.startswith("labels_")])
async def test_wrong_answers(picture: Picture, chat_body: Body, fault: Fault) -> None:
    """Each is wrong in its own way, billed and counted."""
    async with serve(EmulatorConfig(faults={fault: 1.0})) as server, client_of(server) as client:
        completion = await client.chat.completions.create(**chat_body(picture(), response_format=SENT))
        assert server.stats.faults[str(fault)] == server.stats.billed == 1
    text = completion.choices[0].message.content or ""
    assert completion.choices[0].finish_reason == "stop"
    with pytest.raises(ValueError, match="validation error"):
        Photo.model_validate_json(text)


def test_an_instance_is_valid() -> None:
    """Of every kind of schema that the emulator makes sense of, for many images."""
    schema = {
        "type": "object",
        "properties": {
            "low": {"type": "integer", "exclusiveMinimum": 3, "maximum": 5},
            "step": {"type": "number", "multipleOf": 0.5, "minimum": 1, "exclusiveMaximum": 2},
            "any": {"type": ["null", "boolean"]},
            "text": {"type": "string", "minLength": 300},
            "short": {"type": "string", "maxLength": 3},
            "day": {"type": "string", "format": "date"},
            "pick": {"oneOf": [{"const": 7}, {"enum": ["x"]}]},
            "tree": {"$ref": "#/$defs/tree"},
            "list": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        },
        "required": ["low", "step", "any", "text", "short", "day", "pick", "tree", "list"],
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
                "required": ["kids"],
            }
        },
    }
    for number in range(60):
        made = instance(schema, bytes([number]), "a picture")
        jsonschema.validate(made, schema)


def test_the_preset_fits_strict_mode() -> None:
    """`-c labels` is enforced by the endpoint."""
    sent = LabelsRequest.of(schema_text(Path(__file__).parents[2] / "configs" / "labels.json"))
    assert sent.not_strict is None
