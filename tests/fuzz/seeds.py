"""Small whole files of every format that is read, as several encoders write them."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from tests.heics import heic, mirrored, turned
from tests.raws import cr2, cr3, dng, orf, raf, rw2

SIZE = (37, 29)


def noise(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif() -> bytes:
    block = Image.Exif()
    block[0x0112] = 6
    block[0x8825] = {1: "N", 2: (48.0, 51.0, 24.0)}
    return block.tobytes()


@cache
def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _jpeg() -> Iterator[bytes]:
    for mode in ("RGB", "L", "CMYK"):
        for options in ({}, {"progressive": True}, {"optimize": True, "restart_marker_blocks": 2}):
            yield encoded(noise(mode), "JPEG", **options)
    yield encoded(noise(), "JPEG", exif=exif(), icc_profile=profile(), comment=b"hello")
    yield encoded(noise(), "JPEG", subsampling=0, quality=30)
    yield encoded(noise(), "MPO", save_all=True, append_images=[noise("L")])


def _png() -> Iterator[bytes]:
    for mode in ("RGB", "RGBA", "L", "LA", "1", "I;16", "P"):
        yield encoded(noise("L") if mode == "I;16" else noise(mode), "PNG")
    yield encoded(noise().quantize(8), "PNG", transparency=1, bits=4)
    yield encoded(noise("I;16"), "PNG", exif=exif(), icc_profile=profile())
    yield encoded(noise(), "PNG", save_all=True, append_images=[noise("L"), noise()], duration=50)
    yield interlaced()


def interlaced() -> bytes:
    """Adam7 passes, which Pillow does not write: all of one colour."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b""
    for x, y, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        width, height = -(-(SIZE[0] - x) // dx), -(-(SIZE[1] - y) // dy)
        rows += (b"\0" + b"\x80\x40\x20" * width) * height if width > 0 else b""
    header = struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 1)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _gif() -> Iterator[bytes]:
    yield encoded(noise(), "GIF")
    yield encoded(noise("L"), "GIF", interlace=0, comment=b"hi")
    yield encoded(noise("1"), "GIF")
    yield encoded(noise("RGBA"), "GIF")
    yield encoded(
        noise(), "GIF", save_all=True, append_images=[noise("L"), noise("1")], duration=50, loop=0, disposal=2
    )


def _webp() -> Iterator[bytes]:
    for options in ({}, {"lossless": True}, {"quality": 20, "exif": exif(), "icc_profile": profile()}):
        for mode in ("RGB", "RGBA"):
            yield encoded(noise(mode), "WEBP", **options)
    yield encoded(noise(), "WEBP", save_all=True, append_images=[noise("L").convert("RGB")], duration=50)


def _bmp() -> Iterator[bytes]:
    for mode in ("RGB", "RGBA", "L", "1", "P"):
        yield encoded(noise(mode), "BMP")
    yield packed_bmp()


def packed_bmp() -> bytes:
    """Runs of eight bits, which Pillow reads and does not write."""
    info = struct.pack("<IiiHHIIiiII", 40, *SIZE, 1, 8, 1, 0, 0, 0, 0, 0)
    rows = (bytes([SIZE[0] - 5, 7, 0, 5]) + b"\1\2\3\4\5\0" + b"\0\0") * SIZE[1] + b"\0\1"
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + info + bytes(1024) + rows


def _tiff() -> Iterator[bytes]:
    for compression in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg", "tiff_adobe_deflate"):
        yield encoded(noise(), "TIFF", compression=compression)
    for mode in ("L", "CMYK", "I;16", "F", "RGBA", "LAB", "P", "I"):
        yield encoded(
            noise("L" if mode in {"F", "I"} else "RGB" if mode == "LAB" else mode).convert(mode)
            if mode != "LAB"
            else _lab(),
            "TIFF",
        )
    for compression in ("group3", "group4", "tiff_ccitt"):
        yield encoded(noise("1"), "TIFF", compression=compression)
    yield encoded(noise(), "TIFF", save_all=True, append_images=[noise("L")], exif=exif())
    yield encoded(noise(), "TIFF", big_tiff=True)


def _lab() -> Image.Image:
    return Image.merge("LAB", [noise("L") for _ in range(3)])


def _avif() -> Iterator[bytes]:
    for options in (
        {"speed": 10},
        {"speed": 10, "subsampling": "4:4:4"},
        {"speed": 10, "exif": exif(), "icc_profile": profile()},
    ):
        for mode in ("RGB", "RGBA"):
            yield encoded(noise(mode), "AVIF", **options)
    yield encoded(noise(), "AVIF", speed=10, save_all=True, append_images=[noise("L").convert("RGB")])


def _heic() -> Iterator[bytes]:
    picture, large = noise(size=(64, 64)), noise(size=(128, 64))
    yield heic(picture)
    yield heic(picture, chroma="yuv420p", turns=[turned(1), mirrored(0)], exif=exif())
    yield heic(large, columns=2, profile=profile())
    yield heic(picture, alpha=picture.convert("L"), brand=b"mif1")


def _jpeg2000() -> Iterator[bytes]:
    for mode in ("RGB", "RGBA", "L", "LA", "I;16"):
        yield encoded(noise(mode), "JPEG2000")
    yield encoded(noise(), "JPEG2000", irreversible=True, quality_layers=[30], tile_size=(16, 16))
    yield encoded(noise(), "JPEG2000", no_jp2=True, progression="RPCL", num_resolutions=2)


