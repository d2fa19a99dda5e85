"""Fixtures for every test: images drawn here, and a loop that nothing may block."""

import os
import signal
from collections.abc import Hashable, Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from PIL import Image

from pipeline.cli.app import exit_code
from tests.browsers import browse, chromium
from tests.emulators import emulator, shared_emulator
from tests.support import ROOT, Command, MakeImage

__all__ = ["browse", "chromium", "shared_emulator"]  # fixtures

EXAMPLES = ROOT / ".hypothesis" / "examples"

# Machines are shared and slow at times: how long an example takes says nothing about the code.
settings.register_profile(
    "here",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # Examples that failed are tried first the next time; a source tree may be read-only.
    database=DirectoryBasedExampleDatabase(EXAMPLES) if os.access(ROOT, os.W_OK) else None,
)
settings.load_profile("here")

# A job in the background of a script ignores Ctrl-C, and so would every command that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as nohup leaves it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

FOREIGN = (
    *("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, address or proxy of the machine reaches a test, and no `.env` of the checkout."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make_image(tmp_path: Path) -> MakeImage:
    """Draw a picture of smooth noise: `make_image("a/b.jpg", 640, 480, seed=1)`."""

    def make(name: str, width: int = 320, height: int = 240, seed: int = 0, **save: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Hundreds of tests ask for the same few pictures.
        draw = _drawn_once if all(isinstance(value, Hashable) for value in save.values()) else _drawn
        path.write_bytes(draw(path.suffix, width, height, seed, tuple(save.items())))
        return path

    return make


def _drawn(suffix: str, width: int, height: int, seed: int, save: tuple[tuple[str, Any], ...]) -> bytes:
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    file = BytesIO()
    file.name = f"image{suffix}"
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(file, **dict(save))
    return file.getvalue()


_drawn_once = lru_cache(maxsize=500)(_drawn)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """`vision-batch` in this process: a hundred times as quick as in one of its own."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = exit_code(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture(scope="session")
def emulator_url() -> Iterator[str]:
    """One emulated endpoint for the whole session."""
    with emulator() as url:
        yield url


@pytest.fixture
def endpoint(emulator_url: str) -> str:
    """The emulator's address, with its counts at zero."""
    request = Request(f"{emulator_url.removesuffix('/v1')}/emulator/reset", method="POST")  # noqa: S310 - loopback
    with urlopen(request, timeout=10):  # noqa: S310 - loopback
        return emulator_url
