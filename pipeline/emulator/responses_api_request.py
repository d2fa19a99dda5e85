"""A request body of the Responses API, checked as OpenAI checks it, and read as one of chat/completions.

Source: OpenAI's API reference, "Responses", as the official client's types have it (package openai 3.52.0).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pipeline.emulator.api_errors import ApiError, invalid_type, invalid_value, missing
from pipeline.emulator.apis import Serves
from pipeline.emulator.billing import Billing
from pipeline.emulator.chat_request import (
    ChatRequest,
    SentImage,
    check_details,
    image_bytes,
    model_of,
    read_detail,
    read_document,
)
from pipeline.emulator.parameters import read_integer, read_options
from pipeline.emulator.response_format import asked_schema

_ROLES: Final = ("assistant", "system", "developer", "user")
_TEXTS: Final = ("input_text", "output_text")
_PARTS: Final = (*_TEXTS, "input_image", "input_file")
_SHARED: Final = ("temperature", "top_p", "service_tier", "user", "top_logprobs", "stream")
"""Parameters that both APIs have under the same name."""
_FIELDS: Final = frozenset(
    {
        "model", "input", "instructions", "max_output_tokens", "reasoning", "text", "include", "store", *_SHARED,
        "metadata", "background", "conversation", "max_tool_calls", "parallel_tool_calls", "previous_response_id",
        "prompt", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier",
        "stream_options", "tool_choice", "tools", "truncation", "moderation", "context_management",
    }
)  # fmt: skip
_MOVED: Final = {"messages": "input", "response_format": "text.format", "reasoning_effort": "reasoning.effort"}
_WORDS: Final = {
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "'messages' must": "Response input messages must",
}
"""What errors of chat/completions are called here."""
_PROBABILITIES: Final = "message.output_text.logprobs"


def parse_responses_request(payload: object, serves: Serves, billing: Billing) -> ChatRequest:
    """Check a body; `serves` says whether a model is known. Raises ApiError with OpenAI's codes."""
    if not isinstance(payload, dict):
        raise ApiError(400, "The JSON body of your request must be an object.")
    model = model_of(payload, serves)
    _check_fields(payload)
    texts: list[str] = []
    images: list[SentImage] = []
    messages = _read_input(payload, texts, images)
    check_details(images, billing.image_rule(model).details)
    as_chat = _as_chat(payload)
    try:
        schema, schema_text = asked_schema(as_chat, texts, billing.json_schema(model))
        options = read_options(as_chat, model, billing.family(model))
    except ApiError as error:
        raise _as_here(error) from None
    return ChatRequest(
        model=model,
        messages=messages,
        texts=tuple(texts),
        images=tuple(images),
        max_tokens=read_integer(payload, "max_output_tokens", 1),
        options=options,
        schema=schema,
        schema_text=schema_text,
    )


def _check_fields(payload: Mapping[str, object]) -> None:
    for name in payload:
        if name in _MOVED:
            message = f"Unsupported parameter: '{name}'. In the Responses API, this parameter has moved to "
            raise ApiError(400, f"{message}'{_MOVED[name]}'.", code="unsupported_parameter", param=name)
        if name not in _FIELDS:
            raise ApiError(400, f"Unknown parameter: '{name[:100]}'.", code="unknown_parameter", param=name[:100])


def _as_chat(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters under the names of chat/completions."""
    found = {name: payload[name] for name in _SHARED if payload.get(name) is not None}
    found["reasoning_effort"] = _object(payload, "reasoning").get("effort")
    include = payload.get("include") or []
    if not isinstance(include, list):
        raise invalid_type("include", "an array of strings", include)
    found["logprobs"] = _PROBABILITIES in include or found.get("top_logprobs") is not None
    wanted = _object(payload, "text").get("format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_schema":
        flat = {name: value for name, value in wanted.items() if name != "type"}
        wanted = {"type": "json_schema", "json_schema": flat}
    return found if wanted is None else {**found, "response_format": wanted}


def _object(payload: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = payload.get(name)
    if value is not None and not isinstance(value, dict):
        raise invalid_type(name, "an object", value)
    return value or {}


def _read_input(payload: Mapping[str, object], texts: list[str], images: list[SentImage]) -> int:
    """The number of messages."""
    instructions, asked = payload.get("instructions"), payload.get("input")
    if instructions is not None and not isinstance(instructions, str):
        raise invalid_type("instructions", "a string", instructions)
    if asked is None:
        raise missing("input")
    if not isinstance(asked, str | list):
        raise invalid_type("input", "one of a string or array of input items", asked)
    texts += [instructions] if instructions else []
    if isinstance(asked, str):
        texts.append(asked)
        return len(texts)
    for index, item in enumerate(asked):
        for part, param in _parts(item, f"input[{index}]"):
            _read_part(part, param, texts, images)
    return len(asked) + bool(instructions)


def _parts(item: object, param: str) -> Iterator[tuple[object, str]]:
    """The parts of one message; a text alone is one."""
    if not isinstance(item, dict):
        raise invalid_type(param, "an input item", item)
    kind, role, content = item.get("type", "message"), item.get("role"), item.get("content")
    if kind != "message":
        raise invalid_value(f"{param}.type", kind, ("message",))
    if role not in _ROLES:
        raise missing(f"{param}.role") if role is None else invalid_value(f"{param}.role", role, _ROLES)
    if isinstance(content, str):
        yield {"type": "input_text", "text": content}, f"{param}.content"
    elif isinstance(content, list):
        for index, part in enumerate(content):
            yield part, f"{param}.content[{index}]"
    else:
        raise invalid_type(f"{param}.content", "one of a string or array of content parts", content)


def _read_part(part: object, param: str, texts: list[str], images: list[SentImage]) -> None:
    if not isinstance(part, dict):
        raise invalid_type(param, "an object", part)
    kind = part.get("type")
    if kind in _TEXTS:
        text = part.get("text")
        if not isinstance(text, str):
            raise invalid_type(f"{param}.text", "a string", text)
        texts.append(text)
    elif kind == "input_image":
        images.append(_read_image(part, param))
    elif kind == "input_file":
        images.append(read_document(part, param))
    else:
        raise invalid_value(f"{param}.type", kind, _PARTS)


def _read_image(part: Mapping[str, object], param: str) -> SentImage:
    url = part.get("image_url")
    if url is None:
        raise missing(f"{param}.image_url")
    if not isinstance(url, str):
        raise invalid_type(f"{param}.image_url", "an image URL as a string", url)
    detail = read_detail(part.get("detail"), f"{param}.detail")
    return SentImage(image_bytes(url, f"{param}.image_url"), detail, param)


def _as_here(error: ApiError) -> ApiError:
    """The error with the names that fields have in this API."""
    inside: dict[str, Any] = error.body["error"]
    for name, here in _WORDS.items():
        inside = {key: text.replace(name, here) if isinstance(text, str) else text for key, text in inside.items()}
    param = _MOVED.get(inside["param"], inside["param"])
    return ApiError(error.status, inside["message"], code=inside["code"], param=param, kind=inside["type"])
