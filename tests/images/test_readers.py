"""What Pillow's readers do otherwise than a file says, or than is promised here."""

import ctypes
import struct
import subprocess
import sys
import zlib
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind
from pipeline.images import opening
from pipeline.images.containers.tiff import page_offsets, with_first_page
from pipeline.images.frames import prepare_images
from pipeline.images.prepare import warm_up
from pipeline.images.probe import ImageSize, size_in
from pipeline.records import Failure, PreparedImage
from pipeline.tokens.sizing import SizeRule
from tests import raws
from tests.every_format import FAILED, HEIGHT, READ, WIDTH, grey_tiff, picture, png_chunk, thumbnail_first
from tests.fuzz.seeds import encoded
from tests.images.test_colour import DISPLAY_P3, GREY_LINEAR

WHOLE = SizeRule(4000)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _warm() -> None:
    warm_up()


def prepare(data: bytes) -> PreparedImage | Failure:
    found = prepare_images(data, WHOLE, ImagesConfig(quality=95), lambda _: nullcontext())
    return found if isinstance(found, Failure) else found[0]


def prepared(data: bytes) -> PreparedImage:
    found = prepare(data)
    assert isinstance(found, PreparedImage), found
    return found


def sent(data: bytes) -> Image.Image:
    return Image.open(BytesIO(prepared(data).data))


def failure(data: bytes) -> Failure:
    found = prepare(data)
    assert isinstance(found, Failure), found
    return found


@pytest.mark.parametrize("name", ["quick.qoi", "runs.bmp", "game.dds", "ppm of 16 bits"])
def test_a_reader_of_single_pixels_may_read_often(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The bound on reads is for parts of a file; the pixels of these have a bound of their own."""
    monkeypatch.setattr(opening, "_LOADING_READS", 50)
    deep = f"P6 {WIDTH} {HEIGHT} 65535\n".encode() + np.asarray(picture()).astype(">u2").tobytes()
    data = deep if name.startswith("ppm") else next(case.data() for case in READ if case.name == name)
    prepared(data)


def test_a_tiff_has_one_limit_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not Pillow's own as well, which warned of a sound scan and refused a large one."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", WIDTH * HEIGHT // 4)
    for packing in ("raw", "tiff_lzw"):
        assert prepared(encoded(picture(), "TIFF", compression=packing)).facts.flags == ()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("samples", ["u2", "f4"])
def test_the_least_sample_may_be_white(samples: str, order: str) -> None:
    """Of 16 bits, and of floating ones, in both orders of bytes: no negative is sent."""
    levels = np.asarray(picture("L"))
    negative = 1 - levels / 255 if samples == "f4" else 65535 - levels.astype(np.uint16) * 257
    bits, kind = (32, 3) if samples == "f4" else (16, 1)
    data = grey_tiff(negative.astype(order + samples).tobytes(), bits, white=0, kind=kind, order=order)
    got = np.asarray(sent(data), dtype=float)
    assert np.abs(got - levels).mean() < 3


def test_what_breaks_off_behind_a_thumbnail_is_not_shown_by_it() -> None:
    """The page that would be sent is missing: neither the run nor the estimate takes its small copy for it."""
    data = thumbnail_first()
    cut = data[: page_offsets(data)[0] + 20]
    assert (failure(cut).kind, size_in(cut)) == (ErrorKind.IMAGE_TRUNCATED, failure(cut))


def test_a_directory_without_the_place_of_the_next_one_is_read() -> None:
    """At the end of a file some writers leave it out."""
    data = bytearray(encoded(picture(), "TIFF"))
    start, end = 8, 8 + 2 + 12 * int.from_bytes(data[8:10], "little")
    moved = bytes(data) + bytes(data[start:end])
    assert page_offsets(with_first_page(moved, len(data))) == [len(data)]
    assert prepared(with_first_page(moved, len(data))).facts.size == (WIDTH, HEIGHT)


def test_samples_without_a_sign_are_not_scrambled() -> None:
    """Of 32 bits Pillow takes the upper half for negative ones."""
    half = np.asarray(picture("L")).astype("<u4") << 23
    got = np.asarray(sent(grey_tiff(half.astype("<u4").tobytes(), 32)), dtype=float)
    assert got.max() - got.min() > 200
    found = failure(grey_tiff((half * 2).astype("<u4").tobytes(), 32))
    assert (found.kind, "2,147,483,647" in found.message) == (ErrorKind.IMAGE_UNSUPPORTED, True)


def test_the_size_is_the_pictures_and_not_its_thumbnails() -> None:
    """The estimate reads the same page as the run; the hash is the file's."""
    data = thumbnail_first()
    size = size_in(data)
    assert isinstance(size, ImageSize)
    assert (size.width, size.height) == (WIDTH, HEIGHT) == (prepared(data).facts.width, prepared(data).facts.height)
    assert prepared(data).facts.source_bytes == len(data)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c", "12 bits a sample"),
        (b"\xff\xc0\0\x11\x08", b"\xff\xf7\0\x11\x08", "JPEG-LS"),
    ],
)
def test_a_whole_file_in_another_coding_is_not_called_damaged(before: bytes, after: bytes, said: str) -> None:
    """Its row says how it is coded, and what to do about it."""
    data = encoded(picture(), "JPEG")
    assert data.count(before) == 1
    found = failure(data.replace(before, after))
    assert (found.kind, f": {said}; convert it" in found.message) == (ErrorKind.IMAGE_UNSUPPORTED, True)


