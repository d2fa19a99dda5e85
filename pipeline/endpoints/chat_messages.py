"""The messages of a chat/completions request: instructions, a conversation before, and the prompt with its images.

Shapes: OpenAI, "Images and vision" and the API reference (text and images as parts of one message, `name`); AI/ML API,
whose examples send text and image as two user messages, and a PDF as a part `file` with a data URL.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

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


def messages_of(
    request: MessageSettings, urls: Sequence[str], texts: Sequence[str | None], filenames: Sequence[str] = ()
) -> list[Message]:
    """All messages of a request. `urls` are those of all images, the conversation's first; `texts` stand before them.

    The conversation's images have no texts: `texts` belong to the images of the record, and so do `filenames`, where
    some of them are documents (those with a name).
    """
    left = iter(urls)
    messages = [_named("system", request.system, request.system_name)] if request.system else []
    for earlier in request.messages:
        images = [_image(next(left), request.detail) for _ in earlier.images]
        name = request.user_name if earlier.role == "user" else None
        content = [*images, _text(earlier.text)] if _is_before(request) else [_text(earlier.text), *images]
        messages.append(_named(earlier.role, content if images else earlier.text, name))
    return [*messages, *_asked(request, list(_parts(list(left), texts, filenames, request.detail)))]


def _asked(request: MessageSettings, images: list[Part]) -> Iterator[Message]:
    """The prompt and its images as one user message, or as two."""
    name, is_before = request.user_name, _is_before(request)
    if request.message_layout == "together":
        text = [_text(request.prompt)]
        yield _named("user", [*images, *text] if is_before else [*text, *images], name)
        return
    both = _named("user", request.prompt, name), _named("user", images, name)
    yield from reversed(both) if is_before else both


def _is_before(request: MessageSettings) -> bool:
    return request.image_position == "before"


def _parts(urls: Sequence[str], texts: Sequence[str | None], filenames: Sequence[str], detail: str) -> Iterator[Part]:
    for url, text, filename in zip(urls, texts, filenames or [""] * len(urls), strict=True):
        if text is not None:
            yield _text(text)
        yield _file(url, filename) if filename else _image(url, detail)


def _text(text: str) -> Part:
    return {"type": "text", "text": text}


def _image(url: str, detail: str) -> Part:
    return {"type": "image_url", "image_url": {"url": url} if detail == "auto" else {"url": url, "detail": detail}}


def _file(url: str, filename: str) -> Part:
    return {"type": "file", "file": {"filename": filename, "file_data": url}}


def _named(role: str, content: object, name: str | None) -> Message:
    message = {"role": role, "content": content}
    return message if name is None else {**message, "name": name}
