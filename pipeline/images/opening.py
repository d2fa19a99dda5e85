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
    ImageFile,
    Jpeg2KImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from pipeline.images.containers import Format, Header, inspect, stripped
from pipeline.images.containers.jpeg2000 import samples_of
from pipeline.images.containers.png import has_packed
from pipeline.images.containers.values import reader_of
from pipeline.images.decoded_size import Coding, picture_bytes
from pipeline.images.heic import HeicImageFile
from pipeline.images.readers import MOST_SLOW_PIXELS, READERS, is_slow

_OPENING_READS = 20_000
"""A photograph has some hundred parts before its pixels; a reader that joins comments takes their square in time."""
_TOO_MANY_PARTS = "it has more parts than any camera or program writes"
_LOADING_READS = 1_000_000
"""Pixels in parts of 255 bytes, up to the longest file that is read by default."""
_PIXEL_READS = 4
"""Of a reader in Python: a run of one pixel and the end of its line. Marks without pixels would hold it for minutes."""
_MOST_TAG_VALUES = 200_000
"""Each becomes an object of Python: strips of one row, in four planes, of the highest image with room for more."""

_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_DRAFT_SCALES = (8, 4, 2)
_JPEG_EDGE_BYTES = 200
"""For each column and each row: the blocks at the edges are whole, and 16 rows of each component are at work."""
_WEBP_BYTES = 12
"""A pixel: two canvases and the frame as bytes, of four each."""
_AVIF_DEEP, _AVIF_MONOCHROME, _AVIF_SUBSAMPLED_X, _AVIF_SUBSAMPLED_Y = 0x40, 0x10, 0x08, 0x04
_AVIF_ALPHA_BYTES = 4
_AVIF_BYTES = 12_000_000
"""Of the codec itself, whatever the size is."""
_HEIC_ALPHA_BYTES, _HEIC_TILE_BYTES, _HEIC_MOST_PIXEL_BYTES = 8, 8, 6
_HEIC_BYTES = 6_000_000
"""Of the codec itself."""
_JPEG2000_SAMPLE_BYTES = 7
"""A sample of a tile: 32 bits, its bytes, a picture's share."""
_JPEG2000_BLOCK_BYTES, _JPEG2000_TILE_BYTES = 900, 10_000
"""What describes a block of samples that is coded in one, and a tile; as measured."""
_JPEG2000_DEFAULT_BLOCK = 12
"""Of 64 x 64 samples, as a power of two."""
_TIFF_TRANSPOSED = 2
_TIFF_STRIP_BYTES = 32
"""Where a strip stands and how long it is, in libtiff and here."""
_JPEG2000_STYLE_BYTES = 11
_JPEG2000_THIN = 64
_MOST_SEGMENTS = 100


class Source(io.BytesIO):
    """A file in memory that may be read so often and no more."""

    def __init__(self, data: bytes, reads: float = _OPENING_READS) -> None:
        super().__init__(data)
        self.reads = reads

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads -= 1
        if self.reads < 0:
            raise ValueError(_TOO_MANY_PARTS)
        return super().read(size)


class TooSlowError(ValueError):
    """Decoding would take minutes. The message is a whole sentence."""


def opened(data: bytes, kind: Format) -> ImageFile.ImageFile:
    """The image, its pixels not decoded yet. A WebP file has its canvases from here on."""
    source = Source(_without_packed(data) if kind is Format.PNG else data)
    image = READERS[kind].plugin(source)
    if any(tile.codec_name == "ppm_plain" for tile in image.tile) and data.count(b"#") > _OPENING_READS:
        raise ValueError(_TOO_MANY_PARTS)
    source.reads = max(_LOADING_READS, _PIXEL_READS * image.width * image.height) if is_slow(image) else _LOADING_READS
    return image


def _without_packed(data: bytes) -> bytes:
    """A PNG file without texts, and without a profile that is none when it is unpacked: Pillow refuses long ones."""
    container = inspect(data) if has_packed(data) else None
    return stripped(data, container) if container is not None and container.whole else data


def opened_for_seeking(data: bytes, kind: Format) -> ImageFile.ImageFile:
    """An animation, which gives its pictures one after the other."""
    source = Source(data, _LOADING_READS)
    return WebPImagePlugin.WebPImageFile(source) if kind is Format.WEBP else READERS[kind].plugin(source)


def coding_of(data: bytes, header: Header, stored: tuple[int, int]) -> Coding:
    """What the file is decoded to where `stored` (as stored, not yet upright) is what will be sent."""
    size = header.width, header.height
    if header.format is Format.JPEG:
        mode = _JPEG_MODES.get(header.components, "CMYK")
        working = header.buffered_bytes + _JPEG_EDGE_BYTES * sum(size) + len(data) * header.arithmetic
        return Coding(size=draft_size(size, stored), mode=mode, alpha=False, working_bytes=working)
    if header.format is Format.WEBP:
        mode = "RGBA" if header.alpha or header.animated else "RGB"
        beyond = max(0, _WEBP_BYTES * size[0] * size[1] - picture_bytes(size, mode))
        return Coding(size=size, mode=mode, alpha=mode == "RGBA", working_bytes=beyond)
    if header.format is Format.GIF:
        # Pillow may allocate a picture while it opens one; it decodes a frame that is smaller than its screen aside.
        working = int(READERS[Format.GIF].pixel_bytes * size[0] * size[1])
        return Coding(size=size, mode="P", alpha=header.alpha, working_bytes=working)
    with opened(data, header.format) as image:
        if is_slow(image) and image.width * image.height > MOST_SLOW_PIXELS:
            raise TooSlowError(
                f"this {header.format} takes too long to decode: {image.width * image.height:,} pixels, and at most "
                f"{MOST_SLOW_PIXELS:,} are decoded of this format; convert it to PNG"
            )
        return Coding(
            size=size,
            mode=image.mode,
            alpha=image.has_transparency_data,
            working_bytes=_working_bytes(data, image, header.format),
            copies=isinstance(image, TiffImagePlugin.TiffImageFile)
            and image.getexif().get(0x0112, 1) >= _TIFF_TRANSPOSED,
        )


