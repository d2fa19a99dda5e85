"""The command line as people use it: in a process of its own, with what it prints and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests import warm
from tests.emulators import emulator, until
from tests.support import MakeImage, emulator_get

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def vision_batch(tmp_path: Path) -> Command:
    def run(*arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **environ}
        return warm.run(["-m", "pipeline", *arguments], timeout=60, cwd=tmp_path, env=env, stdin=stdin)

    return run


@pytest.fixture
def photos(make_image: MakeImage, tmp_path: Path) -> Path:
    for number in range(3):
        make_image(f"photos/{number}.jpg", seed=number)
    return tmp_path / "photos"


def test_one_line_on_the_emulator(vision_batch: Command, photos: Path) -> None:
    """The main job in one line: the default prompt is printed, once; then a summary with counts, tokens,
    cost and the place.
    """
    done = vision_batch("run", "photos", "-o", "out", "--emulator")
    assert done.returncode == 0, done.stderr
    assert "prompt: Describe this image" in done.stderr
    assert "3 images in" in done.stdout
    assert "cost: $" in done.stdout
    assert 'pandas.read_parquet("out/data")' in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    again = vision_batch("run", "photos", "-o", "out", "--emulator")
    assert again.returncode == 0
    assert "nothing to ask: all 3 images are kept already" in again.stdout
    assert "prompt: " not in again.stderr
    named = vision_batch("run", "photos", "-o", "named", "--emulator", "--set", "request.prompt=What?")
    assert (named.returncode, "prompt: " in named.stderr) == (0, False)


def test_json_on_standard_output(vision_batch: Command, photos: Path, endpoint: str) -> None:
    """`--json` prints the summary and nothing else there; it is the one that OUT keeps."""
    done = vision_batch("run", "photos", "-o", "out", "--base-url", endpoint, "--model", "gpt-4o", "--json")
    summary = json.loads(done.stdout)
    assert (summary["asked"], summary["exit_code"], summary["cost_usd"]) == (3, 0, None)
    (stored,) = (photos.parent / "out/runs").glob("*.json")
    kept = json.loads(stored.read_text())
    assert {key: value for key, value in kept.items() if key not in {"totals", "earlier"}} == summary


def test_quiet_is_quiet(vision_batch: Command, photos: Path, endpoint: str) -> None:
    """`-q` prints nothing where nothing is wrong."""
    done = vision_batch("run", "photos", "-o", "out", "--base-url", endpoint, "--model", "gpt-4o", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_dry_run(vision_batch: Command, photos: Path) -> None:
    """The first request, its base64 elided, and what it may cost; nothing is sent, nothing written, no key needed."""
    done = vision_batch("run", "photos", "--dry-run", "-c", "openai")
    assert done.returncode == 0, done.stderr
    assert "3 requests like this one to https://api.openai.com/v1/chat/completions" in done.stdout
    assert "tokens: about " in done.stdout
    assert re.search(r"300 at most out; cost: up to \$0\.00\d+ each, \$0\.0\d+ for all", done.stdout)
    request = json.loads(done.stdout[done.stdout.index("{") :])
    assert "characters>" in request["messages"][0]["content"][1]["image_url"]["url"]
    assert {path.name for path in photos.parent.iterdir()} == {"photos"}


def test_jsonl_on_standard_input(vision_batch: Command, photos: Path, endpoint: str) -> None:
    """`-` reads records as they come, relative to the working directory."""
    lines = "".join(json.dumps({"id": n, "image": f"photos/{n}.jpg"}) + "\n" for n in range(3))
    done = vision_batch("run", "-", "-o", "out", "--base-url", endpoint, "--model", "m", "-q", stdin=lines)
    assert done.returncode == 0, done.stderr
    assert sorted(pd.read_parquet(photos.parent / "out/data").id) == ["0", "1", "2"]


def test_check(vision_batch: Command, endpoint: str) -> None:
    """One request tells endpoint, model, whether it sees, tokens and latency."""
    done = vision_batch("check", "--base-url", endpoint, "--model", "gpt-4o")
    assert done.returncode == 0, done.stderr
    assert "sees images yes" in done.stdout
    assert " in, as predicted, " in done.stdout
    report = json.loads(vision_batch("check", "--base-url", endpoint, "--model", "gpt-4o", "--json").stdout)
    assert report["prompt_tokens"] == report["predicted_prompt_tokens"]
    assert emulator_get(endpoint, "stats")["requests"] == 2


def test_prompt_file_and_set(vision_batch: Command, photos: Path, endpoint: str) -> None:
    """The prompt from a file, any key by --set, and a temperature of its own."""
    (photos.parent / "p.txt").write_text("Was ist das?\n", encoding="utf-8")
    done = vision_batch(
        "run", "photos/0.jpg", "-o", "out", "--base-url", endpoint, "--model", "m", "--prompt-file", "p.txt",
        "--set", "request.extra.seed=7", "--set", "images.quality=70", "--temperature", "0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    body = emulator_get(endpoint, "requests?last=1")[0]["body"]
    assert (body["seed"], body["temperature"]) == (7, 0)
    assert body["messages"][0]["content"][0]["text"] == "Was ist das?"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "nowhere", "-o", "out"], 2, "nowhere"),
        (["run", "empty", "-o", "out"], 2, "no image"),
        (["run", "photos"], 2, "-o OUT"),
        (["run", "photos", "-o", ""], 2, "`out` is empty; name a directory"),
        (["run", "photos", "-o", "", "--on-exit", "true"], 2, "`out` is empty"),
        (["merge", "photos", "-o", ""], 2, "`out` is empty"),
        (["run", "photos", "-o", "photos/0.jpg"], 2, "is a file"),
        (["run", "photos", "-o", "photos"], 2, "not empty"),
        (["run", "nocolumn.csv", "-o", "out"], 2, "nocolumn.csv"),
        (["run", "list.csv", "-o", "out", "--set", "source.image_column=imgae"], 2, "no column 'imgae'"),
        (["run", "cut.csv", "-o", "out"], 2, "cut.csv:3"),
        (["run", "cut.jsonl", "-o", "out"], 2, "cut.jsonl:2"),
        (["run", "twice.csv", "-o", "out"], 2, "lines 2 and 3"),
        (["run", "photos", "-o", "out", "-c", "opnai"], 2, "did you mean 'openai'"),
        (["run", "photos", "-o", "out", "-c", "bad.toml"], 2, "did you mean 'request.model'"),
        (["run", "photos", "-o", "out", "--set", "limits.concurency=3"], 2, "did you mean 'limits.concurrency'"),
        (["run", "photos", "-o", "out", "--set", "nonsense"], 2, "section.key=value"),
        (["run", "photos", "-o", "out", "--max-failed", "few"], 2, "--max-failed"),
        (["run", "photos", "-o", "out", "--prompt-file", "none.txt"], 2, "none.txt"),
        (["run", "photos", "-o", "out", "--prompt", ""], 2, "request.prompt"),
        (["run", "photos", "-o", "out", "--unknown"], 2, "--unknown"),
        (["run", "photos", "-o", "out", "--base-url", "http://model.example/v1"], 2, "OPENAI_API_KEY is not set"),
        (["emulate", "--fault", "nonsense=1"], 2, "nonsense"),
        (["emulate", "--port", "99999"], 2, "65535"),
    ],
)
def test_mistakes_are_one_clear_line(
    vision_batch: Command, photos: Path, endpoint: str, arguments: list[str], code: int, said: str
) -> None:
    """Each mistake: its exit code, what is wrong in the message, no traceback, nothing sent, OUT not made."""
    here = photos.parent
    (here / "empty").mkdir()
    (here / "nocolumn.csv").write_text("id,title\n1,x\n")
    (here / "list.csv").write_text("id,image\n1,photos/0.jpg\n")
    (here / "cut.csv").write_text('id,image\n1,photos/0.jpg\n2,"photos/1.j')
    (here / "cut.jsonl").write_text('{"image": "photos/0.jpg"}\n{"image": "pho')
    (here / "twice.csv").write_text("id,image\n1,photos/0.jpg\n1,photos/1.jpg\n")
    (here / "bad.toml").write_text('[request]\nmodle = "x"\n')
    environ = {} if "--base-url" in arguments else {"OPENAI_BASE_URL": endpoint}
    if arguments[0] == "run" and "--set" not in arguments[-2:-1]:
        arguments = [*arguments, "--set", "request.model=m"]
    done = vision_batch(*arguments, **environ)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stderr.startswith("prompt: ")
    assert not (here / "out").exists()
    assert emulator_get(endpoint, "stats")["requests"] == 0


def test_a_dead_port_is_exit_code_4(vision_batch: Command, photos: Path) -> None:
    """No server listens: the summary, one line that names the address, exit code 4."""
    done = vision_batch(
        "run", "photos", "-o", "out", "--base-url", "http://127.0.0.1:9", "--model", "m",
        "--set", "limits.first_contact_s=0.2",
    )  # fmt: skip
    assert done.returncode == 4
    assert "vision-batch: " in done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_brings_answers_home(photos: Path, number: signal.Signals, code: int, endpoint: str) -> None:
    """What is in flight when the signal comes is kept, the exit code tells the signal, and the run goes on later."""
    with emulator(["--latency-ms", "1500"]) as slow:
        words = ["run", "photos", "-o", "out", "--base-url", slow, "--model", "gpt-4o", "--concurrency", "2"]
        running = warm.Running(["-m", "pipeline", *words], cwd=photos.parent, env=os.environ)
        until(slow, "in_flight", 2, running)
        running.send_signal(number)
        _, stderr = running.communicate(timeout=30)
        assert running.returncode == code, stderr
        assert "Traceback" not in stderr
        assert "stopping: requests in flight come home first" in stderr
        assert stderr.rstrip().endswith(f"interrupted by {number.name}. The same command goes on where it stopped")
        assert emulator_get(slow, "stats")["requests"] == 2
    assert len(pd.read_parquet(photos.parent / "out/data")) == 2


STUCK = """
import ctypes, os
from pipeline.cli import app
from pipeline.run import images

def stuck(*_):
    os.write(1, b"decoding\\n")  # one call: several threads say it at once
    ctypes.CDLL(None).sleep(600)

images.prepare_images = stuck
app.main()
"""


def test_two_signals_end_a_run_whose_decoder_is_stuck(photos: Path, endpoint: str) -> None:
    """A thread stands in C for ten minutes: the second Ctrl-C ends the process, with its code and one clear line."""
    running = subprocess.Popen(
        [sys.executable, "-c", STUCK, "run", "photos", "-o", "out", "--base-url", endpoint, "--model", "gpt-4o"],
        cwd=photos.parent, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "decoding\n"
            running.send_signal(signal.SIGINT)
            running.send_signal(signal.SIGINT)
            _, stderr = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.rstrip().endswith("interrupted by SIGINT. The same command goes on where it stopped")
