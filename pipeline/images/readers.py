"""Who reads which format: Pillow's plugins, called directly, and three readers of our own.

Not through `Image.open`: it has a limit for bombs of its own, which is the process's and not ours to change, it tries
every plugin on every file, and it parses a JPEG's further images (MPO), which are not sent. What is not in the table is
not read. Those that run programs (EPS) or have no pixels (WMF) never are.
"""

import io
import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    DcxImagePlugin,
    DdsImagePlugin,
    FitsImagePlugin,
    GifImagePlugin,
    IcnsImagePlugin,
    IcoImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PcxImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    PsdImagePlugin,
    QoiImagePlugin,
    SgiImagePlugin,
    SunImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    XbmImagePlugin,
    XpmImagePlugin,
)

from pipeline.images.containers import Format
from pipeline.images.containers.embedded import ico_entry
from pipeline.images.heic import HeicImageFile

_ICON_DEPTH: Final = 32
_PACKED: Final = (1, 2)
"""Runs of a bitmap. Pillow unpacks them in Python, up to the end of a file whose runs hold no pixels."""
_PAM_MODES: Final = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_PAM_LINES: Final = 100
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT, _TWELVE_BITS, _WHITE_IS_ZERO, _BLACK_IS_ZERO = 258, 262, 339, 4095, 0, 1


class StillWebP(WebPImagePlugin.WebPImageFile):
    """The first picture of a WebP file; the canvases of the others are gone before it is copied."""

    def _get_next(self) -> tuple[bytes, int, int]:
        found = super()._get_next()
        del self._decoder
        return found


class TiffFile(TiffImagePlugin.TiffImageFile):
    """A TIFF file without the limit for bombs, which Pillow has here while it loads."""

    def _setup(self) -> None:
        # Pillow's table of modes has samples of 16 bits whose least is white in one order of bytes only.
        tags = self.tag_v2
        is_missing = tags.prefix == b"MM" and tags.get(_BITS) == (16,) and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        if is_missing:
            tags[_PHOTOMETRIC] = _BLACK_IS_ZERO
        super()._setup()
        if is_missing:
            tags[_PHOTOMETRIC] = _WHITE_IS_ZERO

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.core.new(self.mode, self._tile_size)  # type: ignore[attr-defined]  # as Pillow does
        ImageFile.ImageFile.load_prepare(self)


class IconFile(ImageFile.ImageFile):
    """The largest picture of a Windows icon or cursor. Pillow's own reader decodes it while it opens the file."""

    format = "ICO"

    def _open(self) -> None:
        data = self.fp.read() if self.fp is not None else b""
        entry = ico_entry(lambda at, count: data[at : at + count])
        length, offset = struct.unpack_from("<II", entry, 8)
        self._picture = data[offset : offset + length]
        if self._picture.startswith(b"\x89PNG"):  # pragma: no cover - it is read as a PNG file
            raise SyntaxError("a PNG file in an icon")
        _, width, height, _, depth, packing = struct.unpack_from("<IiiHHI", self._picture)
        if packing in _PACKED:
            raise SyntaxError("its bitmap is packed, which no icon is")
        self._depth, self._size, self._mode = depth, (width, abs(height) // 2), "RGBA"
        if not depth or not 0 < depth <= _ICON_DEPTH:
            raise SyntaxError("an icon of an impossible depth")
        self.tile = []

    def load(self) -> "Image.core.PixelAccess | None":  # type: ignore[name-defined]
        if self._picture:
            single = struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, self._depth, len(self._picture), 22)
            icon = IcoImagePlugin.IcoFile(io.BytesIO(single + self._picture))
            self._picture = b""
            picture = icon.frame(0)
            self.im = (picture if picture.mode == "RGBA" else picture.convert("RGBA")).im
        return super().load()


class PhotoshopFile(PsdImagePlugin.PsdImageFile):
    """The composite picture of a Photoshop document."""

    def _open(self) -> None:
        try:
            super()._open()
        except KeyError as error:
            raise NotImplementedError(f"its mode and depth are {error}, and of most modes 8 bits are read") from None


class PamFile(ImageFile.ImageFile):
    """PAM, which holds any number of samples a pixel (Netpbm, `pam(5)`); of up to four, 8 bits each."""

    format = "PAM"

    def _open(self) -> None:
        if self.fp is None:  # pragma: no cover - Pillow sets it
            raise SyntaxError("no file")
        fields: dict[bytes, bytes] = {}
        for _ in range(_PAM_LINES):
            name, _, value = self.fp.readline(512).strip().partition(b" ")
            if name == b"ENDHDR":
                break
            fields[name] = value.strip()
        self._size = int(fields[b"WIDTH"]), int(fields[b"HEIGHT"])
        depth, most = int(fields[b"DEPTH"]), int(fields[b"MAXVAL"])
        if most == 1 and depth == 1:
            # A byte a pixel, 0 or 1.
            self._mode, self._most = "L", 1
        elif most == 255 and depth in _PAM_MODES:  # noqa: PLR2004 - 8 bits
            self._mode, self._most = _PAM_MODES[depth], 255
        else:
            raise SyntaxError(f"a PAM file of {depth} samples up to {most} is not read")
        self.tile = [ImageFile._Tile("raw", (0, 0, *self._size), self.fp.tell(), self._mode)]  # noqa: SLF001 - what plugins fill in

    def load_end(self) -> None:
        if self._most == 1:
            self.im = self.im.point([0] + [255] * 255, "L")


