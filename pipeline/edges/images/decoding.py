"""Bytes -> pixels, by Pillow: no larger than needed, upright, sRGB, opaque. Foreign errors become values here."""

import io
from collections.abc import Callable
from typing import TypeVar

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from pipeline.edges.images.colour import flattened, in_srgb, plain_mode
from pipeline.edges.images.scaling import Box, scaled
from pipeline.errors import ErrorKind
from pipeline.policy.containers import Format, Header, inspect
from pipeline.records import Failure

T = TypeVar("T")

# The classes are called directly, not through Image.open: it has a limit for bombs of its own, which is the
# process's and not ours to change, and it parses a JPEG's further images (MPO), which are not sent.
_READERS: dict[Format, type[ImageFile.ImageFile]] = {
    Format.JPEG: JpegImagePlugin.JpegImageFile,
    Format.PNG: PngImagePlugin.PngImageFile,
    Format.GIF: GifImagePlugin.GifImageFile,
    Format.WEBP: WebPImagePlugin.WebPImageFile,
    Format.BMP: BmpImagePlugin.BmpImageFile,
    Format.TIFF: TiffImagePlugin.TiffImageFile,
    Format.AVIF: AvifImagePlugin.AvifImageFile,
    Format.JPEG2000: Jpeg2KImagePlugin.Jpeg2KImageFile,
}

_BYTES_PER_PIXEL = {
    Format.PNG: 10,
    Format.GIF: 10,
    Format.WEBP: 20,
    Format.BMP: 8,
    Format.TIFF: 14,
    Format.AVIF: 14,
    Format.JPEG2000: 20,
}
"""Of a full decode, as measured: the codec's own planes, Pillow's four bytes a pixel, a conversion of the mode."""
_BYTES_PER_DEEP_PIXEL = 20
"""Of 16-bit grey, which passes through 32-bit samples."""
_PILLOW_PIXEL_BYTES = 4
_DRAFT_SCALES = (8, 4, 2)
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
        return _failure(error, data, kind)


def measured(data: bytes, kind: Format) -> Header:
    """The header as Pillow reads it, for files that `probe` does not know."""
    if kind is Format.WEBP:
        # Opening it allocates the picture before its size is known to be allowed, and probe knows every WebP.
        raise ValueError("it has no picture")
    with _READERS[kind](io.BytesIO(data)) as image:
        orientation = 1 if kind is Format.TIFF else image.getexif().get(_ORIENTATION, 1)
        return Header(
            format=kind,
            width=image.width,
            height=image.height,
            orientation=orientation if orientation in _TURNS else 1,
            common=False,
        )


def decoding_bytes(header: Header, target: tuple[int, int]) -> int:
    """About how many bytes of memory `rendered` uses for this image at its peak."""
    width, height = _stored(target, header)
    decoded = header.width, header.height
    if header.format is Format.JPEG:
        decoded = draft_size(decoded, (width, height))
    # A resizer works in two passes: the width first, then the height.
    resized = width * (decoded[1] + height) * _PILLOW_PIXEL_BYTES
    if header.format is Format.JPEG:
        return decoded[0] * decoded[1] * _PILLOW_PIXEL_BYTES + header.buffered_bytes + resized
    deep = header.bits > 8 and header.components == 1  # noqa: PLR2004 - colour is read as 8 bits
    pixel_bytes = _BYTES_PER_DEEP_PIXEL if deep else _BYTES_PER_PIXEL[header.format]
    return header.width * header.height * pixel_bytes + resized


def draft_size(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The smallest size, not below `target`, that a JPEG decoder produces by itself: 1/8, 1/4, 1/2 or all."""
    covering = min(size[0] // target[0], size[1] // target[1])
    scale = next((scale for scale in _DRAFT_SCALES if scale <= covering), 1)
    return -(-size[0] // scale), -(-size[1] // scale)


def rendered(data: bytes, header: Header, target: tuple[int, int]) -> Image.Image:
    """The picture at `target` (width, height; upright): 8 bits, grey or sRGB, on white, without metadata."""
    stored = _stored(target, header)
    image, box = _decoded(data, header, stored)
    profile = image.info.get("icc_profile")
    picture = flattened(scaled(plain_mode(image), stored, box))
    if header.orientation in _TURNS:
        picture = picture.transpose(_TURNS[header.orientation])
    picture = in_srgb(picture, profile)
    picture.info = {}
    return picture


def loaded(data: bytes, header: Header) -> None:
    """Decode the whole image and drop it."""
    _decoded(data, header, (header.width, header.height))


def _decoded(data: bytes, header: Header, stored: tuple[int, int]) -> tuple[Image.Image, Box | None]:
    """The pixels, and the part of them that is picture where it is not all (a draft may end in half a pixel)."""
    image = _READERS[header.format](io.BytesIO(data))
    if image.size != (header.width, header.height):
        raise ValueError(f"its header says {header.width} x {header.height}, its pixels {image.size}")
    draft = image.draft(None, stored) if isinstance(image, JpegImagePlugin.JpegImageFile) else None
    box = draft[1] if draft is not None and draft[1] != (0, 0, *image.size) else None
    image.load()
    return image, box


def _stored(size: tuple[int, int], header: Header) -> tuple[int, int]:
    return size if header.upright == (header.width, header.height) else (size[1], size[0])


def _failure(error: Exception, data: bytes, kind: Format) -> Failure:
    if isinstance(error, Image.DecompressionBombError):
        return Failure(kind=ErrorKind.IMAGE_BOMB, message=_line(error))
    if isinstance(error, MemoryError):
        return Failure(kind=ErrorKind.IMAGE_TOO_LARGE, message=f"there is not enough memory to decode this {kind}")
    container = inspect(data)
    if container is not None and container.cut:
        return Failure(kind=ErrorKind.IMAGE_TRUNCATED, message=f"the {kind} is incomplete: {container.why}")
    if "truncated" in str(error):
        return Failure(kind=ErrorKind.IMAGE_TRUNCATED, message=f"the {kind} is incomplete: {_line(error)}")
    why = container.why if container is not None and container.why else _line(error)
    return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=f"the {kind} cannot be decoded: {why}")


def _line(error: Exception) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in str(error))
    return " ".join(text.split())[:200] or type(error).__name__
