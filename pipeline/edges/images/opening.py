"""Files as Pillow's readers open them: what they would decode to, before anything is decoded.

Metadata has a bound here as well. Readers walk through it in Python and keep it, so that millions of empty comments
would hold a thread for minutes: what they read is counted.
"""

import io
import re
import struct

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from pipeline.policy.containers import Format, Header
from pipeline.policy.decoding import Coding, picture_bytes

_OPENING_READS = 20_000
"""A photograph has some hundred parts before its pixels; a reader that joins comments takes their square in time."""
_LOADING_READS = 1_000_000
"""Pixels in parts of 255 bytes, up to the longest file that is read by default."""
_MOST_TAG_VALUES = 200_000
"""Each becomes an object of Python: strips of one row, in four planes, of the highest image with room for more."""

_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_DRAFT_SCALES = (8, 4, 2)
_WEBP_BYTES = 12
"""A pixel: two canvases and the frame as bytes, of four each."""
_AVIF_DEEP, _AVIF_MONOCHROME, _AVIF_SUBSAMPLED_X, _AVIF_SUBSAMPLED_Y = 0x40, 0x10, 0x08, 0x04
_AVIF_ALPHA_BYTES = 4
_JPEG2000_SAMPLE_BYTES = 6
"""A sample of a tile: 32 bits, its bytes, and what describes the blocks that it is coded in."""
_JPEG2000_SIZE = re.compile(rb"\xff\x4f\xff\x51(.{38})", re.DOTALL)
_TIFF_TRANSPOSED = 2


class Source(io.BytesIO):
    """A file in memory that may be read so often and no more."""

    def __init__(self, data: bytes, reads: int = _OPENING_READS) -> None:
        super().__init__(data)
        self.reads = reads

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads -= 1
        if self.reads < 0:
            raise ValueError("it has more parts than any camera or program writes")
        return super().read(size)


class _StillWebP(WebPImagePlugin.WebPImageFile):
    """The first picture of a WebP file; the canvases of the others are gone before it is copied."""

    def _get_next(self) -> tuple[bytes, int, int]:
        found = super()._get_next()
        del self._decoder
        return found


# The classes are called directly, not through Image.open: it has a limit for bombs of its own, which is the
# process's and not ours to change, and it parses a JPEG's further images (MPO), which are not sent.
_READERS: dict[Format, type[ImageFile.ImageFile]] = {
    Format.JPEG: JpegImagePlugin.JpegImageFile,
    Format.PNG: PngImagePlugin.PngImageFile,
    Format.GIF: GifImagePlugin.GifImageFile,
    Format.WEBP: _StillWebP,
    Format.BMP: BmpImagePlugin.BmpImageFile,
    Format.TIFF: TiffImagePlugin.TiffImageFile,
    Format.AVIF: AvifImagePlugin.AvifImageFile,
    Format.JPEG2000: Jpeg2KImagePlugin.Jpeg2KImageFile,
}


def opened(data: bytes, kind: Format) -> ImageFile.ImageFile:
    """The image, its pixels not decoded yet. A WebP file has its canvases from here on."""
    source = Source(data)
    image = _READERS[kind](source)
    source.reads = _LOADING_READS
    return image


def coding_of(data: bytes, header: Header, stored: tuple[int, int]) -> Coding:
    """What the file is decoded to where `stored` (as stored, not yet upright) is what will be sent."""
    size = header.width, header.height
    if header.format is Format.JPEG:
        mode = _JPEG_MODES.get(header.components, "CMYK")
        return Coding(size=draft_size(size, stored), mode=mode, alpha=False, working_bytes=header.buffered_bytes)
    if header.format is Format.WEBP:
        mode = "RGBA" if header.alpha or header.animated else "RGB"
        beyond = max(0, _WEBP_BYTES * size[0] * size[1] - picture_bytes(size, mode))
        return Coding(size=size, mode=mode, alpha=mode == "RGBA", working_bytes=beyond)
    with opened(data, header.format) as image:
        return Coding(
            size=size,
            mode=image.mode,
            alpha=image.has_transparency_data,
            working_bytes=_working_bytes(data, image),
            copies=isinstance(image, TiffImagePlugin.TiffImageFile)
            and image.getexif().get(0x0112, 1) >= _TIFF_TRANSPOSED,
        )


