"""How the sizes of a source are found: its own columns, headers, addresses, and a random part of it."""

import base64
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from pipeline.config.loading import load_config
from pipeline.errors import InputError, InterruptedRunError
from pipeline.estimates.estimate import readable_images
from pipeline.estimates.histogram import SizeHistogram
from pipeline.estimates.survey import Survey, SurveyJob, drawn_at_random, survey
from pipeline.images.probe import ImageSize
from pipeline.images.sizes import LocalSizes, declared_size
from pipeline.locations import LocalFile
from pipeline.records import ImageRecord
from pipeline.tokens.ranges import Range
from tests.image_hosts import HERE
from tests.support import MakeImage


async def surveyed(*sources: object, **job: object) -> tuple[Survey, SizeHistogram, list[tuple[int, int | None]]]:
    """The survey, its sizes, and what was shown of its progress."""
    shown: list[tuple[int, int | None]] = []
    histogram = SizeHistogram([])
    overrides = {"images.max_megapixels": 1.0, **HERE}
    what = SurveyJob(sources=[str(source) for source in sources], config=load_config(None, overrides, {}), **job)  # type: ignore[arg-type] # by name
    return await survey(what, histogram, lambda seen, total: shown.append((seen, total))), histogram, shown


@pytest.mark.parametrize(
    ("extra", "size"),
    [
        ('{"width":640,"height":480}', (640, 480)),
        ('{"WIDTH":"640","Height":" 480 "}', (640, 480)),
        ('{"width":640.0,"height":"480.0","other":1}', (640, 480)),
        ('{"width":0,"height":480}', None),
        ('{"width":null,"height":480}', None),
        ('{"width":true,"height":480}', None),
        ('{"width":"640px","height":480}', None),
        ('{"width":640.5,"height":480}', None),
        ('{"width":640}', None),
        ('{"caption":"the height of summer"}', None),
        (None, None),
    ],
)
def test_columns_of_a_manifest(extra: str | None, size: tuple[int, int] | None) -> None:
    """`width` and `height` count in any case, as numbers or text, where both are pixels."""
    assert declared_size(extra) == (None if size is None else ImageSize(*size, None))


def records(count: int) -> Iterator[ImageRecord]:
    return (ImageRecord(str(number), (LocalFile(str(number), str(number)),)) for number in range(count))


def test_a_draw_is_fair_and_in_order() -> None:
    """Each of ten records is among three drawn ones in about 3 of 10 seeds; few records are all drawn."""
    counts: Counter[str] = Counter()
    for seed in range(3000):
        drawn, seen = drawn_at_random(records(10), 3, random.Random(seed))
        ids = [record.id for record in drawn]
        assert (seen, len(set(ids)), ids) == (10, 3, sorted(ids))
        counts.update(ids)
    assert all(800 <= counts[str(number)] <= 1000 for number in range(10))  # 900 expected, 4 deviations of 25
    assert [record.id for record in drawn_at_random(records(2), 3, random.Random(0))[0]] == ["0", "1"]


def test_threads_only_where_the_disk_is_slow(tmp_path: Path) -> None:
    """Several threads read after a slow chunk, and stop after a fast one; what is found is in order all the same."""
    times = iter([0.0, 1.0, 1.0, 1.01, 2.0, 2.0])
    names = [ImageRecord(str(number), (LocalFile("", str(tmp_path / str(number))),)) for number in range(200)]
    for number in range(200):
        (tmp_path / str(number)).write_bytes(b"GIF89a" + bytes([number + 1, 0, 9, 0]) + bytes(3))
    with LocalSizes(lambda: next(times)) as local:
        found = []
        for _ in range(3):
            sizes = local.look(names)
            assert [one[:2] for one in sizes if isinstance(one, ImageSize)] == [(n + 1, 9) for n in range(200)]
            found.append(local.together)
    assert found == [True, False, False]


async def test_everything_is_counted(make_image: MakeImage, tmp_path: Path) -> None:
    """Sizes that a manifest states are not opened; files, `data:` addresses and unreadable ones are counted apart."""
    seen = make_image("a.jpg", 64, 48).stat().st_size
    data = base64.b64encode((tmp_path / "a.jpg").read_bytes()).decode()
    lines = ["image,width,height", "gone.jpg,320,200", "a.jpg,,", "gone.jpg?2,,", f'"data:image/jpeg;base64,{data}",,']
    lines += ["gone.jpg?3,2000,1000"]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    found, histogram, shown = await surveyed(tmp_path / "m.csv", keep_sizes=True)
    assert (found.images, found.seen, found.declared, found.unreadable) == (5, 5, 2, 2)
    assert found.by_kind == {"image_missing": 1, "image_bomb": 1}
    assert [name for name, _, _ in found.examples] == ["gone.jpg?2", "gone.jpg?3"]
    assert found.sizes is not None
    assert [(size >> 32, size & 0xFFFFFFFF) for size in found.sizes] == [(320, 200), (64, 48), (0, 0), (64, 48), (0, 0)]
    assert (found.file_bytes.count, found.file_bytes.total) == (2, 2 * seen)
    assert histogram.images == 3
    assert shown == [(5, 5)]


