"""Ctrl-C in the first second: one line and exit code 130, at whatever it comes."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.stub import stub
from tests.support import MakeImage

MOMENTS = int(os.environ.get("VISION_BATCH_MOMENTS", "6"))
"""Places of a run at which it is interrupted, drawn anew by each seed; `VISION_BATCH_MOMENTS=200` is the long form."""

# The interpreter reports every import, file and thread (audit events). The signal comes with the Nth of them after the
# package's handler stands; without a signal the child says how many there were.
CHILD = """
import atexit, os, runpy, signal, sys
wanted, seen = int(sys.argv.pop(1)), 0
def count(event, arguments):
    global seen
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        return
    seen += 1
    if seen == wanted:
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(count)
atexit.register(lambda: os.write(1, str(seen).encode()))
sys.orig_argv = [sys.executable, "-m", "pipeline"]
runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
"""
HERE = "vision-batch: interrupted\n"


@pytest.fixture
def manifest(make_image: MakeImage, tmp_path: Path) -> Path:
    make_image("photos/0.jpg", 64, 48)
    path = tmp_path / "many.jsonl"
    path.write_text("".join(f'{{"image": "photos/0.jpg", "id": {n}}}\n' for n in range(2000)))
    return path


def interrupted_at(event: int, manifest: Path, url: str) -> subprocess.CompletedProcess[str]:
    words = ["run", str(manifest), "-o", f"out-{event}", "--base-url", url, "--model", "gpt-4o", "--limit", "1", "-q"]
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(event), *words],
        capture_output=True, text=True, timeout=100, check=False, cwd=manifest.parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip


def test_at_any_moment(manifest: Path) -> None:
    """While modules are imported, settings and manifest are read, OUT and session are opened: one line and exit code
    130, and nothing was sent. Later the run has handlers of its own, and ends with its summary.
    """
    with stub() as server:
        done = interrupted_at(0, manifest, server.url)
        assert (done.returncode, len(server.paths)) == (0, 1)
        events, early = int(done.stdout), 0
        for moment in range(MOMENTS):
            event = 1 + int((moment + Random(moment).random()) / MOMENTS * events)
            server.paths.clear()
            done = interrupted_at(event, manifest, server.url)
            assert "Traceback" not in done.stderr
            if done.stderr == HERE:
                early += 1
                assert (done.returncode, server.paths) == (130, [])
            else:
                assert (done.returncode, "interrupted by SIGINT" in done.stderr) in {(130, True), (0, False)}
    assert early >= MOMENTS // 2


def test_it_counts_from_the_first_import_on(manifest: Path) -> None:
    """The very first event after the handler stands, long before the libraries are imported."""
    done = interrupted_at(1, manifest, "http://127.0.0.1:9")
    assert (done.returncode, done.stderr) == (130, HERE)


def test_a_program_that_imports_the_package_keeps_its_handler() -> None:
    """Only our own command handles signals: a notebook's Ctrl-C stays its own."""
    import pipeline  # noqa: PLC0415 - what is tested

    assert pipeline.run is not None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored(manifest: Path) -> None:
    """Under `nohup` and in background jobs Ctrl-C is not for us."""
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.orig_argv = ['x', '-m', 'pipeline']\n"
    code += "import pipeline; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True, env=environ,
        cwd=manifest.parent,
    )  # fmt: skip
    assert done.stdout == "True\n"
