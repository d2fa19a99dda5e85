"""What is measured in an image."""

import zlib
from io import BytesIO

import pytest
from PIL import Image

from pipeline.emulator.pixels import UnreadableImageError, UnsupportedImageError, look_at


def _encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _checkerboard(side: int) -> Image.Image:
    return Image.frombytes("L", (side, side), bytes(255 * ((x + y) % 2) for y in range(side) for x in range(side)))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_each_format_is_described_alike(file_format: str) -> None:
    """The caption tells size, shape, colour, brightness and detail, in all four formats."""
    image = Image.new("RGB", (320, 200), (45, 95, 205))
    assert look_at(_encoded(image, file_format)).caption == (
        "A landscape-format image, 320 x 200 pixels, almost entirely blue, dark, with almost no detail."
    )


def test_two_colours_and_much_detail() -> None:
    """Colours are named by their share, and a checkerboard is as busy as can be."""
    caption = look_at(_encoded(_checkerboard(64), "PNG")).caption
    assert caption == (
        "A square image, 64 x 64 pixels, mostly black and white, of medium brightness, with much fine detail."
    )


def test_the_same_bytes_are_described_the_same() -> None:
    """Two looks at one noisy image agree."""
    data = _encoded(Image.effect_noise((300, 400), 80), "JPEG")
    assert look_at(data) == look_at(data)


@pytest.mark.parametrize("decode", [True, False])
def test_exif_orientation_turns_the_size(decode: bool) -> None:  # noqa: FBT001 -- a case
    """A photo held upright is as tall as the viewer sees it, whether or not it is decoded."""
    exif = Image.Exif()
    exif[0x0112] = 6
    look = look_at(_encoded(Image.new("RGB", (80, 60)), "JPEG", exif=exif), decode=decode)
    assert (look.width, look.height) == (60, 80)
    assert look.caption.startswith("A portrait-format image, 60 x 80 pixels")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_colour_mode_is_seen(mode: str) -> None:
    """Palette, alpha, CMYK and 16-bit images are described, none is an error."""
    file_format = "JPEG" if mode == "CMYK" else "PNG"
    assert look_at(_encoded(Image.new(mode, (10, 10)), file_format)).width == 10


def test_what_is_transparent_is_white() -> None:
    """A model sees transparency on some background; here it is white."""
    assert "almost entirely white" in look_at(_encoded(Image.new("RGBA", (9, 9)), "PNG")).caption


def test_one_pixel_is_an_image() -> None:
    """The smallest image has no neighbours to compare, and is described."""
    assert look_at(_encoded(Image.new("RGB", (1, 1)), "PNG")).caption.endswith("with almost no detail.")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_image_shows_only_when_it_is_decoded(file_format: str) -> None:
    """Half a file has a header that reads well; decoding it fails."""
    data = _encoded(Image.effect_noise((640, 480), 80).convert("RGB"), file_format)
    half = data[: len(data) // 2]
    with pytest.raises(UnreadableImageError):
        look_at(half)
    if file_format != "WEBP":
        assert look_at(half, decode=False).width == 640


@pytest.mark.parametrize("data", [b"no image at all", b"BM" + bytes(60)])
def test_other_formats_are_unsupported(data: bytes) -> None:
    """Text and BMP are not among OpenAI's formats."""
    with pytest.raises(UnsupportedImageError):
        look_at(data)


def test_an_animated_gif_is_unsupported() -> None:
    """OpenAI takes still GIFs only."""
    frames = [Image.new("L", (8, 8), value) for value in (0, 255)]
    data = _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedImageError, match="animated"):
        look_at(data)


def test_a_bomb_is_refused() -> None:
    """A small file that claims a gigapixel is not decoded."""
    data = bytearray(_encoded(Image.new("L", (1, 1)), "PNG"))
    data[16:24] = (40_000).to_bytes(4) * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
    with pytest.raises(UnreadableImageError):
        look_at(bytes(data))
