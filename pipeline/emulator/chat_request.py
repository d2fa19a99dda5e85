"""A request body of chat/completions, checked as OpenAI checks it."""

import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pybase64

from pipeline.emulator.api_errors import (
    ApiError,
    invalid_type,
    invalid_value,
    missing,
    no_data_url,
    no_pdf,
    unsupported_image,
)
from pipeline.emulator.billing import BY_NAME, Billing
from pipeline.emulator.parameters import NO_OPTIONS, Options, read_integer, read_options
from pipeline.emulator.response_format import asked_schema

# Tuples, not sets: JSON may hold a list where a word belongs, and that cannot be looked up in a set.
_ROLES = ("assistant", "developer", "function", "system", "tool", "user")
_DETAILS = ("auto", "high", "low", "original")
_MEDIA_TYPES = frozenset({"image/jpeg", "image/jpg", "image/png", "image/webp", "image/gif"})
_KEPT_CHARS = 2000
_KEPT_DEPTH = 12


@dataclass(frozen=True, slots=True)
class SentImage:
    """An image of a request: the file's bytes, the detail asked for, and where in the body it stands."""

    data: bytes = field(repr=False)
    detail: str
    param: str
    is_document: bool = False
    """Whether it is the data of a part `file`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """What is asked. `messages` is their number, `n` that of the answers."""

    model: str
    messages: int
    texts: tuple[str, ...]
    images: tuple[SentImage, ...]
    max_tokens: int | None = None
    n: int = 1
    options: Options = NO_OPTIONS
    schema: Mapping[str, Any] | None = None
    """Of the answer, where JSON is asked for."""
    schema_text: str = ""
    """The same as text, where the prompt is billed for it and does not hold it."""
    is_read_first: bool = False
    """Whether another model reads the images, and this one is given what that one writes."""


def parse_json(body: bytes) -> object:
    """The body's JSON. Raises ApiError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"We could not parse the JSON body of your request: {error}") from None


def parse_chat_request(payload: object, serves: Callable[[str], bool], billing: Billing = BY_NAME) -> ChatRequest:
    """Check a body; `serves` says whether a model is known. Raises ApiError with OpenAI's codes."""
    if not isinstance(payload, dict):
        raise ApiError(400, "The JSON body of your request must be an object.")
    model = model_of(payload, serves)
    options = read_options(payload, model, billing.family(model))
    texts: list[str] = []
    images: list[SentImage] = []
    messages = _messages(payload)
    for index, message in enumerate(messages):
        _read_message(message, f"messages[{index}]", texts, images)
    check_details(images, billing.image_rule(model).details)
    schema, schema_text = asked_schema(payload, texts, billing.json_schema(model))
    return ChatRequest(
        model=model,
        messages=len(messages),
        texts=tuple(texts),
        images=tuple(images),
        max_tokens=_max_tokens(payload, refuses_older=billing.wants_max_completion_tokens(model)),
        n=read_integer(payload, "n", 1) or 1,
        options=options,
        schema=schema,
        schema_text=schema_text,
        is_read_first=bool(payload.get("ocr_model")) or billing.names_a_reader(model),
    )


def check_details(images: list[SentImage], known: Sequence[str]) -> None:
    """`original` is a value of some models only; where nothing is known of a model, it passes."""
    for image in images:
        if image.detail == "original" and known and image.detail not in known:
            raise invalid_value(f"{image.param}.detail", image.detail, ("auto", *known))


def elided(value: object, depth: int = 0) -> object:
    """A copy of a body for people to read: image data and long texts are replaced by their lengths."""
    if depth > _KEPT_DEPTH:
        return "..."
    if isinstance(value, str):
        head, comma, data = value.partition(",") if value.startswith("data:") else (value, "", "")
        if comma:
            return f"{head[:100]},<{len(data)} characters elided>"
        return value if len(value) <= _KEPT_CHARS else f"{value[:_KEPT_CHARS]}...<{len(value)} characters>"
    if isinstance(value, list):
        return [elided(item, depth + 1) for item in value[:_KEPT_CHARS]]
    if isinstance(value, dict):
        return {key: elided(item, depth + 1) for key, item in list(value.items())[:_KEPT_CHARS]}
    return value


def model_of(payload: Mapping[str, object], serves: Callable[[str], bool]) -> str:
    """The model that a body names. Raises ApiError where it is not served."""
    model = payload.get("model")
    if not isinstance(model, str) or not model:
        raise ApiError(400, "you must provide a model parameter")
    if not serves(model):
        raise ApiError(
            404,
            f"The model `{model}` does not exist or you do not have access to it.",
            code="model_not_found",
        )
    return model


