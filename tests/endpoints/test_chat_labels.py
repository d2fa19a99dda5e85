"""Bodies that ask for labels: one prepared body becomes what each endpoint takes, and repeats an answer."""

import json
from typing import Any

import pytest

from pipeline.config.sections import RequestConfig
from pipeline.endpoints.chat import CHAT
from pipeline.endpoints.chat_request import DIALECT
from pipeline.endpoints.endings import Endings
from pipeline.endpoints.labels import EndpointLabels
from pipeline.errors import ErrorKind
from pipeline.labels.sending import LabelsMode, LabelsRequest
from pipeline.records import Answer, Failure, ImageFacts, PreparedImage, Status
from tests.clients import request

SCHEMA = '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}'
FACTS = ImageFacts(width=1, height=1, sent_width=1, sent_height=1, sent_bytes=3, source_bytes=3, sha256="0")
IMAGE = PreparedImage(data=b"abc", media_type="image/png", sha256="0", facts=FACTS)
INVALID = Answer(status=Status.INVALID, caption='{"a":1}\ud800', problems=("a: 1 is not of type 'string'",))


def template(mode: str, **more: Any) -> Any:
    settings: dict[str, Any] = {"labels": SCHEMA, "labels_mode": mode, "prompt": '"content":["messages":[', **more}
    return CHAT.template(RequestConfig(**settings), "gpt-4o", "max_tokens")


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("mode", LabelsMode)
def test_a_body_becomes_that_of_another_mode(mode: LabelsMode, images: int) -> None:
    """The same bytes as if it had been prepared so, whichever fields follow; the digest is that of the schema."""
    more = {"temperature": 0.5, "extra": {"seed": 7}, "system": "s"}
    bodies = {one: template(one.value, **more).body([IMAGE] * images) for one in LabelsMode}
    for other in LabelsMode:
        assert template(mode.value, **more).adapted(bodies[mode], other) == bodies[other]
    digests = {template(one.value, **more).digest([IMAGE] * images) for one in LabelsMode}
    plain = CHAT.template(RequestConfig(prompt='"content":["messages":['), "gpt-4o", "max_tokens")
    assert len(digests | {plain.digest([IMAGE] * images)}) == 2
    assert template(mode.value).renamed(bodies[mode], "other").startswith(b'{"model":"other"')
    assert ('"response_format"' in template(mode.value).preview([IMAGE])) == (mode is not LabelsMode.PROMPT)


@pytest.mark.parametrize("mode", LabelsMode)
def test_a_correction_stands_behind_the_first_request(mode: LabelsMode) -> None:
    """The answer, and a line for each problem; half a character in it cannot be sent, and becomes another."""
    made = template("json_schema")
    body = json.loads(made.adapted(made.body([IMAGE]), mode, INVALID))
    first = json.loads(made.adapted(made.body([IMAGE]), mode))
    *before, said, asked = body["messages"]
    assert {**body, "messages": before} == first
    assert said == {"role": "assistant", "content": '{"a":1}?'}
    assert "\n- a: 1 is not of type 'string'\n" in asked["content"]


def test_a_last_message_of_plain_text() -> None:
    """Instructions are a message of their own then."""
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "text"}], "seed": 1}
    endings = Endings.of(body, LabelsRequest.of(SCHEMA), DIALECT)
    whole = json.dumps(body, separators=(",", ":")).encode()
    assert whole.endswith(endings.neutral)
    for mode in LabelsMode:
        changed = json.loads(whole.removesuffix(endings.neutral) + endings.ending(mode))
        assert [message["role"] for message in changed["messages"]] == ["user"] * (1 + mode.needs_instructions)
        assert changed["seed"] == 1


def test_an_endpoint_steps_down_before_its_first_answer() -> None:
    """A rejection that names the format is no failure of the record, once for each mode; later ones are."""
    said: list[str] = []
    rejected = Failure(kind=ErrorKind.BAD_REQUEST, message="Unknown parameter: 'response_format'.", status=400)
    other = Failure(kind=ErrorKind.BAD_REQUEST, message="no image", status=400)

    def labels(*, is_fixed: bool = False) -> EndpointLabels:
        return EndpointLabels(
            template("json_schema").adapted, lambda answer: answer, LabelsMode.JSON_SCHEMA,
            name="here", is_fixed=is_fixed, say=said.append,
        )  # fmt: skip

    def kind(result: Answer | Failure) -> ErrorKind | None:
        return result.kind if isinstance(result, Failure) else None

    one, first = labels(), LabelsMode.JSON_SCHEMA
    assert kind(one.read(other, first)) is ErrorKind.BAD_REQUEST
    assert [kind(one.read(rejected, first)) for _ in range(2)] == [ErrorKind.FORMAT_REJECTED] * 2  # both in flight
    assert (one.mode, len(said)) == (LabelsMode.JSON_OBJECT, 1)
    assert kind(one.read(rejected, one.mode)) is ErrorKind.FORMAT_REJECTED
    assert (one.mode, len(said)) == (LabelsMode.PROMPT, 2)
    assert kind(one.read(rejected, one.mode)) is ErrorKind.BAD_REQUEST
    assert b"response_format" not in one.body(request(template("json_schema").body([IMAGE])))
    answered = labels()
    answered.read(Answer(status=Status.OK, caption="{}"), first)
    for each in (answered, labels(is_fixed=True)):
        assert (kind(each.read(rejected, first)), each.mode) == (ErrorKind.BAD_REQUEST, first)