class PlainFits(FitsImagePlugin.FitsImageFile):
    """FITS without compression; whole numbers are signed, as its standard has them."""

    def _open(self) -> None:
        super()._open()
        codec, box, offset, _ = self.tile[0]
        if codec != "raw":
            raise SyntaxError("compressed FITS is not read")
        if self._mode == "I;16":
            self._mode = "I"
            self.tile = [ImageFile._Tile("raw", box, offset, ("I;16BS", 0, -1))]  # noqa: SLF001 - as above


class Reader(NamedTuple):
    """A plugin, and what it takes besides the picture."""

    plugin: type[ImageFile.ImageFile]
    pixel_bytes: float = 0.0
    """Of memory, for each pixel, while it decodes."""
    is_python: bool = False
    """Whether it decodes in Python: a megapixel takes seconds."""


READERS: Final[Mapping[Format, Reader]] = {
    Format.JPEG: Reader(JpegImagePlugin.JpegImageFile),
    Format.PNG: Reader(PngImagePlugin.PngImageFile),
    Format.GIF: Reader(GifImagePlugin.GifImageFile, 2),  # a frame that is smaller than its screen is decoded aside
    Format.WEBP: Reader(StillWebP),
    Format.BMP: Reader(BmpImagePlugin.BmpImageFile),
    Format.TIFF: Reader(TiffFile),
    Format.AVIF: Reader(AvifImagePlugin.AvifImageFile),
    Format.JPEG2000: Reader(Jpeg2KImagePlugin.Jpeg2KImageFile),
    Format.HEIC: Reader(HeicImageFile),
    Format.PSD: Reader(PhotoshopFile),
    Format.TGA: Reader(TgaImagePlugin.TgaImageFile),
    Format.ICO: Reader(IconFile, 14),  # the picture twice, and its mask in Python
    Format.ICNS: Reader(IcnsImagePlugin.IcnsImageFile, 16),
    Format.PNM: Reader(PpmImagePlugin.PpmImageFile, 12, is_python=True),
    Format.PAM: Reader(PamFile),
    Format.PCX: Reader(PcxImagePlugin.PcxImageFile),
    Format.DCX: Reader(DcxImagePlugin.DcxImageFile),
    Format.SGI: Reader(SgiImagePlugin.SgiImageFile, 4),
    Format.QOI: Reader(QoiImagePlugin.QoiImageFile, 12, is_python=True),
    Format.DDS: Reader(DdsImagePlugin.DdsImageFile, 12, is_python=True),
    Format.XBM: Reader(XbmImagePlugin.XbmImageFile),
    Format.XPM: Reader(XpmImagePlugin.XpmImageFile, 12, is_python=True),
    Format.SUN: Reader(SunImagePlugin.SunImageFile),
    Format.FITS: Reader(PlainFits),
}
"""A new format is a line here, one in `containers/sniff.py`, and one in `containers/values.py`."""

WITH_EXIF: Final = frozenset({Format.AVIF, Format.JPEG2000})
"""Of those that Pillow alone reads: where EXIF turns the picture, and the reader has not."""
_PYTHON_CODECS: Final = frozenset({"qoi", "xpm", "dds_rgb", "ppm", "ppm_plain", "bmp_rle"})
MOST_SLOW_PIXELS: Final = 16_000_000
"""Of these formats. More would hold a thread, and the interpreter, for minutes."""


def white_level(image: ImageFile.ImageFile, kind: Format) -> int | None:
    """The sample that is white, where the mode does not say it; 0: the largest one, since samples are measurements."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(_BITS)
        return _TWELVE_BITS if bits in ((12,), 12) else None
    return 0 if kind is Format.FITS else None


def is_negative(image: ImageFile.ImageFile) -> bool:
    """Whether the least sample is white, and the mode does not say it: Pillow turns those of 8 bits itself."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    return (image.mode == "F" or image.mode.startswith("I")) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def is_unsigned(image: ImageFile.ImageFile) -> bool:
    """Whether its samples have 32 bits and no sign, where Pillow takes one for it."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.mode != "I":
        return False
    return image.tag_v2.get(_BITS) in ((32,), 32) and image.tag_v2.get(_SAMPLE_FORMAT, 1) in ((1,), 1)


def is_slow(image: ImageFile.ImageFile) -> bool:
    """Whether its pixels are decoded in Python."""
    return any(tile.codec_name in _PYTHON_CODECS for tile in image.tile)