def draft_size(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The smallest size, not below `target`, that a JPEG decoder produces by itself: 1/8, 1/4, 1/2 or all."""
    covering = min(size[0] // target[0], size[1] // target[1])
    scale = next((scale for scale in _DRAFT_SCALES if scale <= covering), 1)
    return -(-size[0] // scale), -(-size[1] // scale)


def _working_bytes(data: bytes, image: ImageFile.ImageFile) -> int:
    pixels = image.width * image.height
    match image:
        case TiffImagePlugin.TiffImageFile():
            return 2 * _strip_bytes(image)
        case AvifImagePlugin.AvifImageFile():
            return int(pixels * _avif_pixel_bytes(data, image.mode))
        case Jpeg2KImagePlugin.Jpeg2KImageFile():
            return _jpeg2000_bytes(data, pixels)
        case BmpImagePlugin.BmpImageFile():
            is_packed = any(tile.codec_name == "bmp_rle" for tile in image.tile)
            return 3 * pixels if is_packed else 0  # by Pillow in Python: all bytes, and a copy of them
        case GifImagePlugin.GifImageFile():
            return 2 * pixels  # a frame that is smaller than its screen is decoded aside
        case _:
            return 0


def _strip_bytes(image: TiffImagePlugin.TiffImageFile) -> int:
    """Of the largest strip or tile, which a decoder takes in one piece."""
    tags = image.tag_v2
    width, rows = tags.get(322), tags.get(323)
    if not isinstance(width, int) or not isinstance(rows, int):
        width, rows = tags[256], min(tags[257], _first(tags.get(278), tags[257]))
    bits = max(_all(tags.get(258, 1)))
    return width * rows * _first(tags.get(277), 1) * -(-bits // 8)


def _first(value: object, otherwise: int) -> int:
    found = value[0] if isinstance(value, tuple) and value else value
    return found if isinstance(found, int) and found > 0 else otherwise


def _all(value: object) -> tuple[int, ...]:
    values = value if isinstance(value, tuple) else (value,)
    return tuple(one for one in values if isinstance(one, int)) or (1,)


def _avif_pixel_bytes(data: bytes, mode: str) -> float:
    """The planes as coded and the pixels as bytes; every image of the file says in `av1C` how it is coded."""
    planes = 0.0
    for found in re.finditer(rb"av1C..(.)", data, re.DOTALL):
        (flags,) = found[1]
        chroma = 2 / ((2 if flags & _AVIF_SUBSAMPLED_X else 1) * (2 if flags & _AVIF_SUBSAMPLED_Y else 1))
        chroma = 0 if flags & _AVIF_MONOCHROME else chroma
        planes = max(planes, (1 + chroma) * (2 if flags & _AVIF_DEEP else 1))
    return (planes or 6) + (3 if mode == "RGB" else 4 + _AVIF_ALPHA_BYTES)


def _jpeg2000_bytes(data: bytes, pixels: int) -> int:
    """Of the largest tile (ITU-T T.800, A.5.1): a decoder takes one after the other."""
    most = 0
    for found in _JPEG2000_SIZE.finditer(data):
        _, _, right, bottom, left, top, tile_width, tile_height, _, _, components = struct.unpack(
            ">HHIIIIIIIIH", found[1]
        )
        area = min(tile_width, max(0, right - left)) * min(tile_height, max(0, bottom - top))
        most = max(most, area * components)
    return (most or 4 * pixels) * _JPEG2000_SAMPLE_BYTES


def has_too_many_values(data: bytes) -> bool:
    """Whether a tag of a TIFF file that describes pixels has more values than any image needs (TIFF 6.0, section 2)."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    try:
        (at,) = struct.unpack_from(f"{order}Q", data, 8) if is_big else struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}{'Q' if is_big else 'H'}", data, at)
        first, step, layout = (at + 8, 20, "HHQ") if is_big else (at + 2, 12, "HHI")
        for entry in range(min(entries, _OPENING_READS)):
            tag, _, count = struct.unpack_from(order + layout, data, first + entry * step)
            if 256 <= tag < 512 and count > _MOST_TAG_VALUES:  # noqa: PLR2004 - those of TIFF 6.0
                return True
    except (struct.error, OverflowError):
        pass
    return False
