"""What the bytes of a file say without decoding them, against files that Pillow wrote."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from pipeline.images.containers import Format, describe, inspect, probe, sniff, stripped
from tests.every_format import png_chunk

SIZE = (37, 23)


def picture(mode: str = "RGB", size: tuple[int, int] = SIZE, seed: int = 0) -> Image.Image:
    """Seeded noise on a gradient."""
    noise = np.random.default_rng(seed).integers(0, 40, (size[1], size[0], 4), dtype=np.uint8)
    ramp = np.linspace(0, 200, size[0], dtype=np.uint8)[None, :, None]
    return Image.fromarray(noise + ramp, "RGBA").convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int, *, gps: bool = False) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    if gps:
        block[0x8825] = {1: "N", 2: (48.0, 51.0, 24.0), 29: "2024:05:06"}
        block[0x010F] = "SECRET CAMERA"
    return block


def pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB").tobytes()


WHOLE = {
    "jpeg": encoded(picture(), "JPEG"),
    "jpeg grey": encoded(picture("L"), "JPEG"),
    "jpeg progressive": encoded(picture(), "JPEG", progressive=True),
    "jpeg restarts": encoded(picture(), "JPEG", restart_marker_blocks=1),
    "png": encoded(picture(), "PNG"),
    "png palette": encoded(picture().quantize(16), "PNG"),
    "gif": encoded(picture(), "GIF"),
    "webp": encoded(picture(), "WEBP"),
    "webp lossless": encoded(picture(), "WEBP", lossless=True),
    "webp extended": encoded(picture(), "WEBP", exif=exif(1)),
}
FILES = pytest.mark.parametrize("name", WHOLE)


@FILES
def test_a_whole_file_is_whole_and_sendable(name: str) -> None:
    """Size, uprightness and wholeness of still, opaque, ordinary files are seen without decoding."""
    data = WHOLE[name]
    container = inspect(data)
    assert container is not None
    assert (container.whole, container.why) == (True, "")
    assert container.header.sendable
    assert container.header.upright == SIZE
    assert container.header == probe(data)


@FILES
def test_every_shorter_file_is_not_whole(name: str) -> None:
    """Wherever a file is cut, its structure says so, and its size is known as soon as its bytes were seen."""
    data = WHOLE[name]
    for length in range(len(data)):
        container = inspect(data[:length])
        assert container is None or (not container.whole and container.cut), length


@FILES
def test_what_follows_the_end_is_cut_off(name: str) -> None:
    """Bytes behind the end mark (junk, a second image, an archive) are not sent."""
    data = WHOLE[name]
    container = inspect(data + b"trailing secret")
    assert container is not None
    assert container.whole
    sent = stripped(data + b"trailing secret", container)
    assert b"secret" not in sent
    assert pixels(sent) == pixels(data)


@pytest.mark.parametrize("name", ["jpeg", "png", "gif", "webp"])
def test_nothing_to_strip_is_the_same_object(name: str) -> None:
    """A file without metadata is not copied."""
    data = WHOLE[name]
    container = inspect(data)
    assert container is not None
    assert stripped(data, container) is data


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded(picture("CMYK"), "JPEG"), {"components": 4, "common": False}),
        (encoded(picture("RGBA"), "PNG"), {"alpha": True, "components": 4}),
        (encoded(picture("LA"), "PNG"), {"alpha": True, "components": 2}),
        (encoded(picture("RGB"), "PNG", transparency=(1, 2, 3)), {"alpha": True}),
        (encoded(picture("I;16"), "PNG"), {"bits": 16, "common": False, "components": 1}),
        (encoded(picture(), "PNG", save_all=True, append_images=[picture(seed=1)]), {"animated": True}),
        (encoded(picture(), "GIF", save_all=True, append_images=[picture(seed=1)]), {"animated": True}),
        (encoded(picture().quantize(8), "GIF", transparency=1), {"alpha": True}),
        (encoded(picture("RGBA"), "WEBP"), {"alpha": True}),
        (encoded(picture("RGBA"), "WEBP", lossless=True), {"alpha": True}),
        (encoded(picture(), "WEBP", save_all=True, append_images=[picture(seed=1)]), {"animated": True}),
        (encoded(picture(), "JPEG", exif=exif(6)), {"orientation": 6}),
    ],
)
def test_what_cannot_be_sent_as_it_is(data: bytes, expected: dict[str, object]) -> None:
    """Transparency, animation, CMYK, 16 bits and a rotation are seen in the header."""
    header = probe(data)
    assert header is not None
    assert not header.sendable
    assert {name: getattr(header, name) for name in expected} == expected
    assert (header.width, header.height) == SIZE


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 65535])
def test_orientation_is_read_from_exif(kind: str, orientation: int) -> None:
    """All eight orientations in all three formats; what EXIF does not name is 1."""
    header = probe(encoded(picture(), kind, exif=exif(orientation)))
    assert header is not None
    assert header.orientation == (orientation if 1 <= orientation <= 8 else 1)
    assert header.upright == (SIZE[::-1] if 5 <= orientation <= 8 else SIZE)


def test_png_orientation_behind_the_pixels() -> None:
    """EXIF may follow IDAT in a PNG file; the whole file tells it, its head cannot."""
    upright = WHOLE["png"]
    end = upright.index(b"IEND") - 4
    block = exif(6).tobytes().removeprefix(b"Exif\0\0")
    data = upright[:end] + png_chunk(b"eXIf", block) + upright[end:]
    header, head = probe(data), probe(data[:60])
    assert header is not None
    assert head is not None
    assert (header.orientation, head.orientation) == (6, 1)
    assert head.upright == SIZE


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
def test_the_first_kilobyte_is_enough(kind: str, options: dict[str, bool]) -> None:
    """`estimate` reads heads only: they give the same header as the whole file."""
    data = encoded(picture(size=(300, 200)), kind, **options)
    assert len(data) > 4096
    assert probe(data[:1024]) == probe(data)


@pytest.mark.parametrize(
    ("data", "mark"),
    [
        (encoded(picture(), "JPEG", exif=exif(1, gps=True), comment=b"SECRET"), b"SECRET"),
        (encoded(picture(), "PNG", exif=exif(1, gps=True)), b"SECRET"),
        (encoded(picture(), "WEBP", exif=exif(1, gps=True), xmp=b"<x>SECRET</x>"), b"SECRET"),
        (encoded(picture(), "GIF", comment=b"SECRET", loop=0), b"NETSCAPE"),
        (encoded(picture(), "GIF", comment=b"SECRET"), b"SECRET"),
    ],
)
def test_metadata_is_stripped_and_pixels_are_not_touched(data: bytes, mark: bytes) -> None:
    """GPS, camera, XMP, comments and loops go; every pixel stays, and the result is whole again."""
    container = inspect(data)
    assert mark in data
    assert container is not None
    sent = stripped(data, container)
    assert mark not in sent
    assert b"2024:05:06" not in sent
    assert pixels(sent) == pixels(data)
    again = inspect(sent)
    assert again is not None
    assert again.whole
    assert stripped(sent, again) is sent


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_colour_profile_stays(kind: str) -> None:
    """Colour is part of the picture: an ICC profile survives the stripping."""
    profile = b"\0" * 200 + b"PROFILE" + bytes(100)
    data = encoded(picture(), kind, icc_profile=profile, exif=exif(1, gps=True))
    container = inspect(data)
    assert container is not None
    with Image.open(io.BytesIO(stripped(data, container))) as image:
        assert image.info["icc_profile"] == profile
        assert not image.getexif()


def test_only_the_first_image_of_an_mpo_is_sent() -> None:
    """A camera's second picture (a preview, a depth map) stands behind the first, in a file named JPEG."""
    data = encoded(picture(), "MPO", save_all=True, append_images=[picture(seed=1)])
    container = inspect(data)
    assert container is not None
    sent = stripped(data, container)
    assert sent.count(b"\xff\xd8\xff") == 1
    assert b"MPF\0" not in sent
    assert pixels(sent) == pixels(data)


