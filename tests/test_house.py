"""The house itself: pins, presets, samples, the wheel, the documentation of dependencies, the benchmarks' endpoint."""

import csv
import json
import re
import shutil
import socket
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image, ImageSequence, UnidentifiedImageError

from pipeline.config.base_urls import is_loopback
from pipeline.config.loading import load_config

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "data" / "samples"
PRESETS = sorted((ROOT / "configs").glob("*.toml"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME = [Requirement(line) for line in PYPROJECT["project"]["dependencies"]]
DEVELOPMENT = [Requirement(line) for line in PYPROJECT["dependency-groups"]["dev"]]
PRESETS_OF_THE_CONTRACT = {
    "302ai", "aimlapi", "anthropic", "azure", "demo", "gemini", "labels", "litellm", "llamacpp", "lmstudio", "ollama",
    "openai", "openrouter", "sglang", "vllm", "aimlapi-ocr", "aimlapi-ofr", "mistral-ocr",
}  # fmt: skip


def pins(name: str) -> dict[str, list[str]]:
    """Package -> the versions that a file of requirements pins (more than one where they depend on the Python)."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([A-Za-z0-9_.-]+)==(\S+)", line):
            found.setdefault(canonicalize_name(match[1]), []).append(match[2])
    return found


@pytest.mark.parametrize("name", ["dev.txt", "run.txt"])
def test_pins_name_no_place_and_have_hashes(name: str) -> None:
    """A file of pins holds packages, versions and hashes only: no index, no link, no path; every pin has a hash."""
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    kinds = re.compile(r"#[^:/]*|[A-Za-z0-9_.-]+==[\w.!+-]+( ; [^:/]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    assert [line for line in lines if not kinds.fullmatch(line)] == []
    assert all("--hash=" in lines[number + 1] for number, line in enumerate(lines) if "==" in line.split(" ; ")[0])


def test_pins_satisfy_pyproject() -> None:
    """What pyproject.toml asks for is pinned in a version that it accepts, and `run` never differs from `dev`."""
    dev, run = pins("dev.txt"), pins("run.txt")
    for requirement in [*RUNTIME, *DEVELOPMENT]:
        versions = dev.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement.name} is not pinned: make lock"
        assert [v for v in versions if v not in requirement.specifier] == [], requirement.name
    assert {canonicalize_name(requirement.name) for requirement in RUNTIME} <= run.keys()
    assert {name: versions for name, versions in run.items() if dev.get(name) != versions} == {}


def test_every_dependency_is_explained() -> None:
    """docs/dependencies.md says of each dependency why it is here."""
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    named = {
        word.strip() for line in text.splitlines() if line.startswith("| ") for word in line.split("|")[1].split(",")
    }
    assert {requirement.name for requirement in [*RUNTIME, *DEVELOPMENT]} - named == set()


def test_every_target_of_the_makefile_is_listed() -> None:
    """`make` without a target lists every target that is meant for people, with a line about it."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    described = re.findall(r"^([a-z-]+):.*  ## \S", text, re.MULTILINE)
    assert sorted(described) == sorted(phony[1].split())


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_preset_loads_and_says_how_to_run_it(path: Path) -> None:
    """A preset has only keys that exist, is found by its name, holds no key, and starts with the line that runs it."""
    config = load_config(path.stem, environ={})
    assert config == load_config(path, environ={})
    purpose, command, *_ = path.read_text(encoding="utf-8").splitlines()
    assert purpose.startswith("# ")
    assert command.startswith("#   vision-batch run ")
    assert f" -c {path.stem} " in command
    assert config.endpoint.base_url.startswith("https://") or is_loopback(config.endpoint.base_url)
    assert config.request.model or is_loopback(config.endpoint.base_url)


def test_presets_are_complete() -> None:
    """One preset for each kind of endpoint that the documentation names, and the demo."""
    assert {path.stem for path in PRESETS} == PRESETS_OF_THE_CONTRACT


def test_demo_cannot_reach_a_real_endpoint() -> None:
    """The demo stays on this machine, even where `--emulator` is forgotten."""
    assert is_loopback(load_config("demo", environ={}).endpoint.base_url)


def test_wheel_has_presets_and_types(tmp_path: Path) -> None:
    """What is installed from a wheel finds `-c openai` and is typed."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"pipeline/configs/{path.name}" for path in PRESETS} <= names
    assert {"pipeline/py.typed", "pipeline/config/sections.py"} <= names
    assert [name for name in names if not name.startswith(("pipeline/", "vision_batch-"))] == []


def drawn(folder: Path) -> Path:
    subprocess.run([sys.executable, str(ROOT / "data" / "draw_samples.py"), str(folder)], check=True)
    return folder


def frames(path: Path) -> list[np.ndarray[Any, Any]]:
    with Image.open(path) as image:
        return [np.asarray(frame) for frame in ImageSequence.Iterator(image)]


def manifest() -> list[dict[str, str]]:
    with (SAMPLES / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_samples_are_what_the_script_draws(tmp_path: Path) -> None:
    """Drawn again, every sample has the same pixels and metadata as the one that is kept.

    Bytes may differ between machines (zlib-ng compresses as its processor likes); here, drawn twice, they do not.
    """
    first, second = drawn(tmp_path / "first"), drawn(tmp_path / "second")
    assert sorted(path.name for path in first.iterdir()) == sorted(path.name for path in SAMPLES.iterdir())
    assert (first / "manifest.csv").read_bytes() == (SAMPLES / "manifest.csv").read_bytes()
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
    for name in {row["image"] for row in manifest()} - {"broken.jpg"}:
        again, kept = frames(first / name), frames(SAMPLES / name)
        assert len(again) == len(kept)
        assert all(np.array_equal(a, b) for a, b in zip(again, kept, strict=True)), name


def test_samples_cover_what_a_folder_holds() -> None:
    """The samples are the kinds of file that they are said to be."""
    seen: dict[str, tuple[str | None, str, tuple[int, int]]] = {}
    for row in manifest():
        with Image.open(SAMPLES / row["image"]) as image:
            seen[row["id"]] = (image.format, image.mode, image.size)
    assert seen == {
        "hills": ("JPEG", "RGB", (2560, 1706)),
        "fog": ("JPEG", "L", (800, 600)),
        "inks": ("JPEG", "CMYK", (720, 540)),
        "glass": ("PNG", "RGBA", (480, 480)),
        "tiles": ("PNG", "P", (480, 480)),
        "terrain": ("PNG", "I;16", (360, 270)),
        "night": ("WEBP", "RGB", (1024, 768)),
        "ball": ("GIF", "P", (240, 240)),
        "tower": ("JPEG", "RGB", (900, 600)),
        "chart": ("TIFF", "RGB", (420, 300)),
        "board": ("PNG", "RGB", (384, 384)),
        "sea": ("JPEG", "RGB", (960, 540)),
        "broken": ("JPEG", "RGB", (640, 480)),
    }
    with Image.open(SAMPLES / "tower.jpg") as tower, Image.open(SAMPLES / "été à la mer.jpg") as sea:
        assert tower.getexif()[0x0112] == 6
        assert sea.getexif().get_ifd(0x8825)[1] == "N"
    assert len(frames(SAMPLES / "ball.gif")) == 8


def test_samples_are_small_and_one_is_broken() -> None:
    """Together under 1.5 MB; only `broken` cannot be decoded; the manifest names every file."""
    images = {row["image"] for row in manifest()}
    assert {path.name for path in SAMPLES.iterdir()} == images | {"manifest.csv"}
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) < 1_500_000
    broken = []
    for name in images:
        try:
            frames(SAMPLES / name)
        except (OSError, UnidentifiedImageError):
            broken.append(name)
    assert broken == ["broken.jpg"]


def posted(size: int) -> bytes:
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size


def replies(connection: socket.socket, pieces: list[bytes], count: int) -> list[Any]:
    """The JSON bodies of `count` answers on one connection, after `pieces` were sent one by one."""
    for piece in pieces:
        connection.sendall(piece)
    with connection.makefile("rb") as stream:
        found = []
        for _ in range(count):
            head = iter(stream.readline, b"\r\n")
            (length,) = [int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length")]
            found.append(json.loads(stream.read(length)))
        return found


def test_endpoint_of_the_benchmarks_counts_and_answers() -> None:
    """Requests that come split, joined or large over one connection are each answered once, and counted exactly."""
    command = [sys.executable, str(ROOT / "benchmarks" / "server.py"), "--processes", "2"]
    small, large = posted(2), posted(1_000_000)
    pieces = [small + small, small[:20], small[20:] + large[:500_000], large[500_000:] + small]
    told = b"GET /stats HTTP/1.1\r\nHost: here\r\n\r\n"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline().removesuffix("/v1\n").rsplit(":", 1)[1])
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                answers = replies(connection, pieces, 5)
                (stats,) = replies(connection, [told], 1)
        finally:
            server.stdin.close()
    assert [answer["usage"]["total_tokens"] for answer in answers] == [793] * 5
    assert stats == {"requests": 5, "bytes": len(b"".join(pieces)) + len(told)}


def test_make_help_needs_nothing_installed() -> None:
    """`make` in a fresh clone lists the targets and installs nothing."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("there is no make on this machine")
    done = subprocess.run([make, "-C", str(ROOT), "VENV=.venv-absent"], check=True, capture_output=True, text=True)
    assert re.search(r"^run +Caption the samples", done.stdout, re.MULTILINE)
    assert not (ROOT / ".venv-absent").exists()
