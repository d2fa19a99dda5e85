"""Labels out of answers: JSON wherever it stands in the text, validated, stored as typed fields; or what is wrong."""

import json
import sys
from collections.abc import Callable
from itertools import product
from json import JSONDecoder
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ErrorKind
from pipeline.labels import extraction
from pipeline.labels.extraction import Extracted, extracted
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
        f"[1] and [the scene]: {TEXT} [2]",
        f"The interval [0, 1) gives {TEXT}",
        f'<think>[{{"mood": "busy"}}] or</think>{TEXT}',
        f'{{a 5" board}} is "wide: {TEXT}',
        f'A 5" board: {{"mood": "calm",}} No: {TEXT}',
        f"{TEXT}\n{{",
        f"{TEXT} (see {{",
        f"{TEXT} [see {{",
        f'{TEXT}\n{{"',
        f"{TEXT}\n{TEXT}\n{TEXT[:-5]}",
        f"{TEXT}{TEXT[:-1]}",
    ],
)
def test_json_is_found(text: str) -> None:
    """Alone, in fences, with words around it, behind a mark of byte order; also where it is repeated until it is cut
    off, or a single bracket at the end begins no other.
    """
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
        ("{" * 5_000, "no valid JSON"),
        ("{ " * 5_000, "no valid JSON"),
        ('{"a":' * 5_000 + "1" + "}" * 5_000, "no valid JSON"),
        ('{"a": {"mood": "calm"},}', "no valid JSON: "),
        ('{"a": {"mood": "calm"}, // why\n"b": 1}', "no valid JSON: "),
        ('{"a": {"mood": "calm"} "b": 1}', "no valid JSON: Expecting ',' delimiter (line 1, column 24)"),
        ('{\'a\': {"mood": "calm"}}', "no valid JSON: "),
        ('{"a": {"mood": "calm"}, "b": NaN}', "no valid JSON: NaN is none"),
        ('{a: {"mood": "calm"}}', "no valid JSON: "),
        ('{5" {"mood": "calm",}}', "no valid JSON"),
        ('[{"mood":"calm"},]', "of type array"),
        ('[{"mood": "calm"}, oops]', "of type array"),
        ('```json\n[{"mood":"calm"},]\n```', "of type array"),
        ('Sure!\n```json\n[{"mood": "calm"}]\n```', "of type array"),
        ('The labels: [{"mood": "calm"}]', "of type array"),
        ('[oops, {"mood": "calm"}]', "no valid JSON"),
        ('[1, {"mood": "calm"},]', "no valid JSON"),
    ],
)
def test_what_is_no_json(text: str, why: str) -> None:
    """In words that the model is asked again with; it is not taken for an answer that was cut off."""
    found = extracted(text)
    assert (found.value, found.is_cut) == (None, False)
    assert why in found.why


def test_a_block_before_one_that_is_cut_off() -> None:
    """It may be an example. A block that is whole but for its fence is the answer."""
    example = 'Example:\n```json\n{"mood": "calm"}\n```\nAnswer:\n```json\n{"mood": "lively'
    assert extracted(example) == Extracted(why="the JSON is cut off", is_cut=True)
    assert extracted(example + '"}').why.endswith("the answer has 2")
    assert extracted('```json\n{"mood": "calm"}').value == {"mood": "calm"}


def test_an_answer_that_is_nested_too_deeply() -> None:
    """A schema that names itself allows it; the run goes on."""
    reader = LabelReader(LabelSchema.of(schema_text({"type": "object", "additionalProperties": {"$ref": "#"}})))
    answer = reader.read(Answer(status=Status.OK, caption='{"a":' * 400 + "{}" + "}" * 400))
    assert (answer.status, answer.problems) == (Status.INVALID, ("the JSON is nested too deeply",))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": ' + "9" * 5_000 + "}", "the answer is no valid JSON"),
        ('{"a": NaN}', "the answer is no valid JSON: NaN is none"),
        ('Sure,\nhere: {"a" 1}', "the answer is no valid JSON: Expecting ':' delimiter (line 2, column 12)"),
    ],
)
def test_the_words_for_the_model(text: str, why: str) -> None:
    """They name the flaw and its place in the answer, and nothing of Python's own limits."""
    assert extracted(text).why == why


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


@pytest.mark.parametrize("text", ['{"mood": "}', '{"mood": "\\\\\\"}', 'A 5" board: {"mood": "}]'])
def test_brackets_in_a_text_close_nothing(text: str) -> None:
    """Quotes are counted from the brace on, whatever the prose before it holds; escaped ones do not count."""
    assert extracted(text).is_cut


def test_what_follows_an_example_and_is_cut_off() -> None:
    """The example is not the answer, whether the answer differs or may still differ."""
    assert extracted(f'For instance {TEXT}. Answer: {{"mood": "bu').is_cut
    assert extracted(f'For instance {TEXT}. Answer: {{"mood": "ca').is_cut
    assert extracted(f'{TEXT}\n{{"mood": "bu').is_cut


@pytest.mark.parametrize("text", ['[{"mood": "calm"}', '[{"mood": "calm"},', '```json\n[\n{"mood": "calm"},\n{"mo'])
def test_an_array_that_is_cut_off(text: str) -> None:
    """None of its objects is taken for the answer."""
    assert extracted(text).is_cut


PIECES = ["{", "}", "[", "]", '"', '\\"', "x", " ", "\n", ":", ",", '{"a":', '{"a"}', '{"a": 1}', "```\n"]


def test_steps_are_linear_in_the_text() -> None:
    """Whatever a model repeats until its limit, also behind an object, is read in a bounded number of steps."""
    for start, *unit in product(["", '{"a": 1} '], PIECES, PIECES):
        text = start + "".join(unit) * 100
        assert _steps(text) < 20 * len(text), f"{start!r}, then {unit} repeated"


def _steps(text: str) -> int:
    """Lines that run in the module, and characters that JSON's decoder is given."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        nonlocal count
        if frame.f_code is JSONDecoder.raw_decode.__code__:
            count += len(frame.f_locals["s"]) - frame.f_locals["idx"]
        elif frame.f_code.co_filename == extraction.__file__:
            count += 1
            return trace
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        extracted(text)
    finally:
        sys.settrace(before)
    return count


def test_a_line_break_in_a_text_is_meant() -> None:
    """A text of JSON may hold line breaks and tabs as they are; they stay in the value."""
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