def test_every_damaged_byte_of_a_png_is_noticed() -> None:
    """Checksums cover every chunk: no single changed byte behind the signature passes as whole."""
    data = WHOLE["png palette"]
    for at in range(8, len(data)):
        container = inspect(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        assert container is None or not container.whole, at


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (WHOLE["jpeg"][:2] + WHOLE["jpeg"][-2:], None),
        (WHOLE["png"][:33] + WHOLE["png"][-12:], "it has no pixels"),
        (WHOLE["png"][:33] + png_chunk(b"CgBI", b"") + WHOLE["png"][33:], "its chunk CgBI"),
        (WHOLE["gif"][:10] + b"\0\0\0\x3b", "it has no image"),
        (WHOLE["webp"][:4] + b"\x04\0\0\0WEBP", None),
    ],
)
def test_what_is_missing_is_named(data: bytes, why: str | None) -> None:
    """A file that ends properly and lacks its pixels is not whole."""
    container = inspect(data)
    if why is None:
        assert container is None
    else:
        assert container is not None
        assert not container.whole
        assert container.why.startswith(why)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg_with(old: int, new: bytes, *, progressive: bool = False) -> bytes:
    """A JPEG whose first segment with the marker `old` is replaced by `new`."""
    data = encoded(picture(), "JPEG", progressive=progressive)
    at = data.index(bytes([0xFF, old]))
    return data[:at] + new + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


