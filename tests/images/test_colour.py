"""Colours: whatever mode a file has, the picture that is sent looks like it, on white and in sRGB."""

import io
import struct
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pipeline.config.images import ImagesConfig
from pipeline.images import colour
from pipeline.images.colour import flattened, in_srgb, plain_mode
from pipeline.images.prepare import prepare_image, warm_up
from pipeline.records import PreparedImage
from pipeline.tokens.sizing import OPENAI_HIGH, SizeRule

CLOSE = 3


@pytest.fixture(autouse=True)
def _warm() -> None:
    warm_up()


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def sent(data: bytes, rule: SizeRule = OPENAI_HIGH) -> Image.Image:
    result = prepare_image(data, rule, ImagesConfig(quality=95), lambda _: nullcontext())
    assert isinstance(result, PreparedImage), result
    image = Image.open(io.BytesIO(result.data))
    image.load()
    return image


def centre(image: Image.Image) -> tuple[int, ...]:
    value = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
    assert isinstance(value, tuple)
    return tuple(map(int, value))


def near(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(abs(x - y) <= CLOSE for x, y in zip(a, b, strict=True))


def shown(image: Image.Image) -> Image.Image:
    return in_srgb(flattened(plain_mode(image)), None)


TRANSPARENT = {
    "RGBA": Image.new("RGBA", (40, 40), (255, 0, 0, 0)),
    "LA": Image.new("LA", (40, 40), (0, 0)),
    "PA": Image.new("RGBA", (40, 40), (255, 0, 0, 0)).convert("PA"),
    "La": Image.new("LA", (40, 40), (0, 0)).convert("La"),
    "RGBa": Image.new("RGBA", (40, 40), (255, 0, 0, 0)).convert("RGBa"),
}


@pytest.mark.parametrize("mode", TRANSPARENT)
def test_transparent_is_white(mode: str) -> None:
    """Alpha in every mode that Pillow has is flattened onto white, not onto black or the hidden colour."""
    assert TRANSPARENT[mode].mode == mode
    assert centre(shown(TRANSPARENT[mode])) == (255, 255, 255)


@pytest.mark.parametrize(
    ("image", "kind", "options"),
    [
        (TRANSPARENT["RGBA"], "PNG", {}),
        (TRANSPARENT["LA"], "PNG", {}),
        (Image.new("RGB", (40, 40), "red"), "PNG", {"transparency": (255, 0, 0)}),
        (Image.new("L", (40, 40), 7), "PNG", {"transparency": 7}),
        (Image.new("RGB", (40, 40), "red").quantize(2), "PNG", {"transparency": 0}),
        (Image.new("RGB", (40, 40), "red").quantize(2), "GIF", {"transparency": 0}),
        (TRANSPARENT["RGBA"], "WEBP", {"lossless": True}),
        (TRANSPARENT["RGBA"], "TIFF", {}),
        (TRANSPARENT["RGBA"], "AVIF", {}),
        (TRANSPARENT["RGBA"], "JPEG2000", {}),
    ],
)
def test_transparent_files_are_white(image: Image.Image, kind: str, options: dict[str, Any]) -> None:
    """An alpha channel, a transparent colour or a transparent palette entry: white in what is sent."""
    assert near(centre(sent(encoded(image, kind, **options))), (255, 255, 255))


def test_half_transparent_red_is_pink() -> None:
    """Alpha is blended, not cut."""
    assert near(centre(sent(encoded(Image.new("RGBA", (40, 40), (255, 0, 0, 128)), "PNG"))), (255, 127, 127))


def test_hidden_colours_do_not_bleed_when_resized() -> None:
    """Resizing weighs colours by their alpha: beside transparent black, red stays red on white."""
    pixels = np.zeros((800, 1600, 4), dtype=np.uint8)
    pixels[:, ::2] = (255, 0, 0, 255)
    image = sent(encoded(Image.fromarray(pixels), "PNG"), SizeRule(200))
    assert near(centre(image), (255, 127, 127))


def grey16(level: int) -> Image.Image:
    return Image.fromarray(np.full((40, 40), level, dtype=np.uint16))


@pytest.mark.parametrize(
    ("image", "kind", "level"),
    [
        (grey16(32_896), "PNG", 128),
        (grey16(65_535), "PNG", 255),
        (grey16(257), "PNG", 1),
        (grey16(32_896), "TIFF", 128),
        (Image.new("I", (40, 40), 32_896), "TIFF", 128),
        (Image.new("I", (40, 40), 200), "TIFF", 200),
        (Image.new("F", (40, 40), 0.5), "TIFF", 128),
        (Image.new("F", (40, 40), 200.0), "TIFF", 200),
        (Image.new("1", (40, 40), 1), "PNG", 255),
        (Image.new("1", (40, 40), 1), "TIFF", 255),
        (Image.new("L", (40, 40), 77), "TIFF", 77),
    ],
)
def test_grey_keeps_its_level(image: Image.Image, kind: str, level: int) -> None:
    """16-bit, 32-bit, floating and 1-bit grey are scaled to 8 bits, not clipped."""
    got = centre(sent(encoded(image, kind)))
    assert abs(got[0] - level) <= 1


def test_big_endian_16_bit_grey_keeps_its_level() -> None:
    """The byte order of 16-bit samples is Pillow's business, in each of its modes."""
    for mode in ("I;16", "I;16B", "I;16L"):
        assert centre(shown(Image.new(mode, (4, 4), 32_896))) == (128, 128, 128)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ((-1000.0, 0.0, 1000.0), (0, 128, 255)),
        ((0.0, 500.0, 1000.0), (0, 128, 255)),
        ((0.0, 0.5, 1.0), (0, 128, 255)),
        ((5000.0, 5000.0, 5000.0), (255, 255, 255)),
    ],
)
def test_floating_samples_are_stretched(values: tuple[float, ...], levels: tuple[int, ...]) -> None:
    """Samples without a natural white (heights, temperatures) use the range from black to white."""
    image = Image.fromarray(np.array([values], dtype=np.float32))
    assert list(plain_mode(image).tobytes()) == list(levels)


