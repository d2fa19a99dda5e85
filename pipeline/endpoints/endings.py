"""How bodies ask for labels: their endings, which differ by endpoint, and not by image.

A body begins with messages and images. What says of the schema stands behind the last image and text: instructions in
the last message, an answer that has to be corrected, and the field for the format. So one prepared body serves
endpoints that take a schema in different ways, and a correction needs no second look at the image.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.labels.sending import Correction, LabelsMode, LabelsRequest
from pipeline.records import Answer

_CONTENT: Final = b'"content":['
Format = Mapping[str, Any]
"""As chat/completions has it in `response_format`."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What of a body differs between APIs."""

    messages: str
    """The field that holds the messages."""
    text_part: str
    """The type of a part that is text."""
    with_format: Callable[[Mapping[str, Any], Format], dict[str, Any]]
    """A body's fields with a format."""


@dataclass(frozen=True, slots=True)
class Endings:
    """The endings of the bodies of one configuration."""

    neutral: bytes
    """As a body without labels ends, behind the last part of its last message."""
    instructions: bytes
    """Behind that part, where the mode needs them."""
    message: bytes
    """What closes the last message."""
    rest: Mapping[LabelsMode, bytes]
    """What closes the list of messages, and all fields behind it."""

    @classmethod
    def of(cls, body: Mapping[str, Any], asked: LabelsRequest, dialect: Dialect) -> "Endings":
        """Of a body, which has no format of its own."""
        last = body[dialect.messages][-1]
        text, is_list = asked.instructions, isinstance(last["content"], list)
        part = {"type": dialect.text_part, "text": text} if is_list else {"role": "user", "content": text}
        emptied = _json({**body, dialect.messages: [{**last, "content": []}]})
        plain = _rest(body, dialect, None)
        neutral = emptied.partition(_CONTENT)[2] if is_list else plain
        return cls(
            neutral=neutral,
            instructions=b"," + _json(part),
            message=neutral.removesuffix(plain),
            rest={mode: _rest(body, dialect, asked.formats[mode]) for mode in LabelsMode},
        )

    def ending(self, mode: LabelsMode, corrected: Answer | None = None) -> bytes:
        """How a body ends that asks in this mode, and repeats an answer that is to be corrected."""
        instructions = self.instructions if mode.needs_instructions else b""
        return b"".join([instructions, self.message, *_correction(corrected), self.rest[mode]])


def _rest(body: Mapping[str, Any], dialect: Dialect, asked: Format | None) -> bytes:
    fields = {**body, dialect.messages: []}
    if asked is not None:
        fields = dialect.with_format(fields, asked)
    return _json(fields).partition(f'"{dialect.messages}":['.encode())[2]


def _correction(answer: Answer | None) -> Sequence[bytes]:
    if answer is None:
        return []
    text = answer.caption or ""
    said = {"role": "assistant", "content": text}
    asked = {"role": "user", "content": Correction(text, answer.problems).words}
    return [b",", _json(said), b",", _json(asked)]


def _json(value: object) -> bytes:
    """Half a character, which an answer may hold, becomes a question mark."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
