"""The bytes of an image file -> the file to send: at the size that the model looks at, upright, sRGB, opaque.

An image that is already so is sent as it is, less its metadata; anything else is decoded and sent as JPEG.
`prepare_image` is called from worker threads: it shares nothing between them and lets go of the interpreter
lock in every step that takes long.
"""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from PIL import Image

from pipeline.config.sections import ImagesConfig
from pipeline.errors import ErrorKind
from pipeline.images.containers import Format, Header, describe, inspect, probe, scan_count, sniff, stripped
from pipeline.images.decoding import attempt, decoding_bytes, loaded, measured, rendered
from pipeline.images.encoding import MAX_JPEG_SIDE, encode_jpeg
from pipeline.images.scaling import scaled
from pipeline.quiet import quiet_decoders
from pipeline.records import Failure, ImageFacts, PreparedImage
from pipeline.tokens.presizing import Target

__all__ = ["Reserve", "prepare_image", "warm_up"]

Reserve = Callable[[int], AbstractContextManager[object]]
"""Called with the bytes of memory about to be used for decoding; entering it waits until there is room."""

BYTES_PER_MB = 1_000_000
PIXELS_PER_MEGAPIXEL = 1_000_000
MAX_SCANS = 100
"""Of a JPEG. Encoders write 10, those that search for the best script 20; each costs a pass over all coefficients."""


def warm_up() -> None:
    """Do once what the first image would pay for: Pillow's plugins, the check of the fast resizer, the encoder.

    Pillow and libtiff are silenced: what is wrong with an image is a value here, and the limit for bombs is ours.
    """
    quiet_decoders()
    Image.init()
    white = Image.new("RGB", (64, 64), "white")
    encode_jpeg(scaled(white, (16, 16)), quality=85)


def prepare_image(data: bytes, rule: Target, config: ImagesConfig, reserve: Reserve) -> PreparedImage | Failure:
    """`data` is a whole image file; the result is the file to send and what is known of both.

    The size is `rule`'s, never larger than the image. At most one reservation is
    held at a time, around decoding. Whatever the bytes are, what is wrong with them comes back as a Failure
    of a kind `IMAGE_...`, its message one line without the file's name.
    """
    header = _header(data, config)
    if isinstance(header, Failure):
        return header
    target = rule.target(*header.upright)
    if header.sendable and target == header.upright:
        sent = _unchanged(data, config)
        if sent is not None:
            return _verified(data, header, config, reserve) or _prepared(
                data, sent, header, target, header.format.media_type
            )
    if max(target) > MAX_JPEG_SIDE:
        return Failure(
            kind=ErrorKind.IMAGE_TOO_LARGE,
            message=f"a side of {max(target)} pixels is more than the {MAX_JPEG_SIDE} that a JPEG can have",
        )
    needed = _needed(data, header, target, config)
    if isinstance(needed, Failure):
        return needed
    with reserve(needed):
        picture = attempt(lambda: rendered(data, header, target), data, header.format)
        if isinstance(picture, Failure):
            return picture
        sent = encode_jpeg(picture, config.quality)
    return _prepared(data, sent, header, target, "image/jpeg")


def _needed(data: bytes, header: Header, target: tuple[int, int] | None, config: ImagesConfig) -> int | Failure:
    """The bytes of memory to reserve for decoding; no target: for decoding alone."""
    needed = attempt(lambda: decoding_bytes(data, header, target), data, header.format)
    if isinstance(needed, Failure) or needed <= config.max_decoded_mb * BYTES_PER_MB:
        return needed
    return Failure(
        kind=ErrorKind.IMAGE_TOO_LARGE,
        message=f"decoding {header.width} x {header.height} pixels of this {header.format} takes "
        f"{-(-needed // BYTES_PER_MB):,} MB, more than images.max_decoded_mb = {config.max_decoded_mb:g} allows",
    )


def _header(data: bytes, config: ImagesConfig) -> Header | Failure:
    if not data:
        return Failure(kind=ErrorKind.IMAGE_TRUNCATED, message="the file is empty")
    if len(data) > config.max_file_mb * BYTES_PER_MB:
        return Failure(
            kind=ErrorKind.IMAGE_TOO_LARGE,
            message=f"{len(data):,} bytes are more than images.max_file_mb = {config.max_file_mb:g} allows",
        )
    found = sniff(data)
    if found is None:
        return _not_read(data)
    header: Header | Failure | None = probe(data)
    if header is None:
        header = attempt(lambda: measured(data, found), data, found)
    if isinstance(header, Header) and _is_bomb(header, config):
        return Failure(
            kind=ErrorKind.IMAGE_BOMB,
            message=f"{header.width} x {header.height} pixels are more than images.max_megapixels = "
            f"{config.max_megapixels:g} allows",
        )
    if isinstance(header, Header) and header.buffered_bytes and (scans := scan_count(data)) > MAX_SCANS:
        return Failure(
            kind=ErrorKind.IMAGE_TOO_LARGE,
            message=f"a JPEG of {scans:,} scans takes too long to decode: at most {MAX_SCANS} are decoded",
        )
    return header


def _not_read(data: bytes) -> Failure:
    what = describe(data)
    hint = "; HEIC is not read yet, convert it to JPEG" if "HEIC" in what else ""
    return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message=f"this is {what}{hint}")


def _is_bomb(header: Header, config: ImagesConfig) -> bool:
    return header.width * header.height > config.max_megapixels * PIXELS_PER_MEGAPIXEL


def _unchanged(data: bytes, config: ImagesConfig) -> bytes | None:
    """`data` as it can be sent without being decoded; None where its structure is not whole, or it is too long."""
    container = inspect(data)
    if container is None or not container.whole or not container.header.sendable:
        return None
    sent = data if config.keep_metadata else stripped(data, container)
    return sent if len(sent) <= config.max_sent_mb * BYTES_PER_MB else None


def _verified(data: bytes, header: Header, config: ImagesConfig, reserve: Reserve) -> Failure | None:
    """Why an image that would be sent unchanged cannot be decoded; None where it can, or its structure is enough.

    A GIF is always decoded: it has neither checksums nor lengths that would show damage.
    """
    if config.verify != "full" and header.format is not Format.GIF:
        return None
    needed = _needed(data, header, None, config)
    if isinstance(needed, Failure):
        return needed
    with reserve(needed):
        checked = attempt(lambda: loaded(data, header), data, header.format)
    return checked if isinstance(checked, Failure) else None


def _prepared(data: bytes, sent: bytes, header: Header, target: tuple[int, int], media_type: str) -> PreparedImage:
    source_sha256 = hashlib.sha256(data).hexdigest()
    facts = ImageFacts(
        width=header.upright[0],
        height=header.upright[1],
        sent_width=target[0],
        sent_height=target[1],
        sent_bytes=len(sent),
        source_bytes=len(data),
        sha256=source_sha256,
    )
    sent_sha256 = source_sha256 if sent is data else hashlib.sha256(sent).hexdigest()
    return PreparedImage(data=sent, media_type=media_type, sha256=sent_sha256, facts=facts)
