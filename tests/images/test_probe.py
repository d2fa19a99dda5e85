"""Sizes from the first kilobytes: of files, and of addresses on a real HTTP server on this machine."""

import io
import os
import random
import struct
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind
from pipeline.images.containers import probe
from pipeline.images.prepare import prepare_image
from pipeline.images.probe import ImageSize, WholeDocument, read_size, read_sizes, size_in
from pipeline.images.remote_sizes import SizeUnknown, fetch_beginning
from pipeline.records import Failure, PreparedImage
from pipeline.tokens.sizing import SizeRule
from tests.every_format import HEIGHT, WIDTH, thumbnail_first
from tests.image_hosts import image_hosts
from tests.support import MakeImage

SAMPLES = Path(__file__).parent.parent.parent / "data" / "samples"
PICTURES = sorted(path for path in SAMPLES.iterdir() if path.name not in {"manifest.csv", "broken.jpg"})


def picture(kind: str, orientation: int | None = None, **save: object) -> bytes:
    """A picture of 48 x 32 pixels as a file, with EXIF where an orientation is given."""
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
        save["exif"] = exif
    file = io.BytesIO()
    Image.effect_mandelbrot((48, 32), (-2, -1, 1, 1), 9).convert("RGB").save(file, kind, **save)
    return file.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(jpeg: bytes, *more: bytes) -> bytes:
    """The same JPEG with further segments at its beginning."""
    return jpeg[:2] + b"".join(more) + jpeg[2:]


def file_of(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "image"
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_the_size_is_the_one_that_a_run_finds(path: Path) -> None:
    """Of every kind of sample, the size that is read is that which decoding it gives, and the length is the file's."""
    data = path.read_bytes()
    prepared = prepare_image(data, SizeRule(2048), ImagesConfig(), lambda _: nullcontext())
    assert isinstance(prepared, PreparedImage)
    expected = ImageSize(*(prepared.facts.size or (0, 0)), len(data))
    assert read_size(str(path)) == size_in(data) == expected


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path: Path, kind: str, orientation: int) -> None:
    """From the fifth of EXIF's orientations on, width and height change places, wherever the format keeps EXIF."""
    found = read_size(file_of(tmp_path, picture(kind, orientation)))
    assert isinstance(found, ImageSize)
    assert found[:2] == ((32, 48) if orientation >= 5 else (48, 32))


def test_a_frame_header_behind_profiles_and_thumbnails(tmp_path: Path) -> None:
    """A JPEG whose size stands 300 KB into the file, with its EXIF before and after other segments, and fill bytes."""
    other = segment(0xE2, bytes(60_000))
    exif = segment(0xE1, b"Exif\0\0" + b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + bytes(50_000))
    plain = picture("JPEG")
    for parts in ([other] * 4 + [exif], [exif] + [other] * 4, [other, b"\xff" * 7 + exif[1:], other]):
        data = with_segments(plain, *parts)
        found = read_size(file_of(tmp_path, data))
        header = probe(data)
        assert header is not None
        assert isinstance(found, ImageSize)
        assert found[:2] == header.upright == (32, 48)


def test_exif_that_is_no_orientation_comes_first(tmp_path: Path) -> None:
    """XMP in the same kind of segment is not taken for EXIF."""
    data = with_segments(picture("JPEG", 8), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + bytes(5000)))
    found = read_size(file_of(tmp_path, data))
    assert isinstance(found, ImageSize)
    assert found[:2] == (32, 48)


@given(st.sampled_from(PICTURES), st.integers(0, 2**32), st.integers(1, 40))
def test_damage_never_raises(path: Path, seed: int, changes: int) -> None:
    """Whatever the first bytes are, there is a size above zero or a reason on one line."""
    rng = random.Random(seed)
    data = bytearray(path.read_bytes()[: rng.randrange(1, 6000)])
    for _ in range(changes):
        data[rng.randrange(len(data))] = rng.randrange(256)
    found = size_in(bytes(data))
    assert not isinstance(found, WholeDocument)
    if isinstance(found, ImageSize):
        assert min(found[:2]) > 0
    else:
        assert found.message.isprintable()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@given(width=st.integers(1, 900), height=st.integers(1, 900))
def test_any_size(kind: str, width: int, height: int) -> None:
    """The size that Pillow writes is the size that is read."""
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, kind)
    assert size_in(file.getvalue()) == ImageSize(width, height, len(file.getvalue()))


