"""Videos, animations and pages, end to end: one row a file, billed as predicted, and nothing without the extra."""

import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import pandas as pd
import pytest

import pipeline
from pipeline.config import extras
from pipeline.errors import InputError
from pipeline.sources import naming, open_source
from tests.builders import ask
from tests.http_servers import serving
from tests.image_hosts import HERE
from tests.images.test_frames import animation
from tests.support import Command, MakeImage
from tests.videos import sound_only, video


@pytest.fixture
def media(make_image: MakeImage) -> Path:
    make_image("media/photo.jpg", 640, 480)
    folder = Path("media").resolve()
    (folder / "clip.mp4").write_bytes(video(seconds=10.0, size=(640, 360), gop=40))
    (folder / "b.webm").write_bytes(video("webm", "libvpx"))
    (folder / "c.mkv").write_bytes(video("matroska"))
    (folder / "d.MOV").write_bytes(video("mov", rotation=90))
    (folder / "loop.gif").write_bytes(animation("GIF", duration=100))
    (folder / "scan.tif").write_bytes(animation("TIFF", 4))
    return folder


def rows_of(out: str) -> pd.DataFrame:
    return pd.read_parquet(f"{out}/data").set_index("id").sort_index()


def test_one_row_a_file(media: Path, endpoint: str) -> None:
    """Ten seconds with eight frames are one row, billed the sum of the predictions; an estimate says the same."""
    summary = ask(media, endpoint, frames=8)
    rows = rows_of("out")
    assert summary.exit_code == 0
    assert summary.source_bytes == sum(path.stat().st_size for path in media.iterdir())
    assert list(rows.status) == ["ok"] * 7
    assert (rows.predicted_prompt_tokens == rows.prompt_tokens).all()
    assert (rows.loc["clip.mp4", ["width", "height"]] == [640, 360]).all()
    assert (rows.loc["d.MOV", ["width", "height"]] == [64, 96]).all()
    found = pipeline.estimate(media, model="gpt-4o", base_url=endpoint, frames=8)
    assert found.models[0].input_tokens.expected == rows.prompt_tokens.sum()
    again = ask(media, endpoint, frames=8, refresh_changed=True)
    assert again.requests == 0, "the stamp of a file does not depend on the number of its frames"
    one = ask(media, endpoint, out="one")
    image = rows_of("one").prompt_tokens
    assert one.exit_code == 0
    assert (rows.loc["clip.mp4"].prompt_tokens - image["clip.mp4"]) % 7 == 0
    assert rows.loc["photo.jpg"].prompt_tokens == image["photo.jpg"]


def test_a_video_that_cannot_be_sent(endpoint: str) -> None:
    """Each is a failed row of its kind, and nothing is sent; the one behind an address is fetched and decoded."""
    whole = video()
    Path("clips").mkdir()
    for name, data in {"cut.mp4": whole[:-400], "sound.mp4": sound_only(), "text.mkv": b"hello"}.items():
        (Path("clips") / name).write_bytes(data)
    ask("clips", endpoint)
    rows = rows_of("out")
    assert dict(rows.error_kind) == {
        "cut.mp4": "image_truncated",
        "sound.mp4": "image_unsupported",
        "text.mkv": "image_unsupported",
    }
    assert rows.attempts.sum() == 0


def test_a_manifest_and_a_list(media: Path, endpoint: str, command: Command) -> None:
    """Manifests name videos as they name images, and a dry run prepares the first."""
    Path("list.txt").write_text("media/clip.mp4\nmedia/photo.jpg\n")
    code, stdout, _ = command(
        *("run", "list.txt", "-o", "x", "--base-url", endpoint, "--model", "gpt-4o", "--frames", "3", "--dry-run")
    )
    assert code == 0
    assert stdout.count('"image_url"') >= 3
    assert "640 x 360" in stdout
    assert ask("list.txt", endpoint, frames=3).exit_code == 0
    glob = open_source("media/*.m*").records()
    assert [record.id for record in glob] == ["c.mkv", "clip.mp4"]


def test_without_the_extra(make_image: MakeImage, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line before anything starts, exit 2, with the way out; sources without videos do not need it."""
    make_image("media/photo.jpg")
    Path("media/clip.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    rows = [{"image": "photo.jpg"}, {"image": "https://example.org/a.webm?x=1", "id": "a"}]
    Path("media/m.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    Path("media/list.txt").write_text("photo.jpg\nclip.MP4\n")
    for module in (extras, naming):
        monkeypatch.setattr(module, "has_video_extra", lambda: False)
    for source in ("media", "media/clip.mp4", "media/m.jsonl", "media/list.txt", "media/*.mp4"):
        for what in (["run", source, "-o", "out"], ["estimate", source]):
            code, stdout, stderr = command(*what, "--model", "gpt-4o", "--base-url", "http://127.0.0.1:9/v1")
            assert code == 2
            assert not stdout
            (line,) = stderr.splitlines()
            assert 'pip install "vision-batch[video]"' in line
            assert not Path("out").exists()
    with pytest.raises(InputError, match="is a video"):
        open_source("media").check()
    assert open_source("media/*.jpg").check() == 1


def test_the_bound_of_an_interval(command: Command) -> None:
    """An interval without a number of frames is exit 2: an hour would be thousands of images."""
    code, _, stderr = command("run", ".", "-o", "out", "--set", "images.frame_interval_s=2")
    assert code == 2
    assert "--frames" in stderr


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def host(media: Path) -> Iterator[str]:
    with serving(partial(Quiet, directory=str(media))) as url:
        yield url


def test_videos_behind_addresses(host: str, endpoint: str) -> None:
    """They are fetched whole within `images.max_file_mb`, and an estimate reads the beginning of each."""
    Path("list.txt").write_text(f"{host}/b.webm?signature=1\n{host}/clip.mp4\n{host}/loop.gif\n")
    found = pipeline.estimate("list.txt", model="gpt-4o", base_url=endpoint, frames=2, overrides=HERE)
    assert ask("list.txt", endpoint, frames=2, overrides=HERE).exit_code == 0
    rows = rows_of("out")
    assert list(rows.status) == ["ok"] * 3
    assert found.models[0].input_tokens.expected == rows.prompt_tokens.sum()
    ask("list.txt", endpoint, out="small", overrides={**HERE, "images.max_file_mb": 0.05})
    assert rows_of("small").loc[f"{host}/clip.mp4"].error_kind == "fetch_too_large"
