"""What decoding takes: never more memory than predicted, never more than `images.max_decoded_mb`, never for minutes."""

import io
import os
import re
import struct
import subprocess
import sys
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind
from pipeline.images import opening
from pipeline.images.containers import inspect, scan_count
from pipeline.images.opening import Source
from pipeline.images.prepare import MAX_SCANS, prepare_image, warm_up
from pipeline.records import Failure, PreparedImage
from pipeline.tokens.sizing import OPENAI_HIGH, SizeRule
from tests.every_format import png_chunk

ROOT = Path(__file__).parents[2]
FILES = int(os.environ.get("IMAGE_HEADERS", "240"))
"""Of the generator; `IMAGE_HEADERS=2000` is its long form."""


@pytest.fixture(autouse=True)
def _warm() -> None:
    warm_up()


def prepare(data: bytes, rule: SizeRule = OPENAI_HIGH, **config: Any) -> PreparedImage | Failure:
    return prepare_image(data, rule, ImagesConfig(**config), lambda _: nullcontext())


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, bits: int, colour: int, *between: bytes, pixels: bytes = b"x") -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(between) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's high-water mark")
def test_no_header_makes_decoding_take_more_than_predicted() -> None:
    """Files of eight formats that claim any size, depth or tiles: what is measured is at most what is reserved."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.image_headers", "--count", str(FILES)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{FILES} files: ")


SIDE = 13_300


def webp_of(width: int, height: int) -> bytes:
    body = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(9)
    return b"RIFF" + struct.pack("<I", 4 + 8 + len(body)) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body


def tiff_of(width: int, height: int, *tags: tuple[int, int, int, int]) -> bytes:
    entries = sorted(
        ((256, 4, 1, width), (257, 4, 1, height), (259, 3, 1, 8), (273, 4, 1, 500), (279, 4, 1, 50), *tags)
    )
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(4)).ljust(600, b"\0")


def jpeg2000_of(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("RGB", (64, 64)), "JPEG2000"))
    struct.pack_into(">II", data, data.index(b"ihdr") + 4, height, width)
    at = data.index(b"\xff\x4f\xff\x51")
    struct.pack_into(">II", data, at + 8, width, height)
    struct.pack_into(">II", data, at + 24, width, height)
    return bytes(data)


def avif_of(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("RGB", (64, 64)), "AVIF", speed=10))
    struct.pack_into(">II", data, data.index(b"ispe") + 8, width, height)
    return bytes(data)


def bmp_of(width: int, height: int, packed: int = 0, body: bytes = b"\xff\x01" * 9) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8 if packed else 24, packed, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078 if packed else 54) + info + bytes(1024) + body


TOO_MUCH = {
    "png": png(SIDE, SIDE, 8, 2),
    "png transparent": png(SIDE, SIDE, 8, 2, png_chunk(b"tRNS", bytes(6))),
    "png 16 bits": png(SIDE, SIDE, 16, 6),
    "png 16 bits grey": png(SIDE, SIDE, 16, 0),
    "png high": png(2, 88_000_000, 8, 0),
    "png wide": png(88_000_000, 2, 8, 2),
    "webp": webp_of(SIDE, SIDE),
    "bmp": bmp_of(SIDE, SIDE),
    "tiff float": tiff_of(SIDE, SIDE, (258, 3, 1, 32), (262, 3, 1, 1), (339, 3, 1, 3)),
    "tiff": tiff_of(SIDE, SIDE, (262, 3, 1, 2), (258, 3, 1, 8), (277, 3, 1, 3)),
    "avif": avif_of(SIDE, SIDE),
    "jpeg2000": jpeg2000_of(SIDE, SIDE),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_would_take_too_much_is_not_decoded(name: str) -> None:
    """177 and 176 megapixels in every format: a row that names the figure and the setting, and nothing is reserved."""

    def reserve(size: int) -> Any:
        raise AssertionError(size)

    result = prepare_image(TOO_MUCH[name], OPENAI_HIGH, ImagesConfig(), reserve)
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.IMAGE_TOO_LARGE
    found = re.search(r"takes ([\d,]+) MB, more than images.max_decoded_mb = 512 allows$", result.message)
    assert found is not None
    assert int(found[1].replace(",", "")) > 512


def test_the_limit_can_be_raised_and_lowered() -> None:
    """The figure in the message is the least that `images.max_decoded_mb` has to be, to the megabyte."""
    data = encoded(Image.new("RGB", (2000, 1500), "teal"), "PNG")
    result = prepare(data, max_decoded_mb=1)
    assert isinstance(result, Failure)
    needed = int(result.message.partition("takes ")[2].partition(" MB")[0])
    assert isinstance(prepare(data, max_decoded_mb=needed), PreparedImage)
    assert isinstance(prepare(data, max_decoded_mb=needed - 1), Failure)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"])
def test_photographs_stay_within_the_default(kind: str) -> None:
    """A photograph of 50 megapixels (42 in WebP) is decoded in every common format; a progressive JPEG of 100."""
    from pipeline.images.containers import Format, Header  # noqa: PLC0415
    from pipeline.images.decoding import decoding_bytes  # noqa: PLC0415 - the prediction alone: none is drawn

    small = encoded(Image.new("RGB", (64, 64)), kind)
    if kind == "JPEG":
        header = Header(format=Format.JPEG, width=11_600, height=8_700, buffered_bytes=11_600 * 8_700 * 3)
        assert decoding_bytes(small, header, (1024, 768)) < 512_000_000
        return
    side = (8_000, 5_300) if kind == "WEBP" else (8_700, 5_800)
    data = {"PNG": png(*side, 16, 6), "WEBP": webp_of(*side), "AVIF": avif_of(*side), "BMP": bmp_of(*side)}.get(kind)
    if data is None:
        data = (
            tiff_of(*side, (262, 3, 1, 2), (258, 3, 1, 16), (277, 3, 1, 3), (278, 4, 1, 16)) if kind == "TIFF" else None
        )
    if data is None:
        data = b"GIF89a" + struct.pack("<HH", *side) + small[10:]
    result = prepare(data)
    assert not isinstance(result, Failure) or result.kind is not ErrorKind.IMAGE_TOO_LARGE, result


def progressive(scans: int) -> bytes:
    """A JPEG that refines the first coefficient of a component again and again; each scan has no data at all."""
    data = encoded(Image.effect_noise((256, 256), 40), "JPEG", progressive=True)
    again = b"\xff\xda\0\x08\x01\x01\x00\x00\x00\x10" + b"\0"
    return data[:-2] + again * (scans - scan_count(data)) + data[-2:]


def test_a_jpeg_of_thousands_of_scans_is_not_decoded() -> None:
    """Encoders write about ten scans; a hundred are decoded, and one more is too many, whatever the size is."""
    assert scan_count(encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True)) == 10
    assert isinstance(prepare(progressive(MAX_SCANS), SizeRule(64)), PreparedImage)
    for scans in (MAX_SCANS + 1, 6_000):
        for rule in (SizeRule(64), OPENAI_HIGH):
            result = prepare(progressive(scans), rule)
            assert isinstance(result, Failure)
            assert result.kind is ErrorKind.IMAGE_TOO_LARGE
            assert result.message == f"a JPEG of {scans:,} scans takes too long to decode: at most 100 are decoded"


def test_what_only_looks_like_scans_is_none() -> None:
    """Marks of a scan in metadata, and behind the end of the picture, do not count; in a broken file all do."""
    data = encoded(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    comment = b"\xff\xfe\x03\xea" + b"\xff\xda" * 500
    assert scan_count(data[:2] + comment + data[2:] + b"\xff\xda" * 500) == 10
    assert scan_count(data[:-2] + b"\xff\x00\xff\x02" + b"\xff\xda" * 500) == 510


GIF_HEAD = b"GIF89a" + struct.pack("<HHBBB", 100, 100, 0x80, 0, 0) + bytes(6)
GIF_IMAGE = b"," + struct.pack("<HHHHB", 0, 0, 100, 100, 0)
CONTROL = b"!\xf9\x04\0\0\0\0\0"


@pytest.mark.parametrize(
    "data",
    [
        GIF_HEAD + (CONTROL + b"!\xfe\0") * 100_000 + GIF_IMAGE + b"\x02\x02\x4c\x01\0;",
        GIF_HEAD + b"!\xfe" + b"\x01a" * 1_200_000 + b"\0" + GIF_IMAGE + b"\x02\x02\x4c\x01\0;",
        GIF_HEAD + GIF_IMAGE + b"\x08" + b"\x01\x55" * 1_200_000 + b"\0;",
        png(
            10,
            10,
            8,
            2,
            *[png_chunk(b"tEXt", b"") + png_chunk(b"pHYs", bytes(9))] * 60_000,
            pixels=zlib.compress(bytes(310)),
        ),
        b"\xff\xd8" + b"\xff\xfe\0\x02" * 120_000 + encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)[2:],
    ],
    ids=["extensions", "comment", "pixels", "chunks", "segments"],
)
def test_millions_of_parts_are_not_walked_through(data: bytes) -> None:
    """Files of empty parts are unreadable after the first hundred thousand: they cost memory and minutes in Python."""
    container = inspect(data)
    assert container is None or (not container.whole and len(container.spans) <= 100_000)
    result = prepare(data)
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.IMAGE_UNREADABLE
    assert "parts" in result.message or "sub-blocks" in result.message


def test_a_packed_bitmap_counts_as_decoded_in_python() -> None:
    """Pillow unpacks its runs in Python: one of more than 16 megapixels would take minutes."""
    result = prepare(bmp_of(4_001, 4_000, packed=1))
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.IMAGE_TOO_LARGE
    assert "16,004,000 pixels, and at most 16,000,000" in result.message


@pytest.mark.parametrize("marks", [b"\0\0", b"\0\2\0\0", b"\xff\1"], ids=["line ends", "deltas", "past the end"])
def test_marks_without_pixels_are_not_read_for_minutes(monkeypatch: pytest.MonkeyPatch, marks: bytes) -> None:
    """A packed bitmap may go on with them to the end of its file; what is read is bounded by its pixels."""
    monkeypatch.setattr(opening, "_LOADING_READS", 50)
    result = prepare(bmp_of(20, 20, packed=1, body=marks * 2_000))
    assert isinstance(result, Failure)
    assert (result.kind, "more parts than any camera" in result.message) == (ErrorKind.IMAGE_UNREADABLE, True)


def test_an_icon_is_not_unpacked_in_python() -> None:
    """Its marks without pixels would have no bound, and no program packs the bitmap of an icon."""
    bitmap = bmp_of(16, 32, packed=1, body=b"\0\0" * 2_000)[14:]
    entry = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 8, len(bitmap), 22)
    result = prepare(entry + bitmap)
    assert isinstance(result, Failure)
    assert result.message == "the ICO cannot be decoded: its bitmap is packed, which no icon is"


def test_a_million_comments_between_pixels_are_not_read() -> None:
    """Pillow copies a megabyte for each of them: two megabytes of comments held a thread for a minute."""
    result = prepare(b"P3 10 10 255\n" + b"#\n" * 20_001)
    assert isinstance(result, Failure)
    assert (result.kind, "more parts than any camera" in result.message) == (ErrorKind.IMAGE_UNREADABLE, True)


def test_pillow_reads_only_so_often() -> None:
    """What bounds Pillow's own loops: a file that is read once more than allowed is an error of its parser."""
    source = Source(bytes(100), reads=3)
    assert [source.read(10) for _ in range(3)] == [bytes(10)] * 3
    with pytest.raises(ValueError, match="more parts than any camera"):
        source.read(10)


def test_a_tiff_of_millions_of_strips_is_not_opened() -> None:
    """Each strip would become several objects of Python before the first pixel is decoded."""
    strips = 300_000
    data = tiff_of(10, 10, (262, 3, 1, 1), (258, 3, 1, 8)) + bytes(4 * strips)
    data = data.replace(struct.pack("<HHII", 273, 4, 1, 500), struct.pack("<HHII", 273, 4, strips, 600))
    result = prepare(data)
    assert isinstance(result, Failure)
    assert result.message == "the TIFF cannot be decoded: a metadata tag holds too many values"


def test_deep_samples_are_converted_in_bands() -> None:
    """Sixteen bits and floats become eight without copies of the whole; the seams between bands do not show."""
    levels = np.linspace(0, 65535, 600 * 40).reshape(600, 40)
    for samples in (levels.astype(np.uint16), levels.astype(np.float32), levels.astype(np.int32)):
        result = prepare(encoded(Image.fromarray(samples), "TIFF"), SizeRule(600), quality=95)
        assert isinstance(result, PreparedImage)
        with Image.open(io.BytesIO(result.data)) as image:
            assert np.abs(np.asarray(image, dtype=np.float64) - levels / 257).max() < 4
