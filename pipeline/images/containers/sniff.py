"""What a file is, by its first bytes: a format that is read, or a name for the message that says why it is not.

Sources: the signatures in each format's specification; ISO/IEC 14496-12 (brands in `ftyp`), AV1 Image File Format.
"""

from pipeline.images.containers.values import Format

_BRANDS_END = 64
_BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

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
)

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"version https://git-lfs", "a Git LFS pointer: the file itself was not downloaded"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\1\0", "a Windows icon"),
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
    return Format.AVIF if _brands(data) & {b"avif", b"avis"} else None


def describe(data: bytes) -> str:
    """What a file that `sniff` does not recognise seems to be, with its article."""
    if brands := _brands(data):
        heif = any(brand.startswith((b"hei", b"hev", b"mif", b"msf")) for brand in brands)
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
