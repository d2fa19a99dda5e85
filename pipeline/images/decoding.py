"""Bytes -> pixels, by Pillow: no larger than needed, upright, sRGB, opaque. Foreign errors become values here."""

from collections.abc import Callable
from typing import TypeVar

from PIL import Image, JpegImagePlugin

from pipeline.errors import ErrorKind
from pipeline.images.colour import IS_NEGATIVE, WHITE_LEVEL, flattened, in_srgb, plain_mode
from pipeline.images.containers import Format, Header, inspect, jpeg2000
from pipeline.images.containers.endings import ends_early
from pipeline.images.containers.values import UnsupportedFileError
from pipeline.images.decoded_size import loaded_bytes, rendered_bytes
from pipeline.images.flaws import flaw_in_words, flaw_of_type, one_line_of, says_it_ends
from pipeline.images.named_colours import named_profile
from pipeline.images.opening import coding_of, has_too_many_values, opened
from pipeline.images.readers import WITH_EXIF, is_negative, is_unsigned, white_level
from pipeline.images.scaling import Box, scaled
from pipeline.records import Failure

T = TypeVar("T")
Decoded = tuple[Image.Image, Box | None]
"""The pixels, and the part of them that is picture where it is not all (a draft may end in half a pixel)."""

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of each EXIF orientation upright (CIPA DC-008, 4.6.4)."""


def attempt(step: Callable[[], T], data: bytes, kind: Format) -> T | Failure:
    """`step()`, or why `data` cannot be decoded. `step` only calls Pillow, so that no error of ours is hidden."""
    try:
        return step()
    except Exception as error:  # noqa: BLE001 - Pillow's plugins raise whatever their parsers stumble over
        return undecodable(error, data, kind)


def measured(data: bytes, kind: Format) -> Header:
    """The header as Pillow reads it, for files that `probe` does not read."""
    if kind is Format.WEBP:
        # Opening it allocates the picture before its size is known to be allowed, and probe reads every WebP.
        raise ValueError("it has no picture")
    if kind is Format.TIFF and has_too_many_values(data):
        raise ValueError("a metadata tag holds too many values")
    with opened(data, kind) as image:
        # Pillow turns a TIFF file itself, and libheif a HEIC file.
        orientation = image.getexif().get(_ORIENTATION, 1) if kind in WITH_EXIF else 1
        return Header(
            format=kind,
            width=image.width,
            height=image.height,
            orientation=orientation if orientation in _TURNS else 1,
            common=False,
        )


def decoding_bytes(data: bytes, header: Header, target: tuple[int, int] | None) -> int:
    """How many bytes of memory `rendered` takes at most, the file's own included; with no target `loaded`.

    Opens the file, which is no picture in memory yet. Raises what Pillow raises.
    """
    if target is None:
        return len(data) + loaded_bytes(coding_of(data, header, (header.width, header.height)))
    stored = _stored(target, header)
    return len(data) + rendered_bytes(coding_of(data, header, stored), stored)


def rendered(data: bytes, header: Header, target: tuple[int, int]) -> Image.Image:
    """The picture at `target` (width, height; upright): 8 bits, grey or sRGB, on white, without metadata."""
    return finished(lambda: _decoded(data, header, _stored(target, header)), header, target)


def finished(decoded: Callable[[], Decoded], header: Header, target: tuple[int, int]) -> Image.Image:
    """What `decoded` gives, as it is sent. It is called here, so that nothing else holds the picture."""
    stored = _stored(target, header)
    picture, box = decoded()
    profile, is_grey = picture.info.get("icc_profile"), Image.getmodebase(picture.mode) == "L"
    # One name for all: each step lets go of what the one before it made.
    picture = plain_mode(picture)
    picture = scaled(picture, stored, box)
    picture = flattened(picture)
    if is_grey and picture.mode == "RGB":  # its profile is one of greys
        picture = picture.getchannel("R")
    if header.orientation in _TURNS:
        picture = picture.transpose(_TURNS[header.orientation])
    picture = in_srgb(picture, profile)
    picture.info = {}
    return picture


def loaded(data: bytes, header: Header) -> None:
    """Decode the whole image and drop it."""
    _decoded(data, header, (header.width, header.height))


def _decoded(data: bytes, header: Header, stored: tuple[int, int]) -> Decoded:
    image = opened(data, header.format)
    if image.size != (header.width, header.height):
        raise ValueError(f"its header says {header.width} x {header.height}, its pixels {image.size}")
    draft = image.draft(None, stored) if isinstance(image, JpegImagePlugin.JpegImageFile) else None
    box = draft[1] if draft is not None and draft[1] != (0, 0, *image.size) else None
    if header.arithmetic:
        image.decodermaxblock = len(data)
    image.load()
    if "icc_profile" not in image.info and (profile := _profile_of(data, header.format)) is not None:
        image.info["icc_profile"] = profile
    if (white := white_level(image, header.format)) is not None:
        image.info[WHITE_LEVEL] = white
    if is_negative(image):
        image.info[IS_NEGATIVE] = True
    if is_unsigned(image) and image.getextrema()[0] < 0:  # type: ignore[operator]  # of one band
        raise UnsupportedFileError("this TIFF has samples beyond 2,147,483,647, which are not read; make it 16 bits")
    if header.format is Format.PNG:
        _scale_transparency(image, header.bits)
    return image, box


def _profile_of(data: bytes, kind: Format) -> bytes | None:
    """Where Pillow gives none."""
    return jpeg2000.profile_of(data) if kind is Format.JPEG2000 else named_profile(data, kind)


def _scale_transparency(image: Image.Image, bits: int) -> None:
    """Pillow makes 8 bits of 2 or 4, and not of the level that is transparent."""
    level = image.info.get("transparency")
    if image.mode == "L" and isinstance(level, int):
        image.info["transparency"] = level * 255 // ((1 << bits) - 1)


def _stored(size: tuple[int, int], header: Header) -> tuple[int, int]:
    return size if header.upright == (header.width, header.height) else (size[1], size[0])


def undecodable(error: Exception, data: bytes, kind: Format) -> Failure:
    """Why an image cannot be decoded, as far as its structure says it."""
    container = inspect(data)
    if container is not None and container.cut:
        return Failure(kind=ErrorKind.IMAGE_TRUNCATED, message=f"the {kind} is incomplete: {container.why}")
    known = flaw_of_type(error, kind) or (flaw_in_words(error, kind) if container is None else None)
    if known is not None:
        return known
    if says_it_ends(error) or (container is None and ends_early(data, kind)):
        return Failure(
            kind=ErrorKind.IMAGE_TRUNCATED, message=f"the {kind} is incomplete: the data ends before the picture does"
        )
    why = container.why if container is not None and container.why else one_line_of(error)
    return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=f"the {kind} cannot be decoded: {why}")
