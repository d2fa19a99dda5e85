"""The messages of a request: instructions, a conversation before, and the prompt with its images.

Shapes: OpenAI, "Images and vision" and the API reference (text and images as parts of one message, `name`); AI/ML API,
whose examples send text and image as two user messages, and a PDF as a part `file` with a data URL.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from pipeline.endpoints.template import Place

Role = Literal["system", "developer", "user", "assistant"]


class EarlierMessage(Protocol):
    """One message of the conversation before; `config.sections.MessageConfig` has these."""

    @property
    def role(self) -> Role: ...
    @property
    def text(self) -> str: ...
    @property
    def images(self) -> Sequence[object]: ...


class MessageSettings(Protocol):
    """The settings that messages consist of; `config.sections.RequestConfig` has them."""

    @property
    def prompt(self) -> str: ...
    @property
    def system(self) -> str | None: ...
    @property
    def system_name(self) -> str | None: ...
    @property
    def user_name(self) -> str | None: ...
    @property
    def detail(self) -> str: ...
    @property
    def image_position(self) -> str: ...
    @property
    def message_layout(self) -> str: ...
    @property
    def messages(self) -> Sequence[EarlierMessage]: ...


Part = dict[str, Any]
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """How an API writes the parts of a message."""

    text: Callable[[str], Part]
    image: Callable[[Place, str], Part]
    """One image or document, at a detail."""


def messages_of(request: MessageSettings, places: Sequence[Place], parts: Parts) -> list[Message]:
    """All messages of a request. `places` are those of all images, the conversation's first, which have no texts."""
    left = iter(places)
    messages = [_named("system", request.system, request.system_name)] if request.system else []
    for earlier in request.messages:
        images = [parts.image(next(left), request.detail) for _ in earlier.images]
        name, text = request.user_name if earlier.role == "user" else None, parts.text(earlier.text)
        content = [*images, text] if _is_before(request) else [text, *images]
        messages.append(_named(earlier.role, content if images else earlier.text, name))
    return [*messages, *_asked(request, list(_images(list(left), parts, request.detail)), parts)]


def _asked(request: MessageSettings, images: list[Part], parts: Parts) -> Iterator[Message]:
    """The prompt and its images as one user message, or as two."""
    name, is_before = request.user_name, _is_before(request)
    if request.message_layout == "together":
        text = [parts.text(request.prompt)]
        yield _named("user", [*images, *text] if is_before else [*text, *images], name)
        return
    both = _named("user", request.prompt, name), _named("user", images, name)
    yield from reversed(both) if is_before else both


def _is_before(request: MessageSettings) -> bool:
    return request.image_position == "before"


def _images(places: Sequence[Place], parts: Parts, detail: str) -> Iterator[Part]:
    for place in places:
        if place.slot.text is not None:
            yield parts.text(place.slot.text)
        yield parts.image(place, detail)


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _image(place: Place, detail: str) -> Part:
    if place.slot.filename:
        return {"type": "file", "file": {"filename": place.slot.filename, "file_data": place.url}}
    url = {"url": place.url}
    return {"type": "image_url", "image_url": url if detail == "auto" else {**url, "detail": detail}}


CHAT_PARTS: Final = Parts(_text, _image)


def _named(role: str, content: object, name: str | None) -> Message:
    message = {"role": role, "content": content}
    return message if name is None else {**message, "name": name}
