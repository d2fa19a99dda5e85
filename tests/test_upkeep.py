"""A ledger from the parts alone, and what `status` tells of an output directory."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pipeline
from pipeline.config import load_config
from pipeline.dataset import Dataset
from pipeline.errors import InputError, OutInUseError, ResourceError
from pipeline.status import lines, read_status
from pipeline.upkeep import rebuild
from tests.support import MakeImage

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def ask(source: Path, endpoint: str, **more: Any) -> pipeline.RunSummary:
    settings: dict[str, Any] = {"out": "out", "model": "gpt-4o", "base_url": endpoint, "quiet": True, **more}
    return pipeline.run(source, **settings)


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(5):
        make_image(f"photos/{number}.jpg", seed=number)
    (Path("photos") / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    return Path("photos").resolve()


@pytest.mark.parametrize("damage", ["gone", "garbage", "whole"])
def test_a_rebuilt_ledger_asks_nothing_again(photos: Path, endpoint: str, damage: str) -> None:
    """After a rebuild from the parts alone the same line asks nothing, and the totals are what they were."""
    parts = {"output.rows_per_part": 2}
    ask(photos, endpoint, overrides=parts)
    before = read_status(Path("out"))
    if damage == "garbage":
        Path("out/ledger.sqlite").write_bytes(b"no database" * 1000)
    elif damage == "gone":
        Path("out/ledger.sqlite").unlink()
    if damage != "whole":
        with pytest.raises(ResourceError, match="vision-batch rebuild"):
            ask(photos, endpoint, overrides=parts)
    report = rebuild(Path("out"), now=lambda: NOON)
    assert (report.parts, report.records) == (3, 6)
    assert (report.set_aside is None) == (damage == "gone")
    again = ask(photos, endpoint, overrides=parts)
    assert (again.requests, again.skipped) == (0, 6)
    after = read_status(Path("out"))
    assert (after.records, after.errors, after.prompt_tokens) == (before.records, before.errors, before.prompt_tokens)
    assert (after.requests, after.cost_usd) == (before.requests, before.cost_usd)
    (photos / "4.jpg").rename(photos / "renamed.jpg")
    assert ask(photos, endpoint, overrides=parts).requests == 0  # equal pixels are still known
    assert pd.read_parquet("out/data").set_index("id").duplicate_of["renamed.jpg"] == "4.jpg"


def test_a_lost_part_is_asked_again(photos: Path, endpoint: str) -> None:
    """A part that is gone stops the run; after a rebuild exactly its records are asked again."""
    parts = {"output.rows_per_part": 2}
    ask(photos, endpoint, overrides=parts)
    lost = set(pd.read_parquet("out/data/part-00001.parquet").id)
    Path("out/data/part-00001.parquet").unlink()
    with pytest.raises(ResourceError, match=r"part-00001\.parquet is gone"):
        ask(photos, endpoint, overrides=parts)
    rebuild(Path("out"), now=lambda: NOON)
    again = ask(photos, endpoint, overrides=parts)
    assert again.asked == len(lost) == 2
    assert sorted(pd.read_parquet("out/data").id) == sorted(path.name for path in photos.iterdir())


def test_what_cannot_be_rebuilt(photos: Path, endpoint: str) -> None:
    """No parts, an unreadable part, a directory in use: one clear line each, and nothing is changed."""
    with pytest.raises(InputError, match="no parts"):
        rebuild(Path("nowhere"), now=lambda: NOON)
    ask(photos, endpoint)
    config = load_config(None, {"request.model": "gpt-4o"}, {})
    with (
        Dataset.open(Path("out"), config=config, run_id="r", now=lambda: NOON),
        pytest.raises(OutInUseError, match="in use"),
    ):
        rebuild(Path("out"), now=lambda: NOON)
    Path("out/data/part-00000.parquet").write_bytes(b"cut")
    with pytest.raises(ResourceError, match=r"part-00000\.parquet"):
        rebuild(Path("out"), now=lambda: NOON)
    assert Path("out/ledger.sqlite").exists()


def test_status_tells_what_there_is(photos: Path, endpoint: str) -> None:
    """Counts by status and kind, tokens against the prediction, and that the last run is complete."""
    ask(photos, endpoint)
    status = read_status(Path("out"))
    assert (status.records, status.bad, status.state) == ({"ok": 5, "failed": 1}, 1, "done")
    assert status.prompt_tokens == status.predicted_prompt_tokens > 0
    text = "\n".join(lines(status))
    assert "6 records (1 failed, 5 ok)" in text
    assert "1.000 of the" in text
    assert "is complete: 6 of 6 images" in text


def test_status_of_a_run_that_was_killed(photos: Path, endpoint: str) -> None:
    """`status.json` says running, and its process is gone: the run was killed, and the way on is named."""
    ask(photos, endpoint)
    told = json.loads(Path("out/status.json").read_text())
    Path("out/status.json").write_text(json.dumps({**told, "state": "running", "pid": 2**22 + 1}))
    assert read_status(Path("out")).state == "killed"
    assert "The same command goes on" in "\n".join(lines(read_status(Path("out"))))


def test_status_without_its_file(photos: Path, endpoint: str) -> None:
    """Where `status.json` is lost or broken the ledger tells the same."""
    ask(photos, endpoint)
    Path("out/status.json").write_text("{")
    assert read_status(Path("out")).records == {"ok": 5, "failed": 1}
    with pytest.raises(InputError, match="no vision-batch output"):
        read_status(Path("photos"))
