"""Frames of a video, by PyAV. This module needs the extra `video`; `images.frames` imports it where a video comes.

A file is read twice from memory. The first pass reads the times of all pictures and decodes none; the second one
decodes from the last keyframe before each wanted picture up to it, and nothing else. So no seeking depends on an index
in the file, and what decoding will take is limited before it begins.
"""

import io
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream
from PIL import Image

from pipeline.images.containers.video import MOST_SAMPLES, VideoFormat
from pipeline.images.decoded_size import Coding, rendered_bytes
from pipeline.images.sampling import Sampling
from pipeline.quiet import quiet_ffmpeg

_DEMUXERS: Final = {VideoFormat.MP4: "mov", VideoFormat.MATROSKA: "matroska"}
"""Only these: others open further files and addresses that a file names."""
_DECODERS: Final = (
    *("h264", "hevc", "vp8", "vp9", "libvpx", "libvpx-vp9", "av1", "libdav1d", "vvc", "mpeg4", "mpeg2video"),
    *("mpeg1video", "h263", "msmpeg4v3", "mjpeg", "prores", "dnxhd", "theora", "png", "rawvideo", "ffv1", "cfhd"),
)
"""What cameras, phones, browsers and editors write. The others are seldom used, and seldom tested."""
_READS: Final = 4 * MOST_SAMPLES
"""A reader that asks more often for bytes goes round in circles."""
MOST_DECODED_PIXELS: Final = 20_000_000_000
"""For each frame that is sent: of ten seconds at 60 pictures a second, 8K."""
_MOST_PICTURES: Final = 20_000
"""For each frame that is sent: they count where pictures are small."""
_HELD_BACK: Final = 32
"""Pictures that a decoder may take in before it gives one out."""
_DECODER_PICTURES: Final = 20
"""What a decoder keeps at most: 16 to refer to, and those that wait for their turn."""
_LEAST_BITS: Final = 8
"""Of a pixel as decoded."""
_EDGE: Final = 128
"""Pixels that are coded beyond the edges; decoders allocate up to twice as many."""
_HD_HEIGHT: Final = 720
_UNSPECIFIED: Final = 2
_WIDEST: Final = 8


class VideoError(ValueError):
    """A video that is not decoded, in a few words."""


class CutVideoError(VideoError):
    """Its data ends too early."""


class NoVideoError(VideoError):
    """There is no picture in it, or none that is decoded here."""


class LongVideoError(VideoError):
    """It would take too much."""


@dataclass(frozen=True, slots=True)
class VideoHeader:
    """What a video says of its pictures before any is decoded."""

    width: int
    height: int
    bits: int
    """Of a pixel as decoded."""
    aspect: Fraction
    """Width of a pixel by its height."""
    duration_s: float | None
    frames: int | None

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height with square pixels, not turned."""
        return max(1, round(self.width * self.aspect)), self.height

    def needed_bytes(self, target: tuple[int, int]) -> int:
        """Memory that decoding takes at most, with a picture of `target` (not turned) made from each frame."""
        pixels = (self.width + _EDGE) * (self.height + _EDGE)
        working = pixels * self.bits // 8 * _DECODER_PICTURES + 2 * 3 * pixels
        return rendered_bytes(Coding(size=self.shown, mode="RGB", alpha=False, working_bytes=working), target)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: when it is seen, in seconds from the first, and its picture."""

    time_s: float
    picture: Image.Image
    shown: tuple[int, int]
    """Its width and height with square pixels, not turned."""
    turns: int
    """Quarter turns to the left that make it upright."""


