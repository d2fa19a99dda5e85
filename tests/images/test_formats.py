"""Golden sizes and colours of every format, against the picture that each file was made from."""

import io
import re
import struct
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from pipeline.config import extras
from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind, InputError
from pipeline.images.frames import prepare_images
from pipeline.images.prepare import warm_up
from pipeline.images.probe import ImageSize, size_in
from pipeline.records import Failure, PreparedImage
from pipeline.sources.naming import check_videos
from pipeline.tokens.sizing import SizeRule
from tests import raws
from tests.every_format import FAILED, HEIGHT, READ, WIDTH, Case, picture, png_of
from tests.fuzz.seeds import encoded, fits
from tests.heics import box, heic, mirrored, turned

WHOLE = SizeRule(4000)


@pytest.fixture(autouse=True)
def _warm() -> None:
    warm_up()


def prepare(data: bytes, rule: SizeRule = WHOLE, **config: Any) -> PreparedImage | Failure:
    found = prepare_images(data, rule, ImagesConfig(quality=95, **config), lambda _: nullcontext())
    return found if isinstance(found, Failure) else found[0]


def prepared(data: bytes, rule: SizeRule = WHOLE, **config: Any) -> PreparedImage:
    found = prepare(data, rule, **config)
    assert isinstance(found, PreparedImage), found
    return found


def pixels(image: bytes | Image.Image) -> NDArray[np.float64]:
    if isinstance(image, bytes):
        image = Image.open(io.BytesIO(image))
    found: NDArray[np.float64] = np.asarray(image.convert("RGB"), dtype=np.float64)
    return found


def difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The mean distance of the colours, in levels."""
    return float(np.abs(a - b).mean())


def similarity(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Structural similarity (Wang et al., 2004) of brightness, in blocks of 8 x 8."""

    def blocks(image: NDArray[np.float64]) -> NDArray[np.float64]:
        grey = image.mean(axis=2)
        high, wide = grey.shape[0] // 8, grey.shape[1] // 8
        found: NDArray[np.float64] = grey[: high * 8, : wide * 8].reshape(high, 8, wide, 8).swapaxes(1, 2)
        return found.reshape(-1, 64)

    x, y = blocks(a), blocks(b)
    mx, my, vx, vy = x.mean(1), y.mean(1), x.var(1), y.var(1)
    both = ((x - mx[:, None]) * (y - my[:, None])).mean(1)
    c, d = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float((((2 * mx * my + c) * (2 * both + d)) / ((mx**2 + my**2 + c) * (vx + vy + d))).mean())


@pytest.mark.parametrize("case", [case for case in READ if case.is_whole], ids=lambda case: case.name)
def test_every_format_shows_the_same_picture(case: Case) -> None:
    """Size, colours and structure are those of the picture, and the header alone gives the same size."""
    data = case.data()
    result, expected = prepared(data), pixels(picture())
    assert (result.facts.width, result.facts.height) == (WIDTH, HEIGHT)
    size = size_in(data)
    assert isinstance(size, ImageSize)
    assert (size.width, size.height) == (WIDTH, HEIGHT)
    got = pixels(result.data)
    assert difference(got, expected) < case.loss
    assert similarity(got, expected) > 0.9


@pytest.mark.parametrize("name", ["deep.png", "deep.tiff", "negative.tif", "grey.pgm", "sky.fits"])
def test_deep_and_grey_samples_keep_their_levels(name: str) -> None:
    """12 and 16 bits and plain grey: black stays black, white white, and what is between too."""
    case = next(case for case in READ if case.name == name)
    expected = pixels(picture("L"))
    if name == "sky.fits":  # measurements are stretched from the least to the most
        expected = (expected - expected.min()) * 255 / (expected.max() - expected.min())
    assert difference(pixels(prepared(case.data()).data), expected) < 3


@pytest.mark.parametrize("name", ["site.ico", "arrow.cur", "app.icns"])
def test_icons_give_their_largest_picture(name: str) -> None:
    case = next(case for case in READ if case.name == name)
    result, expected = prepared(case.data()), pixels(picture().crop((0, 0, 64, 64)))
    assert (result.facts.width, result.facts.height) == (64, 64)
    assert difference(pixels(result.data), expected) < 4


