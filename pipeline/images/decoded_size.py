"""How many bytes of memory an image takes at most while it is decoded, converted, resized and encoded.

Pillow keeps a picture as rows of 1, 2 or 4 bytes a pixel, rounded up to 4, with 8 bytes of pointer a row
(libImaging, Storage.c). The numbers of the decoders are measured: `tests/images/test_memory.py` holds them to it.
"""

from dataclasses import dataclass
from typing import Final

_NARROW: Final = frozenset({"1", "L", "P"})
_DEEP: Final = frozenset({"I", "F"})
_PLAIN: Final = frozenset({"L", "RGB", "RGBA", "CMYK"})
_POINTER_BYTES: Final = 8
_ALIGNED: Final = 4
_ENCODED_BYTES: Final = 2
"""A pixel of the JPEG that is sent, in its file and as bytes: incompressible noise at quality 95."""
_WEIGHT_BYTES: Final = 64
"""Of a filter, for each column and each row: six weights, and what they are made from."""
BAND_ROWS: Final = 256
"""Rows of deep samples that are converted at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """What an image is decoded to, and what its decoder needs besides."""

    size: tuple[int, int]
    """Width and height of the decoded pixels: of a JPEG after its scaled decode."""
    mode: str
    """Pillow's name for the samples of a pixel."""
    alpha: bool
    """Whether a pixel may be transparent."""
    working_bytes: int = 0
    """What the decoder holds while it writes the pixels."""
    copies: bool = False
    """Whether there are two pictures of `mode` at once: one that is turned while it is loaded."""


def picture_bytes(size: tuple[int, int], mode: str) -> int:
    """Of one picture in Pillow's memory."""
    sample = 1 if mode in _NARROW else 2 if mode.startswith("I;16") else 4
    row = -(-size[0] * sample // _ALIGNED) * _ALIGNED
    return size[1] * (row + _POINTER_BYTES)


def loaded_bytes(coding: Coding) -> int:
    """At the most, until the pixels are decoded."""
    return coding.working_bytes + picture_bytes(coding.size, coding.mode) * (1 + coding.copies)


def rendered_bytes(coding: Coding, target: tuple[int, int]) -> int:
    """At the most, until a picture of `target` (as stored, not yet upright) is encoded.

    A step holds its source and its result; the steps before it hold nothing any more.
    """
    plain = _plain_mode(coding)
    source = picture_bytes(coding.size, plain)
    result = picture_bytes(target, plain)
    steps = [loaded_bytes(coding), _conversion_bytes(coding, plain)]
    if target != coding.size:
        # The width first, then the height; the colours of transparent pixels are weighted in a copy.
        halfway = picture_bytes((target[0], coding.size[1]), plain)
        weights = _WEIGHT_BYTES * (sum(coding.size) + sum(target))
        steps.append(source * (1 + (plain == "RGBA")) + halfway + result + weights)
    # On white, turned, in sRGB, encoded: one copy at a time, and a mask while it is laid on white.
    opaque = picture_bytes(target, "L" if plain == "L" else "RGB")
    mask = picture_bytes(target, "L") if plain == "RGBA" else 0
    steps.append(result + opaque + mask + (opaque if plain == "L" else 0) + target[0] * target[1] * _ENCODED_BYTES)
    return max(steps)


def _plain_mode(coding: Coding) -> str:
    if coding.mode in _DEEP or coding.mode.startswith("I;16"):
        return "L"
    if coding.alpha:
        return "RGBA"
    if coding.mode in _PLAIN:
        return coding.mode
    return "L" if coding.mode == "1" else "RGB"


def _conversion_bytes(coding: Coding, plain: str) -> int:
    decoded = picture_bytes(coding.size, coding.mode)
    if coding.mode == plain:
        return decoded
    if coding.mode in _DEEP or coding.mode.startswith("I;16"):
        band = (coding.size[0], min(BAND_ROWS, coding.size[1]))
        return decoded + picture_bytes(coding.size, plain) + 4 * picture_bytes(band, "F")
    return decoded + picture_bytes(coding.size, plain)
