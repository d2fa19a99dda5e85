"""What can be measured in an image: its size, shape, colours, brightness and how busy it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
_EXIF_ORIENTATION = 0x0112
_QUARTER_TURNS = frozenset({5, 6, 7, 8})
_SAMPLE_SIDE = 128
_COLOUR_SIDE = 32
_WHITE = 255
_SQUARE = 1.05
"""Sides that differ by less than 5 % look square."""

_PALETTE = {
    "black": (15, 15, 15),
    "dark grey": (75, 75, 75),
    "grey": (130, 130, 130),
    "light grey": (195, 195, 195),
    "white": (248, 248, 248),
    "red": (205, 40, 40),
    "dark red": (110, 25, 25),
    "orange": (235, 130, 30),
    "brown": (120, 75, 40),
    "beige": (215, 190, 150),
    "yellow": (238, 218, 60),
    "olive": (110, 110, 40),
    "green": (70, 160, 60),
    "dark green": (30, 75, 35),
    "light green": (160, 215, 140),
    "teal": (40, 140, 140),
    "light blue": (150, 195, 235),
    "blue": (45, 95, 205),
    "dark blue": (25, 40, 95),
    "purple": (125, 55, 150),
    "pink": (235, 150, 185),
}
_COLOURS = tuple(_PALETTE)
_COLOUR_RGB = np.array(tuple(_PALETTE.values()), dtype=np.int32)
_BRIGHTNESS = ((45, "very dark"), (95, "dark"), (160, "of medium brightness"), (215, "bright"))
_DETAIL = ((1.5, "with almost no detail"), (6, "with little detail"), (16, "with some detail"))


class UnreadableImageError(Exception):
    """The bytes are damaged, or larger than anything that is looked at."""


class UnsupportedImageError(Exception):
    """The bytes are none of the formats that OpenAI takes: PNG, JPEG, WebP, and GIF that does not move."""


@dataclass(frozen=True, slots=True)
class Look:
    """An image as seen: upright size in pixels (after EXIF rotation), and a sentence about it."""

    width: int
    height: int
    caption: str
    pages: int = 0
    """Of a document, which has no size."""
    is_blank: bool = False
    """Whether all pixels are white."""


def look_at(data: bytes, *, decode: bool = True) -> Look:
    """Decode an image whole, or with `decode=False` its header alone, and say what is there.

    Raises UnsupportedImageError and UnreadableImageError.
    """
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _refuse_motion(image)
            width, height = _upright_size(image)
            seen, is_blank = _measure(image) if decode else ("", False)
    except UnsupportedImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnsupportedImageError(str(error)) from None
    except Exception as error:  # noqa: BLE001 -- Pillow raises nearly any type on crafted bytes
        raise UnreadableImageError(str(error) or type(error).__name__) from None
    sentence = f"A {_shape(width, height)} image, {width} x {height} pixels{seen}."
    return Look(width, height, sentence, is_blank=is_blank)


def _refuse_motion(image: Image.Image) -> None:
    if image.format == "GIF" and getattr(image, "is_animated", False):
        raise UnsupportedImageError("an animated GIF")


def _upright_size(image: Image.Image) -> tuple[int, int]:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except (OSError, SyntaxError, ValueError, Warning):  # damaged metadata turn nothing
        orientation = None
    return (image.height, image.width) if orientation in _QUARTER_TURNS else image.size


def _measure(image: Image.Image) -> tuple[str, bool]:
    """What is seen, and whether there is nothing but white."""
    # A scaled decode reads every byte of the file, so damage shows, at a fraction of the cost.
    image.draft(None, (_SAMPLE_SIDE, _SAMPLE_SIDE))
    image.load()
    rgb = _on_white(image)
    rgb = rgb.reduce(max(1, max(rgb.size) // _SAMPLE_SIDE))
    light = np.asarray(rgb.convert("L"), dtype=np.int32)
    bright = _word(float(light.mean()), _BRIGHTNESS, "very bright")
    detail = _word(_busyness(light), _DETAIL, "with much fine detail")
    # Picked, not averaged: mixing neighbours makes colours that are not there. Odd, to miss no checkerboard.
    step = max(rgb.size) // _COLOUR_SIDE | 1
    few = np.asarray(rgb, dtype=np.int32)[::step, ::step].reshape(-1, 3)
    return f", {_colours(few)}, {bright}, {detail}", int(light.min()) == _WHITE


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def _busyness(light: NDArray[np.int32]) -> float:
    """The mean step of brightness (0 to 255) between neighbours, to the right and downwards."""
    steps = (np.abs(np.diff(light, axis=axis)) for axis in (0, 1) if light.shape[axis] > 1)
    return sum(float(step.mean()) for step in steps)


def _colours(pixels: NDArray[np.int32]) -> str:
    distance = ((pixels[:, None, :] - _COLOUR_RGB[None, :, :]) ** 2).sum(axis=2)
    share = np.bincount(distance.argmin(axis=1), minlength=len(_COLOURS)) / len(pixels)
    first, second = (int(index) for index in np.argsort(-share, kind="stable")[:2])
    if share[second] < 0.1:  # noqa: PLR2004 -- less than a tenth is not worth a word
        return f"almost entirely {_COLOURS[first]}"
    return f"mostly {_COLOURS[first]} and {_COLOURS[second]}"


def _word(value: float, steps: Sequence[tuple[float, str]], otherwise: str) -> str:
    return next((word for limit, word in steps if value < limit), otherwise)


def _shape(width: int, height: int) -> str:
    if max(width, height) < _SQUARE * min(width, height):
        return "square"
    return "landscape-format" if width > height else "portrait-format"
