"""A folder with one file of each format and of each failure, by the real command."""

import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from tests.emulators import emulator
from tests.every_format import FAILED, MISSING, READ, table
from tests.support import ROOT


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


def test_the_table_is_in_the_documentation() -> None:
    """docs/formats.md has the table of these files: `python docs/write_formats.py` writes it."""
    assert table() in (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