def test_what_has_no_size(tmp_path: Path) -> None:
    """Each reason has its kind; nothing blocks, not even a pipe without a writer."""
    (tmp_path / "empty").touch()
    (tmp_path / "page").write_text("<html><body>not found</body></html>")
    (tmp_path / "cut.jpg").write_bytes(picture("JPEG")[:20])
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(12))
    (tmp_path / "bad.tiff").write_bytes(b"II*\0" + bytes(40))
    os.mkfifo(tmp_path / "pipe")
    expected = {
        "gone.jpg": ErrorKind.IMAGE_MISSING,
        "empty": ErrorKind.IMAGE_EMPTY,
        "page": ErrorKind.IMAGE_UNSUPPORTED,
        "cut.jpg": ErrorKind.IMAGE_UNREADABLE,
        "phone.heic": ErrorKind.IMAGE_UNREADABLE,
        "bad.tiff": ErrorKind.IMAGE_UNREADABLE,
        "pipe": ErrorKind.IMAGE_UNREADABLE,
        "nul\0": ErrorKind.IMAGE_UNREADABLE,
        ".": ErrorKind.IMAGE_UNREADABLE,
    }
    found = read_sizes(f"{tmp_path}/{name}" for name in expected)
    assert [one.kind if isinstance(one, Failure) else one for one in found] == list(expected.values())
    pipe = found[list(expected).index("pipe")]
    assert isinstance(pipe, Failure)
    assert pipe.message == "not a file but a pipe or a device"  # as a run says it


Asked = list[tuple[str, str]]


@pytest.fixture
async def server(tmp_path: Path, make_image: MakeImage) -> AsyncIterator[tuple[str, Asked]]:
    """Two photographs, one with its size behind 90 KB; `/range/` knows ranges, `/whole/` ignores them."""
    make_image("web/plain.jpg", 640, 480, quality=95)
    for name, side in (("scan.tif", 200), ("long.tif", 700)):
        (tmp_path / "web" / name).write_bytes(thumbnail_first((side, side)))
    (tmp_path / "web/deep.jpg").write_bytes(with_segments(picture("JPEG", 6), *[segment(0xE2, bytes(45_000))] * 2))
    asked: Asked = []

    async def ranged(request: web.Request) -> web.StreamResponse:
        asked.append((request.match_info["name"], request.headers["Range"]))
        return web.FileResponse(tmp_path / "web" / request.match_info["name"])

    async def whole(request: web.Request) -> web.Response:
        return web.Response(body=(tmp_path / "web" / request.match_info["name"]).read_bytes() + bytes(1 << 21))

    app = web.Application()
    app.router.add_get("/range/{name}", ranged)
    app.router.add_get("/whole/{name}", whole)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    await runner.cleanup()


async def test_addresses(server: tuple[str, Asked], tmp_path: Path) -> None:
    """The first 64 KB are asked for, and a megabyte only where these do not tell; servers may ignore that."""
    url, asked = server
    plain, deep = ((tmp_path / "web" / name).stat().st_size for name in ("plain.jpg", "deep.jpg"))
    async with image_hosts() as hosts:
        assert (await fetch_beginning(hosts, f"{url}/range/plain.jpg"))[0] == ImageSize(640, 480, plain)
        assert (await fetch_beginning(hosts, f"{url}/range/deep.jpg"))[0] == ImageSize(32, 48, deep)
        assert (await fetch_beginning(hosts, f"{url}/whole/plain.jpg"))[0] == ImageSize(640, 480, plain + (1 << 21))
        assert (await fetch_beginning(hosts, f"{url}/whole/deep.jpg"))[0] == ImageSize(32, 48, deep + (1 << 21))
    first, second = "bytes=0-65535", "bytes=0-1048575"
    assert asked == [("plain.jpg", first), ("deep.jpg", first), ("deep.jpg", second)]


async def test_a_page_behind_a_thumbnail(server: tuple[str, Asked], tmp_path: Path) -> None:
    """Where its directory stands behind the bytes that were fetched the thumbnail is not taken for it."""
    url, asked = server
    async with image_hosts() as hosts:
        found, _ = await fetch_beginning(hosts, f"{url}/range/scan.tif")
        assert found == ImageSize(WIDTH, HEIGHT, (tmp_path / "web/scan.tif").stat().st_size)
        unknown, _ = await fetch_beginning(hosts, f"{url}/range/long.tif")
        assert unknown == SizeUnknown("its size stands behind the first 1 MB")
    assert asked == [(name, f"bytes=0-{end}") for name in ("scan.tif", "long.tif") for end in (65535, 1048575)]


