"""Bytes -> the image to send: sizes, orientation, what passes through, memory, threads."""

import hashlib
import io
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind
from pipeline.images import decoding, scaling
from pipeline.images.containers import inspect, probe
from pipeline.images.decoding import decoding_bytes, rendered
from pipeline.images.encoding import _file, encode_jpeg
from pipeline.images.opening import draft_size
from pipeline.images.prepare import prepare_image, warm_up
from pipeline.records import Failure, PreparedImage
from pipeline.tokens.sizing import OPENAI_HIGH, SizeRule
from tests.every_format import png_chunk

DEFAULTS = ImagesConfig()
PHOTO_SIZE = (1600, 1200)


@pytest.fixture(autouse=True)
def _warm() -> None:
    warm_up()


class ReservedBytes:
    """Records what was reserved, and that no thread held two reservations at once."""

    def __init__(self) -> None:
        self.bytes_reserved: list[int] = []
        self.held = 0

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        self.bytes_reserved.append(size)
        self.held += 1
        assert self.held == 1
        yield
        self.held -= 1


def prepare(data: bytes, rule: SizeRule = OPENAI_HIGH, **config: Any) -> PreparedImage | Failure:
    return prepare_image(data, rule, ImagesConfig(**config), ReservedBytes().reserve)


def prepared(data: bytes, rule: SizeRule = OPENAI_HIGH, **config: Any) -> PreparedImage:
    result = prepare(data, rule, **config)
    assert isinstance(result, PreparedImage), result
    return result


def failed(data: bytes, **config: Any) -> Failure:
    result = prepare(data, **config)
    assert isinstance(result, Failure)
    assert "\n" not in result.message
    return result


