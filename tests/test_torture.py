"""The short form of the campaign: a handful of kills, and stops of every kind that end in the same dataset."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

from tests import warm
from tests.emulators import emulator, until
from tests.pdfs import pdf
from tests.support import MakeImage, emulator_get
from tests.torture import Campaign, has_held

ROOT = Path(__file__).parent.parent
TIMES = ["asked_at", "answered_at", "latency_s", "run_id", "request_id"]


@pytest.mark.parametrize(("task", "kills", "images"), [("caption", 6, 600), ("ocr", 2, 200)])
def test_a_handful_of_kills(tmp_path: Path, task: str, kills: int, images: int) -> None:
    """SIGKILLs, with each kind of bill: nothing lost, nothing doubled, nothing paid twice beyond the bound."""
    report = Campaign(tmp_path, kills=kills, images=images, seed=3, task=task).run(time.monotonic() + 90)
    assert has_held(report), report.lines()
    assert report.kills == kills
    assert report.runs >= 1


def arguments(out: str, url: str, more: Sequence[str] = ()) -> list[str]:
    return [
        *("-m", "pipeline", "run", "photos", "-o", out, "--base-url", url, "--model", "gpt-4o"),
        *("--concurrency", "4", "-q", "--set", "output.rows_per_part=7", *more),
    ]


def complete(out: str, url: str, folder: Path, more: Sequence[str] = ()) -> None:
    """The same line to its end."""
    done = warm.run(arguments(out, url, more), cwd=folder)
    assert done.returncode == 0, done.stderr


def start(out: str, url: str, folder: Path, more: Sequence[str] = ()) -> warm.Running:
    return warm.Running(arguments(out, url, more), cwd=folder, env=os.environ)


def stop_in_the_middle(out: str, url: str, folder: Path, number: signal.Signals, more: Sequence[str] = ()) -> int:
    before = emulator_get(url, "stats")["billed"]
    running = start(out, url, folder, more=more)
    until(url, "billed", before + 8, running)
    running.send_signal(number)
    _, stderr = running.communicate(timeout=60)
    assert "Traceback" not in stderr
    assert running.returncode is not None
    return running.returncode


@pytest.fixture
def slow() -> Iterator[str]:
    with emulator(["--latency-ms", "60"]) as url:
        yield url


def whole(folder: Path, out: str) -> pd.DataFrame:
    frame = pd.read_parquet(folder / out / "data").drop(columns=TIMES)
    return frame.sort_values("id").reset_index(drop=True)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_stopped_run_ends_as_an_undisturbed_one(
    make_image: MakeImage, tmp_path: Path, slow: str, number: signal.Signals, code: int
) -> None:
    """Stopped by a signal and resumed with the same line: row for row the same dataset, apart from times."""
    for image in range(40):
        make_image(f"photos/{image:02}.jpg", 64, 48, seed=image)
    assert stop_in_the_middle("stopped", slow, tmp_path, number) == code
    for out in ("stopped", "undisturbed"):
        complete(out, slow, tmp_path)
    pd.testing.assert_frame_equal(whole(tmp_path, "stopped"), whole(tmp_path, "undisturbed"))


@pytest.mark.parametrize("mode", ["whole", "pages"])
def test_killed_among_documents(mode: str, tmp_path: Path, slow: str) -> None:
    """SIGKILL in the middle of PDFs, then the same line: each document, or each page, is one row."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(12):
        (photos / f"{number:02}.pdf").write_bytes(pdf(3, text=f"document {number}"))
    more = ["--pdf", mode]
    assert stop_in_the_middle("stopped", slow, tmp_path, signal.SIGKILL, more) == -signal.SIGKILL
    complete("stopped", slow, tmp_path, more)
    rows = whole(tmp_path, "stopped")
    names = [f"{number:02}.pdf" for number in range(12)]
    pages = [f"{name}#page={page}" for name in names for page in (1, 2, 3)]
    assert list(rows.id) == (names if mode == "whole" else pages)
    assert set(rows.status) == {"ok"}
    assert set(rows.caption.str.contains("PDF of 3 pages")) == {mode == "whole"}


def test_a_full_disk(make_image: MakeImage, tmp_path: Path, endpoint: str) -> None:
    """No file may grow any more: exit code 5 and one line; with room again the same line completes the dataset."""
    for image in range(40):
        make_image(f"photos/{image:02}.jpg", 64, 48, seed=image)
    limited = ["sh", "-c", 'trap "" XFSZ; ulimit -f 300; exec "$@"', "sh", sys.executable, *arguments("full", endpoint)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    full = subprocess.run(limited, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert full.returncode == 5, full.stderr
    assert "Traceback" not in full.stderr
    assert len(full.stderr.strip().splitlines()) == 1
    for out in ("full", "undisturbed"):
        complete(out, endpoint, tmp_path)
    pd.testing.assert_frame_equal(whole(tmp_path, "full"), whole(tmp_path, "undisturbed"))


def test_a_second_process_is_refused(make_image: MakeImage, tmp_path: Path) -> None:
    """Yesterday's run still goes on: tonight's ends with exit code 2 that names host and pid, the first is unharmed."""
    for image in range(40):
        make_image(f"photos/{image:02}.jpg", 64, 48, seed=image)
    with emulator(["--latency-ms", "700"]) as slow:
        first = start("out", slow, tmp_path)
        until(slow, "billed", 1, first)
        second = start("out", slow, tmp_path)
        _, stderr = second.communicate(timeout=60)
        assert second.returncode == 2
        assert f"pid {first.pid}" in stderr
        _, stderr = first.communicate(timeout=60)
        assert first.returncode == 0, stderr
    assert len(whole(tmp_path, "out")) == 40
