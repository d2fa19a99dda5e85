"""The bytes of an image or video file -> the images to send: nearly always one, or several frames or pages of it.

Where `images.frames` is 1, any image is `images.prepare`'s alone. A video gives frames, also with 1; an animation and a
file of several pages give more than one where `images.frames` says so. Each is prepared like a photograph.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from PIL import Image

from pipeline.config.extras import VIDEO_HINT, has_video_extra
from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind
from pipeline.images.containers import Format, Header, inspect, sniff
from pipeline.images.containers.animation import delays_of
from pipeline.images.containers.raw_tiff import is_raw_tiff
from pipeline.images.containers.tiff import page_offsets, with_first_page
from pipeline.images.containers.values import reader_of
from pipeline.images.containers.video import video_format
from pipeline.images.decoded_size import picture_bytes
from pipeline.images.decoding import attempt, decoding_bytes, finished, undecodable
from pipeline.images.documents import prepare_document
from pipeline.images.opening import opened_for_seeking
from pipeline.images.prepare import (
    BYTES_PER_MB,
    Reserve,
    checked_header,
    giving_back,
    prepare_image,
    sent_frame,
    too_high,
    too_large_to_decode,
)
from pipeline.images.sampling import Sampling, Timeline, time_fragment
from pipeline.pdf.structure import is_pdf
from pipeline.quiet import noted
from pipeline.records import Failure, PreparedImage
from pipeline.tokens.presizing import Target

Prepared = Sequence[PreparedImage] | Failure

DECODER_WARNING: Final = "decoder_warning"
"""The flag of an image whose decoder complained, and gave a picture."""

_MOST_PIXELS: Final = 20_000_000_000
"""Of all pictures of an animation up to the last one that is sent, for each that is."""
_CANVASES: Final = 3
"""Pictures that a reader of animations keeps besides: the last one, the one before, and a copy of one."""


def prepare_images(data: bytes, rule: Target, config: ImagesConfig, reserve: Reserve) -> Prepared:
    """The images to send of one file, as `prepare_image` gives one. A flaw in any of them is a Failure of all."""
    with noted() as said:
        found = _prepared(data, rule, config, giving_back(reserve))
    if isinstance(found, Failure) or not said.any:
        return found
    return [replace(one, facts=replace(one.facts, flags=(*one.facts.flags, DECODER_WARNING))) for one in found]


def _prepared(data: bytes, rule: Target, config: ImagesConfig, reserve: Reserve) -> Prepared:
    if is_pdf(data):
        document = prepare_document(data, config)
        return document if isinstance(document, Failure) else (document,)
    kind = video_format(data)
    if kind is not None and sniff(data) is None:
        if not has_video_extra():
            return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message=f"this is a video ({kind}); {VIDEO_HINT}")
        from pipeline.images.video_frames import prepare_video  # noqa: PLC0415 - needs an extra, and a tenth of a second

        return prepare_video(data, kind, rule, config, reserve)
    several = _several(data, rule, config, reserve) if config.frames > 1 else None
    if several is not None:
        return several
    image = prepare_image(data, rule, config, reserve)
    return image if isinstance(image, Failure) else (image,)


def _several(data: bytes, rule: Target, config: ImagesConfig, reserve: Reserve) -> Prepared | None:
    """None where the file holds one picture only."""
    kind = sniff(data)
    if kind is None or len(data) > config.max_file_mb * BYTES_PER_MB:
        return None
    if kind is Format.TIFF:
        if is_raw_tiff(reader_of(data)):
            return None
        pages = page_offsets(data)
        return _of_pages(data, pages, rule, config, reserve) if len(pages) > 1 else None
    delays = delays_of(data, kind)
    if len(delays.seconds) < 2:  # noqa: PLR2004 - one picture is no animation
        return None
    return _of_animation(data, Timeline.of(*delays), rule, config, reserve)


def _of_pages(data: bytes, offsets: Sequence[int], rule: Target, config: ImagesConfig, reserve: Reserve) -> Prepared:
    """Each page is prepared as the first of its file, so that all that holds for an image holds for it."""
    images: list[PreparedImage] = []
    sha256 = hashlib.sha256(data).hexdigest()
    for number, at in enumerate(Sampling.of(config).pages(len(offsets))):
        image = prepare_image(with_first_page(data, offsets[at]), rule, config, reserve)
        if isinstance(image, Failure):
            return replace(image, message=f"page {at + 1}: {image.message}")
        facts = replace(image.facts, sha256=sha256, fragment=f"page={at + 1}", frame=number)
        images.append(replace(image, facts=facts))
    return images


def _of_animation(data: bytes, timeline: Timeline, rule: Target, config: ImagesConfig, reserve: Reserve) -> Prepared:
    header = checked_header(data, config)
    if isinstance(header, Failure):
        return header
    container = inspect(data)
    if container is None or not container.whole:
        return undecodable(ValueError("its structure is broken"), data, header.format)
    chosen = Sampling.of(config).chosen(timeline.starts, timeline.end)
    target = rule.target(*header.upright)
    flaw = too_high(target) or _too_long(header, timeline.first + chosen[-1] + 1, len(chosen))
    if flaw is not None:
        return flaw
    decoding = attempt(lambda: decoding_bytes(data, header, target), data, header.format)
    if isinstance(decoding, Failure):
        return decoding
    needed = decoding + _CANVASES * picture_bytes((header.width, header.height), "RGBA")
    flaw = too_large_to_decode(needed, (header.width, header.height), header.format, config)
    if flaw is not None:
        return flaw
    sha256 = hashlib.sha256(data).hexdigest()

    def encoded() -> list[PreparedImage]:
        pictures = enumerate(_pictures(data, header, target, timeline, chosen))
        return [
            sent_frame(
                picture, config.quality, size=header.upright, source_bytes=len(data), sha256=sha256,
                fragment=time_fragment(time_s), frame=number,
            )
            for number, (time_s, picture) in pictures
        ]  # fmt: skip

    with reserve(needed + target[0] * target[1] * len(chosen)):
        return attempt(encoded, data, header.format)


def _too_long(header: Header, pictures: int, sent: int) -> Failure | None:
    if header.width * header.height * pictures <= _MOST_PIXELS * sent:
        return None
    return Failure(
        kind=ErrorKind.IMAGE_TOO_LARGE,
        message=f"this {header.format} takes too long to decode: {pictures:,} pictures of "
        f"{header.width} x {header.height} pixels",
    )


def _pictures(
    data: bytes, header: Header, target: tuple[int, int], timeline: Timeline, chosen: Sequence[int]
) -> Iterator[tuple[float, Image.Image]]:
    with opened_for_seeking(data, header.format) as image:
        for at in chosen:
            image.seek(timeline.first + at)
            image.load()
            yield timeline.starts[at], finished(lambda: (image.copy(), None), header, target)