def test_samples_that_are_no_numbers_do_not_matter() -> None:
    """Infinities and NaN in a floating image give some grey, not an error."""
    image = Image.fromarray(np.array([[np.nan, np.inf, -np.inf, 1.0]], dtype=np.float32))
    assert len(plain_mode(image).tobytes()) == 4


def test_grey_stays_a_grey_jpeg() -> None:
    """One component instead of three: fewer bytes for the same picture."""
    assert sent(encoded(Image.new("L", (1600, 1600), 90), "JPEG")).mode == "L"


@pytest.mark.parametrize(
    ("ink", "rgb"),
    [((0, 255, 255, 0), (254, 0, 0)), ((0, 0, 0, 0), (255, 255, 255)), ((0, 0, 0, 255), (0, 0, 0))],
)
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_red_is_red(ink: tuple[int, ...], rgb: tuple[int, ...], kind: str) -> None:
    """CMYK becomes RGB; the inverted values of Adobe's JPEGs are understood."""
    options = {"quality": 95} if kind == "JPEG" else {}
    assert near(centre(sent(encoded(Image.new("CMYK", (48, 48), ink), kind, **options))), rgb)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB", "RGBX"])
def test_other_modes_become_rgb(mode: str) -> None:
    """Whatever Pillow decodes to, red is red."""
    if mode == "LAB":
        image = Image.merge("LAB", [Image.new("L", (8, 8), v) for v in (136, 208, 195)])
    else:
        image = Image.new("RGB", (8, 8), (255, 0, 0)).convert(mode)
    got = centre(shown(image))
    assert got[0] >= 245
    assert max(got[1:]) <= 20


def profile(primaries: list[tuple[float, float, float]], gamma: float) -> bytes:
    """A matrix profile from its colourants (XYZ, D50), as ICC.1 annex F describes it; without any, one of greys."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(values: tuple[float, float, float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78) + b"\0"
    tags = [(b"wtpt", xyz((0.9642, 1.0, 0.8249))), (b"desc", text), (b"cprt", b"text\0\0\0\0none\0\0\0\0")]
    tags += [(name, xyz(p)) for name, p in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=False)]
    tags += [(name, curve) for name in ((b"rTRC", b"gTRC", b"bTRC") if primaries else (b"kTRC",))]
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags:
        padded = data + bytes(-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += padded
    size = at + len(body)
    head = (
        struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", b"RGB " if primaries else b"GRAY", b"XYZ ")
        + bytes(12)
        + b"acsp"
    )
    head = head.ljust(68, b"\0") + fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


DISPLAY_P3 = profile([(0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)], 2.2)
ADOBE_RGB = profile([(0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)], 2.2)
GREY_LINEAR = profile([], 1.0)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("wide", [DISPLAY_P3, ADOBE_RGB])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_wide_gamut_is_converted_to_srgb(wide: bytes, kind: str) -> None:
    """A muted green of Display P3 or Adobe RGB is a stronger green in sRGB numbers; a viewer sees the same."""
    image = Image.new("RGB", (1600, 1600), (120, 180, 120))
    result = sent(encoded(image, kind, icc_profile=wide))
    assert "icc_profile" not in result.info
    got = centre(result)
    assert got[0] < 112
    assert 176 <= got[1] <= 188


@pytest.mark.parametrize("icc", [SRGB, b"no profile", b"", DISPLAY_P3[:200]])
def test_srgb_and_broken_profiles_change_nothing(icc: bytes) -> None:
    """SRGB by any name is left alone; a profile that cannot be read is ignored."""
    image = Image.new("RGB", (1600, 1600), (120, 180, 120))
    assert near(centre(sent(encoded(image, "JPEG", icc_profile=icc, quality=95))), (120, 180, 120))


def test_a_profile_of_another_colour_space_is_ignored() -> None:
    """An RGB profile in a grey file is none for it."""
    result = sent(encoded(Image.new("L", (1600, 1600), 90), "JPEG", icc_profile=DISPLAY_P3))
    assert result.mode == "L"
    assert near(centre(result), (90, 90, 90))


def test_transforms_are_made_once_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset with one profile builds one transform; the cache has a bound."""
    monkeypatch.setattr(colour, "_TRANSFORMS", {})
    monkeypatch.setattr(colour, "_MAX_TRANSFORMS", 2)
    image = Image.new("RGB", (4, 4))
    for _ in range(3):
        in_srgb(image, DISPLAY_P3)
    assert len(colour._TRANSFORMS) == 1
    for number in range(5):
        in_srgb(image, b"broken %d" % number)
    assert len(colour._TRANSFORMS) <= 2


def test_palettes_become_colours() -> None:
    """A palette image is resized in its colours, not in its indices."""
    pixels: NDArray[np.uint8] = np.zeros((1600, 1600, 3), dtype=np.uint8)
    pixels[:, ::2] = (200, 100, 0)
    image = sent(encoded(Image.fromarray(pixels).quantize(4), "PNG"), SizeRule(100))
    assert near(centre(image), (100, 50, 0))
