"""The body of a chat/completions request: JSON prepared once, between whose pieces the images go.

Shape: OpenAI, "Images and vision" (chat/completions), which AI/ML API, 302.AI and the gateways share.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any, Protocol

import pybase64

from pipeline.endpoints.chat_labels import Endings
from pipeline.endpoints.chat_messages import MessageSettings, messages_of
from pipeline.endpoints.chat_parameters import ParameterSettings, parameter_fields
from pipeline.errors import InputError
from pipeline.formatting import json_text
from pipeline.labels.sending import LabelsMode, LabelsRequest, mode_of
from pipeline.records import Answer, PreparedImage


class PromptSettings(ParameterSettings, MessageSettings, Protocol):
    """The settings that a body consists of; `config.sections.RequestConfig` has them."""

    @property
    def labels(self) -> str | None: ...
    @property
    def labels_mode(self) -> str: ...
    @property
    def detail(self) -> str: ...


class ChatTemplate:
    """The requests of one configuration: ready JSON between which only the base64 of the images goes."""

    def __init__(self, request: PromptSettings, model: str, max_tokens_field: str) -> None:
        """Raises InputError where `request.extra` or the prompt cannot be sent."""
        if "response_format" in request.extra and request.labels is not None:
            raise InputError("request.extra.response_format: request.labels sets it; leave one of the two out")
        self._asked = None if request.labels is None else LabelsRequest.of(request.labels)
        self._mode = mode_of(request.labels_mode, "unknown")
        self._endings: Endings | None = None
        self._request, self._max_tokens_field = request, max_tokens_field
        self._model_field = _model_field(model)
        self._model = model
        self._earlier_images = sum(len(earlier.images) for earlier in request.messages)
        self._texts: dict[int, _Texts] = {}
        self._of_plain(1 + self._earlier_images)

    def body(self, images: Sequence[PreparedImage]) -> bytes:
        """The JSON body to send, about 4/3 of the images' bytes. The first images are those of `request.messages`."""
        return b"".join(self.pieces(images))

    def pieces(self, images: Sequence[PreparedImage]) -> tuple[bytes, ...]:
        texts, _ = self._of(images)
        pieces = [texts[0]]
        for image, text in zip(images, texts[1:], strict=True):
            pieces += (image.media_type.encode(), b";base64,", image.base64 or pybase64.b64encode(image.data), text)
        return tuple(pieces)

    def digest(self, images: Sequence[PreparedImage]) -> str:
        _, sha256 = self._of([replace(image, filename="") if image.is_document else image for image in images])
        return hashlib.sha256("\0".join([sha256, *(image.sha256 for image in images)]).encode()).hexdigest()

    def preview(self, images: Sequence[PreparedImage]) -> str:
        texts, _ = self._of(images)
        pieces = [texts[0]]
        for image, text in zip(images, texts[1:], strict=True):
            characters = 4 * ((len(image.data) + 2) // 3)
            pieces += (f"{image.media_type};base64,<{characters:,} characters>".encode(), text)
        return json_text(json.loads(b"".join(pieces)))

    def renamed(self, body: bytes, model: str) -> bytes:
        return body if model == self._model else body.replace(self._model_field, _model_field(model), 1)

    def adapted(self, body: bytes, mode: LabelsMode, corrected: Answer | None = None) -> bytes:
        """The same body as it asks for labels in another mode, or repeats an answer that is to be corrected."""
        if self._endings is None or (mode is self._mode and corrected is None):
            return body
        kept = len(body) - len(self._endings.ending(self._mode))
        return b"".join([memoryview(body)[:kept], self._endings.ending(mode, corrected)])

    def _of(self, images: Sequence[PreparedImage]) -> "_Texts":
        if any(image.text is not None or image.is_document for image in images):
            return self._written([image.text for image in images], list(map(_filename, images)))
        return self._of_plain(len(images))

    def _of_plain(self, images: int) -> "_Texts":
        """Threads may both write what is missing: it is the same."""
        found = self._texts.get(images)
        if found is None:
            found = self._texts[images] = self._written(list(repeat(None, images)))
        return found

    def _written(self, image_texts: Sequence[str | None], filenames: Sequence[str] = ()) -> "_Texts":
        number = 0
        while True:  # until no placeholder is part of the prompt
            marks = [f"<image-{number + at}>" for at in range(len(image_texts))]
            whole = _serialised(self._body([f"data:{mark}" for mark in marks], image_texts, filenames))
            if all(whole.count(mark.encode()) == 1 for mark in marks):
                break
            number += 1
        texts: list[bytes] = []
        for mark in marks:
            before, _, whole = whole.partition(mark.encode())
            texts.append(before)
        texts.append(whole)
        return self._with_labels(texts), self._digest_of(texts)

    def _with_labels(self, texts: list[bytes]) -> tuple[bytes, ...]:
        """The texts of a body that asks for labels: its ending differs."""
        if self._asked is None:
            return tuple(texts)
        self._endings = Endings.of(
            self._body(["data:"] * self._earlier_images, [None] * self._earlier_images), self._asked
        )
        *before, last = texts
        return (*before, last.removesuffix(self._endings.neutral) + self._endings.ending(self._mode))

    def _digest_of(self, texts: list[bytes]) -> str:
        """Of what is asked: the schema, and not the way in which it is sent."""
        schema = [] if self._asked is None else [self._asked.schema.text.encode()]
        return hashlib.sha256(b"\0".join([*texts, *schema])).hexdigest()

    def _body(
        self, image_urls: Sequence[str], image_texts: Sequence[str | None], filenames: Sequence[str] = ()
    ) -> dict[str, Any]:
        request, own = self._request, self._earlier_images
        messages = messages_of(request, image_urls, image_texts[own:], filenames[own:])
        body: dict[str, Any] = {"model": self._model, "messages": messages}
        return {**body, **parameter_fields(request, self._max_tokens_field)}


_Texts = tuple[tuple[bytes, ...], str]
"""The JSON before, between and after the images, and the SHA-256 of all of it, in hexadecimal."""


def _filename(image: PreparedImage) -> str:
    """The name of a document, and in digests one for all: equal bytes under other names are asked once."""
    return (image.filename or "document.pdf") if image.is_document else ""


def _model_field(model: str) -> bytes:
    """How a request names its model: the first field of its body."""
    return b'{"model":' + _serialised(model)


def _serialised(body: Mapping[str, Any] | str) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise InputError("the prompt holds characters that are no valid Unicode text") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"request.extra: not possible in JSON: {error}") from None
