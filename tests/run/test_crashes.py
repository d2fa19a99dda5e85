"""Images that crash or hang a decoder: one run at the most ends by each, and none for ever."""

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind
from pipeline.images.apart import prepare_apart
from pipeline.images.frames import prepare_images
from pipeline.records import Failure
from pipeline.store.suspects import JOURNAL_NAME, Suspects
from pipeline.tokens.presizing import Target
from pipeline.tokens.sizing import OPENAI_HIGH
from tests.emulators import emulator
from tests.support import ROOT

_DECODERS = """
import os, signal, threading
from PIL import ImageFile

load = ImageFile.ImageFile.load

def loaded(image):
    words = image.info.get("comment")
    if words == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if words == b"hang":
        threading.Event().wait()
    return load(image)

ImageFile.ImageFile.load = loaded
"""
"""Stands for a decoder with a fault: Python runs it in every process that starts with its folder on the path."""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "decoders"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_DECODERS, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def photographs(folder: Path, **comments: bytes) -> Path:
    """Six photographs that are resized, those named with a comment."""
    folder.mkdir()
    for number in range(6):
        comment = comments.get(f"at{number}", b"")
        Image.new("RGB", (1600, 1200), (40 * number, 90, 160)).save(folder / f"{number}.jpg", comment=comment)
    return folder


def run(folder: Path, out: Path, url: str, environ: dict[str, str], *more: str) -> "subprocess.CompletedProcess[str]":
    arguments = [sys.executable, "-m", "pipeline", "run", str(folder), "-o", str(out), "--base-url", url, *more]
    words = [*arguments, "--model", "gpt-4o", "--prompt", "Describe.", "--set", "images.threads=1"]
    return subprocess.run(words, env=environ, capture_output=True, text=True, check=False, timeout=60)


def rows(out: Path) -> "dict[str, tuple[str, str | None]]":
    frame = pd.read_parquet(out / "data").astype(object).replace({float("nan"): None})
    return {name: (status, kind) for name, status, kind in zip(frame.id, frame.status, frame.error_kind, strict=True)}


GOOD = {f"{number}.jpg": ("ok", None) for number in range(6)}


def test_a_decoder_that_crashes(tmp_path: Path, environ: dict[str, str]) -> None:
    """Proves that the run after a crash decodes that image in a process of its own, and goes on when that dies."""
    folder, out = photographs(tmp_path / "photos", at3=b"crash"), tmp_path / "out"
    with emulator() as url:
        first = run(folder, out, url, environ)
        assert first.returncode == -signal.SIGSEGV
        assert (out / JOURNAL_NAME).exists()
        second = run(folder, out, url, environ)
    assert second.returncode == 1, second.stderr
    assert rows(out) == GOOD | {"3.jpg": ("failed", ErrorKind.DECODER_CRASHED)}
    assert "SIGSEGV" in pd.read_parquet(out / "data").error_message.dropna().item()
    assert not (out / JOURNAL_NAME).exists()


def test_a_decoder_that_hangs(tmp_path: Path, environ: dict[str, str]) -> None:
    """Proves that a run with one thread for decoding gets past an image that holds it for ever, and ends."""
    folder, out = photographs(tmp_path / "photos", at2=b"hang"), tmp_path / "out"
    with emulator() as url:
        done = run(folder, out, url, environ, "--set", "images.decode_timeout_s=1.5", "--set", "images.decode_mb=1")
    assert done.returncode == 1, done.stderr
    assert rows(out) == GOOD | {"2.jpg": ("failed", ErrorKind.DECODER_CRASHED)}
    assert "decode_timeout_s" in pd.read_parquet(out / "data").error_message.dropna().item()


@pytest.mark.parametrize("data", ["broken", "animation"])
def test_apart_is_as_here(tmp_path: Path, data: str) -> None:
    """Proves that a process of its own prepares the same images, or the same failure."""
    path = tmp_path / "image"
    picture = Image.radial_gradient("L").resize((900, 700)).convert("RGB")
    if data == "animation":
        picture.save(path, "GIF", save_all=True, append_images=[picture.rotate(90), picture.rotate(180)])
    else:
        picture.save(path, "JPEG")
    content = path.read_bytes()[: 900 if data == "broken" else None]
    rule: Target = OPENAI_HIGH
    config = ImagesConfig(frames=3, max_side=512)
    here = prepare_images(content, rule, config, lambda _: nullcontext())
    apart = prepare_apart(content, rule, config)
    assert isinstance(here, Failure) == (data == "broken")
    assert here == apart or list(here) == list(apart)  # type: ignore[arg-type]  # both are sequences then


def test_a_suspect_stays_one_until_it_is_decoded(tmp_path: Path) -> None:
    """Proves that what a killed run was decoding is suspect in the next ones, until one of them got past it."""
    killed = Suspects(tmp_path)
    assert [killed.begin("a.jpg"), killed.begin("b.jpg")] == [False, False]  # one thread: b.jpg has taken its place
    left = (tmp_path / JOURNAL_NAME).read_bytes()
    again = Suspects(tmp_path)
    assert [again.begin("a.jpg"), again.begin("c.jpg")] == [False, False]
    with Suspects(tmp_path) as third:  # `again` was killed before it came to b.jpg
        assert [third.begin("b.jpg"), third.begin("c.jpg")] == [True, True]
        third.end("c.jpg")
        assert [third.begin("b.jpg"), third.begin("a.jpg")] == [True, False]
        third.end("b.jpg")
    assert not (tmp_path / JOURNAL_NAME).exists()
    (tmp_path / JOURNAL_NAME).write_bytes(left[:-1] + b"x" * (2 << 20))
    with Suspects(tmp_path) as fourth:
        assert not fourth.begin("b.jpg")
        (tmp_path / JOURNAL_NAME).unlink()
        fourth.end("b.jpg")