def oriented(kind: str, orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return encoded(picture(), kind, exif=block, **({"quality": 95} if kind != "PNG" else {}))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", [3, 5, 6, 8])
def test_orientation_is_as_pillow_transposes_it(kind: str, orientation: int) -> None:
    """`ImageOps.exif_transpose` of a plain decode is the reference."""
    data = oriented(kind, orientation)
    with Image.open(io.BytesIO(data)) as image:
        expected = pixels(ImageOps.exif_transpose(image))
    got = pixels(prepared(data).data)
    assert got.shape == expected.shape
    assert difference(got, expected) < 3


@pytest.mark.parametrize(
    ("turns", "way"),
    [
        ((turned(1),), (Image.Transpose.ROTATE_90,)),
        ((turned(2),), (Image.Transpose.ROTATE_180,)),
        ((mirrored(1),), (Image.Transpose.FLIP_LEFT_RIGHT,)),
        ((turned(3), mirrored(0)), (Image.Transpose.ROTATE_270, Image.Transpose.FLIP_TOP_BOTTOM)),
    ],
)
@pytest.mark.parametrize("columns", [1, 2])
def test_a_heic_is_turned_once(turns: tuple[bytes, ...], way: tuple[Image.Transpose, ...], columns: int) -> None:
    """By its own boxes; EXIF says the same to programs that read no boxes, and does not turn it again."""
    block = Image.Exif()
    block[0x0112] = 6
    base = picture().resize((128, 64))
    data = heic(base, turns=turns, exif=block.tobytes(), columns=columns)
    expected = base
    for step in way:
        expected = expected.transpose(step)
    result = prepared(data)
    size = size_in(data)
    assert isinstance(size, ImageSize)
    assert (size.width, size.height) == expected.size == (result.facts.width, result.facts.height)
    assert difference(pixels(result.data), pixels(expected)) < 4


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("make", [raws.cr2, raws.cr3, raws.dng])
def test_a_preview_is_turned_as_its_raw_file_says(make: Any, orientation: int) -> None:
    preview = encoded(picture(), "JPEG", quality=95)
    block = Image.Exif()
    block[0x0112] = orientation
    expected = pixels(
        ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(picture(), "JPEG", quality=95, exif=block))))
    )
    data = make(preview, orientation)
    result = prepared(data)
    got = pixels(result.data)
    assert got.shape == expected.shape
    assert difference(got, expected) < 3
    assert result.facts.source_bytes == len(data)
    size = size_in(data)
    assert isinstance(size, ImageSize)
    assert (size.width, size.height) == (result.facts.width, result.facts.height)


def display_p3() -> bytes:
    """A profile of the colours of phones."""
    from tests.images.test_colour import DISPLAY_P3  # noqa: PLC0415 - made there from its colourants

    return DISPLAY_P3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIC"])
def test_display_p3_is_not_pale(kind: str) -> None:
    """Against Pillow's and LittleCMS's own conversion of the same profile."""
    p3 = display_p3()
    data = heic(picture(), profile=p3) if kind == "HEIC" else encoded(picture(), kind, icc_profile=p3)
    expected = ImageCms.profileToProfile(
        picture(), ImageCms.ImageCmsProfile(io.BytesIO(p3)), ImageCms.createProfile("sRGB")
    )
    assert expected is not None
    got = pixels(prepared(data, SizeRule(WIDTH - 1)).data)
    small = pixels(expected.resize((WIDTH - 1, got.shape[0]), Image.Resampling.LANCZOS))
    assert difference(got, small) < 4
    assert difference(got, pixels(picture().resize((WIDTH - 1, got.shape[0])))) > difference(got, small)


def test_display_p3_by_its_number_is_not_pale() -> None:
    """A HEIC file that names its colours in `nclx` (ITU-T H.273: primaries 12) and has no profile."""
    numbers = struct.pack(">HHHB", 12, 13, 1, 0x80)
    plain, wide = (
        pixels(prepared(heic(picture(), colour=colour)).data) for colour in (b"", box(b"colr", b"nclx", numbers))
    )
    by_profile = pixels(prepared(heic(picture(), profile=display_p3())).data)
    assert difference(wide, by_profile) < 5
    assert difference(wide, plain) > 3


