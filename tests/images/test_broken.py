"""Files that are not what they should be: every one becomes a value, with a kind that says what is wrong."""

import io
import struct
import zlib
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind
from pipeline.images.containers import Format
from pipeline.images.decoding import attempt
from pipeline.images.prepare import prepare_image, warm_up
from pipeline.records import Failure, PreparedImage
from pipeline.tokens.sizing import OPENAI_HIGH, SizeRule
from tests.every_format import png_chunk, png_of

IMAGE_KINDS = {kind for kind in ErrorKind if kind.startswith("image_")} - {
    ErrorKind.IMAGE_MISSING,
    ErrorKind.IMAGE_IGNORED,
}
SMALL = SizeRule(16)
"""Makes every sample be decoded and resized."""


@pytest.fixture(autouse=True)
def _warm() -> None:
    warm_up()


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def prepare(data: bytes, rule: SizeRule = OPENAI_HIGH, **config: Any) -> PreparedImage | Failure:
    return prepare_image(data, rule, ImagesConfig(**config), lambda _: nullcontext())


def check(result: PreparedImage | Failure) -> None:
    """A failure is one line of a known kind; what is sent can be decoded and has the size that it is said to have."""
    if isinstance(result, Failure):
        assert result.kind in IMAGE_KINDS
        assert result.message
        assert result.message.isprintable()
        return
    with Image.open(io.BytesIO(result.data)) as image:
        image.load()
        assert image.size == (result.facts.sent_width, result.facts.sent_height)
        assert image.get_format_mimetype() == result.media_type


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


SAMPLES = {
    "JPEG": encoded(noise(), "JPEG"),
    "JPEG progressive": encoded(noise(), "JPEG", progressive=True),
    "JPEG CMYK": encoded(noise("CMYK"), "JPEG"),
    "PNG": encoded(noise(), "PNG"),
    "PNG palette": encoded(noise().quantize(8), "PNG", transparency=1),
    "PNG 16": encoded(noise("I;16"), "PNG"),
    "GIF": encoded(noise(), "GIF"),
    "GIF animated": encoded(noise(), "GIF", save_all=True, append_images=[noise("L")]),
    "WEBP": encoded(noise(), "WEBP"),
    "WEBP lossless": encoded(noise("RGBA"), "WEBP", lossless=True),
    "BMP": encoded(noise(), "BMP"),
    "TIFF": encoded(noise(), "TIFF"),
    "TIFF deflate": encoded(noise("CMYK"), "TIFF", compression="tiff_deflate"),
    "AVIF": encoded(noise(), "AVIF"),
    "JPEG2000": encoded(noise(), "JPEG2000"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_are_good(name: str) -> None:
    """What is damaged below is prepared when it is not."""
    result = prepare(SAMPLES[name])
    assert isinstance(result, PreparedImage)
    check(result)


@pytest.mark.parametrize("name", ["JPEG", "JPEG progressive", "PNG palette", "GIF", "WEBP", "WEBP lossless"])
def test_every_cut_is_a_failure_or_a_picture(name: str) -> None:
    """Wherever a download broke off: never an exception, never bytes that cannot be decoded."""
    data = SAMPLES[name]
    for length in range(len(data)):
        check(prepare(data[:length]))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "WEBP"])
def test_half_a_file_is_truncated(name: str) -> None:
    """A file that ends in the middle is distinguished from one that is damaged."""
    data = SAMPLES[name]
    result = prepare(data[: len(data) // 2])
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.IMAGE_TRUNCATED
    assert "incomplete" in result.message


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(sorted(SAMPLES)), st.sampled_from([OPENAI_HIGH, SMALL]))
def test_damaged_files_are_values(source: st.DataObject, name: str, rule: SizeRule) -> None:
    """Flipped, cut and spliced files of every format come back as a value, whatever Pillow raises."""
    data = bytearray(SAMPLES[name])
    for _ in range(source.draw(st.integers(1, 6))):
        at = source.draw(st.integers(0, len(data) - 1) | st.integers(0, min(200, len(data) - 1)))
        match source.draw(st.integers(0, 2)):
            case 0:
                data[at] = source.draw(st.integers(0, 255))
            case 1:
                del data[at : at + source.draw(st.integers(1, 40))]
                data += b"\0" if not data else b""
            case _:
                other = SAMPLES[source.draw(st.sampled_from(sorted(SAMPLES)))]
                data[at : at + 8] = other[at : at + 8]
    result = prepare(bytes(data), rule, verify="full", max_megapixels=4)
    if isinstance(result, PreparedImage):
        check(result)
    else:
        assert result.kind in IMAGE_KINDS
        assert result.message.isprintable()


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"", ErrorKind.IMAGE_EMPTY, "the file is empty"),
        (b"<!doctype html>", ErrorKind.IMAGE_UNSUPPORTED, "this is an HTML page"),
        (b"%PDF-1.7", ErrorKind.IMAGE_UNSUPPORTED, "this is a PDF document"),
        (b"<svg xmlns=''>", ErrorKind.IMAGE_UNSUPPORTED, "this is an SVG drawing"),
        (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
            ErrorKind.IMAGE_UNREADABLE,
            "the HEIC cannot be decoded: it describes no picture (it has no box meta)",
        ),
    ],
)
def test_what_is_no_image_is_called_by_its_name(data: bytes, kind: ErrorKind, message: str) -> None:
    """The row says what the file is, so that a user knows what to do about it."""
    assert prepare(data) == Failure(kind=kind, message=message)