def _max_tokens(payload: Mapping[str, object], *, refuses_older: bool) -> int | None:
    older = read_integer(payload, "max_tokens", 1)
    newer = read_integer(payload, "max_completion_tokens", 1)
    if older is not None and refuses_older:
        raise ApiError(
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            code="unsupported_parameter",
            param="max_tokens",
        )
    if older is not None and newer is not None:
        raise ApiError(
            400,
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            code="invalid_parameter_combination",
            param="max_tokens",
        )
    return newer if older is None else older


def _messages(payload: Mapping[str, object]) -> list[object]:
    messages = payload.get("messages")
    if messages is None:
        raise missing("messages")
    if not isinstance(messages, list):
        raise invalid_type("messages", "an array of objects", messages)
    if not messages:
        raise ApiError(
            400,
            "Invalid 'messages': empty array. Expected an array with minimum length 1.",
            code="empty_array",
            param="messages",
        )
    return messages


def _read_message(message: object, param: str, texts: list[str], images: list[SentImage]) -> None:
    if not isinstance(message, dict):
        raise invalid_type(param, "an object", message)
    role = message.get("role")
    if role is None:
        raise missing(f"{param}.role")
    if role not in _ROLES:
        raise invalid_value(f"{param}.role", role, _ROLES)
    content = message.get("content")
    if isinstance(content, str):
        texts.append(content)
    elif isinstance(content, list):
        for index, part in enumerate(content):
            _read_part(part, f"{param}.content[{index}]", texts, images)
    elif content is not None or role not in ("assistant", "tool", "function"):
        raise invalid_type(f"{param}.content", "one of a string or array of objects", content)


def _read_part(part: object, param: str, texts: list[str], images: list[SentImage]) -> None:
    if not isinstance(part, dict):
        raise invalid_type(param, "an object", part)
    kind = part.get("type")
    if kind == "text":
        text = part.get("text")
        if not isinstance(text, str):
            raise invalid_type(f"{param}.text", "a string", text)
        texts.append(text)
    elif kind == "image_url":
        images.append(_read_image(part.get("image_url"), f"{param}.image_url"))
    elif kind == "file":
        images.append(_read_file(part.get("file"), f"{param}.file"))
    else:
        raise invalid_value(f"{param}.type", kind, ("text", "image_url", "file"))


def _read_image(image_url: object, param: str) -> SentImage:
    if not isinstance(image_url, dict):
        raise invalid_type(param, "an object", image_url)
    url = image_url.get("url")
    if url is None:
        raise missing(f"{param}.url")
    if not isinstance(url, str):
        raise invalid_type(f"{param}.url", "a string", url)
    detail = read_detail(image_url.get("detail"), f"{param}.detail")
    return SentImage(image_bytes(url, f"{param}.url"), detail, param)


def read_detail(detail: object, param: str) -> str:
    """The detail of an image; `auto` where its part names none."""
    if detail is None:
        return "auto"
    if not isinstance(detail, str) or detail not in _DETAILS:
        raise invalid_value(param, detail, _DETAILS)
    return detail


def _read_file(file: object, param: str) -> SentImage:
    if not isinstance(file, dict):
        raise invalid_type(param, "an object", file)
    return read_document(file, param)


def read_document(file: Mapping[str, object], param: str) -> SentImage:
    """The document in the fields `filename` and `file_data`. Raises ApiError."""
    data = file.get("file_data")
    if data is None:
        raise missing(f"{param}.file_data")
    if not isinstance(data, str):
        raise invalid_type(f"{param}.file_data", "a string", data)
    if not isinstance(file.get("filename"), str):
        raise missing(f"{param}.filename")
    head, _, encoded = data.partition(",")
    if head.lower() != "data:application/pdf;base64":
        raise no_pdf(f"{param}.file_data", f"{head[:60]!r}")
    try:
        return SentImage(pybase64.b64decode(encoded, validate=True), "auto", param, is_document=True)
    except (binascii.Error, ValueError):
        raise no_pdf(f"{param}.file_data", "a value that is not base64") from None


def image_bytes(url: str, param: str) -> bytes:
    """The bytes in the address of an image. Raises ApiError."""
    if url[:8].lower().startswith(("http://", "https://")):
        raise ApiError(
            400,
            f"Failed to download image from {url[:200]}. The emulator fetches nothing: send a data URL.",
            code="invalid_image_url",
            param=param,
        )
    head, _, encoded = url.partition(",")
    scheme, _, parameters = head.partition(":")
    if scheme.lower() != "data" or not parameters.lower().endswith(";base64"):
        raise no_data_url(param, "a value without the 'data:' prefix or base64 encoding")
    media_type = parameters.partition(";")[0].lower()
    if media_type not in _MEDIA_TYPES:
        raise unsupported_image(param)
    try:
        data = pybase64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise no_data_url(param, "a value that is not base64") from None
    if not data:
        raise no_data_url(param, "empty base64-encoded bytes")
    return data
