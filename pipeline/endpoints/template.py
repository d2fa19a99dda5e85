"""The bodies of one configuration as ready JSON, between whose pieces the images go.

What a body consists of is the adapter's (`chat_request`, `responses_request`). Here it is written once, with a mark in
place of each image's address, and cut at the marks: a request only joins the pieces. A body that asks for labels ends
as its endpoint takes schemas (`Endings`), so that one prepared body serves several of them.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import pybase64

from pipeline.endpoints.endings import Endings
from pipeline.errors import InputError
from pipeline.formatting import json_text
from pipeline.labels.sending import LabelsMode, LabelsRequest, mode_of
from pipeline.records import Answer, PreparedImage

DATA: Final = "data:"
"""How the address of an image begins whose bytes are sent."""


class TemplateSettings(Protocol):
    """What every template needs of a request; `config.sections.RequestConfig` has it."""

    @property
    def labels(self) -> str | None: ...
    @property
    def labels_mode(self) -> str: ...
    @property
    def messages(self) -> Sequence["_HasImages"]: ...


class _HasImages(Protocol):
    @property
    def images(self) -> Sequence[object]: ...


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one image in a body: what its part says, whatever image is sent there."""

    filename: str = ""
    """Of a whole document; empty for an image."""
    text: str | None = None
    """Sent before it."""
    is_passed: bool = False
    """Whether its address is sent, and not its bytes."""


@dataclass(frozen=True, slots=True)
class Place:
    """A slot with the address that stands for it."""

    slot: Slot
    url: str


IMAGE: Final = Slot()


class BodyTemplate(ABC):
    """The requests of one configuration of one API."""

    def __init__(self, request: TemplateSettings, model: str) -> None:
        """Raises InputError where a setting cannot be sent. Subclasses have their own state set before."""
        self._asked = None if request.labels is None else LabelsRequest.of(request.labels)
        self._mode = mode_of(request.labels_mode, "unknown")
        self._endings: Endings | None = None
        self._model, self._model_field = model, _model_field(model)
        self._earlier = (IMAGE,) * sum(len(earlier.images) for earlier in request.messages)
        self._texts: dict[int, _Texts] = {}
        self._of_plain(1 + len(self._earlier))

    @abstractmethod
    def _body(self, places: Sequence[Place]) -> dict[str, Any]:
        """The body about these images; `model` is its first field."""

    @abstractmethod
    def _endings_of(self, body: Mapping[str, Any], asked: LabelsRequest) -> Endings:
        """How bodies end that ask for these labels; `body` is one without images of a record."""

    def body(self, images: Sequence[PreparedImage]) -> bytes:
        """The JSON body to send, about 4/3 of the images' bytes. The first images are those of `request.messages`."""
        return b"".join(self.pieces(images))

    def pieces(self, images: Sequence[PreparedImage]) -> tuple[bytes, ...]:
        texts, *_ = self._of(images)
        pieces = [texts[0]]
        for image, text in zip(images, texts[1:], strict=True):
            if image.url is not None:
                pieces += (_within(image.url), text)
            else:
                data = image.base64 or pybase64.b64encode(image.data)
                pieces += (image.media_type.encode(), b";base64,", data, text)
        return tuple(pieces)

    def digest(self, images: Sequence[PreparedImage]) -> str:
        """Equal documents under other names are equal requests."""
        _, sha256 = self._of([replace(image, filename="") if image.is_document else image for image in images])
        return hashlib.sha256("\0".join([sha256, *(image.sha256 for image in images)]).encode()).hexdigest()

    def preview(self, images: Sequence[PreparedImage]) -> str:
        texts, _ = self._of(images)
        pieces = [texts[0]]
        for image, text in zip(images, texts[1:], strict=True):
            characters = 4 * ((len(image.data) + 2) // 3)
            elided = f"{image.media_type};base64,<{characters:,} characters>".encode()
            pieces += (elided if image.url is None else _within(image.url), text)
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
        slots = [_slot(image) for image in images]
        return self._of_plain(len(slots)) if all(slot is IMAGE for slot in slots) else self._written(slots)

    def _of_plain(self, images: int) -> "_Texts":
        """Threads may both write what is missing: it is the same."""
        found = self._texts.get(images)
        if found is None:
            found = self._texts[images] = self._written([IMAGE] * images)
        return found

    def _written(self, slots: Sequence[Slot]) -> "_Texts":
        number = 0
        while True:  # until no placeholder is part of the prompt
            marks = [f"<image-{number + at}>" for at in range(len(slots))]
            whole = serialised(self._body(list(map(_place, slots, marks))))
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
        self._endings = self._endings_of(self._body([_place(slot, "") for slot in self._earlier]), self._asked)
        *before, last = texts
        return (*before, last.removesuffix(self._endings.neutral) + self._endings.ending(self._mode))

    def _digest_of(self, texts: list[bytes]) -> str:
        """Of what is asked: the schema, and not the way in which it is sent."""
        schema = [] if self._asked is None else [self._asked.schema.text.encode()]
        return hashlib.sha256(b"\0".join([*texts, *schema])).hexdigest()


_Texts = tuple[tuple[bytes, ...], str]
"""The JSON before, between and after the images, and the SHA-256 of all of it, in hexadecimal."""


def serialised(body: Mapping[str, Any] | str) -> bytes:
    """JSON as it is sent. Raises InputError for what cannot be."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise InputError("the prompt holds characters that are no valid Unicode text") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"request.extra: not possible in JSON: {error}") from None


def _slot(image: PreparedImage) -> Slot:
    """Of nearly every image it is the one `IMAGE`."""
    if image.text is None and image.url is None and not image.is_document:
        return IMAGE
    filename = (image.filename or "document.pdf") if image.is_document else ""
    return Slot(filename, image.text, image.url is not None)


def _place(slot: Slot, mark: str) -> Place:
    return Place(slot, mark if slot.is_passed else DATA + mark)


def _within(url: str) -> bytes:
    """An address as it stands within a JSON string."""
    return serialised(url)[1:-1]


def _model_field(model: str) -> bytes:
    """How a request names its model: the first field of its body."""
    return b'{"model":' + serialised(model)