@dataclass(frozen=True, slots=True)
class _Index:
    """The pictures of a stream: when each is seen, and which ones can be decoded without another."""

    times: "array[int]"
    """In the order in which they are seen, in units of the stream."""
    places: "array[int]"
    """Of each of them, its place in the file."""
    keys: list[tuple[int, int]]
    """Place and time of each keyframe, by place."""
    end: int


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring pictures that are decoded together: from a keyframe on."""

    start: int
    key: int
    """From here on an error counts, but in pictures that are seen before `shown`."""
    shown: int
    end: int
    times: tuple[int, ...]


class _Bytes(io.BytesIO):
    """A file in memory that is read so often and no more."""

    reads = _READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads -= 1
        if self.reads < 0:
            raise LongVideoError("it is read in circles")
        return super().read(size)


def video_header(file: io.BufferedIOBase, kind: VideoFormat, most_bytes: int = 1 << 30) -> VideoHeader:
    """What the header states. Raises VideoError, and what PyAV raises.

    FFmpeg may decode a picture to find its size: none that takes more than `most_bytes`.
    """
    with _opened(file, kind, most_bytes // _DECODER_PICTURES * 8 // _LEAST_BITS) as (container, stream):
        return _header(container, stream)


@contextmanager
def _opened(
    file: io.BufferedIOBase, kind: VideoFormat, most_pixels: int
) -> Iterator[tuple[InputContainer, VideoStream]]:
    quiet_ffmpeg()
    options = {"codec_whitelist": ",".join(_DECODERS), "max_pixels": str(most_pixels), "advanced_editlist": "0"}
    with av.open(file, "r", format=_DEMUXERS[kind], options=options, metadata_errors="replace") as container:
        stream = _video_stream(container)
        for other in container.streams:
            if other is not stream:
                other.discard = Discard.all
        context = stream.codec_context
        context.thread_count = 1
        context.options = {"max_pixels": str(most_pixels), "err_detect": "explode"}
        yield container, stream


def _video_stream(container: InputContainer) -> VideoStream:
    """The first one that is no cover."""
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    found = [one for one in container.streams.video if not one.disposition & covers]
    if not found:
        raise NoVideoError("it has no pictures, only sound" if container.streams.audio else "it has no pictures")
    stream = found[0]
    if stream.codec_context is None:
        raise NoVideoError("nothing here decodes its pictures")
    if (codec := stream.codec_context.name) not in _DECODERS:
        raise NoVideoError(f"pictures coded as {codec} are not decoded")
    return stream


def _header(container: InputContainer, stream: VideoStream) -> VideoHeader:
    context = stream.codec_context
    if context.width < 1 or context.height < 1:
        raise VideoError("its header gives no size")
    aspect = stream.sample_aspect_ratio or Fraction(1)
    duration = None
    if stream.duration and stream.time_base:
        duration = float(stream.duration * stream.time_base)
    elif container.duration:
        duration = container.duration / av.time_base
    frames = stream.frames or None
    if frames is None and duration is not None and stream.average_rate:
        frames = max(1, round(duration * stream.average_rate))
    return VideoHeader(
        width=context.width,
        height=context.height,
        bits=24 if context.format is None else context.format.padded_bits_per_pixel,
        aspect=aspect if Fraction(1, _WIDEST) <= aspect <= _WIDEST else Fraction(1),
        duration_s=duration if duration is not None and duration > 0 else None,
        frames=frames,
    )


def frames_of(
    data: bytes, kind: VideoFormat, header: VideoHeader, sampling: Sampling, *, lead: int = 0
) -> Iterator[Frame]:
    """The frames that are sent, decoded one at a time. Raises VideoError, and what PyAV raises.

    Decoding begins `lead` keyframes earlier than needed: a decoder that begins in the middle of a stream may take a
    reference to a picture before it for damage.
    """
    most_pixels = (header.width + 2 * _EDGE) * (header.height + 2 * _EDGE)
    with _opened(_Bytes(data), kind, most_pixels) as (container, stream):
        index, unit = _index(container, stream), float(stream.time_base or 1)
    starts = [time * unit for time in index.times]
    wanted = sampling.chosen(starts, index.end * unit)
    runs = _runs(index, wanted, lead)
    _check_effort(runs, header, len(wanted))
    with _opened(_Bytes(data), kind, most_pixels) as (container, stream):
        packets = enumerate(_packets(container, stream))
        for run in runs:
            for time, frame in _frames(packets, stream, run):
                shown = max(1, round(frame.width * header.aspect)), frame.height
                yield Frame((time - index.times[0]) * unit, _picture(frame), shown, round(frame.rotation / 90) % 4)


def _packets(container: InputContainer, stream: VideoStream) -> "Iterator[Packet[VideoStream]]":
    """Of one stream, less the empty one that PyAV adds."""
    for number, packet in enumerate(container.demux(stream)):
        if number > MOST_SAMPLES:
            raise LongVideoError(f"it has more than {MOST_SAMPLES:,} pictures")
        if packet.is_corrupt:
            raise CutVideoError("the data ends inside a picture")
        if packet.size:
            yield packet


def _index(container: InputContainer, stream: VideoStream) -> _Index:
    seen: list[tuple[int, int]] = []
    keys: list[tuple[int, int]] = []
    last_duration = 0
    for place, packet in enumerate(_packets(container, stream)):
        time = packet.dts if packet.pts is None else packet.pts
        if time is None or packet.is_discard:
            continue
        if packet.is_keyframe:
            keys.append((place, time))
        if keys:
            seen.append((time, place))
            last_duration = max(last_duration, 0) if not packet.duration else packet.duration
    if any(time >= 0 for time, _ in seen):
        seen = [(time, place) for time, place in seen if time >= 0]
    if not seen:
        raise CutVideoError("it has no picture that can be decoded alone")
    seen.sort()
    times, places = array("q", (time for time, _ in seen)), array("q", (place for _, place in seen))
    step = last_duration or (times[-1] - times[0]) // max(1, len(times) - 1) or 1
    return _Index(times, places, keys, times[-1] + step)


def _runs(index: _Index, wanted: Sequence[int], lead: int) -> list[_Run]:
    """What is decoded for these pictures, in the order of the file; runs that meet are one."""
    runs: list[_Run] = []
    for at in wanted:
        time, place = index.times[at], index.places[at]
        behind = bisect_left(index.keys, (place + 1, 0))
        key = next((n for n in range(behind - 1, -1, -1) if index.keys[n][1] <= time), 0)
        start = index.keys[max(0, key - lead)][0]
        before = runs[-1] if runs else None
        if before is not None and start <= before.end + _HELD_BACK:
            runs[-1] = _Run(before.start, before.key, before.shown, max(before.end, place), (*before.times, time))
        else:
            runs.append(_Run(start, *index.keys[key], place, (time,)))
    return runs


def _check_effort(runs: Sequence[_Run], header: VideoHeader, wanted: int) -> None:
    pictures = sum(run.end - run.start + 1 for run in runs)
    most = min(_MOST_PICTURES, MOST_DECODED_PIXELS // (header.width * header.height)) * wanted
    if pictures > most:
        raise LongVideoError(
            f"its keyframes are so far apart that {pictures:,} pictures would have to be decoded, "
            f"and at most {most:,} are"
        )


def _frames(
    packets: "Iterator[tuple[int, Packet[VideoStream]]]", stream: VideoStream, run: _Run
) -> Iterator[tuple[int, VideoFrame]]:
    """The picture of each time. Where a decoder gives none of this time, the one before is what is seen then."""
    wanted = list(reversed(run.times))
    last: VideoFrame | None = None
    for frame in _decoded(packets, stream, run):
        if frame.pts is None:
            continue
        while wanted and frame.pts > wanted[-1]:
            yield wanted.pop(), last or frame
        if wanted and frame.pts == wanted[-1]:
            yield wanted.pop(), frame
        if not wanted:
            return
        last = frame
    if last is None:
        raise VideoError("its pictures cannot be decoded")
    for time in reversed(wanted):
        yield time, last


def _decoded(
    packets: "Iterator[tuple[int, Packet[VideoStream]]]", stream: VideoStream, run: _Run
) -> Iterator[VideoFrame]:
    context = stream.codec_context
    if context.is_open:
        context.flush_buffers()
    for place, packet in packets:
        if place < run.start:
            continue
        try:
            found = context.decode(packet)
        except av.error.FFmpegError:
            # What is seen before the first picture that is sent may refer to pictures that were not decoded.
            if place >= run.key and (packet.pts is None or packet.pts >= run.shown):
                raise
            continue
        yield from found
        if place >= run.end + _HELD_BACK:
            break
    yield from context.decode(None)


def _picture(frame: VideoFrame) -> Image.Image:
    """As RGB, by the matrix that the frame names; where it names none, by the one that goes with its height."""
    if frame.is_corrupt:
        raise VideoError("a picture in it is damaged")
    space = None
    if frame.colorspace == _UNSPECIFIED:
        space = Colorspace.ITU709 if frame.height >= _HD_HEIGHT else Colorspace.ITU601
    plane = frame.reformat(format="rgb24", src_colorspace=space, threads=1).planes[0]
    size = frame.width, frame.height
    return Image.frombuffer("RGB", size, memoryview(plane), "raw", "RGB", plane.line_size, 1)  # type: ignore[arg-type]
