"""Several images of one file: videos, animations, pages."""

import io
from contextlib import nullcontext
from typing import Any

import pytest
from PIL import Image

from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind
from pipeline.images.containers.tiff import page_offsets
from pipeline.images.containers.video import video_format
from pipeline.images.frames import prepare_images
from pipeline.images.prepare import prepare_image, warm_up
from pipeline.images.probe import ImageSize, size_in
from pipeline.images.sampling import Sampling
from pipeline.locations import LocalFile
from pipeline.records import Failure, ImageRecord, PreparedImage
from pipeline.store.columns import image_names
from pipeline.tokens.sizing import SizeRule
from tests.videos import RATE, SIZE, pyav, sample_count, sound_only, video

LARGE = SizeRule(4096)


@pytest.fixture(autouse=True, scope="module")
def warm() -> None:
    warm_up()


def prepared(data: bytes, frames: int = 1, rule: SizeRule = LARGE, **config: Any) -> list[PreparedImage]:
    found = prepare_images(data, rule, ImagesConfig(frames=frames, **config), lambda _: nullcontext())
    assert not isinstance(found, Failure), found
    return list(found)


def failure(data: bytes, frames: int = 2, **config: Any) -> Failure:
    found = prepare_images(data, LARGE, ImagesConfig(frames=frames, **config), lambda _: nullcontext())
    assert isinstance(found, Failure)
    assert "\n" not in found.message
    return found


