"""An answer as server-sent events: chunks with `delta`, one with `usage` where it is asked for, then `[DONE]`."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import orjson
from aiohttp import web

from pipeline.emulator.responses import stamp

_PIECE_CHARS = 16
_TOKENS = 4
"""Of a piece of text."""


def events(completion: Mapping[str, Any], *, include_usage: bool) -> list[bytes]:
    """The chunks of a `chat.completion`."""
    head = {**completion, "object": "chat.completion.chunk"}
    usage = head.pop("usage")
    beside = {"usage": None} if include_usage else {}
    choices = [list(_pieces(choice)) for choice in completion["choices"]]
    found = [
        _event({**head, **beside, "choices": [piece]})
        for pieces in zip_longest(*choices)
        for piece in pieces
        if piece is not None
    ]
    if include_usage:
        found.append(_event({**head, "choices": [], "usage": usage}))
    return [*found, b"data: [DONE]\n\n"]


def broken_stream(error: Mapping[str, Any]) -> list[bytes]:
    """A stream in which an error takes the place of an answer, after a comment as OpenRouter sends them."""
    return [b": PROCESSING\n\n", _event(error)]


async def send_events(
    request: web.Request, sent: Sequence[bytes], headers: Mapping[str, str], spent_ns: int, *, breaks: bool
) -> web.StreamResponse:
    """Send events one after the other; `breaks` closes the connection after the last, before the body has ended."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", **headers})
    stamp(response, spent_ns)
    await response.prepare(request)
    for event in sent:
        await response.write(event)
    if breaks and request.transport is not None:
        request.transport.close()
        return response
    await response.write_eof()
    return response


def _pieces(choice: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    message, index = choice["message"], choice["index"]
    tokens = (choice["logprobs"] or {}).get("content", [])
    yield _piece(index, {"role": "assistant", "content": "", "refusal": None})
    for name in ("content", "refusal"):
        text = message[name] or ""
        for number, at in enumerate(range(0, len(text), _PIECE_CHARS)):
            of = tokens[number * _TOKENS : (number + 1) * _TOKENS] if name == "content" else []
            yield _piece(index, {name: text[at : at + _PIECE_CHARS]}, {"content": of, "refusal": None} if of else None)
    yield _piece(index, {}, finish_reason=choice["finish_reason"])


def _piece(
    index: int, delta: Mapping[str, Any], logprobs: Mapping[str, Any] | None = None, finish_reason: str | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _event(chunk: Mapping[str, Any]) -> bytes:
    return b"data: %s\n\n" % orjson.dumps(chunk)
