"""Small pictures of originals, made within the limits that a run has for decoding."""

import base64
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind, InputError
from pipeline.images.frames import prepare_images
from pipeline.images.prepare import Reserve
from pipeline.originals import Originals, State
from pipeline.records import Failure
from pipeline.store.opening import last_config
from pipeline.tokens.sizing import SizeRule

SIDE: Final = 320
"""The longer side in pixels: a card is 250 wide, and screens have more than one pixel for each of them."""
MOST_BYTES: Final = 18_000
"""240 of them come to less than 6 MB as text."""
_TRIES: Final = ((SIDE, 72), (SIDE, 45), (SIDE * 5 // 8, 40))
"""Side and JPEG quality; the next one is for a picture that is still longer than `MOST_BYTES`."""
_AS_FAR_AS_IT_GOES: Final = {"max_sent_mb": 1e-6, "frames": 1, "truncated": "show"}
"""Always made anew, so that no byte of a foreign file reaches a browser; of several pictures in a file one."""
_WHY_NONE: Final = {
    State.MISSING: "The image is no longer where the run read it.",
    State.CHANGED: "The image has changed since the run read it.",
    State.REMOTE: "The image is at an address, and nothing is fetched.",
    State.UNREAD: "The run read no image for this row.",
}


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A JPEG file, upright, without metadata."""

    data: bytes
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The picture as a `data:` URL."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.data).decode()}"


def _at_once(_needed: int) -> AbstractContextManager[object]:
    return nullcontext()


def thumbnail(data: bytes, config: ImagesConfig, reserve: Reserve = _at_once) -> Thumbnail | Failure:
    """A small picture of a whole image file of any format that a run reads; why there is none otherwise.

    `config` has the limits. `reserve` is entered with the bytes of memory that decoding takes.
    """
    made = Thumbnail(data, 0, 0)
    for side, quality in _TRIES:
        found = drawn(made.data, config, side, quality, reserve)
        if isinstance(found, Failure) or len(found.data) <= MOST_BYTES:
            return found
        made = found
    return made


def drawn(
    data: bytes, config: ImagesConfig, side: int, quality: int, reserve: Reserve = _at_once
) -> Thumbnail | Failure:
    """The picture of a file whose longer side is at most `side`, as a JPEG file."""
    settings = config.model_copy(update={**_AS_FAR_AS_IT_GOES, "quality": quality})
    found = prepare_images(data, SizeRule(side), settings, reserve)
    if isinstance(found, Failure):
        return found
    image = found[0]
    if image.is_document:
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="this is a document, which was sent whole")
    return Thumbnail(image.data, image.facts.sent_width or side, image.facts.sent_height or side)


def original_of(row: Mapping[str, Any], originals: Originals) -> bytes | str:
    """The file of a row's image, or why there is no picture of it, in a sentence.

    Raises ResourceError where no file handle is left.
    """
    if row.get("error_kind") == ErrorKind.DECODER_CRASHED:
        return "This image has crashed its decoder, and is not decoded again."
    original = originals.open(row)
    return _WHY_NONE[original.state] if original.data is None else original.data


def no_picture(failure: Failure) -> str:
    """Why there is no picture, in a sentence."""
    return f"No picture: {failure.message}."


def limits_of(out: Path) -> ImagesConfig:
    """Those of the last run, or the defaults."""
    try:
        return last_config(out).images
    except InputError:
        return ImagesConfig()