def pixel(image: PreparedImage, at: tuple[int, int] | None = None) -> tuple[int, int, int]:
    picture = Image.open(io.BytesIO(image.data)).convert("RGB")
    found = picture.getpixel(at or (picture.width * 3 // 4, picture.height * 3 // 4))
    assert isinstance(found, tuple)
    return found[0], found[1], found[2]


def redness(image: PreparedImage) -> float:
    """Where the frame stands in the video, from 0 to 1, as its colour says."""
    return pixel(image)[0] / 255


VIDEOS = [
    ("mp4", "", ()),
    ("mp4", "", (("bf", "3"), ("x264-params", "open-gop=1"), ("preset", "medium"))),
    ("mp4", "mpeg4", ()),
    ("mov", "mjpeg", ()),
    ("webm", "libvpx", ()),
    ("webm", "libvpx", (("auto-alt-ref", "1"), ("lag-in-frames", "8"), ("deadline", "good"), ("cpu-used", "5"))),
    ("webm", "libvpx-vp9", ()),
    ("matroska", "", ()),
]


@pytest.mark.parametrize(("form", "codec", "options"), VIDEOS)
def test_frames_of_a_video(form: str, codec: str, options: tuple[tuple[str, str], ...]) -> None:
    """Evenly spaced, the middle alone, by time, and all; each is the frame of its time, and a JPEG of its own."""
    data = video(form, codec, options=options, sound=form != "mov")
    (middle,) = prepared(data)
    assert middle.facts.fragment == "t=1"
    assert middle.media_type == "image/jpeg"
    assert redness(middle) == pytest.approx(10 / 19, abs=0.08)
    four = prepared(data, 4)
    assert [one.facts.fragment for one in four] == ["t=0.2", "t=0.7", "t=1.2", "t=1.7"]
    assert [redness(one) for one in four] == pytest.approx([n / 19 for n in (2, 7, 12, 17)], abs=0.08)
    assert [one.facts.frame for one in four] == [0, 1, 2, 3]
    assert len({one.facts.sha256 for one in four}) == 1
    assert len({one.sha256 for one in four}) == 4
    timed = prepared(data, 8, frame_interval_s=0.5)
    assert [one.facts.fragment for one in timed] == ["t=0", "t=0.5", "t=1", "t=1.5"]
    assert [one.facts.fragment for one in prepared(data, 3, frame_interval_s=0.5)] == ["t=0", "t=0.5", "t=1"]
    every = prepared(data, 100)
    assert len(every) == 2 * RATE
    assert [redness(one) for one in every] == pytest.approx([n / 19 for n in range(20)], abs=0.1)
    assert size_in(data, Sampling(4)) == ImageSize(*SIZE, len(data), 4)


def test_a_video_like_a_photograph() -> None:
    """Frames are turned as the metadata says, sized as the model looks at them, and never sent as they are."""
    upright, turned = prepared(video("mov"))[0], prepared(video("mov", rotation=90))[0]
    assert (upright.facts.width, upright.facts.height) == SIZE
    assert (turned.facts.width, turned.facts.height) == (SIZE[1], SIZE[0])
    assert pixel(upright, (4, 4)) > (240, 240, 240)
    assert pixel(turned, (4, SIZE[0] - 4)) > (240, 240, 240), "the square goes to the left, and down"
    small = prepared(video("mov", rotation=90), rule=SizeRule(48))[0]
    assert Image.open(io.BytesIO(small.data)).size == (small.facts.sent_width, small.facts.sent_height) == (32, 48)


def test_the_bytes_decide() -> None:
    """A name says nothing; HEIC photographs are no videos, and old QuickTime files without `ftyp` are."""
    assert video_format(b"\0\0\0\x18ftypheic") is None
    assert video_format(b"\0\0\0\x18ftypisom") is not None
    assert video_format(b"\0\0\0\x08wide\0\0\0\0mdat") is not None
    assert video_format(b"\xff\xd8\xff\xe0\0\x10JFIF") is None


def test_what_is_wrong_with_a_video() -> None:
    """Each flaw has its kind, and one line that says what it is."""
    data, matroska = video(sound=True), video("matroska")
    kinds = {
        "sound": (sound_only(), ErrorKind.IMAGE_UNSUPPORTED, "only sound"),
        "cut": (data[: len(data) * 2 // 3], ErrorKind.IMAGE_TRUNCATED, "incomplete"),
        "cut early": (data[:40], ErrorKind.IMAGE_TRUNCATED, "header"),
        "cut mkv": (matroska[: len(matroska) * 2 // 3], ErrorKind.IMAGE_TRUNCATED, "incomplete"),
        "endless": (sample_count(data, 2**31), ErrorKind.IMAGE_TOO_LARGE, "samples"),
        "other": (data[:4] + b"ftypisom" + b"\1" * 400, ErrorKind.IMAGE_TRUNCATED, "header"),
    }
    for name, (broken, kind, words) in kinds.items():
        found = failure(broken)
        assert (name, found.kind) == (name, kind), found
        assert words in found.message
    damaged = bytearray(video("mov", "mjpeg"))
    start = damaged.index(b"mdat") + 400
    damaged[start : start + 4000] = bytes(4000)
    assert failure(bytes(damaged), 100).kind is ErrorKind.IMAGE_UNREADABLE
    assert failure(data, max_file_mb=len(data) / 2_000_000).kind is ErrorKind.IMAGE_TOO_LARGE
    assert failure(data, max_megapixels=0.001).kind is ErrorKind.IMAGE_BOMB
    assert failure(data, max_decoded_mb=1).kind is ErrorKind.IMAGE_TOO_LARGE
    assert "max_decoded_mb" in failure(data, max_decoded_mb=1).message


def test_keyframes_that_are_too_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """What decoding takes is limited before it begins."""
    pyav()
    from pipeline.images import videos  # noqa: PLC0415 - needs the extra

    monkeypatch.setattr(videos, "MOST_DECODED_PIXELS", 3 * SIZE[0] * SIZE[1])
    found = failure(video(gop=100), 1)
    assert found.kind is ErrorKind.IMAGE_TOO_LARGE
    assert "11 pictures would have to be decoded" in found.message
    prepared(video(gop=1), 1)


def animation(kind: str, count: int = 5, **how: Any) -> bytes:
    colours = [(50 * number, 0, 200 - 50 * number) for number in range(count)]
    pictures = [Image.new("RGB", (40, 30), colour) for colour in colours]
    file = io.BytesIO()
    how = {"TIFF": {}, "WEBP": {"lossless": True}}.get(kind, {}) | how
    pictures[0].save(file, kind, save_all=True, append_images=pictures[1:], **how)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_frames_of_an_animation(kind: str) -> None:
    """The first one by default, as before; with `frames` those that are seen at evenly spaced times."""
    data = animation(kind, duration=[100, 100, 100, 100, 1600])
    (first,) = prepared(data)
    assert first == prepare_image(data, LARGE, ImagesConfig(), lambda _: nullcontext())
    assert first.facts.fragment == ""
    assert [one.facts.fragment for one in prepared(data, 2)] == ["t=0.4"], "it is seen most of the time"
    four = prepared(data, 20)
    assert [one.facts.fragment for one in four] == ["t=0", "t=0.1", "t=0.2", "t=0.3", "t=0.4"]
    assert [pixel(one)[0] for one in four] == pytest.approx([0, 50, 100, 150, 200], abs=8)
    assert [one.facts.fragment for one in prepared(data, 20, frame_interval_s=0.3)] == ["t=0", "t=0.3", "t=0.4"]
    assert size_in(data, Sampling(20)) == ImageSize(40, 30, len(data), 5)
    assert size_in(data).frames == 1  # type: ignore[union-attr]
    assert failure(data[:-20], 3).kind is ErrorKind.IMAGE_TRUNCATED


def test_the_picture_before_an_animation() -> None:
    """A PNG file may begin with one that is no part of it: it stands for the file only where one image is wanted."""
    data = animation("PNG", duration=100, default_image=True)
    assert pixel(prepared(data)[0])[0] == pytest.approx(0, abs=8)
    assert [pixel(one)[0] for one in prepared(data, 9)] == pytest.approx([50, 100, 150, 200], abs=8)


def test_pages() -> None:
    """Pages take turns as if each were seen as long; a smaller copy of a page is none."""
    data = animation("TIFF")
    (first,) = prepared(data)
    assert first == prepare_image(data, LARGE, ImagesConfig(), lambda _: nullcontext())
    assert [one.facts.fragment for one in prepared(data, 2)] == ["page=2", "page=4"]
    every = prepared(data, 9, frame_interval_s=0.001)
    assert [one.facts.fragment for one in every] == [f"page={number}" for number in range(1, 6)]
    assert [pixel(one)[0] for one in every] == pytest.approx([0, 50, 100, 150, 200], abs=8)
    assert len({one.facts.sha256 for one in (*every, first)}) == 1
    assert size_in(data, Sampling(3)) == ImageSize(40, 30, len(data), 3)
    picture, copy = Image.new("RGB", (40, 30)), Image.new("RGB", (10, 8))
    file = io.BytesIO()
    copy.encoderinfo = {"tiffinfo": {254: 1}}
    picture.save(file, "TIFF", save_all=True, append_images=[copy])
    assert len(page_offsets(file.getvalue())) == 1
    broken = bytearray(data)
    at = page_offsets(data)[3]
    broken[at + 2 : at + 60] = bytes(58)
    found = failure(bytes(broken), 9)
    assert found.kind is ErrorKind.IMAGE_UNREADABLE
    assert found.message.startswith("page 4: ")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_still_image_stays_what_it_is(kind: str) -> None:
    """With `frames`, a file with one picture is prepared as without, byte for byte."""
    file = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(file, kind)
    assert prepared(file.getvalue(), 8) == prepared(file.getvalue())
    assert prepared(file.getvalue())[0].facts.fragment == ""


def test_many_pages_that_point_at_each_other() -> None:
    """A chain of pages that never ends is followed once."""
    data = bytearray(animation("TIFF", 2))
    first, last = page_offsets(bytes(data))
    entries = int.from_bytes(data[last : last + 2], "little")
    at = last + 2 + 12 * entries
    data[at : at + 4] = first.to_bytes(4, "little")
    assert page_offsets(bytes(data)) == [first, last]


def test_names_of_frames() -> None:
    """A frame is named by its file and its time or page, an image by its file alone, in the order of the record."""
    record = ImageRecord("r", (LocalFile("a.mp4", "a.mp4"), LocalFile("b.jpg", "b.jpg"), LocalFile("c.tif", "c.tif")))
    still = io.BytesIO()
    Image.new("RGB", (9, 9)).save(still, "JPEG")
    sent = [*prepared(video(), 2), *prepared(still.getvalue(), 2), *prepared(animation("TIFF"), 2)]
    expected = ["a.mp4#t=0.5", "a.mp4#t=1.5", "b.jpg", "c.tif#page=2", "c.tif#page=4"]
    assert image_names(record, [one.facts for one in sent]) == expected


def test_times() -> None:
    """Evenly spaced, or by an interval; a time between two frames is that of the first."""
    assert Sampling(4).times(8.0) == [1.0, 3.0, 5.0, 7.0]
    assert Sampling(9, 2.5).times(10.0) == [0.0, 2.5, 5.0, 7.5]
    assert Sampling(9, 60.0).times(10.0) == [0.0]
    assert Sampling(2).chosen([3.0, 4.0, 5.0], 6.0) == [0, 2]
    assert Sampling(3).pages(1) == [0]
    assert Sampling(8).count(None, None) == Sampling(8).count(10_000, 3.0) == 8
    with pytest.raises(ValueError, match="needs a bound"):
        ImagesConfig(frame_interval_s=1.0)
