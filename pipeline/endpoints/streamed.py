"""A streamed answer (server-sent events) -> the body that it would have been as one piece.

Sources: WHATWG HTML, "Server-sent events" (lines, comments, `data:`); OpenAI's API reference, "Streaming" (chunks with
`delta`, a last one with `usage`, then `[DONE]`); OpenRouter, "Streaming" (comments, an `error` in a chunk).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.endpoints.errors import COMMENTS, parse_json
from pipeline.endpoints.json_values import list_of
from pipeline.endpoints.texts import text_of

_TEXTS: Final = ("content", "refusal")
_DONE: Final = b"[DONE]"
_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
"""One of them begins a stream; the last is a comment."""
_BEGIN: Final = 4096
"""Bytes that are looked at; some servers send blanks until they have an answer."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The body of a stream."""

    body: dict[str, Any]
    is_whole: bool
    """Whether the stream says that it has ended, or that every choice has."""


@dataclass(slots=True)
class _Choice:
    """The pieces of one choice."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    tokens: list[Any] = field(default_factory=list)
    finish_reason: object = None

    def add(self, piece: Mapping[str, Any]) -> None:
        delta = piece.get("delta")
        for name in _TEXTS:
            text = delta.get(name) if isinstance(delta, dict) else None
            if text is not None:
                self.texts.setdefault(name, []).append(text_of(text))
        logprobs = piece.get("logprobs")
        content = logprobs.get("content") if isinstance(logprobs, dict) else None
        self.tokens += content if isinstance(content, list) else []
        self.finish_reason = piece.get("finish_reason") or self.finish_reason

    def whole(self, index: int) -> dict[str, Any]:
        message = {"role": "assistant", **{name: "".join(pieces) for name, pieces in self.texts.items()}}
        logprobs = {"content": self.tokens} if self.tokens else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.finish_reason}


def is_stream(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a response is one. `headers` are case-insensitive, or in lower case.

    The body counts before the header: gateways send streams as text or JSON, and whole answers as streams.
    """
    begin = COMMENTS.sub(b"", body[:_BEGIN]).lstrip()
    if begin.startswith((b"{", *_FIELDS)):
        return not begin.startswith(b"{")
    kind = headers.get("content-type") or ""
    return kind.lower().startswith("text/event-stream")


def joined(body: bytes) -> Joined:
    """All events of a stream as one body. What is no JSON is left out; an error ends it."""
    found: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    has_ended = False
    for data in events(body):
        if data == _DONE:
            has_ended = True
            break
        chunk = parse_json(data)
        if not isinstance(chunk, dict):
            continue
        if chunk.get("error"):
            return Joined({**found, **chunk, "choices": []}, is_whole=True)
        found |= {name: value for name, value in chunk.items() if name != "choices" and value is not None}
        for piece in list_of(chunk.get("choices")):
            if isinstance(piece, dict):
                choices.setdefault(_index(piece), _Choice()).add(piece)
    ended = has_ended or (bool(choices) and all(choice.finish_reason for choice in choices.values()))
    return Joined({**found, "choices": [choices[at].whole(at) for at in sorted(choices)]}, is_whole=ended)


def events(body: bytes) -> Iterator[bytes]:
    """The data of each event: an event ends with an empty line, and its data may have several lines."""
    lines: list[bytes] = []
    for line in [*body.splitlines(), b""]:
        if not line and lines:
            yield b"\n".join(lines)
            lines = []
        elif line.startswith(b"data:"):
            lines.append(line.removeprefix(b"data:").removeprefix(b" "))


def _index(piece: Mapping[str, Any]) -> int:
    index = piece.get("index")
    return index if isinstance(index, int) and index >= 0 else 0
