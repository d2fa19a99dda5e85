"""How an image that a source names becomes an id, a text for people and a location: the one place that reads its text.

Two facts rule here: file names are bytes, which Python holds with surrogate escapes where they are no UTF-8,
and addresses carry signatures, which are keys and change from night to night.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from pipeline.config.extras import (
    CLOUD_HINT,
    CLOUD_SCHEMES,
    HEIC_HINT,
    HEIC_SUFFIXES,
    PDF_SUFFIX,
    VIDEO_HINT,
    VIDEO_SUFFIXES,
    has_cloud_extra,
    has_heic_extra,
    has_video_extra,
)
from pipeline.errors import InputError
from pipeline.locations import ConfinedFile, DataUrl, ImageUrl, LocalFile, Location
from pipeline.redaction.addresses import public_url

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".jp2"),
    *(".png", ".gif", ".webp", ".bmp", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif", ".hif", ".j2k", ".apng"),
    *(".cr2", ".cr3", ".nef", ".arw", ".dng", ".rw2", ".orf", ".raf", ".pef", ".srw"),
    *(".psd", ".tga", ".ico", ".cur", ".icns", ".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pcx", ".sgi", ".qoi", ".dds"),
)
"""Files in a folder that count as images; manifests may name any file."""
MEDIA_SUFFIXES = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, PDF_SUFFIX)

_SHOWN_LETTERS = 200
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_DATA = "data:"
_SURROGATE = re.compile("[\ud800-\udfff]")


def shown(text: str) -> str:
    r"""`text` for people and files: bytes that are no UTF-8 as `\xNN`, other lone surrogates as `\uNNNN`."""
    return text if text.isascii() else _SURROGATE.sub(_escaped, text)


def short(name: str) -> str:
    """An id for a message: an image in base64 may be one, and fills no screen."""
    return name if len(name) <= _SHOWN_LETTERS else f"{name[: _SHOWN_LETTERS // 2]}… ({len(name):,} letters)"


def identify(text: str) -> str:
    """`text` as an id: NFC, so that one name has one id whichever system wrote it, and encodable as UTF-8."""
    return text if text.isascii() else shown(unicodedata.normalize("NFC", text))


def scheme_of(image: str) -> str | None:
    """The scheme of an address, in lower case (`data` included); None for a path."""
    if ":" not in image:
        return None
    found = _SCHEME.match(image)
    return found[1].lower() if found else "data" if image.startswith(_DATA) else None


def public_image(image: str) -> str:
    """`image` as the source names it, less what is secret (signatures) or megabytes long (`data:`)."""
    return image if scheme_of(image) is None else public_address(image)


def location_of(image: str, prefix: str) -> Location:
    """Where an image is that a source names by a text. `prefix` (empty, or ending in `/`) begins relative paths."""
    scheme = scheme_of(image)
    if scheme is None:
        return LocalFile(shown(image), image if image.startswith("/") else prefix + image)
    name = shown(public_address(image))
    if scheme == "data":
        return DataUrl(name, image)
    path = _file_path(image) if scheme == "file" else None
    return ImageUrl(name, image) if path is None else LocalFile(name, path)


def local_path(location: Location) -> str | None:
    """The path of an image that is a file of its own on this machine."""
    return location.path if isinstance(location, LocalFile | ConfinedFile) else None


def public_address(url: str) -> str:
    """An address without signature, user name and password; of a `data:` URL its type and a digest."""
    if url.startswith(_DATA):
        digest = hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return f"{url[: url.find(',')][:64].partition(';')[0]};blake2b,{digest}"
    return public_url(url)


def check_videos(images: Iterable[str], name: str) -> None:
    """Raises InputError at the first image that a source names and that needs an extra which is not installed."""
    videos, photographs = has_video_extra(), has_heic_extra()
    if videos and photographs:
        return
    for image in images:
        if not videos and is_video(image):
            raise _needs_extra(name, image, "a video", VIDEO_HINT, "videos")
        if not photographs and _ends_in(image, HEIC_SUFFIXES):
            raise _needs_extra(name, image, "a HEIC photograph", HEIC_HINT, "HEIC photographs")


def _needs_extra(name: str, image: str, what: str, hint: str, kind: str) -> InputError:
    return InputError(
        f"{shown(name)}: {shown(public_image(image))} is {what}; {hint}, or name a source without {kind} "
        "(of a folder, `source.extensions` lists the files that count)"
    )


def check_stores(images: Iterable[str], name: str) -> None:
    """Raises InputError at the first image in an object store, where nothing here reads from these."""
    if has_cloud_extra():
        return
    for image in images:
        if scheme_of(image) in CLOUD_SCHEMES:
            raise InputError(f"{shown(name)}: {shown(public_image(image))}: {CLOUD_HINT}")


def is_video(image: str) -> bool:
    """Whether a path or an address names a video, by its suffix."""
    return _ends_in(image, VIDEO_SUFFIXES)


def _ends_in(image: str, suffixes: tuple[str, ...]) -> bool:
    if scheme_of(image) not in {None, "data"}:
        image = image.partition("#")[0].partition("?")[0]
    return image.lower().endswith(suffixes)


def names_document(image: str) -> bool:
    """Whether a path or an address names a PDF, by its suffix or its type."""
    if image.startswith(_DATA):
        return image[:32].lower().startswith("data:application/pdf")
    name = image.lower()
    if PDF_SUFFIX not in name:
        return False
    return (name if scheme_of(image) is None else name.partition("#")[0].partition("?")[0]).endswith(PDF_SUFFIX)


def _file_path(url: str) -> str | None:
    """The path in a `file://` address of this machine; None where it names another machine."""
    host, slash, path = url[7:].partition("/")
    if host.lower() not in {"", "localhost"} or not slash:
        return None
    return os.fsdecode(unquote_to_bytes("/" + path))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"  # noqa: PLR2004 - PEP 383