FRAME = segment(0xC0, struct.pack(">BHHB", 8, 23, 37, 3) + bytes((1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1)))
SCAN = bytes((3, 1, 0x00, 2, 0x11, 3, 0x11, 0, 63, 0))
CODES = bytes((0, 2)) + bytes(14)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (jpeg_with(0xDB, b""), "a scan names a component"),
        (jpeg_with(0xC4, b""), "a scan lacks its Huffman table"),
        (jpeg_with(0xDB, segment(0xDB, bytes(60))), "a quantisation table is wrong"),
        (jpeg_with(0xDB, segment(0xDB, b"\x20" + bytes(192))), "a quantisation table is wrong"),
        (jpeg_with(0xC4, segment(0xC4, b"\0" + bytes((0, 4)) + bytes(18))), "a Huffman table is wrong"),
        (jpeg_with(0xC4, segment(0xC4, b"\0" + CODES + b"\x00")), "a Huffman table is wrong"),
        (jpeg_with(0xC4, segment(0xC4, b"\0" + CODES + b"\x00\x10")), "a Huffman table is wrong"),
        (jpeg_with(0xC4, segment(0xC4, b"\x20" + CODES + b"\x00\x01")), "a Huffman table is wrong"),
        (jpeg_with(0xDA, segment(0xDA, SCAN[:-1])), "a scan header has the wrong length"),
        (jpeg_with(0xDA, segment(0xDA, b"\x03\x07" + SCAN[2:])), "a scan names a component"),
        (jpeg_with(0xDA, segment(0xDA, b"\x03\x01\x33" + SCAN[3:])), "a scan lacks its Huffman table"),
        (jpeg_with(0xDA, segment(0xDA, b"")), "a scan comes without its header"),
        (jpeg_with(0xDA, segment(0xDA, SCAN), progressive=True), "a scan header names impossible"),
        (jpeg_with(0xC0, FRAME + FRAME), "it has two frame headers"),
        (jpeg_with(0xC0, FRAME[:-3] + b"\x01\x11\x01"), "its frame header names a component twice"),
        (jpeg_with(0xDB, b"\xff\x01"), "marker 0x01 is out of place"),
        (jpeg_with(0xDB, b"junk"), "there is no marker"),
    ],
)
def test_a_jpeg_without_its_tables_is_not_whole(data: bytes, why: str) -> None:
    """A scan that no decoder could read for lack of a table or a component is seen without decoding."""
    container = inspect(data)
    if container is not None:  # None: it broke before the size was found
        assert not container.whole
        assert container.why.startswith(why)


@pytest.mark.parametrize("data", [jpeg_with(0xC0, FRAME), jpeg_with(0xDA, segment(0xDA, SCAN))])
def test_the_segments_of_these_tests_are_right(data: bytes) -> None:
    """What is broken above is whole when it is not."""
    container = inspect(data)
    assert container is not None
    assert (container.whole, container.why) == (True, "")


def test_progressive_files_tell_what_a_decoder_holds() -> None:
    """4:2:0 has one and a half samples a pixel, 4:4:4 has three; each coefficient takes two bytes."""
    large = picture(size=(64, 32))
    held = [
        probe(encoded(large, "JPEG", progressive=progressive, subsampling=subsampling))
        for progressive, subsampling in ((True, "4:2:0"), (True, "4:4:4"), (False, "4:2:0"))
    ]
    assert [header and header.buffered_bytes for header in held] == [64 * 32 * 3, 64 * 32 * 6, 0]


@given(st.data(), st.sampled_from(sorted(WHOLE)))
def test_damaged_files_never_raise(source: st.DataObject, name: str) -> None:
    """Whatever is flipped, cut or spliced, the answer is a value, and what is called whole can be stripped."""
    data = bytearray(WHOLE[name])
    for _ in range(source.draw(st.integers(1, 4))):
        at = source.draw(st.integers(0, len(data) - 1))
        data[at : at + source.draw(st.integers(0, 3))] = source.draw(st.binary(max_size=4))
    damaged = bytes(data)
    probe(damaged)
    container = inspect(damaged)
    if container is not None and container.whole:
        assert len(stripped(damaged, container)) <= len(damaged)


@given(st.binary(max_size=200), st.sampled_from([b"", *(data[:12] for data in WHOLE.values())]))
@example(b"", b"")
def test_any_bytes_never_raise(data: bytes, head: bytes) -> None:
    """No input makes the readers fail, and none is without a name."""
    probe(head + data)
    inspect(head + data)
    assert sniff(head + data) is not None or describe(head + data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000"])
def test_every_format_that_is_read_is_recognised(kind: str) -> None:
    """What Pillow writes is sniffed as what it is, and described by its media type."""
    data = encoded(picture(), kind)
    assert sniff(data) is Format[kind]
    assert Format[kind].media_type == {"JPEG2000": "image/jp2"}.get(kind, f"image/{kind.lower()}")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\n<!DOCTYPE html><html>", "an HTML page"),
        (b"<?xml version='1.0'?><svg xmlns='x'>", "an SVG drawing"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "an XML or HTML document"),
        (b"%PDF-1.7", "a PDF document"),
        (b'{"error": "not found"}', "a JSON document"),
        (b"404 page not found\n", "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "a Git LFS pointer"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2", "a video (ISO media)"),
        (b"\xff\x0a\0\0", "a JPEG XL image"),
        (b"\0\1\2\3", "no image format that is known (it begins with 00 01 02 03)"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, name: str) -> None:
    """A downloaded error page, a PDF or a video is called by its name."""
    assert sniff(data) is None
    assert describe(data).startswith(name)
