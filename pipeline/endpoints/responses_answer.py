"""A response of the Responses API -> `Answer` or `Failure`.

Its output becomes the one choice of a chat completion, which `chat_response` reads: bill, cost, refusals and errors
mean the same. Sources: OpenAI's API reference, "Responses", as the official client's types have it (package openai
3.52.0): `output`, `status`, `incomplete_details`, `error`, and the events of a stream.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pipeline.endpoints.chat_response import broken_off, read_body
from pipeline.endpoints.errors import parse_json
from pipeline.endpoints.json_values import dict_of, dicts_of, list_of, word_of
from pipeline.endpoints.reading import Response
from pipeline.endpoints.streamed import events, is_stream
from pipeline.records import Answer, Failure

_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_UNFINISHED: Final = frozenset({"failed", "cancelled", "queued", "in_progress"})
_COMMENTARY: Final = "commentary"
"""The `phase` of a message that is not the answer."""


def read_answer(response: Response) -> Answer | Failure:
    """What a response with a 2xx status means."""
    if is_stream(response.headers, response.body):
        return _read_stream(response)
    parsed = parse_json(response.body)
    if not isinstance(parsed, dict):
        return read_body(response, {}, "that is no JSON object")
    return read_body(response, _as_completion(parsed), "without output")


def _read_stream(response: Response) -> Answer | Failure:
    """The last event has the whole response; of one without output, the items that came before it are."""
    last: dict[str, Any] = {}
    items: list[Any] = []
    for data in events(response.body):
        event = parse_json(data)
        if not isinstance(event, dict):
            continue
        kind = event.get("type")
        if kind == "error" or event.get("error"):
            error = event.get("error") or {name: event.get(name) for name in ("code", "message")}
            return read_body(response, {**last, "error": error, "choices": []}, "without output")
        if kind == "response.output_item.done":
            items.append(event.get("item"))
        last = dict_of(event.get("response")) or last
        if word_of(kind, _ENDS):
            whole = _as_completion({**last, "output": last.get("output") or items})
            return read_body(response, whole, "without output")
    return broken_off(response, last)


def _as_completion(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same as chat/completions would have it: its output is the message of one choice."""
    status = body.get("status")
    if word_of(status, _UNFINISHED) and not body.get("error"):
        return {**body, "error": {"code": "server_error", "message": f"the response is {status}, and has no answer"}}
    output = body.get("output")
    if not isinstance(output, list) and not body.get("output_text"):
        return {**body, "choices": []}
    parts = list(_parts(output if isinstance(output, list) else []))
    text = "".join(_texts(parts, "output_text", "text")) or body.get("output_text") or ""
    logprobs = [token for part in parts for token in list_of(part.get("logprobs"))]
    choice = {
        "message": {"content": text, "refusal": "".join(_texts(parts, "refusal", "refusal")) or None},
        "finish_reason": _reason(body),
        "logprobs": {"content": logprobs} if logprobs else None,
    }
    return {**body, "choices": [choice]}


def _reason(body: Mapping[str, Any]) -> object:
    """Why the response ended, in its own words."""
    status = body.get("status")
    return (dict_of(body.get("incomplete_details")).get("reason") or status) if status == "incomplete" else status


def _parts(output: list[Any]) -> Iterator[dict[str, Any]]:
    """The parts of the answer: without reasoning and calls of tools, and without commentary where there is more."""
    messages = [item for item in output if isinstance(item, dict) and item.get("type") == "message"]
    answers = [item for item in messages if item.get("phase") != _COMMENTARY] or messages
    for message in answers:
        yield from dicts_of(message.get("content"))


def _texts(parts: list[dict[str, Any]], kind: str, name: str) -> Iterator[str]:
    return (part[name] for part in parts if part.get("type") == kind and isinstance(part.get(name), str))