def scene(width: int, height: int) -> Image.Image:
    """A picture without symmetry: smooth colours, edges, a little seeded noise."""
    x = np.linspace(0, 1, width)[None, :]
    y = np.linspace(0, 1, height)[:, None]
    bands = [200 * x + 0 * y, 200 * y + 0 * x, 100 * (x + y * y)]
    bands[0] = bands[0] + 50 * ((x - 0.3) ** 2 + (y - 0.6) ** 2 < 0.02)
    noise = np.random.default_rng(0).normal(0, 3, (height, width, 3))
    return Image.fromarray(np.clip(np.stack(bands, axis=-1) + noise, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def oriented(image: Image.Image, orientation: int, kind: str, **options: Any) -> bytes:
    """A file that shows `image` upright although its pixels are stored turned."""
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    stored = image.transpose(decoding._TURNS[undo]) if undo in decoding._TURNS else image
    block = Image.Exif()
    block[0x0112] = orientation
    return encoded(stored, kind, exif=block, **options)


def pixels(data: bytes) -> NDArray[np.float64]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64)


def psnr_db(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    error = float(np.mean((a - b) ** 2))
    return float("inf") if not error else float(10 * np.log10(255**2 / error))


def test_a_photograph_is_sent_at_the_size_the_model_looks_at() -> None:
    """A large JPEG becomes a small one; sizes, bytes and hashes before and after are reported."""
    data = encoded(scene(*PHOTO_SIZE), "JPEG", quality=95)
    result = prepared(data)
    facts = result.facts
    assert (facts.width, facts.height) == PHOTO_SIZE
    assert (facts.sent_width, facts.sent_height) == (1024, 768)
    assert pixels(result.data).shape == (768, 1024, 3)
    assert (facts.sent_bytes, facts.source_bytes) == (len(result.data), len(data))
    assert facts.sha256 == hashlib.sha256(data).hexdigest()
    assert result.sha256 == hashlib.sha256(result.data).hexdigest()
    assert result.media_type == "image/jpeg"


def test_the_pixels_are_those_of_a_plain_lanczos() -> None:
    """The scaled decode and the fast resizer differ from a full decode and Pillow's filter by 45 dB or more."""
    data = encoded(scene(*PHOTO_SIZE), "JPEG", quality=95)
    header = probe(data)
    assert header is not None
    for target in ((1024, 768), (400, 300), (199, 150)):
        with Image.open(io.BytesIO(data)) as image:
            expected = np.asarray(image.resize(target, Image.Resampling.LANCZOS), dtype=np.float64)
        got = np.asarray(rendered(data, header, target), dtype=np.float64)
        assert psnr_db(got, expected) >= 45, target


def test_a_12_megapixel_jpeg_is_never_decoded_whole() -> None:
    """The decoder itself halves it: 2016 x 1512 pixels are reserved and decoded, not 4032 x 3024."""
    image = Image.new("RGB", (4032, 3024), "teal")
    reserved = ReservedBytes()
    data = encoded(image, "JPEG")
    result = prepare_image(data, OPENAI_HIGH, DEFAULTS, reserved.reserve)
    assert isinstance(result, PreparedImage)
    pixels = (2016 * 1512 + 1024 * 1512 + 1024 * 768) * 4
    assert pixels < reserved.bytes_reserved[0] < pixels + 600_000


@pytest.mark.parametrize("size", [(4032, 3024), (4031, 3023), (801, 601), (1025, 769), (9000, 50)])
def test_the_draft_covers_the_target(size: tuple[int, int]) -> None:
    """The predicted size of the scaled decode is Pillow's, and never smaller than what is needed of it."""
    data = encoded(Image.new("L", size), "JPEG")
    for target in ((100, 75), OPENAI_HIGH.target(*size)):
        with Image.open(io.BytesIO(data)) as image:
            image.draft(None, target)
            assert draft_size(size, target) == image.size
            assert image.width >= min(target[0], size[0])
            assert image.height >= min(target[1], size[1])


def test_a_progressive_jpeg_reserves_its_coefficients() -> None:
    """Progressive files are held whole by the decoder, whatever the scale: 1.5 samples of 2 bytes a pixel at 4:2:0."""
    image = Image.new("RGB", (2048, 1536))
    data = encoded(image, "JPEG", progressive=True, subsampling="4:2:0")
    header = probe(data)
    assert header is not None
    assert header.buffered_bytes == 2048 * 1536 * 3
    assert decoding_bytes(data, header, (1024, 768)) > 2048 * 1536 * 3 + 1024 * 768 * 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(160, 120), (1000, 800)])
def test_every_orientation_gives_the_same_upright_picture(kind: str, orientation: int, size: tuple[int, int]) -> None:
    """EXIF's eight orientations, in each format that has them, small and resized: one picture, one size."""
    image = scene(*size)
    options = {} if kind in {"PNG", "TIFF"} else {"quality": 95}
    if kind == "PNG":
        options = {"compress_level": 1}
    result = prepared(oriented(image, orientation, kind, **options))
    target = OPENAI_HIGH.target(*size)
    assert (result.facts.width, result.facts.height) == size
    assert (result.facts.sent_width, result.facts.sent_height) == target
    assert pixels(result.data).shape == (target[1], target[0], 3)
    expected = np.asarray(image.resize(target, Image.Resampling.LANCZOS), dtype=np.float64)
    assert psnr_db(pixels(result.data), expected) >= 33
    with Image.open(io.BytesIO(result.data)) as sent:
        assert not sent.getexif()


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_means_nothing_is_ignored(orientation: int) -> None:
    """A value that EXIF does not name leaves the picture as it is stored, and lets it pass unchanged."""
    block = Image.Exif()
    block[0x0112] = orientation
    image = scene(64, 48)
    data = encoded(image, "JPEG", exif=block)
    result = prepared(data)
    assert (result.facts.width, result.facts.height) == (64, 48)
    assert np.array_equal(pixels(result.data), pixels(data))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_an_image_that_needs_nothing_is_sent_as_it_is(kind: str, options: dict[str, Any]) -> None:
    """No new encoding: the same bytes, the same object, hashed once."""
    data = encoded(scene(320, 240), kind, **options)
    result = prepared(data)
    assert result.data is data
    assert result.sha256 is result.facts.sha256
    assert result.media_type == f"image/{kind.lower()}"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_gps_is_not_sent_and_pixels_are_not_touched(kind: str) -> None:
    """Metadata goes without a new encoding; with `keep_metadata` the bytes go as they are."""
    block = Image.Exif()
    block[0x0112] = 1
    block[0x8825] = {1: "N", 2: (48.0, 51.0, 24.0), 29: "2024:05:06"}
    data = encoded(scene(320, 240), kind, exif=block)
    result = prepared(data)
    assert b"2024:05:06" in data
    assert b"2024:05:06" not in result.data
    assert np.array_equal(pixels(result.data), pixels(data))
    assert result.facts.sha256 == hashlib.sha256(data).hexdigest()
    assert result.sha256 == hashlib.sha256(result.data).hexdigest()
    assert prepared(data, keep_metadata=True).data is data


