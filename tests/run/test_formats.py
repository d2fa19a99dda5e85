"""A folder with one file of each format and of each failure, by the real command."""

import hashlib
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.config.loading import load_config
from pipeline.images.frames import prepare_images
from pipeline.records import Failure
from pipeline.run import images
from pipeline.run.prepare import Preparer
from tests.builders import ask
from tests.emulators import emulator
from tests.every_format import FAILED, MISSING, READ, table
from tests.support import ROOT, MakeImage


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, tuple[str, str | None]], str]:
    """Status and kind of error by name, and what stood on standard error."""
    folder = tmp_path_factory.mktemp("formats")
    for case in (*READ, *FAILED):
        (folder / case.name).write_bytes(case.data())
    names = [case.name for case in (*READ, *FAILED, MISSING)]
    (folder / "all.txt").write_text("\n".join(names))
    with emulator() as url:
        command = [
            sys.executable,
            "-W",
            "default",
            "-m",
            "pipeline",
            "run",
            "all.txt",
            "-o",
            "out",
            "--model",
            "gpt-4o",
        ]
        done = subprocess.run(
            [*command, "--base-url", url, "--max-failed", "100", "--set", "limits.max_error_rate=1"],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = pq.read_table(folder / "out/data", columns=["id", "status", "error_kind"]).to_pylist()
    return {row["id"]: (row["status"], row["error_kind"]) for row in found}, done.stderr


def test_every_format_has_its_status(rows: tuple[dict[str, tuple[str, str | None]], str]) -> None:
    """What is read is answered, and each failure has the kind that says what to do about it."""
    expected: dict[str, tuple[str, str | None]] = {case.name: ("ok", None) for case in READ}
    expected |= {case.name: ("failed", case.error) for case in (*FAILED, MISSING)}
    assert rows[0] == expected


def test_the_terminal_shows_our_lines_only(rows: tuple[dict[str, tuple[str, str | None]], str]) -> None:
    """No decoder's warning: only the summary."""
    foreign = ("PIL", "TIFF", "Warning", "warn(", "libtiff", "heif", ".py:")
    assert [line for line in rows[1].splitlines() if any(word in line for word in foreign)] == []


def test_what_was_hashed_is_what_was_sent(endpoint: str, make_image: MakeImage) -> None:
    """A file that changes after it was read: the row has the hash and the size of the bytes that went out."""
    path = make_image("photos/a.jpg", 320, 240)
    before = path.read_bytes()
    sent: list[bytes] = []

    def change(data: bytes, *more: Any) -> Any:
        make_image("photos/a.jpg", 32, 24, seed=1)
        found = prepare_images(data, *more)
        assert not isinstance(found, Failure)
        sent.append(found[0].data)
        return found

    with patch.object(images, "prepare_images", change):
        ask(path.parent, endpoint)
    (row,) = pq.read_table("out/data", columns=["sha256", "width", "sent_bytes"]).to_pylist()
    assert sent == [before]
    assert row == {"sha256": hashlib.sha256(before).hexdigest(), "width": 320, "sent_bytes": len(before)}
    assert path.read_bytes() != before


def test_flags_of_images_stand_in_the_row(endpoint: str, make_image: MakeImage) -> None:
    """A cut file that is shown says so; without the setting it fails."""
    path = make_image("photos/a.jpg", 320, 240)
    path.write_bytes(path.read_bytes()[:-900])
    make_image("photos/b.jpg", 32, 24)
    ask(path.parent, endpoint, overrides={"images.truncated": "show"})
    rows = pq.read_table("out/data", columns=["id", "status", "flags"]).to_pylist()
    assert {row["id"]: (row["status"], row["flags"]) for row in rows} == {
        "a.jpg": ("ok", ["truncated_image"]),
        "b.jpg": ("ok", []),
    }


@pytest.mark.parametrize("preset", ["ollama", "vllm", "llamacpp", "lmstudio", "sglang"])
def test_a_local_server_with_an_unknown_model_gets_1536_pixels(preset: str) -> None:
    """A model that the catalogue has gets what it looks at, and `images.max_side` holds for all."""

    def longest(**more: Any) -> int:
        config = load_config(preset, overrides=more)
        return max(Preparer.build(config, date(2026, 1, 1)).images.size.target(4032, 3024))

    assert longest(**{"request.model": "acme/unheard-of"}) == 1536
    assert longest(**{"request.model": "acme/unheard-of", "images.max_side": 700}) == 700
    assert longest(**{"request.model": "qwen2.5-vl-7b-instruct"}) > 1536


def test_a_smaller_file_stays_where_it_costs_no_more_tokens(endpoint: str) -> None:
    """A drawing of two colours is a few hundred bytes as PNG and thousands as a smaller JPEG; a photograph is not."""
    Path("photos").mkdir()
    drawing = Image.new("1", (1600, 1200))
    drawing.paste(1, (400, 300, 900, 700))
    drawing.save("photos/a.png")
    ask("photos", endpoint)
    (row,) = pq.read_table("out/data", columns=["sent_width", "sent_bytes", "prompt_tokens"]).to_pylist()
    assert (row["sent_width"], row["sent_bytes"]) == (1600, Path("photos/a.png").stat().st_size)
    ask("photos", endpoint, out="small", overrides={"images.max_side": 1024})
    (small,) = pq.read_table("small/data", columns=["sent_width", "sent_bytes", "prompt_tokens"]).to_pylist()
    assert small["sent_width"] == 1024
    assert small["sent_bytes"] > row["sent_bytes"]
    assert small["prompt_tokens"] == row["prompt_tokens"]


def test_the_table_is_in_the_documentation() -> None:
    """docs/formats.md has the table of these files: `python docs/write_formats.py` writes it."""
    assert table() in (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