def _icons() -> Iterator[bytes]:
    square = noise("RGBA", (64, 64))
    yield encoded(square, "ICO", sizes=[(16, 16), (64, 64)])
    yield encoded(square, "ICO", sizes=[(16, 16), (32, 32)], bitmap_format="bmp")
    yield encoded(noise("1", (32, 32)), "ICO", sizes=[(32, 32)], bitmap_format="bmp")
    yield icns(encoded(noise("RGBA", (128, 128)), "PNG"), bytes(4) + bytes([127, 9] * 3))


def icns(large: bytes, small: bytes = b"") -> bytes:
    """A picture in a file of its own, and one of the first version: runs of 16 x 16 pixels."""
    body = b"ic07" + struct.pack(">I", 8 + len(large)) + large
    runs = small or b"\xff\x20\xfb\x20" * 3
    body += b"is32" + struct.pack(">I", 8 + len(runs)) + runs
    return b"icns" + struct.pack(">I", 8 + len(body)) + body


def _netpbm() -> Iterator[bytes]:
    for mode in ("RGB", "L", "1", "I;16"):
        yield encoded(noise(mode), "PPM")
    yield b"P2\n# plain\n3 2\n15\n" + b"1 2 3 4 5 15\n"
    yield b"P5\n3 2\n4095\n" + bytes(range(12))
    yield encoded(noise("L").convert("F"), "PPM")
    yield b"P7\nWIDTH 3\nHEIGHT 2\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n" + bytes(range(24))


def qoi(image: Image.Image) -> bytes:
    """QOI of single pixels."""
    pixels = b"".join(b"\xfe" + bytes(pixel) for pixel in np.asarray(image.convert("RGB")).reshape(-1, 3))
    return b"qoif" + struct.pack(">IIBB", *image.size, 3, 0) + pixels + bytes(7) + b"\1"


def sun(image: Image.Image) -> bytes:
    """A Sun raster without compression; its rows have even lengths."""
    rows = np.asarray(image.convert("RGB"))[..., ::-1]
    width, height = image.size
    body = b"".join(row.tobytes() + bytes(width * 3 % 2) for row in rows)
    return struct.pack(">8I", 0x59A66A95, width, height, 24, len(body), 1, 0, 0) + body


def psd(image: Image.Image, *, packed: bool = False, bits: int = 8) -> bytes:
    """A Photoshop document that is only its composite picture."""
    channels = [band.tobytes() for band in image.split()]
    mode = {"RGB": 3, "L": 1, "CMYK": 4}[image.mode]
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, len(channels), image.height, image.width, bits, mode) + bytes(12)
    if not packed:
        return head + b"\0\0" + b"".join(channels) * (bits // 8)
    width = image.width
    rows = [bytes([width - 1]) + band[at : at + width] for band in channels for at in range(0, len(band), width)]
    return head + b"\0\1" + b"".join(struct.pack(">H", len(row)) for row in rows) + b"".join(rows)


def fits(image: Image.Image, bits: int = 8) -> bytes:
    """FITS of whole numbers; the first row is the lowest."""
    cards = ["SIMPLE  =                    T", f"BITPIX  = {bits:20d}", "NAXIS   =                    2"]
    cards += [f"NAXIS1  = {image.width:20d}", f"NAXIS2  = {image.height:20d}", "END"]
    head = "".join(card.ljust(80) for card in cards).encode().ljust(2880)
    levels = np.flipud(np.asarray(image.convert("L"))).astype(">i2" if bits == 16 else np.uint8)
    return head + levels.tobytes().ljust(2880, b"\0")


def xpm() -> bytes:
    rows = ",\n".join('"' + "ab"[y % 2] * 4 + '"' for y in range(4))
    return b'/* XPM */\nstatic char *x[] = {\n"4 4 2 1",\n"a c #ff0000",\n"b c #0000ff",\n' + rows.encode() + b"};\n"


def _others() -> Iterator[bytes]:
    yield from (
        encoded(noise(mode), "TGA", **options)
        for mode in ("RGB", "RGBA", "L", "P")
        for options in ({}, {"compression": "tga_rle"})
    )
    yield from (encoded(noise(mode), "PCX") for mode in ("RGB", "L", "P", "1"))
    yield from (encoded(noise(mode), "SGI", **options) for mode in ("RGB", "L", "RGBA") for options in ({}, {"bpc": 2}))
    yield from (encoded(noise(mode), "DDS") for mode in ("RGB", "RGBA", "L", "LA"))
    yield encoded(noise("RGBA", (32, 32)), "DDS", pixel_format="DXT5")
    yield encoded(noise("1"), "XBM")
    yield xpm()
    yield qoi(noise())
    yield sun(noise())
    yield from (psd(noise(mode), packed=packed) for mode in ("RGB", "CMYK", "L") for packed in (False, True))
    yield from (fits(noise(), bits) for bits in (8, 16))


def _raw() -> Iterator[bytes]:
    preview = encoded(noise(), "JPEG")
    yield from (make(preview) for make in (cr2, dng, raf, cr3, rw2, orf))


MAKERS: Mapping[str, Callable[[], Iterator[bytes]]] = {
    "JPEG": _jpeg, "PNG": _png, "GIF": _gif, "WebP": _webp, "BMP": _bmp, "TIFF": _tiff, "AVIF": _avif, "HEIC": _heic,
    "JPEG2000": _jpeg2000, "icons": _icons, "netpbm": _netpbm, "others": _others, "RAW": _raw,
}  # fmt: skip


@cache
def seeds(kind: str) -> tuple[bytes, ...]:
    return tuple(MAKERS[kind]())
