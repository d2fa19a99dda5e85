"""Labels out of answers: JSON wherever it stands in the text, validated, stored as typed fields; or what is wrong."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ErrorKind
from pipeline.labels.extraction import extracted
from pipeline.labels.loading import schema_text
from pipeline.labels.reading import MOST_PROBLEMS, LabelReader
from pipeline.labels.schema import LabelSchema
from pipeline.records import Answer, Status

GOOD = {"mood": "calm", "count": 3}
TEXT = json.dumps(GOOD)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"\ufeff  {TEXT}\n",
        f"```json\n{TEXT}\n```",
        f"Sure!\n```\n{TEXT}\n```\nAnything else?",
        f"```json\r\n{TEXT}\r\n```",
        f"Here {{you}} are: {TEXT} - done.",
        f"<think>maybe {{mood: calm}}</think>{TEXT}",
        f"{TEXT}\n{TEXT}",
        f"```json\n{TEXT}",
        f"{{{TEXT}}}",
        f'{{"mood": "calm",}} No: {TEXT}',
        f'{{mood: {{"a": 1}}}} is the form. {TEXT}',
    ],
)
def test_json_is_found(text: str) -> None:
    """Alone, in fences, with words around it, behind a mark of byte order."""
    assert extracted(text).value == GOOD


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("A calm street.", "the answer is no valid JSON"),
        ("", "the answer is no valid JSON"),
        ("[1, 2]", "of type array"),
        ('"calm"', "of type string"),
        ("null", "of type null"),
        ('{"a": 1} or {"a": 2}', "the answer has 2"),
        ("{'a': 1}", "no valid JSON"),
        ('{"a": NaN}', "no valid JSON"),
        ('{"a": ' + "9" * 5_000 + "}", "no valid JSON"),
        ("{" * 5_000, "no valid JSON"),
        ('{"a": {"mood": "calm"},}', "no valid JSON: "),
        ('{"a": {"mood": "calm"}, // why\n"b": 1}', "no valid JSON: "),
        ('{"a": {"mood": "calm"} "b": 1}', "no valid JSON: Expecting ',' delimiter (line 1, column 24)"),
        ('{\'a\': {"mood": "calm"}}', "no valid JSON: "),
        ('{"a": {"mood": "calm"}, "b": NaN}', "no valid JSON: NaN is none"),
        ('{a: {"mood": "calm"}}', "no valid JSON: "),
    ],
)
def test_what_is_no_json(text: str, why: str) -> None:
    """In words that the model is asked again with; it is not taken for an answer that was cut off."""
    found = extracted(text)
    assert (found.value, found.is_cut) == (None, False)
    assert why in found.why


@given(
    value=st.dictionaries(
        st.text(min_size=1),
        st.recursive(st.text() | st.integers() | st.booleans(), st.lists, max_leaves=5),
        min_size=1,
    ),
    at=st.floats(0, 1, exclude_max=True),
)
def test_every_cut_is_seen(value: dict[str, Any], at: float) -> None:
    """JSON that ends anywhere behind its first brace is cut off, in fences too."""
    text = json.dumps(value)
    cut = text[: max(1, int(at * len(text)))]
    assert extracted(cut).is_cut
    assert extracted(f"```json\n{cut}").is_cut


def test_what_follows_an_example_and_is_cut_off() -> None:
    """The example is not the answer."""
    assert extracted(f'For instance {TEXT}. Answer: {{"mood": "ca').is_cut


def test_a_line_break_in_a_text_is_meant() -> None:
    assert extracted('{"mood": "calm\nand\twarm"}').value == {"mood": "calm\nand\twarm"}
    assert extracted('Here: {"mood": "calm\nand warm"}').value == {"mood": "calm\nand warm"}


READER = LabelReader(
    LabelSchema.of(
        schema_text(
            {
                "type": "object",
                "properties": {
                    "mood": {"enum": ["calm", "busy"]},
                    "count": {"type": "integer", "minimum": 0},
                    "share": {"type": "number", "maximum": 1},
                    "when": {"type": "string", "format": "date"},
                    "place": {
                        "type": "object",
                        "properties": {"city": {"type": "string"}, "zip": {"type": ["string", "null"]}},
                    },
                    "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}},
                    "main": {"anyOf": [{"$ref": "#/$defs/part"}, {"type": "null"}]},
                },
                "required": ["mood", "count"],
                "$defs": {
                    "part": {
                        "type": "object",
                        "properties": {"name": {"type": "string"}, "colour": {"type": "string"}},
                        "required": ["name"],
                    }
                },
            }
        )
    )
)
NOTHING = {"share": None, "when": None, "place": None, "parts": None, "main": None}


def read(text: str, status: Status = Status.OK) -> Answer:
    return READER.read(Answer(status=status, caption=text))


def test_labels_are_typed() -> None:
    """3.0 is a whole number and 1 a share; nulls that stand for optional properties are no errors; others stay out."""
    found = read(
        '{"mood": "calm", "count": 3.0, "share": 1, "when": "any day", "place": {"city": null, "zip": null, "x": 1}, '
        '"parts": [{"name": "a", "colour": null}], "main": {"name": "b", "colour": null}, "more": {}}'
    )
    assert found.problems == ()
    assert found.labels == {
        "mood": "calm", "count": 3, "share": 1.0, "when": "any day", "place": {"city": None, "zip": None},
        "parts": [{"name": "a", "colour": None}], "main": {"name": "b", "colour": None},
    }  # fmt: skip
    assert isinstance(found.labels, dict)
    assert (type(found.labels["count"]), type(found.labels["share"])) == (int, float)
    assert read(TEXT).labels == GOOD | NOTHING
    assert read(json.dumps(GOOD | NOTHING)).labels == GOOD | NOTHING


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ('{"mood": "calm"}', ["the object: 'count' is a required property"]),
        ('{"mood": null, "count": 1}', ["mood: None is not one of ['calm', 'busy']"]),
        (
            '{"mood": "odd", "count": -1}',
            ["count: -1 is less than the minimum of 0", "mood: 'odd' is not one of ['calm', 'busy']"],
        ),
        (
            '{"mood": "calm", "count": 1, "parts": [{"name": "a"}, {"name": 2}]}',
            ["parts[1].name: 2 is not of type 'string'"],
        ),
        ('{"mood": "calm", "count": true}', ["count: True is not of type 'integer'"]),
        ('{"mood": "calm", "count": 9223372036854775808}', ["count: 9223372036854775808 is beyond 64 bits"]),
        ('{"mood": "calm", "count": 1, "share": -1e999}', ["share: -inf is beyond 64 bits"]),
        ("A calm street.", ["the answer is no valid JSON"]),
    ],
)
def test_invalid_labels(text: str, problems: list[str]) -> None:
    """One line for each error, with its place; the text stays."""
    found = read(text)
    assert (found.status, found.error_kind, found.labels) == (Status.INVALID, ErrorKind.LABELS_INVALID, None)
    assert (found.caption, list(found.problems)) == (text, problems)
    assert found.error_message == "; ".join(problems)


def test_the_words_are_bounded() -> None:
    """A hundred errors are eight lines, each cut short."""
    parts = [{"name": number} for number in range(100)] + [{"name": ["x" * 1_000]}]
    found = read(json.dumps({**GOOD, "parts": parts}))
    assert len(found.problems) == MOST_PROBLEMS
    assert found.problems[-1] == "and 94 more errors"
    assert max(map(len, found.problems)) <= 200


def test_truncated_answers_and_refusals() -> None:
    """A text that is cut off is truncated, and never invalid; whole JSON at the limit keeps its labels."""
    for cut in (read('{"mood": "ca'), read('{"mood": "ca', Status.TRUNCATED), read("A calm", Status.TRUNCATED)):
        assert (cut.status, cut.error_kind, cut.labels) == (Status.TRUNCATED, None, None)
    whole = read(TEXT, Status.TRUNCATED)
    assert (whole.status, whole.labels) == (Status.TRUNCATED, GOOD | NOTHING)
    assert read(TEXT, Status.REFUSED).labels is None
    refused = Answer(status=Status.REFUSED, caption=None)
    assert READER.read(refused) is refused


def test_open_labels_are_json() -> None:
    """Where no struct holds them, the labels are a text: what was validated, and not what stood around it."""
    reader = LabelReader(LabelSchema.of(schema_text({"type": "object", "additionalProperties": {"type": "integer"}})))
    found = reader.read(
        Answer(status=Status.OK, caption='```json\n{"ä": 1,  "b": 123456789012345678901234567890}\n```')
    )
    assert found.labels == '{"ä": 1, "b": 123456789012345678901234567890}'
    assert reader.read(Answer(status=Status.OK, caption='{"a": "x"}')).status is Status.INVALID
