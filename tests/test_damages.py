"""The short form of the damages: what lies on undamaged pages, frames and row groups survives."""

from pathlib import Path

from tests.damages import Campaign


def test_twenty_damages(tmp_path: Path) -> None:
    """Twenty damaged output directories: nothing undamaged is lost or asked again, exit 70 never, all is answered."""
    report = Campaign(tmp_path, seed=7).run(20)
    assert report.violations == [], "\n".join(report.lines())
    assert report.cases == 20
    assert report.versions > 400
