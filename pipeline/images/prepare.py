"""The bytes of an image file -> the file to send: at the size that the model looks at, upright, sRGB, opaque.

An image that is already so is sent as it is, less its metadata; anything else is decoded and sent as JPEG.
`prepare_image` is called from worker threads: it shares nothing between them and lets go of the interpreter
lock in every step that takes long.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from PIL import Image

from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind
from pipeline.images.containers import Format, Header, inspect, probe, scan_count, sniff, stripped
from pipeline.images.containers.completing import completed, completing_bytes
from pipeline.images.containers.tiff import first_page, with_first_page
from pipeline.images.containers.values import reader_of
from pipeline.images.decoding import attempt, decoding_bytes, loaded, measured, rendered
from pipeline.images.encoding import MAX_JPEG_SIDE, encode_jpeg
from pipeline.images.flaws import coded_otherwise
from pipeline.images.heap import give_back
from pipeline.images.scaling import scaled
from pipeline.images.unpacking import not_read, part_of
from pipeline.quiet import quiet_decoders
from pipeline.records import Failure, ImageFacts, PreparedImage
from pipeline.tokens.presizing import Target

Reserve = Callable[[int], AbstractContextManager[object]]
"""Called with the bytes of memory about to be used for decoding; entering it waits until there is room."""

BYTES_PER_MB = 1_000_000
PIXELS_PER_MEGAPIXEL = 1_000_000
TRUNCATED_IMAGE = "truncated_image"
"""The flag of an image whose file breaks off, and that is sent as far as it goes."""
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


def giving_back(reserve: Reserve) -> Reserve:
    """`reserve`, with memory of large pictures given back to the system where a reservation ends."""

    @contextmanager
    def held(needed: int) -> Iterator[None]:
        with reserve(needed):
            try:
                yield
            finally:
                give_back(needed)

    return held


def prepare_image(data: bytes, rule: Target, config: ImagesConfig, reserve: Reserve) -> PreparedImage | Failure:
    """`data` is a whole image file; the result is the file to send and what is known of both.

    The size is `rule`'s, never larger than the image. At most one reservation is
    held at a time, around decoding. Whatever the bytes are, what is wrong with them comes back as a Failure
    of a kind `IMAGE_...`, its message one line without the file's name.
    """
    if len(data) > config.max_file_mb * BYTES_PER_MB:
        return too_large_file(len(data), config)
    kind = sniff(data)
    part = part_of(reader_of(data), kind)
    if isinstance(part, Failure):
        return part
    page = attempt(lambda: first_page(reader_of(data)), data, kind) if part is None and kind is Format.TIFF else None
    if isinstance(page, Failure):
        return page
    if part is not None:
        inner = data[part.offset : part.offset + part.length]
    elif page is not None:
        inner = with_first_page(data, page)
    else:
        return _prepare_picture(data, rule, config, reserve)
    image = _prepare_picture(inner, rule, config, reserve, None if part is None else part.orientation)
    if isinstance(image, Failure):
        return image
    facts = replace(image.facts, source_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    return replace(image, facts=facts)


def _prepare_picture(
    data: bytes, rule: Target, config: ImagesConfig, reserve: Reserve, orientation: int | None = None
) -> PreparedImage | Failure:
    """`orientation`: as the file around it states it."""
    header = checked_header(data, config)
    if isinstance(header, Failure):
        return header
    if orientation is not None:
        header = replace(header, orientation=orientation)
    target = rule.target(*header.upright)
    if header.sendable and target == header.upright:
        sent = _unchanged(data, config)
        if sent is not None:
            return _verified(data, header, config, reserve) or _prepared(
                data, sent, header, target, header.format.media_type
            )
    return too_high(target) or _encoded(data, header, rule, config, reserve)


def _encoded(
    data: bytes, header: Header, rule: Target, config: ImagesConfig, reserve: Reserve
) -> PreparedImage | Failure:
    """The picture as a JPEG of the size that the model looks at, or as it is where that is the shorter file."""
    target = rule.target(*header.upright)
    needed = _needed(data, header, target, config)
    if isinstance(needed, Failure):
        return needed
    with reserve(needed):
        picture = attempt(lambda: rendered(data, header, target), data, header.format)
        encoded = picture if isinstance(picture, Failure) else encode_jpeg(picture, config.quality)
    if isinstance(encoded, Failure):
        is_shown = encoded.kind is ErrorKind.IMAGE_TRUNCATED and config.truncated == "show"
        return (_shown(data, header, target, config, reserve) if is_shown else None) or encoded
    if header.sendable and len(encoded) >= len(data) and rule.keeps(*header.upright):
        smaller = _unchanged(data, config)
        if smaller is not None:  # it has been decoded whole just now
            return _prepared(data, smaller, header, header.upright, header.format.media_type)
    return _prepared(data, encoded, header, target, "image/jpeg")


def _shown(
    data: bytes, header: Header, target: tuple[int, int], config: ImagesConfig, reserve: Reserve
) -> PreparedImage | None:
    """As much of a picture as its file holds; None where that is nothing, or takes too much memory."""
    needed = _needed(data, header, target, config)
    if isinstance(needed, Failure):
        return None
    needed += completing_bytes(header)
    if too_large_to_decode(needed, (header.width, header.height), header.format, config) is not None:
        return None
    with reserve(needed):
        whole = completed(data, header)
        picture = None if whole is None else attempt(lambda: rendered(whole, header, target), data, header.format)
        if picture is None or isinstance(picture, Failure):
            return None
        sent = encode_jpeg(picture, config.quality)
    image = _prepared(data, sent, header, target, "image/jpeg")
    return replace(image, facts=replace(image.facts, flags=(TRUNCATED_IMAGE,)))


def _needed(data: bytes, header: Header, target: tuple[int, int] | None, config: ImagesConfig) -> int | Failure:
    """The bytes of memory to reserve for decoding; no target: for decoding alone."""
    needed = attempt(lambda: decoding_bytes(data, header, target), data, header.format)
    if isinstance(needed, Failure):
        return needed
    return too_large_to_decode(needed, (header.width, header.height), header.format, config) or needed


def too_large_to_decode(needed: int, size: tuple[int, int], kind: str, config: ImagesConfig) -> Failure | None:
    """Whether decoding would take more memory than one image may."""
    if needed <= config.max_decoded_mb * BYTES_PER_MB:
        return None
    return Failure(
        kind=ErrorKind.IMAGE_TOO_LARGE,
        message=f"decoding {size[0]} x {size[1]} pixels of this {kind} takes "
        f"{-(-needed // BYTES_PER_MB):,} MB, more than images.max_decoded_mb = {config.max_decoded_mb:g} allows",
    )


def too_high(target: tuple[int, int]) -> Failure | None:
    """Whether no JPEG can have this size."""
    if max(target) <= MAX_JPEG_SIDE:
        return None
    return Failure(
        kind=ErrorKind.IMAGE_TOO_LARGE,
        message=f"a side of {max(target)} pixels is more than the {MAX_JPEG_SIDE} that a JPEG can have",
    )


def too_large_file(size: int, config: ImagesConfig) -> Failure:
    """A file of this number of bytes is not read."""
    return Failure(
        kind=ErrorKind.IMAGE_TOO_LARGE,
        message=f"{size:,} bytes are more than images.max_file_mb = {config.max_file_mb:g} allows",
    )


def checked_header(data: bytes, config: ImagesConfig) -> Header | Failure:
    """What an image says of itself, where it may be decoded."""
    if not data:
        return Failure(kind=ErrorKind.IMAGE_EMPTY, message="the file is empty")
    if len(data) > config.max_file_mb * BYTES_PER_MB:
        return too_large_file(len(data), config)
    found = sniff(data)
    if (flaw := not_read(reader_of(data), found)) is not None or found is None:
        return flaw or Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="this is no image")
    header: Header | Failure | None = probe(data)
    if header is None:
        header = attempt(lambda: measured(data, found), data, found)
    return header if isinstance(header, Failure) else _refused(data, header, config) or header


def _refused(data: bytes, header: Header, config: ImagesConfig) -> Failure | None:
    """Why an image with this header is not decoded."""
    if header.not_read:
        return coded_otherwise(header.not_read, header.format)
    if _is_bomb(header, config):
        return _bomb(data, header, config)
    if header.buffered_bytes and (scans := scan_count(data)) > MAX_SCANS:
        return Failure(
            kind=ErrorKind.IMAGE_TOO_LARGE,
            message=f"a JPEG of {scans:,} scans takes too long to decode: at most {MAX_SCANS} are decoded",
        )
    return None


def _bomb(data: bytes, header: Header, config: ImagesConfig) -> Failure:
    """Why an image of too many pixels is not decoded: the memory that it takes, where that is too much as well."""
    needed = _needed(data, header, None, config)
    if isinstance(needed, Failure) and needed.kind is ErrorKind.IMAGE_TOO_LARGE:
        return needed
    return Failure(
        kind=ErrorKind.IMAGE_BOMB,
        message=f"{header.width} x {header.height} pixels are more than images.max_megapixels = "
        f"{config.max_megapixels:g} allows",
    )


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


def sent_frame(
    picture: Image.Image,
    quality: int,
    *,
    size: tuple[int, int],
    source_bytes: int,
    sha256: str,
    fragment: str,
    frame: int,
) -> PreparedImage:
    """One of the pictures of a file, upright, at the size at which it is sent. `size` is the one it had."""
    sent = encode_jpeg(picture, quality)
    facts = ImageFacts(
        width=size[0],
        height=size[1],
        sent_width=picture.width,
        sent_height=picture.height,
        sent_bytes=len(sent),
        source_bytes=source_bytes,
        sha256=sha256,
        fragment=fragment,
        frame=frame,
    )
    return PreparedImage(data=sent, media_type="image/jpeg", sha256=hashlib.sha256(sent).hexdigest(), facts=facts)
