"""The values that the readers of the single formats share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

Read = Callable[[int, int], bytes]
"""(offset, bytes wanted) -> as many bytes of the file as there are."""


def reader_of(data: bytes) -> Read:
    """Reads a file in memory."""
    return lambda at, count: data[at : at + count]


MAX_PARTS = 100_000
"""Chunks of 4 KB, up to the longest file that is read by default. Each takes microseconds, and memory."""
MAX_PROFILE_BYTES = 1 << 22
"""Of a colour profile; the largest of printers have 3 MB. A larger one is left out, as metadata is."""
TURNED = 5
"""From this EXIF orientation on, width and height change places."""


class Format(StrEnum):
    """The formats that are read; an RAW file by its preview, an icon by its largest picture."""

    JPEG = "JPEG"
    PNG = "PNG"
    GIF = "GIF"
    WEBP = "WebP"
    BMP = "BMP"
    TIFF = "TIFF"
    AVIF = "AVIF"
    JPEG2000 = "JPEG 2000"
    HEIC = "HEIC"
    PSD = "PSD"
    TGA = "TGA"
    ICO = "ICO"
    ICNS = "ICNS"
    PNM = "PNM"
    PAM = "PAM"
    PCX = "PCX"
    DCX = "DCX"
    SGI = "SGI"
    QOI = "QOI"
    DDS = "DDS"
    XBM = "XBM"
    XPM = "XPM"
    SUN = "Sun raster"
    FITS = "FITS"
    RAW = "RAW"

    @property
    def media_type(self) -> str:
        """As RFC 2046 and IANA's registry name it."""
        return "image/jp2" if self is Format.JPEG2000 else f"image/{self.value.lower()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a file says of its picture. `width` and `height` are pixels as stored, before any rotation."""

    format: Format
    width: int
    height: int
    orientation: int = 1
    """EXIF's 1 to 8; what is absent or invalid is 1."""
    components: int = 3
    bits: int = 8
    """Of one sample."""
    animated: bool = False
    alpha: bool = False
    common: bool = True
    """Coded in a way that every endpoint reads."""
    buffered_bytes: int = 0
    """What a decoder holds besides the pixels (the coefficients of a progressive JPEG)."""
    arithmetic: bool = False
    """Of a JPEG: its coding is decoded only where all bytes are there at once."""
    not_read: str = ""
    """How it is coded, where no decoder here knows it."""

    @property
    def upright(self) -> tuple[int, int]:
        """(width, height) after the rotation that EXIF asks for."""
        return (self.height, self.width) if self.orientation >= TURNED else (self.width, self.height)

    @property
    def sendable(self) -> bool:
        """Can be sent without being decoded: upright, still, opaque and commonly coded."""
        return self.common and self.orientation == 1 and not self.animated and not self.alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A file that was walked to its end, or to where it broke."""

    header: Header
    spans: tuple[tuple[int, int], ...]
    """(start, end) of the bytes that the picture needs; what lies between them is metadata."""
    whole: bool
    cut: bool = False
    """Not whole because the data ends too early."""
    why: str = ""
    """What is not whole, in a few words."""


class BrokenFileError(ValueError):
    """The structure cannot be followed further."""

    def __init__(self, why: str, *, cut: bool = False) -> None:
        super().__init__(why)
        self.cut = cut


class UnsupportedFileError(BrokenFileError):
    """The file may be whole, and its coding is not read. The message is a whole sentence."""


@dataclass(slots=True, kw_only=True)
class Facts:
    """A `Header` in the making, and the one mutable value here: a walk fills it in as it goes."""

    format: Format
    width: int = 0
    height: int = 0
    orientation: int = 1
    components: int = 3
    bits: int = 8
    animated: bool = False
    alpha: bool = False
    common: bool = True
    buffered_bytes: int = 0
    arithmetic: bool = False
    not_read: str = ""
    thumbnail: bool = False
    """Whether a part that the picture needs holds a small copy of it, which may show what was cut off."""
    sub_blocks: int = 0
    """Of a GIF file, as far as it was walked."""
    settled: bool = False
    """Nothing that is still to come can change the header."""

    def header(self) -> Header | None:
        if self.width < 1 or self.height < 1:
            return None
        return Header(
            format=self.format,
            width=self.width,
            height=self.height,
            orientation=self.orientation,
            components=self.components,
            bits=self.bits,
            animated=self.animated,
            alpha=self.alpha,
            common=self.common and not self.thumbnail,
            buffered_bytes=self.buffered_bytes,
            arithmetic=self.arithmetic,
            not_read=self.not_read,
        )


class Walk(Protocol):
    """Reads a file from part to part, fills in `facts`, and yields (start, end, whether the picture needs it).

    `checked` asks for checksums too. Raises BrokenFileError where the structure cannot be followed.
    """

    def __call__(self, data: bytes, facts: Facts, *, checked: bool) -> Iterator[tuple[int, int, bool]]: ...


def bounded(parts: Iterator[tuple[int, int, bool]]) -> Iterator[tuple[int, int, bool]]:
    """The parts of a walk, which breaks off where there are more than any camera or program writes."""
    for number, part in enumerate(parts):
        if number == MAX_PARTS:
            raise BrokenFileError(f"it has more than {MAX_PARTS:,} parts")
        yield part


def ends_inside(what: str) -> BrokenFileError:
    return BrokenFileError(f"the data ends inside {what}", cut=True)
