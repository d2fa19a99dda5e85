"""Requests about one image: JSON prepared once, into which only the image's base64 goes."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pybase64

from pipeline.errors import InputError
from pipeline.formatting import json_text
from pipeline.records import PreparedImage
from pipeline.redaction.addresses import public_url

Body = Callable[[str, str, str | None], Mapping[str, Any]]
"""The body for an image of a media type and its base64, or for one that the provider fetches from an address."""


class OneImageTemplate:
    """The requests of one configuration. `request.messages` has no images where these are used."""

    def __init__(self, body: Body, model: str) -> None:
        """`body` is called with a mark in place of the base64; where it holds `model`, that is its first field."""
        self._body, self._model = body, model
        self._texts: dict[str, tuple[bytes, bytes]] = {}

    def body(self, images: Sequence[PreparedImage]) -> bytes:
        return b"".join(self.pieces(images))

    def pieces(self, images: Sequence[PreparedImage]) -> tuple[bytes, ...]:
        (image,) = images
        if image.url is not None:
            return (self._passing(image.url),)
        before, after = self._around(image.media_type)
        return before, image.base64 or pybase64.b64encode(image.data), after

    def digest(self, images: Sequence[PreparedImage]) -> str:
        (image,) = images
        asked = [self._passing(image.url)] if image.url is not None else self._around(image.media_type)
        return hashlib.sha256(b"\0".join([*asked, image.sha256.encode()])).hexdigest()

    def preview(self, images: Sequence[PreparedImage]) -> str:
        (image,) = images
        if image.url is not None:
            return json_text(json.loads(self._passing(public_url(image.url))))
        before, after = self._around(image.media_type)
        characters = f"<{4 * ((len(image.data) + 2) // 3):,} characters>"
        return json_text(json.loads(b"".join([before, characters.encode(), after])))

    def renamed(self, body: bytes, model: str) -> bytes:
        return body.replace(_model_field(self._model), _model_field(model), 1)

    def _passing(self, url: str) -> bytes:
        return _json(self._body("", "", url))

    def _around(self, media_type: str) -> tuple[bytes, bytes]:
        """The JSON before and after the base64. Threads may both write what is missing: it is the same."""
        found = self._texts.get(media_type)
        if found is None:
            found = self._texts[media_type] = self._written(media_type)
        return found

    def _written(self, media_type: str) -> tuple[bytes, bytes]:
        number = 0
        while (whole := _json(self._body(media_type, mark := f"<image-{number}>", None))).count(mark.encode()) != 1:
            number += 1
        before, _, after = whole.partition(mark.encode())
        return before, after


def _model_field(model: str) -> bytes:
    return b'{"model":' + _json(model)


def _json(value: Mapping[str, Any] | str) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:  # half a character is a ValueError, too
        raise InputError(f"request.extra: not possible in JSON: {error}") from None
