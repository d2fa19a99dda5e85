"""The benchmarks in tiny form; what the documentation says of costs is what they print."""

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from xml.etree import ElementTree as ET

import pytest
from PIL import Image
from pyarrow import dataset as ds

ROOT = Path(__file__).parent.parent


def printed(script: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=110, env={"PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_family_is_billed_as_estimated(tmp_path: Path) -> None:
    """8 images of mixed sizes and formats: the bill is within 1 % of the estimate, and what is sent has the size."""
    said = printed("families.py", "--images", "8", "--cache", str(tmp_path))
    rows = [line for line in said.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 35
    assert all(row.endswith("| 0.00% |") for row in rows), said


def test_the_table_of_costs() -> None:
    """The table in docs/costs.md is what the catalogue and the prices give now."""
    assert printed("cost_table.py") in (ROOT / "docs" / "costs.md").read_text(encoding="utf-8")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Imports a script of the benchmarks."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def test_clients_are_measured_in_turns_that_are_kept(
    scripts: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A stopped benchmark goes on where it was, and the page and its picture are made of what it kept."""
    bench, ceiling = scripts("bench"), scripts("ceiling").ceiling
    page = tmp_path / "docs" / "page.md"
    monkeypatch.setattr(bench, "ceiling", lambda *_: ceiling(2, 0.05, 1))
    words = ("--only", "bare", "--works", "small-64", "--count", "3", "--cache", str(tmp_path), "--page", str(page))
    for turns in ("1", "2"):
        monkeypatch.setattr(sys, "argv", ["bench.py", *words, "--turns", turns])
        bench.main()
        taken = [line.split(": ")[0] for line in capsys.readouterr().out.splitlines() if ", turn " in line]
        assert taken == [f"small-64, turn {turns}"]
    kept = scripts("turns").Results(tmp_path / "turns.jsonl").turns.values()
    assert [(turn.turn, turn.measured.images, turn.requests, turn.problem) for turn in kept] == [
        (0, 3, 3, None),
        (1, 3, 3, None),
    ]
    assert all(turn.sent_bytes > 3 * 70_000 for turn in kept)
    (row, _) = [line for line in page.read_text().splitlines() if line.startswith("| bare loop")]
    assert row.split(" | ")[2] == "2"
    assert row.split(" | ")[3:5] == ["-", "1.00"]
    bars = ET.parse(page.with_suffix(".svg")).getroot().iter("{http://www.w3.org/2000/svg}rect")  # noqa: S314
    assert {bar.get("class") for bar in bars} == {None, "bare"}


def test_a_client_that_cannot_be_installed_is_listed_with_the_reason(
    scripts: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not dropped: the page says why it has no figures."""
    environments, turns, page = scripts("environments"), scripts("turns"), scripts("page")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "daft_prompt.txt").write_text("a requirement that is none\n")
    monkeypatch.setattr(environments, "_done", Mock(side_effect=environments.NotInstalledError("no such package")))
    monkeypatch.setattr(page, "CLIENTS", (client := next(one for one in environments.CLIENTS if one.name == "daft"),))
    results = turns.Results(tmp_path / "turns.jsonl")
    results.keep(turns.take(client, turns.WORKS[1], 0, tmp_path, tmp_path))
    page.write_page(tmp_path / "page.md", tmp_path, 1.0)
    assert "- Daft `prompt`, small-64: no such package" in (tmp_path / "page.md").read_text()


def test_a_record_is_taken_apart_by_stage(
    scripts: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all but the engine replaced nothing is asked and nothing kept; with all real, each record is."""
    stages, turns = scripts("stages"), scripts("turns")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "images" / "one.jpg")
    monkeypatch.setattr(stages, "SHARE", 1)
    with scripts("common").endpoint(1) as url:
        for stage, asked, kept in (("engine", 0, 0), ("HTTP", 3, 0), ("ledger and parts", 3, 3)):
            out = tmp_path / stage
            out.mkdir()
            before = turns.stats_of(url, "stats")["requests"]
            with stages.real_up_to(stage):
                assert min(stages.costs(tmp_path / "images", url, 3, out)) > 0
            assert turns.stats_of(url, "stats")["requests"] - before == asked
            assert ds.dataset(out / "out-3" / "data").count_rows() == kept
    written = stages.table({stage: [[2.0 * n, n, n]] for n, stage in enumerate(stages.STAGES, 1)}, 0.1)
    assert "| HTTP | 2 | 1 | 1 |" in written
    assert "| all of it | 8 | 4 | 4 |" in written


def test_scale_measures_a_run_and_the_next_one(scripts: Callable[[str], Any], tmp_path: Path) -> None:
    """Time, memory, disk and the first request of a run, and of the same line with one row more."""
    scale = scripts("scale")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "images" / "one.jpg")
    with scripts("common").endpoint(1) as url:
        rows = scripts("common").rows_over(tmp_path / "images", 20_000, tmp_path / "rows.jsonl")
        stopped, _ = scale.run(rows, tmp_path / "stopped", url, 0.5)
        assert stopped.images < 20_000
        assert scale.measure(4, 0, tmp_path / "images", url, tmp_path / "kept", ends=0) is None
        found = scale.measure(4, 0, tmp_path / "images", url, tmp_path / "kept")
    assert (found.records, found.first_s > 0, found.resume_s > 0, found.parts_mb > 0) == (4, True, True, True)
    assert "| 4 | 1 | " in scale.table([found])


@pytest.mark.parametrize(
    ("found", "recorded", "said"),
    [(104.0, 100.0, 0), (96.0, 100.0, 0), (111.0, 100.0, "more than"), (80.0, 100.0, "fewer"), (1.0, None, "--update")],
)
def test_the_guard_judges_by_what_is_recorded(
    scripts: Callable[[str], Any], found: float, recorded: float | None, said: str | int
) -> None:
    """It fails in both directions beyond the tolerance, and where nothing is recorded."""
    judged = scripts("guard").judged("instructions", found, recorded, 0.1)
    assert judged == said if said == 0 else str(said) in judged
