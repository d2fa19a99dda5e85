"""An output directory of an earlier ledger format: one clear line, exit code 2, and not a byte changed."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.store.ledger.schema import FORMAT
from tests.store.test_dataset import answered, names, open_out
from tests.support import Command, MakeImage


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """Seven answers in two parts, and a ledger whose header names the format before this one."""
    out = tmp_path / "out"
    with open_out(out) as dataset:
        dataset.commit([answered(name) for name in names(7)])
    with closing(sqlite3.connect(out / "ledger.sqlite")) as connection, connection:
        connection.execute(f"PRAGMA user_version = {FORMAT - 1}")
    for leftover in out.glob("ledger.sqlite-*"):
        leftover.unlink()
    return out


def files_in(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.usefixtures("shared_emulator")
@pytest.mark.parametrize(
    "words",
    [
        ["run", "photos", "-o", "out", "--model", "gpt-4o", "--emulator"],
        ["status", "out"],
        ["status", "out", "--check"],
        ["status", "out", "--verify"],
        ["compact", "out"],
        ["rebuild", "out"],
        ["rebuild", "out", "--drop-unreadable"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("is_damaged", [False, True], ids=["whole", "damaged"])
def test_every_command_refuses_and_changes_nothing(
    earlier: Path, make_image: MakeImage, command: Command, words: list[str], *, is_damaged: bool
) -> None:
    """Proves that no command reads, migrates, repairs or rebuilds it, also where its pages are damaged."""
    make_image("photos/a.jpg")
    if is_damaged:
        ledger = earlier / "ledger.sqlite"
        data = bytearray(ledger.read_bytes())
        data[4096:] = b"\xff" * (len(data) - 4096)
        ledger.write_bytes(data)
    before = files_in(earlier)
    code, _, stderr = command(*words)
    assert code == 2
    (line,) = stderr.strip().splitlines()
    assert f"out was made by an earlier version of vision-batch (ledger format {FORMAT - 1}" in line
    assert "use another OUT" in line
    assert "rebuild" not in line
    assert files_in(earlier) == before