@pytest.mark.parametrize("bits", [0, 7, 17, 255])
def test_a_damaged_frame_header_is_no_other_coding(bits: int) -> None:
    """Samples of this number of bits are in no sound JPEG."""
    found = failure(encoded(picture(), "JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11" + bytes([bits])))
    assert found.kind is ErrorKind.IMAGE_UNREADABLE


def _packed_behind_a_thumbnail(packing: int) -> bytes:
    data, before = thumbnail_first(), struct.pack("<HHIH", 259, 3, 1, 1)
    at = data.rindex(before)
    return data[:at] + struct.pack("<HHIH", 259, 3, 1, packing) + data[at + len(before) :]


@pytest.mark.parametrize("name", ["twelve.jpg", "lossless.jls", "map.tif", "colours.jp2", "map behind a thumbnail"])
def test_the_estimate_does_not_price_what_the_run_refuses(name: str) -> None:
    """Both ask the header alone, and say the same."""
    files = {case.name: case.data for case in FAILED}
    files["lossless.jls"] = lambda: encoded(picture(), "JPEG").replace(b"\xff\xc0", b"\xff\xf7")
    files["map behind a thumbnail"] = lambda: _packed_behind_a_thumbnail(34887)
    data = files[name]()
    assert size_in(data) == failure(data)
    assert failure(data).kind is ErrorKind.IMAGE_UNSUPPORTED


def test_a_photograph_packed_in_a_new_way_has_its_preview() -> None:
    """The packing of the samples of a RAW photograph does not matter to the run, nor to the estimate."""
    data = raws.dng(encoded(picture(), "JPEG"), 1)
    data = data.replace(struct.pack("<HHII", 257, 4, 1, 16), struct.pack("<HHII", 259, 4, 1, 52546), 1)
    assert isinstance(size_in(data), ImageSize)
    assert prepared(data).facts.size == (WIDTH, HEIGHT)


def test_arithmetic_coding_is_read_in_one_piece() -> None:
    """A decoder of it cannot wait for more bytes, and Pillow gives 64 KiB at a time: with a longer file it failed."""
    noise = Image.effect_noise((600, 400), 90)
    data = encoded(noise, "JPEG", quality=95)
    assert len(data) > 100_000
    said = data.replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc9\0\x0b\x08")
    assert said != data
    assert prepared(said).facts.width == 600  # it is some picture: what is Huffman's was read as if it were not