def test_nothing_is_left_of_metadata_where_an_image_is_encoded_anew() -> None:
    """EXIF, GPS, comment and profile of a resized photograph stay at home."""
    block = Image.Exif()
    block[0x010F] = "SECRET CAMERA"
    data = encoded(scene(*PHOTO_SIZE), "JPEG", exif=block, comment=b"SECRET", icc_profile=b"SECRET")
    sent = prepared(data, keep_metadata=True).data
    assert b"SECRET" in data
    assert b"SECRET" not in sent
    with Image.open(io.BytesIO(sent)) as image:
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_nothing_is_ever_enlarged() -> None:
    """Small images keep their size, whatever the rule allows and whatever must be converted."""
    for size in ((1, 1), (3, 500), (767, 767), (2048, 768)):
        for image in (Image.new("RGB", size), Image.new("RGBA", size)):
            facts = prepared(encoded(image, "PNG")).facts
            assert (facts.sent_width, facts.sent_height) == size


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (2, 5000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_extreme_aspect_ratios_survive(size: tuple[int, int], kind: str) -> None:
    """A line of pixels stays a line of at least one pixel."""
    facts = prepared(encoded(Image.new("RGB", size, "red"), kind)).facts
    assert sorted(facts.sent_size or ()) == [1, 2048]


def test_a_file_too_long_to_be_sent_becomes_a_jpeg() -> None:
    """An image of the right size whose file is larger than `max_sent_mb` is encoded anew."""
    data = encoded(scene(320, 240), "PNG")
    result = prepared(data, max_sent_mb=len(data) / 1_000_000 - 0.000_001)
    assert result.media_type == "image/jpeg"
    assert (result.facts.sent_width, result.facts.sent_height) == (320, 240)
    assert prepared(data, max_sent_mb=len(data) / 1_000_000).data is data


def test_a_file_without_its_end_mark_is_encoded_anew() -> None:
    """All pixels are there but the structure is not whole: decoded, and sent as a whole file."""
    data = encoded(scene(320, 240), "GIF")
    result = prepared(data[:-1])
    assert result.media_type == "image/jpeg"
    assert pixels(result.data).shape == (240, 320, 3)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "AVIF", "JPEG2000"])
def test_formats_that_endpoints_do_not_take_become_jpeg(kind: str) -> None:
    """What is read and not accepted everywhere is encoded anew at its own size."""
    result = prepared(encoded(scene(160, 120), kind))
    assert result.media_type == "image/jpeg"
    assert psnr_db(pixels(result.data), np.asarray(scene(160, 120), dtype=np.float64)) >= 30


def test_an_avif_orientation_is_applied() -> None:
    """AVIF tells its rotation in its own boxes; it counts as EXIF's does."""
    image = scene(160, 120)
    result = prepared(oriented(image, 6, "AVIF", quality=95))
    assert (result.facts.width, result.facts.height) == (160, 120)
    assert psnr_db(pixels(result.data), np.asarray(image, dtype=np.float64)) >= 30


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation_is_sent(kind: str) -> None:
    """Animations are sent as a still picture of their first frame."""
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    result = prepared(data)
    assert result.media_type == "image/jpeg"
    assert np.allclose(pixels(result.data), (255, 0, 0), atol=4)