def draft_size(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The smallest size, not below `target`, that a JPEG decoder produces by itself: 1/8, 1/4, 1/2 or all."""
    covering = min(size[0] // target[0], size[1] // target[1])
    scale = next((scale for scale in _DRAFT_SCALES if scale <= covering), 1)
    return -(-size[0] // scale), -(-size[1] // scale)


def _working_bytes(data: bytes, image: ImageFile.ImageFile, kind: Format) -> int:
    pixels = image.width * image.height
    match image:
        case TiffImagePlugin.TiffImageFile():
            return 2 * _strip_bytes(image) + pixels // _strip_pixels(image) * _TIFF_STRIP_BYTES
        case AvifImagePlugin.AvifImageFile():
            return _AVIF_BYTES + int(pixels * _avif_pixel_bytes(data, image.mode))
        case Jpeg2KImagePlugin.Jpeg2KImageFile():
            return _jpeg2000_bytes(data, pixels)
        case BmpImagePlugin.BmpImageFile():
            is_packed = any(tile.codec_name == "bmp_rle" for tile in image.tile)
            return 3 * pixels if is_packed else 0  # by Pillow in Python: all bytes, and a copy of them
        case HeicImageFile():
            return _heic_bytes(image) + len(data)
        case _:
            return int(READERS[kind].pixel_bytes * pixels) + len(data)


def _heic_bytes(image: HeicImageFile) -> int:
    """The planes and the colours, both twice while it is turned; besides its largest tile in the decoder."""
    (width, height), tile = image.facts.canvas, image.facts.tile
    alpha = _HEIC_ALPHA_BYTES if image.facts.has_alpha else 0
    # Of the colours' eight bytes four are Pillow's picture, which is counted by itself.
    pixel = 2 * (tile.pixel_bytes or _HEIC_MOST_PIXEL_BYTES) + 2 + alpha
    return _HEIC_BYTES + int(width * height * pixel) + tile.width * tile.height * _HEIC_TILE_BYTES


def _strip_size(image: TiffImagePlugin.TiffImageFile) -> tuple[int, int]:
    """Of the largest strip or tile, which a decoder takes in one piece: width and rows."""
    tags = image.tag_v2
    width, rows = tags.get(322), tags.get(323)
    if isinstance(width, int) and isinstance(rows, int):
        return max(1, width), max(1, rows)
    return tags[256], min(tags[257], _first(tags.get(278), tags[257]))


def _strip_bytes(image: TiffImagePlugin.TiffImageFile) -> int:
    width, rows = _strip_size(image)
    bits = max(_all(image.tag_v2.get(258, 1)))
    return width * rows * _first(image.tag_v2.get(277), 1) * -(-bits // 8)


def _strip_pixels(image: TiffImagePlugin.TiffImageFile) -> int:
    width, rows = _strip_size(image)
    return width * rows


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
    """Of the largest tile, since a decoder takes one after the other, and what describes all."""
    most = 4 * pixels * _JPEG2000_SAMPLE_BYTES
    found = samples_of(reader_of(data))
    if found is None:
        return most
    width, height = max(1, found.width), max(1, found.height)
    if width * height > pixels or not found.tile_width or not found.tile_height:
        # It is not the one that the file begins with.
        return max(most, 4 * width * height * _JPEG2000_SAMPLE_BYTES)
    tile_width, tile_height = min(found.tile_width, width), min(found.tile_height, height)
    samples = tile_width * tile_height * found.components
    tiles = -(-width // tile_width) * -(-height // tile_height)
    blocks = _block_count(data, found.end, samples)
    if min(tile_width, tile_height) < _JPEG2000_THIN:  # blocks are cut at its edge
        blocks += samples // min(tile_width, tile_height) // _JPEG2000_THIN * 2
    return samples * _JPEG2000_SAMPLE_BYTES + blocks * _JPEG2000_BLOCK_BYTES + tiles * _JPEG2000_TILE_BYTES + len(data)


def _block_count(data: bytes, at: int, samples: int) -> int:
    """Blocks and precincts of this number of samples: the main header's COD segment (A.6.1) says how large they are."""
    for _ in range(_MOST_SEGMENTS):
        marker, length = data[at : at + 2], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == b"\xff\x52" and length > _JPEG2000_STYLE_BYTES:
            block, levels = data[at + 10] + data[at + 11] + 4, data[at + 9]
            precincts = data[at + 14 : at + 2 + length] if data[at + 4] & 1 else b""
            # The last level has most samples, each one before it a quarter as many.
            sizes = [min(block, size // 16 + size % 16) for size in reversed(precincts)] or [block] * (levels + 1)
            return sum(1 + (samples >> (size + 2 * level)) for level, size in enumerate(sizes))
        if marker == b"\xff\x90" or length < 2:  # noqa: PLR2004 - a tile; the length counts its own two bytes
            break
        at += 2 + length
    return samples >> _JPEG2000_DEFAULT_BLOCK


def has_too_many_values(data: bytes) -> bool:
    """Whether a TIFF tag that describes pixels holds more values than an image can need (TIFF 6.0, section 2)."""
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
