"""Small pictures of originals, made within the limits that a run has for decoding."""

import base64
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind
from pipeline.images.frames import prepare_images
from pipeline.images.prepare import Reserve
from pipeline.records import Failure
from pipeline.tokens.sizing import SizeRule

SIDE: Final = 320
"""The longer side in pixels: a card is 250 wide, and screens have more than one pixel for each of them."""
MOST_BYTES: Final = 18_000
"""240 of them come to less than 6 MB as text."""
_TRIES: Final = ((SIDE, 72), (SIDE, 45), (SIDE * 5 // 8, 40))
"""Side and JPEG quality; the next one is for a picture that is still longer than `MOST_BYTES`."""
_AS_FAR_AS_IT_GOES: Final = {"max_sent_mb": 1e-6, "frames": 1, "truncated": "show"}
"""Always made anew, so that no byte of a foreign file reaches a browser; of several pictures in a file one."""


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
        settings = config.model_copy(update={**_AS_FAR_AS_IT_GOES, "quality": quality})
        found = prepare_images(made.data, SizeRule(side), settings, reserve)
        if isinstance(found, Failure):
            return found
        image = found[0]
        if image.is_document:
            return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="this is a document, which was sent whole")
        made = Thumbnail(image.data, image.facts.sent_width or side, image.facts.sent_height or side)
        if len(made.data) <= MOST_BYTES:
            break
    return made