def test_a_bomb_is_refused_by_its_header() -> None:
    """A small file that would decode to gigabytes is refused before anything is reserved or decoded."""

    def reserve(size: int) -> Any:
        raise AssertionError(size)

    result = prepare_image(png_of(60_000, 60_000, 1, 0), OPENAI_HIGH, ImagesConfig(), reserve)
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.IMAGE_TOO_LARGE
    assert result.message.startswith("decoding 60000 x 60000 pixels of this PNG takes 3,601 MB, more than images.max_")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000"])
def test_the_limit_for_pixels_is_exact(kind: str) -> None:
    """1,200 pixels pass a limit of 1,200 and fail one of 1,199, in every format."""
    data = encoded(noise(), kind)
    assert isinstance(prepare(data, max_megapixels=0.0012), PreparedImage)
    result = prepare(data, max_megapixels=0.001199)
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.IMAGE_BOMB


def test_a_large_honest_image_needs_no_leave_of_pillow() -> None:
    """90 megapixels are above the size at which Pillow warns; the limit here is the configuration's."""
    data = encoded(Image.new("1", (10_000, 9_000)), "PNG")
    result = prepare(data)
    assert isinstance(result, PreparedImage)
    assert result.facts.sent_width == 853


def test_a_file_that_is_too_long_is_refused() -> None:
    """The limit in bytes comes before any other look at the file."""
    data = SAMPLES["JPEG"]
    limit_mb = len(data) / 1_000_000
    assert isinstance(prepare(data, max_file_mb=limit_mb), PreparedImage)
    result = prepare(data, max_file_mb=limit_mb - 0.000_001)
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.IMAGE_TOO_LARGE


def test_a_side_that_no_jpeg_can_have_is_refused() -> None:
    """Under a rule without a limit, a strip of more than 65,500 pixels cannot be encoded."""
    result = prepare(encoded(Image.new("RGBA", (65_501, 1)), "PNG"), SizeRule(100_000))
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.IMAGE_TOO_LARGE


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Image.DecompressionBombError("too many"), ErrorKind.IMAGE_BOMB),
        (MemoryError(), ErrorKind.IMAGE_TOO_LARGE),
        (OSError("image file is truncated (3 bytes\nnot processed)"), ErrorKind.IMAGE_TRUNCATED),
        (ZeroDivisionError(), ErrorKind.IMAGE_UNREADABLE),
        (SyntaxError("broken"), ErrorKind.IMAGE_UNREADABLE),
        (struct.error("short"), ErrorKind.IMAGE_UNREADABLE),
        (SystemError("tile cannot extend"), ErrorKind.IMAGE_UNREADABLE),
    ],
)
def test_whatever_pillow_raises_is_a_value(error: Exception, kind: ErrorKind) -> None:
    """No type of exception passes the one place that calls Pillow."""

    def stumble() -> None:
        raise error

    result = attempt(stumble, SAMPLES["BMP"], Format.BMP)
    assert isinstance(result, Failure)
    assert result.kind is kind
    assert result.message.isprintable()


def test_an_error_while_reserving_is_not_the_images() -> None:
    """A cancelled or failed reservation is the engine's business and is not hidden in a row."""

    def reserve(size: int) -> Any:
        raise RuntimeError("the run ends")

    with pytest.raises(RuntimeError, match="the run ends"):
        prepare_image(SAMPLES["BMP"], OPENAI_HIGH, ImagesConfig(), reserve)


def with_parts(kind: str, size: tuple[int, int], profile: int) -> bytes:
    """A small file of this format with a profile of this number of bytes, or with what looks like one."""
    data = encoded(Image.new("RGB", size, (200, 100, 50)), kind)
    if kind == "JPEG":
        parts = [b"ICC_PROFILE\0" + bytes([1 + at % 255, 255]) + bytes(65_000) for at in range(profile // 65_000)]
        parts = [b"\xff\xe2" + struct.pack(">H", 2 + len(part)) + part for part in parts]
        return data[:2] + b"".join(parts) + data[2:]
    if kind == "PNG":
        packed = zlib.compress(bytes(profile), 9)
        return data[:33] + png_chunk(b"iCCP", b"a\0\0" + packed) + png_chunk(b"zTXt", b"b\0\0" + packed) + data[33:]
    extended = struct.pack("<4sIB3xHBHB", b"VP8X", 10, 0x20, size[0] - 1, 0, size[1] - 1, 0)
    body = extended + struct.pack("<4sI", b"ICCP", profile) + bytes(profile) + data[12:]
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_profile_that_is_none_is_not_sent(kind: str) -> None:
    """One of 20 MB, in a PNG packed to 20 KB, is left out of a file that passes and out of one that is resized."""
    for size in ((64, 48), (640, 480)):
        data = with_parts(kind, size, 20 << 20)
        found = prepare(data, SizeRule(100))
        assert isinstance(found, PreparedImage), found
        assert len(found.data) < 5_000
        with Image.open(io.BytesIO(found.data)) as image:
            assert "icc_profile" not in image.info
            assert image.convert("RGB").getpixel((5, 5)) == pytest.approx((200, 100, 50), abs=4)
            assert image.size == (found.facts.sent_width, found.facts.sent_height)
