"""Videos for tests, made by PyAV: a white square on a colour that goes from blue to red."""

import io
import struct
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

FAST: Mapping[str, Mapping[str, str]] = {
    "libx264": {"preset": "ultrafast"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}
SIZE = (96, 64)
RATE = 10


def pyav() -> Any:
    """PyAV, or a skipped test where the extra is missing."""
    return pytest.importorskip("av")


def _has(av: Any, codec: str) -> bool:
    return codec in av.codecs_available


@cache
def video(
    form: str = "mp4",
    codec: str = "",
    *,
    seconds: float = 2.0,
    size: tuple[int, int] = SIZE,
    gop: int = 12,
    rotation: int = 0,
    sound: bool = False,
    options: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """A whole file of one container and codec; no codec: h264 where the wheel encodes it, else MPEG-4."""
    av = pyav()
    codec = codec or ("libx264" if _has(av, "libx264") else "mpeg4")
    if not _has(av, codec):
        pytest.skip(f"this PyAV has no encoder {codec}")
    file = io.BytesIO()
    frames = round(seconds * RATE)
    with av.open(file, "w", format=form) as out:
        stream = out.add_stream(codec, rate=RATE, options={**FAST.get(codec, {}), **dict(options)})
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = gop
        if rotation:
            stream.set_display_rotation(rotation)
        voice = out.add_stream("aac" if form in {"mp4", "mov"} else "libopus", rate=48_000) if sound else None
        for number in range(frames):
            pixels = np.zeros((size[1], size[0], 3), np.uint8)
            pixels[..., 0] = 255 * number // max(1, frames - 1)
            pixels[..., 2] = 255 - pixels[..., 0]
            pixels[: size[1] // 4, : size[0] // 4] = 255
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        out.mux(stream.encode())
        if voice is not None:
            _add_silence(av, out, voice, seconds)
    return file.getvalue()


@cache
def sound_only() -> bytes:
    """An MP4 file without any picture."""
    av, file = pyav(), io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        _add_silence(av, out, out.add_stream("aac", rate=48_000), 1.0)
    return file.getvalue()


def _add_silence(av: Any, out: Any, voice: Any, seconds: float) -> None:
    for number in range(round(seconds * 50)):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, number * 960
        out.mux(voice.encode(frame))
    out.mux(voice.encode(None))


def sample_count(data: bytes, count: int) -> bytes:
    """An MP4 file whose table of sizes states another number of samples, all of one size."""
    at = data.index(b"stsz")
    return data[: at + 8] + struct.pack(">II", 1, count) + data[at + 16 :]
