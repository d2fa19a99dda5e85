"""What a file is, by its first bytes: a format that is read, or a name for the message that says why it is not.

Sources: the signatures in each format's specification; ISO/IEC 14496-12 (brands in `ftyp`), AV1 Image File Format.
"""

import re
import struct

from pipeline.images.containers.values import Format

_BRANDS_END = 64
_BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_HEIF_BRANDS = (b"hei", b"hev", b"mif", b"msf")
_TEXT_BYTES = 512
_XBM = re.compile(rb"\s*(?:/\*.*?\*/\s*)?#define\s+\S*_width\s+\d+", re.DOTALL)
_PATTERNS: tuple[tuple[re.Pattern[bytes], Format], ...] = (
    # An icon or a cursor, then fewer than 256 pictures, and a field that is zero in the first of them.
    (re.compile(rb"\0\0[\x01\x02]\0[^\0]\0...\0", re.DOTALL), Format.ICO),
    # Whether it is packed, and bytes a sample.
    (re.compile(rb"\x01\xda[\0\x01][\x01\x02]"), Format.SGI),
    # Version, packing, and bits a sample.
    (re.compile(rb"\x0a[\0\x02-\x05]\x01[\x01\x02\x04\x08]"), Format.PCX),
    (re.compile(rb"P(?:[1-6]|f|F|0CMYK)\s"), Format.PNM),
)
_TGA_DEPTHS = {1: {8}, 2: {16, 24, 32}, 3: {8, 16}, 9: {8}, 10: {16, 24, 32}, 11: {8, 16}}
_TGA_MAP_DEPTHS = frozenset({15, 16, 24, 32})

_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"\xff\xd8\xff", Format.JPEG),
    (b"\x89PNG\r\n\x1a\n", Format.PNG),
    (b"GIF87a", Format.GIF),
    (b"GIF89a", Format.GIF),
    (b"II*\0", Format.TIFF),
    (b"MM\0*", Format.TIFF),
    (b"II+\0", Format.TIFF),
    (b"MM\0+", Format.TIFF),
    (b"\0\0\0\x0cjP  \r\n\x87\n", Format.JPEG2000),
    (b"\xff\x4f\xff\x51", Format.JPEG2000),
    (b"8BPS\0\1", Format.PSD),
    (b"icns", Format.ICNS),
    (b"qoif", Format.QOI),
    (b"DDS ", Format.DDS),
    (b"\x59\xa6\x6a\x95", Format.SUN),
    (b"\xb1\x68\xde\x3a", Format.DCX),
    (b"/* XPM */", Format.XPM),
    (b"P7\n", Format.PAM),
    (b"SIMPLE  =", Format.FITS),
    (b"FUJIFILMCCD-RAW ", Format.RAW),
    (b"IIU\0", Format.RAW),  # Panasonic
    (b"IIRO", Format.RAW),  # Olympus
    (b"IIRS", Format.RAW),
    (b"MMOR", Format.RAW),
)

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"version https://git-lfs", "a Git LFS pointer: the file itself was not downloaded"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"8BPS", "a large Photoshop document (PSB), which is not read; save it as PSD, PNG or JPEG"),
    (b"%!PS", "a PostScript file (EPS), which only an interpreter can draw; convert it to PNG or PDF"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file (EPS), which only an interpreter can draw; convert it to PNG or PDF"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF), which holds no pixels; convert it to PNG"),
    (b"\x01\0\0\0", "a Windows metafile (EMF), which holds no pixels; convert it to PNG"),
    (b"FOVb", "a RAW photograph of Sigma (X3F), which is not read; convert it to DNG or JPEG"),
    (b"\0MRM", "a RAW photograph of Minolta (MRW), which is not read; convert it to DNG or JPEG"),
    (b"BLP", "a game texture (BLP), which is not read; convert it to PNG"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image, which is not read; convert it to PNG or TIFF"),
    (b"#?RADIANCE", "a Radiance HDR image, which is not read; convert it to PNG or TIFF"),
    (b"gimp xcf", "a GIMP document, which is not read; export it as PNG"),
    (b"SQLite format 3", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image, which is not read; convert it to JPEG or PNG"),
    (b"\xff\x0a", "a JPEG XL image, which is not read; convert it to JPEG or PNG"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"RIFF", "a RIFF file (sound or video)"),
)


def sniff(data: bytes) -> Format | None:
    """The format, if it is one that is read."""
    for magic, found in _MAGIC:
        if data.startswith(magic):
            return found
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return Format.WEBP
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES:
        return Format.BMP
    if brands := _brands(data):
        return _iso_format(brands)
    return _by_structure(data)


def _iso_format(brands: frozenset[bytes]) -> Format | None:
    if brands & {b"avif", b"avis"}:
        return Format.AVIF
    if b"crx " in brands:
        return Format.RAW
    return Format.HEIC if any(brand.startswith(_HEIF_BRANDS) for brand in brands) else None


def _by_structure(data: bytes) -> Format | None:
    """Formats whose first bytes are few or none: several fields of the header have to fit together."""
    for pattern, found in _PATTERNS:
        if pattern.match(data):
            return found
    if _XBM.match(data[:_TEXT_BYTES]):
        return Format.XBM
    return Format.TGA if _is_tga(data) else None


def _is_tga(data: bytes) -> bool:
    """By every field of the header, since Targa files begin with no mark (Truevision, TGA 2.0, C.1)."""
    if len(data) < 20:  # noqa: PLR2004 - the header and some of a picture
        return False
    _, mapped, kind, first, colours, map_depth, _, _, width, height, depth, flags = struct.unpack_from(
        "<BBBHHBHHHHBB", data
    )
    if depth not in _TGA_DEPTHS.get(kind, ()) or not width or not height or flags & 0xC0:
        return False
    if mapped:
        return mapped == 1 and map_depth in _TGA_MAP_DEPTHS and colours > 0 and first + colours <= 256 << 8
    return kind not in (1, 9) and not first and not colours and not map_depth


def describe(data: bytes) -> str:
    """What a file that `sniff` does not recognise seems to be, with its article."""
    if brands := _brands(data):
        heif = any(brand.startswith(_HEIF_BRANDS) for brand in brands)
        return "a HEIC photograph" if heif else "a video (ISO media)"
    for magic, name in _OTHERS:
        if data.startswith(magic):
            return name
    return _text(data) or f"no image format that is known (it begins with {data[:8].hex(' ')})"


def _brands(data: bytes) -> frozenset[bytes]:
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4], "big"), len(data), _BRANDS_END)
    return frozenset((data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))))


def _text(data: bytes) -> str | None:
    text = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if text.startswith(b"<") and b"<svg" in text:
        return "an SVG drawing"
    if text.startswith(b"<"):
        return "an XML or HTML document"
    if text.startswith((b"{", b"[")):
        return "a JSON document"
    return "text" if text and all(byte >= 32 or byte in b"\t\r\n" for byte in text) else None  # noqa: PLR2004 - ASCII's first printable
