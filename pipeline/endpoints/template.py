"""The request body, prepared once: per image only the base64 goes between two ready pieces of JSON.

Shape: OpenAI, "Images and vision" (chat/completions), which AI/ML API, 302.AI and the gateways share.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import pybase64

from pipeline.errors import InputError
from pipeline.formatting import json_text
from pipeline.records import PreparedImage

MaxTokensField = Literal["max_tokens", "max_completion_tokens"]

_OWN_OPTION: Final = {
    "model": "request.model",
    "messages": "request.prompt and request.system",
    "max_tokens": "request.max_tokens",
    "max_completion_tokens": "request.max_tokens and request.max_tokens_field",
    "temperature": "request.temperature",
}


class Question(Protocol):
    """What is asked of every image; `config.RequestConfig` is one."""

    @property
    def prompt(self) -> str: ...
    @property
    def system(self) -> str | None: ...
    @property
    def detail(self) -> str: ...
    @property
    def max_tokens(self) -> int | None: ...
    @property
    def temperature(self) -> float | None: ...
    @property
    def extra(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """A request without its image: the JSON before and after the data URL's `data:` and base64."""

    prefix: bytes
    suffix: bytes
    sha256: str
    """Of both pieces, in hexadecimal."""

    @classmethod
    def build(cls, request: Question, model: str, max_tokens_field: MaxTokensField) -> "RequestTemplate":
        """Serialise everything but the image. Raises InputError where `request.extra` cannot be sent."""
        _check_extra(request.extra)
        prefix, suffix = _pieces(request, model, max_tokens_field)
        return cls(prefix, suffix, hashlib.sha256(prefix + b"\0" + suffix).hexdigest())

    def render(self, image: PreparedImage) -> bytes:
        """The JSON body to send, about 4/3 of the image's bytes."""
        media_type = image.media_type.encode()
        return b"".join((self.prefix, media_type, b";base64,", pybase64.b64encode(image.data), self.suffix))

    def digest(self, image_sha256: str) -> str:
        """The column `request_sha256`: equal for equal requests about equal bytes."""
        return hashlib.sha256(f"{self.sha256}\0{image_sha256}".encode()).hexdigest()

    def preview(self, image: PreparedImage) -> str:
        """The request as people read it: indented, the base64 replaced by its length."""
        characters = 4 * ((len(image.data) + 2) // 3)
        elided = f"{image.media_type};base64,<{characters:,} characters>"
        body = json.loads(self.prefix + elided.encode() + self.suffix)
        return json_text(body)


def model_field(model: str) -> bytes:
    """How a request names its model: the first field of its body."""
    return b'{"model":' + _serialised(model)


def _pieces(request: Question, model: str, max_tokens_field: str) -> tuple[bytes, bytes]:
    number = 0
    while True:  # until the placeholder is no part of the prompt
        mark = f"<image-{number}>"
        body = _body(request, model, max_tokens_field, image_url=f"data:{mark}")
        prefix, _, suffix = _serialised(body).partition(mark.encode())
        if mark.encode() not in suffix:
            return prefix, suffix
        number += 1


def _body(request: Question, model: str, max_tokens_field: str, image_url: str) -> dict[str, Any]:
    image: dict[str, Any] = {"url": image_url}
    if request.detail != "auto":
        image["detail"] = request.detail
    content = [{"type": "text", "text": request.prompt}, {"type": "image_url", "image_url": image}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if request.system:
        messages.insert(0, {"role": "system", "content": request.system})
    body: dict[str, Any] = {"model": model, "messages": messages}
    if request.max_tokens is not None:
        body[max_tokens_field] = request.max_tokens
    if request.temperature is not None:
        body["temperature"] = request.temperature
    return {**body, **request.extra}


def _serialised(body: Mapping[str, Any] | str) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise InputError("the prompt holds characters that are no valid Unicode text") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"request.extra: not possible in JSON: {error}") from None


def _check_extra(extra: Mapping[str, Any]) -> None:
    for key in extra:
        if key in _OWN_OPTION:
            raise InputError(f"request.extra.{key}: set {_OWN_OPTION[key]} instead")
        if key in {"stream", "stream_options"}:
            raise InputError(f"request.extra.{key}: answers are read whole; streaming is not possible")
