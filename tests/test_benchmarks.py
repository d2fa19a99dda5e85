"""What the documentation says of costs is what the benchmarks print; and every family is billed as estimated."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def printed(script: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=110, env={"PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_family_is_billed_as_estimated(tmp_path: Path) -> None:
    """16 images of mixed sizes and formats: the bill is within 1 % of the estimate, and what is sent has the size."""
    said = printed("families.py", "--images", "16", "--cache", str(tmp_path))
    rows = [line for line in said.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 35
    assert all(row.endswith("| 0.00% |") for row in rows), said


def test_the_table_of_costs() -> None:
    """The table in docs/costs.md is what the catalogue and the prices give now."""
    assert printed("cost_table.py") in (ROOT / "docs" / "costs.md").read_text(encoding="utf-8")
