"""A video -> the frames to send, each prepared like a photograph. Needs the extra `video`, as `images.videos` does."""

import hashlib
import io
from collections.abc import Callable
from typing import Final, TypeVar

import av.error
from PIL import Image

from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind
from pipeline.images.containers.video import VideoFormat, video_flaw
from pipeline.images.prepare import (
    BYTES_PER_MB,
    PIXELS_PER_MEGAPIXEL,
    Reserve,
    sent_frame,
    too_high,
    too_large_file,
    too_large_to_decode,
)
from pipeline.images.sampling import Sampling, time_fragment
from pipeline.images.scaling import scaled
from pipeline.images.videos import (
    CutVideoError,
    Frame,
    LongVideoError,
    NoVideoError,
    VideoHeader,
    frames_of,
    video_header,
)
from pipeline.records import Failure, PreparedImage
from pipeline.redaction.redactor import one_line
from pipeline.tokens.presizing import Target

T = TypeVar("T")

_TURNS: Final = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}


def prepare_video(
    data: bytes, kind: VideoFormat, rule: Target, config: ImagesConfig, reserve: Reserve
) -> list[PreparedImage] | Failure:
    """`Sampling.of(config)`'s frames. The decoder's memory is held as a whole, around all of them."""
    found = _inspected(data, kind, config)
    if isinstance(found, Failure):
        return found
    width, height = found.shown
    targets = [rule.target(width, height), rule.target(height, width)]
    needed = max(found.needed_bytes(target) for target in targets)
    flaw = too_high(max(targets, key=max)) or too_large_to_decode(needed, found.shown, "video", config)
    if flaw is not None:
        return flaw
    sampling, sha256 = Sampling.of(config), hashlib.sha256(data).hexdigest()

    def encoded(lead: int) -> list[PreparedImage]:
        taken = enumerate(frames_of(data, kind, found, sampling, lead=lead))
        return [
            _sent(frame, number, rule, config.quality, source_bytes=len(data), sha256=sha256) for number, frame in taken
        ]

    with reserve(needed + max(x * y for x, y in targets) * sampling.frames):
        images = _tried(lambda: encoded(lead=0))
        if isinstance(images, Failure) and images.kind is ErrorKind.IMAGE_UNREADABLE:
            # A decoder that begins in the middle may take a reference to a picture before it for damage.
            images = _tried(lambda: encoded(lead=1))
    return images


def opened_header(file: io.BufferedIOBase, kind: VideoFormat, config: ImagesConfig) -> VideoHeader | Failure:
    """What a video says of itself; of the file only what that takes is read."""
    return _tried(lambda: video_header(file, kind, int(config.max_decoded_mb * BYTES_PER_MB)))


def _inspected(data: bytes, kind: VideoFormat, config: ImagesConfig) -> VideoHeader | Failure:
    """The header of a video that may be decoded."""
    if len(data) > config.max_file_mb * BYTES_PER_MB:
        return too_large_file(len(data), config)
    flaw = video_flaw(data, kind)
    if flaw is not None:
        return _failure(is_cut=flaw.is_cut, is_too_large=flaw.is_too_large, why=flaw.why)
    header = opened_header(io.BytesIO(data), kind, config)
    if isinstance(header, Failure):
        return header
    width, height = header.shown
    if max(width, header.width) * height > config.max_megapixels * PIXELS_PER_MEGAPIXEL:
        return Failure(
            kind=ErrorKind.IMAGE_BOMB,
            message=f"{width} x {height} pixels are more than images.max_megapixels = {config.max_megapixels:g} allows",
        )
    return header


def _sent(frame: Frame, number: int, rule: Target, quality: int, *, source_bytes: int, sha256: str) -> PreparedImage:
    """One frame, upright and at the size that the model looks at."""
    upright = frame.shown if frame.turns % 2 == 0 else (frame.shown[1], frame.shown[0])
    target = rule.target(*upright)
    picture = scaled(frame.picture, target if frame.turns % 2 == 0 else (target[1], target[0]))
    if frame.turns:
        picture = picture.transpose(_TURNS[frame.turns])
    picture.info = {}
    return sent_frame(
        picture, quality, size=upright, source_bytes=source_bytes, sha256=sha256,
        fragment=time_fragment(frame.time_s), frame=number,
    )  # fmt: skip


def _tried(step: Callable[[], T]) -> T | Failure:
    """`step()`, or why the video cannot be decoded."""
    try:
        return step()
    except Exception as error:  # noqa: BLE001 - PyAV raises many kinds, and some are Python's own
        return _failure_of(error)


def _failure_of(error: Exception) -> Failure:
    if isinstance(error, NoVideoError):
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message=f"the video has no frames to send: {error}")
    if isinstance(error, MemoryError):
        return Failure(kind=ErrorKind.IMAGE_TOO_LARGE, message="there is not enough memory to decode this video")
    why = error.strerror if isinstance(error, av.error.FFmpegError) else str(error)
    return _failure(
        is_cut=isinstance(error, CutVideoError),
        is_too_large=isinstance(error, LongVideoError),
        why=one_line(why or type(error).__name__),
    )


def _failure(*, is_cut: bool, is_too_large: bool, why: str) -> Failure:
    if is_too_large:
        return Failure(kind=ErrorKind.IMAGE_TOO_LARGE, message=f"the video takes too long to decode: {why}")
    if is_cut:
        return Failure(kind=ErrorKind.IMAGE_TRUNCATED, message=f"the video is incomplete: {why}")
    return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=f"the video cannot be decoded: {why}")