def test_only_the_first_picture_of_an_mpo_is_sent() -> None:
    """The second picture of a camera's MPO file does not travel, resized or not."""
    small = encoded(scene(64, 48), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48))])
    large = encoded(scene(1600, 1200), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert prepared(small).data.count(b"\xff\xd8\xff") == 1
    assert prepared(large).facts.sent_width == 1024


def test_verify_full_decodes_what_would_pass() -> None:
    """A PNG whose checksums are right and whose pixels are not passes the structure, and not the full check."""
    whole = encoded(Image.new("RGB", (64, 48)), "PNG")
    broken = _png_with(b"these are no compressed pixels", (64, 48))
    assert prepared(broken).data is broken
    assert failed(broken, verify="full").kind is ErrorKind.IMAGE_UNREADABLE
    assert prepared(whole, verify="full").data is whole


def test_a_gif_is_always_decoded() -> None:
    """GIF has no checksums: one whose blocks are in order and whose codes are not is found by decoding it."""
    data = encoded(scene(320, 240), "GIF")
    codes = data.index(bytes((8, 255)), 13 + 3 * 256) + 2
    broken = data[:codes] + b"\xff" * 255 + data[codes + 255 :]
    container = inspect(broken)
    assert container is not None
    assert container.whole
    assert failed(broken).kind is ErrorKind.IMAGE_UNREADABLE


def _png_with(body: bytes, size: tuple[int, int]) -> bytes:
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


def test_memory_is_reserved_around_decoding_only() -> None:
    """What passes unchanged reserves nothing; with the full check it does; there is never more than one."""
    data = encoded(scene(320, 240), "PNG")
    for config, reservations in ((ImagesConfig(), 0), (ImagesConfig(verify="full"), 1)):
        reserved = ReservedBytes()
        prepare_image(data, OPENAI_HIGH, config, reserved.reserve)
        assert (len(reserved.bytes_reserved), reserved.held) == (reservations, 0)


def test_eight_threads_give_what_one_gives() -> None:
    """Scratch files, resizers and colour transforms are not shared: the same bytes from every thread."""
    files = [oriented(scene(900 + 10 * i, 1000), i % 8 + 1, kind) for i in range(4) for kind in ("JPEG", "PNG", "WEBP")]
    alone = [prepared(data).data for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: prepared(data).data, files * 3))
    assert together == alone * 3


def test_pillow_resizes_where_the_fast_resizer_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fallback gives the same picture, so that a missing wheel only costs time."""
    data = encoded(scene(*PHOTO_SIZE), "JPEG", quality=95)
    fast = pixels(prepared(data).data)
    monkeypatch.setattr(scaling, "_fast_works", lambda: False)
    assert psnr_db(pixels(prepared(data).data), fast) >= 45


def test_the_fast_resizer_works_here() -> None:
    """The pinned version fits the installed Pillow: the numbers of this project rest on it."""
    assert scaling._fast_works()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are only forked on POSIX")
def test_a_forked_process_does_not_share_the_scratch_file() -> None:
    """A child that encodes while its parent does would otherwise move the parent's place in the file."""
    encode_jpeg(Image.new("RGB", (8, 8)), 85)
    before = _file()
    before.process += 1
    assert _file() is not before
    assert _file() is _file()


def test_pictures_match_their_transposed_source() -> None:
    """A turned photograph is the one that Pillow's own exif_transpose gives."""
    data = oriented(scene(1600, 1200), 5, "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as image:
        expected = ImageOps.exif_transpose(image).resize((1024, 768), Image.Resampling.LANCZOS)
    assert psnr_db(pixels(prepared(data).data), np.asarray(expected, dtype=np.float64)) >= 35
