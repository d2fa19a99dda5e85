"""Schemas of labels: loaded, made strict, and given a shape; or an error that says what to do."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
from openai.lib._parsing._completions import type_to_response_format_param
from pydantic import BaseModel, Field

from pipeline.config.loading import load_config
from pipeline.errors import InputError
from pipeline.labels.arrow import type_of
from pipeline.labels.loading import schema_text
from pipeline.labels.schema import LabelSchema
from pipeline.labels.sending import LabelsMode, LabelsRequest, lowest, mode_of
from pipeline.labels.strict import NotStrictError, strict_form, strict_problem

POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


class Part(BaseModel):
    """A part of the picture."""

    name: str
    share: float | None = Field(ge=0, le=1)


class Picture(BaseModel):
    mood: Literal["calm", "busy"]
    parts: list[Part]
    main: Part | None
    count: int = Field(ge=0)


def schema(properties: dict[str, Any], **more: Any) -> LabelSchema:
    return LabelSchema.of(schema_text({"type": "object", "properties": properties, **more}))


@pytest.fixture
def _module() -> Iterator[None]:
    """A module in the working directory, which is forgotten again."""
    Path("shots.py").write_text(
        "from pydantic import BaseModel\nclass Outer:\n    class Shot(BaseModel):\n        mood: str\nA_DICT = "
        "{'type': 'object', 'properties': {'a': {'type': 'string'}}}\nTEXT = 'x'\n"
    )
    yield
    sys.modules.pop("shots", None)


@pytest.mark.usefixtures("_module")
def test_a_schema_is_named_in_many_ways() -> None:
    """A file from the folder of its configuration, a model of the working directory, a value: OUT holds the schema."""
    Path("deep").mkdir()
    Path("deep/points.json").write_text("\ufeff" + json.dumps(POINT, indent=2), encoding="utf-8")
    Path("deep/run.toml").write_text('[request]\nlabels = "points.json"\n')
    for found in (
        load_config(Path("deep/run.toml"), environ={}),
        load_config(None, {"request.labels": "deep/points.json"}, environ={}),
        load_config(None, {"request.labels": POINT}, environ={}),
    ):
        assert json.loads(found.request.labels or "") == POINT
        assert load_config(found, {"limits.rpm": 5}).request.labels == found.request.labels
    hashes = {
        load_config(None, {"request.labels": one}, environ={}).config_hash()
        for one in ("deep/points.json", POINT, json.dumps(POINT))
    }
    assert len(hashes) == 1
    assert hashes != {load_config(None, {"request.labels": "shots:A_DICT"}, environ={}).config_hash()}
    assert LabelSchema.of(schema_text("shots:Outer.Shot")).name == "Shot"
    assert str(Path.cwd()) not in sys.path
    assert "fields of the schema" in load_config(None, {"request.labels": POINT}, environ={}).request.prompt


@pytest.mark.usefixtures("_module")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("none.json", "none.json: No such file or directory; name a JSON Schema file, or a pydantic model"),
        ("broken.json", r"broken.json:3:1: not valid JSON: Expecting value"),
        ("nowhere.at_all:Model", "nowhere.at_all cannot be imported"),
        ("shots:Nothing", "shots has no 'Nothing'"),
        ("shots:TEXT", "neither a pydantic model nor a JSON Schema"),
        ({"type": "array"}, r"describes no object at its top level \(type: array\).*Put it into an object"),
        ({"type": ["object", "null"], "properties": {}}, "describes no object"),
        ({"type": "objet"}, "no valid JSON Schema, at type: 'objet'"),
        ({"type": "object", "properties": {"a": {"$ref": "https://x.example/s"}}}, "is not within the schema"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}}, "refers to nothing"),
        ({"$ref": "#"}, "refers to itself"),
    ],
)
def test_what_cannot_be_a_schema(given: object, words: str) -> None:
    """One line that names the setting, the place and the way out, before anything is sent."""
    Path("broken.json").write_text('{"type":\n\n}')
    with pytest.raises(InputError, match=words) as caught:
        load_config(None, {"request.labels": given}, environ={})
    assert str(caught.value).startswith("`request.labels`: ")


def test_the_strict_form_is_that_of_the_official_client() -> None:
    """A pydantic model is sent as `chat.completions.parse` sends it: name, schema, strict."""
    sent = LabelsRequest.of(schema_text(Picture)).formats[LabelsMode.JSON_SCHEMA]
    assert sent == type_to_response_format_param(Picture)


def test_the_strict_form_keeps_the_meaning() -> None:
    """Optional properties become nullable, objects closed; what only describes is left out."""
    found = strict_form(
        schema(
            {
                "a": {"type": "string", "default": "x", "examples": ["y"], "format": "uri"},
                "b": {"enum": ["p", "q"], "type": "string"},
                "c": {"enum": [1, 2]},
                "d": {"$ref": "#/$defs/p", "description": "where"},
                "e": {"allOf": [{"$ref": "#/$defs/p"}]},
                "f": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "g": {"type": "string", "pattern": "^x", "format": "date"},
            },
            required=["g"],
            **{"$defs": {"p": POINT}},
        )
    )
    closed = {**POINT, "additionalProperties": False}
    assert found["required"] == list("abcdefg")
    assert found["properties"] == {
        "a": {"type": ["string", "null"]},
        "b": {"enum": ["p", "q", None], "type": ["string", "null"]},
        "c": {"anyOf": [{"enum": [1, 2]}, {"type": "null"}]},
        "d": {**closed, "type": ["object", "null"], "description": "where"},
        "e": {"anyOf": [{"$ref": "#/$defs/p"}, {"type": "null"}]},
        "f": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "g": {"type": "string", "pattern": "^x", "format": "date"},
    }
    assert found["$defs"] == {"p": closed}
    assert strict_problem(found) is None


RECURSIVE = {"kids": {"type": "array", "items": {"$ref": "#"}}, "name": {"type": "string"}}
MANY = {f"p{number}": {"type": "string"} for number in range(5_001)}
DEEP: dict[str, Any] = {"type": "string"}
for _ in range(11):
    DEEP = {"type": "object", "properties": {"a": DEEP}, "required": ["a"]}


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"a": {"type": "string", "minLength": 2}}, "a: strict mode has no minLength"),
        ({"a": {"oneOf": [{"type": "string"}]}}, "a: strict mode has no oneOf"),
        ({"a": {"type": "object", "additionalProperties": True}}, "a: properties with any name"),
        ({"a": {"type": "object"}}, "a: an object without named properties"),
        ({"a": {"type": "array"}}, "array schema missing items"),
        ({"a": True}, "a: any value is allowed"),
        ({"a": {}}, "schema must have a 'type' key"),
        (MANY, "5,001 properties, and strict mode takes 5,000"),
        ({"a": {"enum": [f"v{number}" for number in range(1_001)]}}, "1,001 values"),
        ({"a": {"enum": [f"{number:080}" for number in range(251)]}}, "20,080 characters"),
        ({"a": {"const": "x" * 120_000}}, "120,001 characters"),
        (DEEP["properties"], "11 levels of nesting"),
    ],
)
def test_what_cannot_be_strict_is_said(properties: dict[str, Any], words: str) -> None:
    """The place and the reason, as a note before anything is sent; the schema is sent as it is then."""
    found = schema(properties, required=list(properties))
    with pytest.raises(NotStrictError, match=words):
        strict_form(found)
    sent = LabelsRequest.of(found.text)
    described: Any = sent.formats[LabelsMode.JSON_SCHEMA]
    assert described["json_schema"] == {"name": "labels", "schema": found.root, "strict": False}
    assert "no strict form" in sent.notes(LabelsMode.JSON_SCHEMA)[0]
    assert words.partition(":")[0] in sent.notes(LabelsMode.JSON_SCHEMA)[0]


def test_a_recursive_schema_is_strict_and_no_struct() -> None:
    """Strict mode takes recursion; a column does not."""
    found = schema(RECURSIVE, required=["kids", "name"])
    assert strict_problem(strict_form(found)) is None
    assert type_of(found.text) == pa.string()
    (note,) = LabelsRequest.of(found.text).notes(LabelsMode.JSON_SCHEMA)
    assert "one JSON text, not typed fields (kids[]: # is recursive)" in note


def test_the_types_of_the_column() -> None:
    """One struct: texts, 64-bit numbers, truth values, lists and structs within it; unions with null are nullable."""
    point = pa.struct([("x", pa.int64())])
    cases: dict[str, tuple[Any, pa.DataType]] = {
        "text": ({"type": "string", "format": "date"}, pa.string()),
        "enum": ({"enum": ["a", "b", None]}, pa.string()),
        "number": ({"type": ["number", "null"]}, pa.float64()),
        "both": ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, pa.float64()),
        "levels": ({"enum": [1, 2, 3]}, pa.int64()),
        "steps": ({"enum": [1, 2.5]}, pa.float64()),
        "flag": ({"const": True}, pa.bool_()),
        "list": ({"type": "array", "items": {"type": "array", "items": POINT}}, pa.list_(pa.list_(point))),
        "maybe": ({"oneOf": [{"$ref": "#/$defs/p"}, {"type": "null"}]}, point),
        "untyped": ({"properties": {"x": {"type": "integer"}}}, point),
    }
    found = type_of(schema({name: one for name, (one, _) in cases.items()}, **{"$defs": {"p": POINT}}).text)
    assert {field.name: field.type for field in found} == {name: kind for name, (_, kind) in cases.items()}


@pytest.mark.parametrize(
    "one",
    [
        {"type": ["string", "integer"]}, {"oneOf": [{"type": "string"}, POINT]}, {"type": "object"}, {}, True,
        {"type": "object", "properties": {"a": POINT}, "additionalProperties": {"type": "string"}},
        {"type": "array"}, {"type": "array", "prefixItems": [{"type": "string"}]}, {"enum": ["a", 1]}, {"enum": [[]]},
        {"type": "null"}, {"allOf": [POINT, POINT]}, {"type": "object", "patternProperties": {"a": POINT}},
    ],
)  # fmt: skip
def test_an_open_schema_is_one_text(one: object) -> None:
    """The column holds JSON, and the user is told which part is open."""
    found = schema({"fine": POINT, "open": one})
    assert type_of(found.text) == pa.string()
    assert any("one JSON text, not typed fields (open" in note for note in LabelsRequest.of(found.text).notes(
        LabelsMode.PROMPT
    ))  # fmt: skip


def test_references_that_multiply_come_to_an_end() -> None:
    """Thirty definitions, each with two references to the next, are a billion fields."""
    definitions: dict[str, Any] = {"d30": POINT}
    for number in range(30):
        next_one = {"$ref": f"#/$defs/d{number + 1}", "description": "x"}
        definitions[f"d{number}"] = {"type": "object", "properties": {"a": next_one, "b": next_one}}
    found = schema({"a": {"$ref": "#/$defs/d0"}}, **{"$defs": definitions})
    assert type_of(found.text) == pa.string()
    with pytest.raises(NotStrictError, match="more than 20,000 parts"):
        strict_form(found)


def test_the_mode_follows_the_catalogue() -> None:
    """What a family takes, unless the user says; endpoints that share requests share the least binding one."""
    facts = {"strict": "json_schema", "accepted": "json_schema", "unknown": "json_schema"}
    facts |= {"json_object": "json_object", "ignored": "prompt"}
    assert {fact: mode_of("auto", fact).value for fact in facts} == facts
    assert mode_of("prompt", "strict") is LabelsMode.PROMPT
    assert lowest([LabelsMode.JSON_SCHEMA, LabelsMode.PROMPT, LabelsMode.JSON_OBJECT]) is LabelsMode.PROMPT
    assert [mode.below for mode in LabelsMode] == [LabelsMode.JSON_OBJECT, LabelsMode.PROMPT, None]
