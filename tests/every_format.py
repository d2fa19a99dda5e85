"""One file of each format that is read, all of the same picture, and one of each failure: what a run makes of them.

docs/formats.md has the table: `python docs/write_formats.py` writes it.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image

from tests import raws
from tests.fuzz.seeds import encoded, fits, icns, packed_bmp, profile, psd, qoi, sun
from tests.heics import heic, turned

WIDTH, HEIGHT = 96, 64


@cache
def picture(mode: str = "RGB") -> Image.Image:
    """Smooth, with edges, and another one however it is turned."""
    x, y = np.meshgrid(np.linspace(0, 1, WIDTH), np.linspace(0, 1, HEIGHT))
    bands = [230 * x, 200 * y, 40 + 120 * (1 - x) * y]
    disc = (x - 0.3) ** 2 + (y - 0.35) ** 2 < 0.03
    bands = [np.where(disc, colour, band) for colour, band in zip((240, 200, 30), bands, strict=True)]
    return Image.fromarray(np.clip(np.stack(bands, axis=-1), 0, 255).astype(np.uint8)).convert(mode)


def square() -> Image.Image:
    return picture("RGBA").crop((0, 0, 64, 64))


def _deep_tiff() -> bytes:
    """Twelve bits a sample, two samples in three bytes, which Pillow reads and does not write."""
    levels = (np.asarray(picture("L")).astype(np.uint32) * 4095 // 255).reshape(-1, 2)
    a, b = levels[:, 0], levels[:, 1]
    return grey_tiff(np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], axis=-1).astype(np.uint8).tobytes(), 12)


def grey_tiff(data: bytes, bits: int, *, packing: int = 1, white: int = 1, kind: int = 1, order: str = "<") -> bytes:
    """A grey TIFF file of the picture's size, by its tags 258, 259, 262 (0: the least is white) and 339."""
    tags = {256: WIDTH, 257: HEIGHT, 258: bits, 259: packing, 262: white, 273: 512, 277: 1, 278: HEIGHT}
    tags |= {279: len(data), 339: kind}
    directory = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return (head + directory + bytes(4)).ljust(512, b"\0") + data


def _negative() -> bytes:
    return grey_tiff((65535 - np.asarray(picture("L")).astype("<u2") * 257).tobytes(), 16, white=0)


def thumbnail_first(size: tuple[int, int] = (12, 8)) -> bytes:
    """A copy of this size (tag 254) stands before the picture, as scanners write it."""
    file, copy, whole = BytesIO(), picture().resize(size), picture().copy()
    whole.encoderinfo = {"tiffinfo": {254: 0}}
    copy.save(file, "TIFF", save_all=True, tiffinfo={254: 1}, append_images=[whole])
    return file.getvalue()


def deep_jpeg2000() -> bytes:
    """Its header says 16 bits a sample (ITU-T T.800, A.5.1)."""
    data = bytearray(encoded(picture(), "JPEG2000"))
    at = data.index(b"\xff\x4f\xff\x51") + 42
    data[at : at + 9 : 3] = bytes([15] * 3)
    return bytes(data)


def twelve_bits() -> bytes:
    """Its frame header says so (ITU-T T.81, table B.1)."""
    return encoded(picture(), "JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c")


def _deep_png() -> bytes:
    return encoded(Image.fromarray(np.asarray(picture("L")).astype(np.uint16) * 257), "PNG")


def _lab() -> bytes:
    from PIL import ImageCms  # noqa: PLC0415 - of this one file

    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    return encoded(to_lab.apply(picture()), "TIFF")


def _cursor() -> bytes:
    data = bytearray(encoded(square(), "ICO", sizes=[(64, 64)], bitmap_format="bmp"))
    data[2] = 2
    struct.pack_into("<HH", data, 10, 3, 5)  # where it points
    return bytes(data)


def _pam() -> bytes:
    head = f"P7\nWIDTH {WIDTH}\nHEIGHT {HEIGHT}\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n"
    return head.encode() + picture().tobytes()