async def test_a_probe_of_a_folder(make_image: MakeImage, tmp_path: Path) -> None:
    """As many files are read as were asked for, the same ones with the same seed; `limit` comes before it."""
    for number in range(12):
        make_image(f"photos/{number:02d}.png", 10 + number, 10)
    first, again = [(await surveyed(tmp_path / "photos", probe=4, seed=7, keep_sizes=True))[0] for _ in range(2)]
    other = (await surveyed(tmp_path / "photos", probe=4, seed=8, keep_sizes=True))[0]
    assert (first.images, first.seen, first.sizes) == (12, 4, again.sizes)
    assert other.sizes != first.sizes
    few = (await surveyed(tmp_path / "photos", probe=4, limit=3))[0]
    assert (few.images, few.seen) == (3, 3)


@pytest.fixture
async def server(make_image: MakeImage) -> AsyncIterator[str]:
    path = make_image("web/a.jpg", 90, 60)

    async def answer(_: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    app = web.Application()

    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "60"})

    app.router.add_get("/a.jpg", answer)
    app.router.add_get("/busy.jpg", busy)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_addresses_beside_files(server: str, make_image: MakeImage, tmp_path: Path) -> None:
    """Of a list with both, hundreds of addresses are asked for, in order with the files."""
    make_image("b.jpg", 40, 30)
    (tmp_path / "list.txt").write_text("\n".join(["b.jpg", *(f"{server}/a.jpg?{n}" for n in range(200)), server]))
    found, histogram, shown = await surveyed(tmp_path / "list.txt", keep_sizes=True)
    assert found.sizes is not None
    assert list(found.sizes) == [40 << 32 | 30, *[90 << 32 | 60] * 200, 0]
    assert (found.unreadable, histogram.images, shown) == (1, 201, [(64, 202), (202, 202)])


async def test_addresses_of_a_busy_host(server: str, tmp_path: Path) -> None:
    """Where a host gives no header for now, the size is unknown: neither a size, nor an image that is not sent."""
    names = [f"{server}/a.jpg", f"{server}/busy.jpg", f"{server}/busy.jpg?2", f"{server}/gone.jpg"]
    (tmp_path / "list.txt").write_text("\n".join(names))
    found, histogram, _ = await surveyed(tmp_path / "list.txt", keep_sizes=True)
    assert (found.seen, found.known, found.unreadable, histogram.images) == (4, 2, 1, 1)
    assert (dict(found.by_reason), found.by_kind) == ({"HTTP 429 Too Many Requests": 2}, {"image_missing": 1})
    assert found.sizes is not None
    assert list(found.sizes) == [90 << 32 | 60, 0, 0, 0]
    assert readable_images(histogram.images, found) == Range(2, 1, 3)


async def test_what_is_no_address(make_image: MakeImage, tmp_path: Path) -> None:
    """It is counted like every image that a run would not send, whatever proxy there is."""
    make_image("a.png", 40, 30)
    (tmp_path / "list.txt").write_text("a.png\nhttp://[bad/a.jpg\nhttp:///b.jpg\n")
    found, histogram, _ = await surveyed(tmp_path / "list.txt")
    assert (found.by_kind, histogram.images) == ({"image_unsupported": 2}, 1)


async def test_a_proxy_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of the user's, said as such; nothing is asked."""
    monkeypatch.setenv("http_proxy", "socks5://proxy.invalid:1080")
    (tmp_path / "list.txt").write_text("http://images.invalid/a.jpg\n")
    with pytest.raises(InputError, match="HTTP_PROXY: a proxy must be"):
        await surveyed(tmp_path / "list.txt")


async def test_ctrl_c(make_image: MakeImage, tmp_path: Path) -> None:
    """The survey ends with what a shell expects, before the next chunk; the former handler is in place again."""
    for number in range(65):
        make_image(f"photos/{number}.gif", 9, 9)
    before, seen = signal.getsignal(signal.SIGINT), []

    def show(count: int, _: int | None) -> None:
        seen.append(count)
        os.kill(os.getpid(), signal.SIGINT)

    what = SurveyJob(sources=[str(tmp_path / "photos")], config=load_config(None, {}, {}))
    with pytest.raises(InterruptedRunError) as stopped:
        await survey(what, SizeHistogram([]), show)
    assert (stopped.value.exit_code, seen) == (130, [64])
    assert signal.getsignal(signal.SIGINT) is before


async def test_a_manifest_that_is_wrong(tmp_path: Path) -> None:
    """What a run would refuse is refused before any image is looked at."""
    (tmp_path / "m.csv").write_text("id,image\n1,a.jpg\n1,b.jpg\n")
    with pytest.raises(InputError, match="lines 2 and 3"):
        await surveyed(tmp_path / "m.csv")