@pytest.mark.parametrize("bits", [2, 4])
def test_a_transparent_level_of_few_bits_is_white(bits: int) -> None:
    """PNG, `tRNS` (RFC 2083, 4.2.9): of 2 or 4 bits Pillow scales the pixels and not the level."""
    width = 8 // bits * 4
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, 8, bits, 0, 0, 0, 0))
    row = bytes([0] * 3 + [sum(1 << at for at in range(0, 8, bits))] * 2)  # half of it the level 1, less the filter
    body = (
        png_chunk(b"tRNS", struct.pack(">H", 1)) + png_chunk(b"IDAT", zlib.compress(row * 8)) + png_chunk(b"IEND", b"")
    )
    assert sent(b"\x89PNG\r\n\x1a\n" + header + body).getpixel((width - 1, 4)) == 255


def test_grey_with_transparency_has_its_profile() -> None:
    """As the same greys without it."""
    plain = Image.new("L", (16, 16), 127)
    opaque = plain.convert("LA")
    levels = [sent(encoded(image, "TIFF", icc_profile=GREY_LINEAR)).getpixel((8, 8)) for image in (plain, opaque)]
    assert levels[0] == levels[1] == pytest.approx(187, abs=2)


def test_a_profile_in_jpeg_2000() -> None:
    """In its box `colr` (ITU-T T.800, I.5.3.3), which Pillow does not give."""
    red = Image.new("RGB", (64, 64), (200, 40, 40))
    data = encoded(red, "JPEG2000", quality_mode="rates", quality_layers=[0])
    at = data.index(b"colr") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    box = struct.pack(">I4sBBB", 11 + len(DISPLAY_P3), b"colr", 2, 0, 0) + DISPLAY_P3
    outer = data.index(b"jp2h") - 4
    header = struct.pack(">I", int.from_bytes(data[outer : outer + 4], "big") + len(box) - length)
    wide = data[:outer] + header + data[outer + 4 : at] + box + data[at + length :]
    expected = sent(encoded(red, "TIFF", icc_profile=DISPLAY_P3)).getpixel((32, 32))
    assert sent(wide).getpixel((32, 32)) == pytest.approx(expected, abs=4)
    assert sent(data).getpixel((32, 32)) != pytest.approx(expected, abs=4)


MEMORY = """
import io, re, sys, threading
from contextlib import nullcontext
from PIL import Image
from pipeline.config.images import ImagesConfig
from pipeline.images.frames import prepare_images
from pipeline.images.prepare import warm_up
from pipeline.tokens.sizing import OPENAI_HIGH, SizeRule
kind, side, longest, options = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), eval(sys.argv[4])
warm_up()
file = io.BytesIO()
pictures = [Image.new("RGB", (side, side), colour) for colour in ("navy", "teal")]
several = {"save_all": True, "append_images": pictures[1:]} if kind == "GIF" else {"compress_level": 1}
pictures[0].save(file, kind, **several)
del pictures
most = []
for _ in range(6):
    done, over = threading.Event(), threading.Event()
    def decode():
        found = prepare_images(file.getvalue(), SizeRule(longest), ImagesConfig(**options), lambda _: nullcontext())
        assert len(found) == options.get("frames", 1)
        done.set()
        over.wait()
    threading.Thread(target=decode, daemon=True).start()
    done.wait()
print(int(re.search(r"VmRSS:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) // 1024)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc keeps what a thread has freed")
@pytest.mark.parametrize(
    ("kind", "side", "longest", "options"),
    [("PNG", 6000, 1024, {}), ("PNG", 6000, 6000, {"verify": "full"}), ("GIF", 4500, 1024, {"frames": 2})],
    ids=["resized", "sent as it is", "frames"],
)
def test_threads_do_not_keep_the_memory_of_large_pictures(kind: str, side: int, longest: int, options: object) -> None:
    """Six threads decode one large picture each, by any path: what stays are the resizers' buffers."""
    command = [sys.executable, "-c", MEMORY, kind, str(side), str(longest), repr(options)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 450