def _preview() -> bytes:
    return encoded(picture(), "JPEG", quality=95)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    """A PNG file of a hundred bytes that says so."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(99))) + png_chunk(b"IEND", b"")


def gif_of(width: int, height: int) -> bytes:
    picture = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + picture + b";"


def _strange_heif() -> bytes:
    return heic(picture()).replace(b"hvc1", b"j2k1")


def _garbled() -> bytes:
    return encoded(picture(), "JPEG")[:20] + bytes(400)


@dataclass(frozen=True, slots=True)
class Case:
    """A file, and the kind of error of its row; none: it is answered."""

    name: str
    what: str
    data: Callable[[], bytes]
    error: str = ""
    loss: float = 4.0
    """Levels, of 255, by which its colours differ from the picture's on average, at most."""
    is_whole: bool = True
    """Whether it shows the whole picture in its colours."""


def _saved(kind: str, mode: str = "RGB", **options: object) -> Callable[[], bytes]:
    return lambda: encoded(picture(mode), kind, **options)


READ: tuple[Case, ...] = (
    Case("photo.jpg", "JPEG", _saved("JPEG", quality=95)),
    Case("progressive.jpeg", "JPEG, progressive", _saved("JPEG", progressive=True, quality=95)),
    Case("print.jpg", "JPEG, CMYK", _saved("JPEG", "CMYK", quality=95)),
    Case(
        "stereo.mpo", "MPO: the first picture", _saved("MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    ),
    Case("screen.png", "PNG", _saved("PNG")),
    Case("palette.png", "PNG, palette", lambda: encoded(picture().quantize(256), "PNG"), loss=8),
    Case("deep.png", "PNG, 16 bits", _deep_png, is_whole=False),
    Case(
        "moving.png",
        "APNG: the first picture",
        _saved("PNG", save_all=True, append_images=[picture("L").convert("RGB")]),
    ),
    Case("old.gif", "GIF", lambda: encoded(picture().quantize(256), "GIF"), loss=8),
    Case("web.webp", "WebP", _saved("WEBP", quality=95)),
    Case("window.bmp", "BMP", _saved("BMP")),
    Case("runs.bmp", "BMP, packed", packed_bmp, is_whole=False),
    Case("scan.tif", "TIFF", _saved("TIFF", compression="tiff_lzw")),
    Case("lab.tiff", "TIFF, Lab", _lab, loss=8),
    Case("deep.tiff", "TIFF, 12 bits", _deep_tiff, is_whole=False),
    Case("negative.tif", "TIFF, 16 bits, the least is white", _negative, is_whole=False),
    Case("scanner.tif", "TIFF with a thumbnail before the picture", thumbnail_first),
    Case("fax.tif", "TIFF, fax", lambda: encoded(picture("1"), "TIFF", compression="group4"), is_whole=False),
    Case("new.avif", "AVIF", _saved("AVIF", quality=95)),
    Case("phone.heic", "HEIC (the extra `heic`)", lambda: heic(picture(), profile=profile())),
    Case(
        "turned.heif",
        "HEIC, turned by its own box",
        lambda: heic(picture().transpose(Image.Transpose.ROTATE_90), turns=[turned(3)]),
    ),
    Case("wavelet.jp2", "JPEG 2000", _saved("JPEG2000")),
    Case("stream.j2k", "JPEG 2000, code stream", _saved("JPEG2000", no_jp2=True)),
    Case("layers.psd", "PSD: the composite", lambda: psd(picture(), packed=True)),
    Case("frame.tga", "TGA", _saved("TGA", compression="tga_rle")),
    Case("site.ico", "ICO: the largest picture", lambda: encoded(square(), "ICO", sizes=[(64, 64)]), is_whole=False),
    Case("arrow.cur", "CUR", _cursor, is_whole=False),
    Case("app.icns", "ICNS: the largest picture", lambda: icns(encoded(square(), "PNG")), is_whole=False),
    Case("plain.ppm", "PPM", _saved("PPM")),
    Case("grey.pgm", "PGM", _saved("PPM", "L"), is_whole=False),
    Case("bits.pbm", "PBM", _saved("PPM", "1"), is_whole=False),
    Case("any.pam", "PAM", _pam),
    Case("paint.pcx", "PCX", _saved("PCX")),
    Case("indy.sgi", "SGI", _saved("SGI")),
    Case("quick.qoi", "QOI", lambda: qoi(picture())),
    Case("game.dds", "DDS", _saved("DDS")),
    Case("x.xbm", "XBM", _saved("XBM", "1"), is_whole=False),
    Case("workstation.ras", "Sun raster", lambda: sun(picture())),
    Case("sky.fits", "FITS, not compressed", lambda: fits(picture(), 16), is_whole=False),
    Case("canon.cr2", "Canon RAW: the preview", lambda: raws.cr2(_preview(), 1)),
    Case("canon.cr3", "Canon RAW 3: the preview", lambda: raws.cr3(_preview(), 1)),
    Case("nikon.nef", "Nikon RAW: the preview", lambda: raws.dng(_preview(), 1, order=">")),
    Case("any.dng", "Digital negative: the preview", lambda: raws.dng(_preview(), 1)),
    Case("panasonic.rw2", "Panasonic RAW: the preview", lambda: raws.rw2(_preview())),
    Case("olympus.orf", "Olympus RAW: the preview", lambda: raws.orf(_preview())),
    Case("fuji.raf", "Fujifilm RAW: the preview", lambda: raws.raf(_preview())),
    Case("IMG_0001", "JPEG without a suffix", _saved("JPEG", quality=95)),
    Case("wrong.jpg", "WebP by another name", _saved("WEBP", quality=95)),
)

FAILED: tuple[Case, ...] = (
    Case("empty.jpg", "no bytes", lambda: b"", "image_empty"),
    Case("cut.jpg", "a JPEG that breaks off", lambda: encoded(picture(), "JPEG")[:-300], "image_truncated"),
    Case("cut.png", "a PNG that breaks off", lambda: encoded(picture(), "PNG")[:-300], "image_truncated"),
    Case("cut.heic", "a HEIC that breaks off", lambda: heic(picture())[:300], "image_truncated"),
    Case("garbled.jpg", "a JPEG with zeros inside", _garbled, "image_unreadable"),
    Case(
        "checksum.png",
        "a PNG whose checksums are wrong",
        lambda: encoded(picture(), "PNG").replace(b"IDAT", b"IDAU"),
        "image_unreadable",
    ),
    Case("page.jpg", "a web page", lambda: b"<!doctype html><html>404</html>", "image_unsupported"),
    Case("drawing.svg", "SVG", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image_unsupported"),
    Case("drawing.eps", "EPS", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", "image_unsupported"),
    Case("drawing.wmf", "WMF", lambda: b"\xd7\xcd\xc6\x9a" + bytes(40), "image_unsupported"),
    Case("future.jxl", "JPEG XL", lambda: b"\xff\x0a" + bytes(40), "image_unsupported"),
    Case("large.psb", "PSB", lambda: b"8BPS\0\2" + bytes(40), "image_unsupported"),
    Case("deep.psd", "PSD, 16 bits", lambda: psd(picture(), bits=16), "image_unsupported"),
    Case("other.heif", "HEIF that is not coded as HEVC", _strange_heif, "image_unsupported"),
    Case("bare.dng", "RAW without a preview", raws.without_preview, "image_unsupported"),
    Case("twelve.jpg", "JPEG, 12 bits", twelve_bits, "image_unsupported"),
    Case("map.tif", "TIFF, packed with LERC", lambda: grey_tiff(b"Lerc2 ", 8, packing=34887), "image_unsupported"),
    Case("colours.jp2", "JPEG 2000 of more than 8 bits a colour", deep_jpeg2000, "image_unsupported"),
    Case("many.png", "400 megapixels in 150 bytes", lambda: png_of(20_000, 20_000), "image_too_large"),
    Case("many.gif", "50,000 x 50,000 in 50 bytes", lambda: gif_of(50_000, 50_000), "image_too_large"),
    Case("wide.png", "400 megapixels of one bit", lambda: png_of(20_000, 20_000, 1, 0), "image_bomb"),
)

MISSING = Case("gone.jpg", "no such file", lambda: b"", "image_missing")


def table() -> str:
    """As it stands in the documentation."""
    rows = ["| file | what it is | its row |", "|---|---|---|"]
    rows += [f"| `{one.name}` | {one.what} | `ok` |" for one in READ]
    rows += [f"| `{one.name}` | {one.what} | `failed`, `{one.error}` |" for one in (MISSING, *FAILED)]
    return "\n".join(rows)