async def test_addresses_that_fail(server: tuple[str, Asked]) -> None:
    """A missing image, another scheme and no address: reasons, which do not repeat the signature."""
    url, _ = server
    cases = {
        f"{url}/range/gone.jpg?sig=secret": ErrorKind.IMAGE_MISSING,
        "ftp://127.0.0.1/a.jpg?sig=secret": ErrorKind.IMAGE_UNSUPPORTED,
        "http://[secret/a.jpg": ErrorKind.IMAGE_UNSUPPORTED,
    }
    async with image_hosts() as hosts:
        for address, kind in cases.items():
            found, _ = await fetch_beginning(hosts, address)
            assert isinstance(found, Failure)
            assert found.kind is kind
            assert "secret" not in found.message


@pytest.fixture
async def moody() -> AsyncIterator[tuple[str, list[str]]]:
    """`/n/STATUS/AFTER`: refuses `n` times with that status and Retry-After (`-`: none), then gives an image."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        times, status, after = (request.match_info[name] for name in ("times", "status", "after"))
        if asked.count(request.path) > int(times):
            return web.Response(body=picture("PNG"))
        return web.Response(status=int(status), headers={} if after == "-" else {"Retry-After": after})

    async def endless(_: web.Request) -> web.Response:
        return web.Response(body=with_segments(picture("JPEG"), *[segment(0xE2, bytes(65_000))] * 20))

    app = web.Application()
    app.router.add_get("/{times}/{status}/{after}", answer)
    app.router.add_get("/endless", endless)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "known", "requests", "waits_s"),
    [
        ("/2/429/20", True, 3, [20.0, 20.0]),
        ("/2/503/-", True, 3, [0.25, 0.5]),
        ("/3/429/1", "HTTP 429 Too Many Requests", 3, [1.0, 1.0]),
        ("/1/429/31", "HTTP 429 Too Many Requests", 1, []),
        ("/3/403/-", "fetch_status", 1, []),
        ("/3/404/-", "image_missing", 1, []),
        ("/endless", "its size stands behind the first 1 MB", 0, []),
    ],
)
async def test_what_passes_is_tried_again(
    moody: tuple[str, list[str]], path: str, known: object, requests: int, waits_s: list[float]
) -> None:
    """Three tries, as far apart as the host says up to 30 s; what remains is unknown, what is refused is refused."""
    (url, asked), waited = moody, []

    async def sleep(wait_s: float) -> None:
        waited.append(wait_s)

    async with image_hosts() as hosts:
        found, _ = await fetch_beginning(hosts, url + path, sleep=sleep, rand=lambda: 0.5)
    if isinstance(found, SizeUnknown):
        assert found.reason == known
    else:
        assert (found.kind.value if isinstance(found, Failure) else True) == known
    assert (len(asked), waited) == (requests, waits_s)


@pytest.fixture
async def rangeless() -> AsyncIterator[str]:
    """`/STATUS` answers a range so, and anything else with an image; 206: with another range than was asked for."""

    async def answer(request: web.Request) -> web.Response:
        whole, status = picture("JPEG", 6), int(request.match_info["status"])
        if "Range" not in request.headers:
            return web.Response(body=whole)
        told = {"Content-Range": f"bytes 100-{len(whole) - 1}/{len(whole)}"} if status == 206 else {}
        return web.Response(status=status, body=whole[100:], headers=told)

    app = web.Application()
    app.router.add_get("/{status}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize("status", [206, 400, 405, 416, 501])
async def test_a_server_that_knows_no_ranges(rangeless: str, status: int) -> None:
    """It refuses them, or gives what it likes: it is asked for the whole file, which a run would get as well."""
    async with image_hosts() as hosts:
        found, _ = await fetch_beginning(hosts, f"{rangeless}/{status}")
    assert found == ImageSize(32, 48, len(picture("JPEG", 6)))


async def test_a_host_that_is_not_there() -> None:
    """A connection that fails may succeed tomorrow: its size is unknown, and the reason repeats no signature."""

    async def sleep(_: float) -> None: ...

    async with image_hosts() as hosts:
        found, _ = await fetch_beginning(hosts, "http://127.0.0.1:1/a.jpg?sig=secret", sleep=sleep)
    assert isinstance(found, SizeUnknown)
    assert "secret" not in found.reason
