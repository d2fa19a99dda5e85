"""A response as server-sent events, as the Responses API streams it: each has its type, and the last the whole body."""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, Final

import orjson

_PIECE_CHARS: Final = 16
_NAMES: Final = {"output_text": ("text", "response.output_text"), "refusal": ("refusal", "response.refusal")}
"""For each type of part: its field, and how its events begin."""
Event = dict[str, Any]


def response_events(body: Mapping[str, Any]) -> list[bytes]:
    """The events of a `response`."""
    return [_written({**event, "sequence_number": number}) for number, event in zip(count(), _all(body))]


def failed_events(body: Mapping[str, Any]) -> list[bytes]:
    """Those of a response that fails once it has begun."""
    return response_events(body)


def _all(body: Mapping[str, Any]) -> Iterator[Event]:
    begun = {**body, "status": "in_progress", "output": [], "usage": None, "error": None, "incomplete_details": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(body["output"]):
        at = {"output_index": index}
        yield {"type": "response.output_item.added", **at, "item": _emptied(item)}
        for number, part in enumerate(item.get("content", [])):
            yield from _of_part(part, {**at, "item_id": item["id"], "content_index": number})
        yield {"type": "response.output_item.done", **at, "item": item}
    yield {"type": f"response.{body['status']}", "response": body}


def _of_part(part: Mapping[str, Any], at: Event) -> Iterator[Event]:
    name, kind = _NAMES[part["type"]]
    text: str = part[name]
    logprobs: Event = {"logprobs": []} if name == "text" else {}
    yield {"type": "response.content_part.added", **at, "part": {**part, name: ""}}
    for start in range(0, len(text), _PIECE_CHARS):
        yield {"type": f"{kind}.delta", **at, "delta": text[start : start + _PIECE_CHARS], **logprobs}
    yield {"type": f"{kind}.done", **at, name: text, **logprobs}
    yield {"type": "response.content_part.done", **at, "part": part}


def _emptied(item: Mapping[str, Any]) -> Event:
    return {**item, "status": "in_progress", "content": []} if item["type"] == "message" else dict(item)


def _written(event: Event) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), orjson.dumps(event))
