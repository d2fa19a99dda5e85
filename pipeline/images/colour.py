"""Whatever mode Pillow decodes to -> 8-bit grey or sRGB on white."""

import hashlib
import io
import itertools
import math
import threading

from PIL import Image, ImageChops, ImageCms

from pipeline.images.decoded_size import BAND_ROWS

_PLAIN = frozenset({"L", "RGB", "RGBA", "CMYK"})
_WHITE_8_BIT, _WHITE_16_BIT = 255.0, 65535.0
WHITE_LEVEL = "white_level"
"""In `info`: the sample that is white; 0 where the least is black and the most is white."""
IS_NEGATIVE = "is_negative"
"""In `info`, of samples of more than 8 bits: 0 is white."""
_SAME_LEVELS = 3
"""Of 255: a profile that changes no colour by more is sRGB, whatever it is called."""

# Making a transform takes longer than using it, and a dataset has few profiles. Transforms are read only.
_TRANSFORMS: dict[tuple[bytes, str], ImageCms.ImageCmsTransform | None] = {}
_MAX_TRANSFORMS = 64
_LOCK = threading.Lock()


def plain_mode(image: Image.Image) -> Image.Image:
    """The picture as L, RGB, RGBA or CMYK, which are the modes that are resized well."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _eight_bit(image)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    if image.mode in _PLAIN:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def flattened(image: Image.Image) -> Image.Image:
    """The picture on white, where it is transparent."""
    if image.mode != "RGBA":
        return image
    paper = Image.new("RGB", image.size, "white")
    paper.paste(image, mask=image.getchannel("A"))
    return paper


def in_srgb(image: Image.Image, profile: object) -> Image.Image:
    """L or RGB in sRGB. `profile` is the file's ICC profile, if any; one that is broken is ignored."""
    transform = _transform(profile, image.mode) if isinstance(profile, bytes) else None
    if transform is None:
        return image if image.mode in ("L", "RGB") else image.convert("RGB")
    converted = transform.apply(image)
    return converted.convert("L") if image.mode == "L" else converted


def _eight_bit(image: Image.Image) -> Image.Image:
    """Samples of more than 8 bits, scaled to 8 and not clipped; some rows at a time, since each step copies them."""
    scale, offset = _levels(image)
    if image.info.get(IS_NEGATIVE):
        scale, offset = -scale, _WHITE_8_BIT - offset
    narrow = Image.new("L", image.size)
    for top in range(0, image.height, BAND_ROWS):
        band = image.crop((0, top, image.width, min(top + BAND_ROWS, image.height)))
        wide = band if band.mode in ("I", "F") else band.convert("I")
        # Half a level more, because the conversion to L rounds down.
        narrow.paste(wide.convert("F").point(lambda value: value * scale + (offset + 0.5)).convert("L"), (0, top))
    return narrow


def _levels(image: Image.Image) -> tuple[float, float]:
    """(scale, offset) that bring the samples into 0 to 255.

    Modes I and F do not say how many bits are meant: the usual ranges are taken as they are, others stretched.
    """
    white = image.info.get(WHITE_LEVEL)
    if isinstance(white, int) and white:
        return _WHITE_8_BIT / white, 0.0
    if image.mode not in ("I", "F"):
        return _WHITE_8_BIT / _WHITE_16_BIT, 0.0
    low, high = _extrema(image)
    if low >= 0.0 and white != 0:
        usual = (1.0, _WHITE_8_BIT) if image.mode == "F" else (_WHITE_8_BIT, _WHITE_16_BIT)
        for white in usual:
            if high <= white:
                return _WHITE_8_BIT / white, 0.0
    if not math.isfinite(high - low) or high <= low:
        return 1.0, 0.0
    scale = _WHITE_8_BIT / (high - low)
    return scale, -low * scale


def _extrema(image: Image.Image) -> tuple[float, float]:
    low, high = image.getextrema()
    if isinstance(low, tuple) or isinstance(high, tuple):  # pragma: no cover - one band has one pair
        raise TypeError(f"{image.mode} has more than one band")
    return float(low), float(high)


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """To sRGB; None where the profile is sRGB already, is broken, or is none for this mode."""
    key = hashlib.blake2b(profile, digest_size=16).digest(), mode
    with _LOCK:
        if key in _TRANSFORMS:
            return _TRANSFORMS[key]
    transform = _built(profile, mode)
    with _LOCK:
        if len(_TRANSFORMS) >= _MAX_TRANSFORMS:
            _TRANSFORMS.clear()
        _TRANSFORMS[key] = transform
    return transform


def _built(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return None if mode != "CMYK" and _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    levels = range(0, 256, 17)
    if mode == "L":
        sample = Image.frombytes("L", (16, 1), bytes(levels))
    else:
        colours = bytes(level for rgb in itertools.product(levels, repeat=3) for level in rgb)
        sample = Image.frombytes("RGB", (64, 64), colours)
    bands = ImageChops.difference(transform.apply(sample), sample.convert("RGB")).split()
    return all(_extrema(band)[1] <= _SAME_LEVELS for band in bands)