def test_a_cut_image_is_shown_where_it_is_wanted() -> None:
    """The upper part is the picture's; by default the row says what is wrong."""
    for kind in ("JPEG", "PNG"):
        base = picture().resize((400, 300))
        data = encoded(base, kind)
        cut = data[: len(data) * 2 // 3]
        failure = prepare(cut)
        assert isinstance(failure, Failure)
        assert failure.kind is ErrorKind.IMAGE_TRUNCATED
        shown = prepared(cut, truncated="show")
        assert shown.facts.flags == ("truncated_image",)
        assert difference(pixels(shown.data)[:100], pixels(base)[:100]) < 4
    for data in (b"\xff\xd8\xff\xe0", encoded(picture(), "JPEG")[:100], png_of(30, 30)[:41]):
        assert isinstance(prepare(data, truncated="show"), Failure)


def test_what_a_decoder_complains_of_is_a_flag(recwarn: pytest.WarningsRecorder) -> None:
    """Pillow says that metadata is broken, and gives the picture; a whole file has no flag, nor the one after it."""
    whole = encoded(picture(), "TIFF")
    described = encoded(picture(), "TIFF", tiffinfo={270: "a description"})
    broken = described.replace(b"\x0e\x01\x02\0\x0e\0\0\0", b"\x0e\x01\x02\0\xa0\x86\x01\0")
    assert broken != described
    warm_up()  # behind what `recwarn` sets
    assert [prepared(bytes(data)).facts.flags for data in (whole, broken, whole)] == [(), ("decoder_warning",), ()]
    assert not recwarn


@pytest.mark.parametrize("case", FAILED, ids=lambda case: case.name)
def test_each_failure_has_its_kind(case: Case) -> None:
    found = prepare(case.data())
    assert isinstance(found, Failure)
    assert found.kind == case.error
    assert found.message


@pytest.mark.parametrize(
    ("name", "what"), [("a.heic", "HEIC photograph"), ("https://x.test/b.HIF?c=1", "HEIC photograph")]
)
def test_a_missing_extra_is_named_before_the_run(monkeypatch: pytest.MonkeyPatch, name: str, what: str) -> None:
    """One line, with the command that installs it; a file under another name says it in its row."""
    monkeypatch.setattr("pipeline.sources.naming.has_heic_extra", lambda: False)
    with pytest.raises(InputError, match=rf'is a {what}; .*pip install "vision-batch\[heic\]"'):
        check_videos((name,), "m.csv")
    check_videos(("a.jpg", "heic/b.png"), "m.csv")
    monkeypatch.setattr("pipeline.images.unpacking.has_heic_extra", lambda: False)
    found = prepare(heic(picture()))
    assert isinstance(found, Failure)
    assert found.message == f"this is a HEIC photograph; {extras.HEIC_HINT}"


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_secrets(kind: str) -> bytes:
    """A whole file with metadata in every place that the format has for it."""
    block = Image.Exif()
    block[0x8825] = {1: "N", 29: "SECRET"}
    if kind == "JPEG":
        data = encoded(picture(), "JPEG", exif=block, comment=b"SECRET")
        parts = [segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0SECRET"), segment(0xED, b"Photoshop 3.0\0SECRET")]
        parts += [segment(0xE2, b"MPF\0SECRET"), segment(0xE0, b"JFXX\0\x10SECRET"), segment(0xEB, b"SECRET")]
        return data[:2] + b"".join(parts) + data[2:] + b"\0\0\0\x18ftypmp42SECRET"  # the video of a motion photo
    if kind == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", "SECRET")
        text.add_itxt("XML:com.adobe.xmp", "<x>SECRET</x>")
        text.add(b"prVt", b"SECRET")
        return encoded(picture(), "PNG", exif=block, pnginfo=text) + b"SECRET"
    if kind == "WEBP":
        data = encoded(picture(), "WEBP", exif=block, xmp=b"<x>SECRET</x>")
        data += b"priv" + struct.pack("<I", 6) + b"SECRET"
        return data[:4] + struct.pack("<I", len(data) - 8) + data[8:] + b"SECRET"
    data = encoded(picture().quantize(16), "GIF", comment=b"SECRET")
    return data[:-1] + b"!\xff\x0bXMP DataXMP\x06SECRET\0" + b";SECRET"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_nothing_but_the_picture_is_sent(kind: str) -> None:
    """Where pixels pass unchanged: no EXIF, XMP, IPTC, comment, other picture, private part, nothing behind the end."""
    data = with_secrets(kind)
    result = prepared(data)
    assert result.media_type == f"image/{kind.lower()}"
    assert data.count(b"SECRET") > 1
    assert b"SECRET" not in result.data
    assert np.array_equal(pixels(result.data), pixels(data))


def test_a_small_copy_in_a_jfif_header_is_not_sent() -> None:
    data = encoded(picture(), "JPEG")
    small = b"JFIF\0\x01\x01\0\0\x01\0\x01\x02\x01SECRET"
    assert b"SECRET" not in prepared(data[:2] + segment(0xE0, small) + data[20:]).data


def huge(form: str) -> bytes:  # noqa: PLR0911 - one for each format
    """A small file of each format whose header says gigapixels."""
    side = 60_000
    match form:
        case "psd":
            return b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, side // 2, side // 2, 8, 3) + bytes(40)
        case "tga":
            return struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, side, side, 24, 0) + bytes(40)
        case "sgi":
            return struct.pack(">HBBHHHH", 474, 1, 1, 3, side, side, 3) + bytes(600)
        case "pcx":
            return (
                struct.pack("<BBBBHHHH", 10, 5, 1, 8, 0, 0, side, side)
                + bytes(53)
                + b"\3"
                + struct.pack("<H", side)
                + bytes(99)
            )
        case "dds":
            fields = struct.pack("<7I", 124, 0x1007, side, side, 0, 0, 1) + bytes(44)
            return b"DDS " + fields + struct.pack("<2I4s5I", 32, 4, b"DXT1", 0, 0, 0, 0, 0) + bytes(60)
        case "ras":
            return struct.pack(">8I", 0x59A66A95, side, side, 24, 0, 2, 0, 0) + bytes(40)
        case "heic":
            data = heic(picture())
            return data.replace(struct.pack(">II", WIDTH, HEIGHT), struct.pack(">II", 30_000, 30_000))
        case "fits":
            return fits(picture()).replace(b"     96", b"9600000", 1)
    head = {"qoi": b"qoif" + struct.pack(">IIBB", side, side, 3, 0), "ppm": b"P6 60000 60000 255\n"}
    head["pam"] = b"P7\nWIDTH 60000\nHEIGHT 60000\nDEPTH 3\nMAXVAL 255\nENDHDR\n"
    head["xbm"] = b"#define a_width 100000\n#define a_height 100000\nstatic char a_bits[] = {\n0x00};\n"
    head["xpm"] = b'/* XPM */\nstatic char *x[] = {\n"60000 60000 1 1",\n"a c #ff0000",\n"a"};\n'
    head["pgm"] = b"P2 60000 60000 255\n1 2 3"
    return head[form] + bytes(40)


@pytest.mark.parametrize(
    "form", ["psd", "tga", "sgi", "pcx", "dds", "ras", "heic", "fits", "qoi", "ppm", "pam", "xbm", "xpm", "pgm"]
)
def test_gigapixels_are_too_large_in_every_format(form: str) -> None:
    """Nothing is reserved, so nothing is decoded; `tests.every_format` has the PNG and the GIF of the promise."""

    def reserve(size: int) -> Any:
        raise AssertionError(size)

    found = prepare_images(huge(form), WHOLE, ImagesConfig(), reserve)
    assert isinstance(found, Failure)
    assert found.kind is ErrorKind.IMAGE_TOO_LARGE, found


@pytest.mark.parametrize("size", [(12_000, 9_000), (16_320, 12_240)])
def test_a_photograph_of_a_phone_goes_through(size: tuple[int, int]) -> None:
    """108 and 200 megapixels with the default settings."""
    facts = prepared(encoded(Image.new("L", size, 99), "JPEG", quality=75), SizeRule(2048)).facts
    assert (facts.width, facts.height, facts.sent_width, facts.sent_height) == (*size, 2048, 1536)


def test_photographs_of_every_orientation_in_a_folder_of_ones_own() -> None:
    """By hand: `PHOTOS=folder pytest tests/images/test_formats.py -k ones_own` compares real photographs."""
    import os  # noqa: PLC0415 - of this test

    for path in sorted(Path(os.environ.get("PHOTOS", "nowhere")).glob("*.jpg")):
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            expected = ImageOps.exif_transpose(image).convert("RGB")
        result = prepared(data, SizeRule(256))
        small = pixels(
            expected.resize((result.facts.sent_width or 0, result.facts.sent_height or 0), Image.Resampling.LANCZOS)
        )
        assert difference(pixels(result.data), small) < 4, path
        assert similarity(pixels(result.data), small) > 0.9, path


def test_a_file_that_breaks_off() -> None:
    """Of every format: what is cut in the middle of its pixels is called so, in words that are ours."""
    for case in READ:
        data = case.data()
        found = prepare(data[: len(data) * 45 // 100])
        assert isinstance(found, Failure)
        is_raw = "RAW" in case.what or "negative" in case.what
        if is_raw and found.kind is ErrorKind.IMAGE_UNSUPPORTED:
            assert "no preview" in found.message  # that lies behind the cut
            continue
        assert found.kind is ErrorKind.IMAGE_TRUNCATED, (case.name, found.message)
        assert re.search(r"is incomplete: the data ends (inside|before) ", found.message), found.message
