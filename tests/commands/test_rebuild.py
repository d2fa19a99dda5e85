"""A ledger from the parts alone, and what `status` tells of an output directory."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.commands.rebuild import rebuild
from pipeline.commands.status import lines, read_status
from pipeline.config.loading import load_config
from pipeline.errors import InputError, OutInUseError, ResourceError
from pipeline.store.dataset import Dataset
from tests.builders import ask
from tests.support import MakeImage

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


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


def test_an_unreadable_part_is_moved_aside_on_request(photos: Path, endpoint: str) -> None:
    """The error names the flag; with it the part lies aside, dotted, and exactly its records are asked again."""
    parts = {"output.rows_per_part": 2}
    ask(photos, endpoint, overrides=parts)
    for again in range(2):
        part = Path("out/data/part-00001.parquet")
        lost = set(pd.read_parquet(part).id)
        part.write_bytes(damaged := b"PAR1" + bytes(500) + part.read_bytes()[504:])
        with pytest.raises(ResourceError, match="rebuild out --drop-unreadable"):
            rebuild(Path("out"), now=lambda: NOON)
        report = rebuild(Path("out"), now=lambda: NOON, drop_unreadable=True)
        aside = Path(report.unreadable[0])
        assert aside.name == f".unreadable-part-00001.parquet{'.1' * again}"
        assert (aside.read_bytes(), report.records, report.parts) == (damaged, 4, 2)
        assert ask(photos, endpoint, overrides=parts).asked == len(lost) == 2
        assert sorted(pd.read_parquet("out/data").id) == sorted(path.name for path in photos.iterdir())
        pipeline.compact("out", rows_per_part=6)
        pipeline.compact("out", rows_per_part=2)
        for number, name in enumerate(sorted(Path("out/data").glob("*.parquet"))):
            name.rename(f"out/data/part-{number:05d}.parquet")
        rebuild(Path("out"), now=lambda: NOON)
    for part in Path("out/data").glob("*.parquet"):
        part.write_bytes(b"cut")
    with pytest.raises(ResourceError, match=r"cannot be read.*and 2 more parts"):
        rebuild(Path("out"), now=lambda: NOON)
    report = rebuild(Path("out"), now=lambda: NOON, drop_unreadable=True)
    assert (report.records, report.lost_rows, report.lost_records, len(report.unreadable)) == (0, 6, 6, 3)
    assert ask(photos, endpoint, overrides=parts).asked == 6


def doubled(out: Path) -> list[str]:
    """A part from another time, of the records of the first one: one older there, one newer, one the same. Its ids."""
    for number, hours in ((7, [-5, 5, 0]), (0, [0, 0, 0])):
        table = pq.read_table(out / "data/part-00000.parquet")
        column = table.schema.field("answered_at")
        times = [at + timedelta(hours=more) for at, more in zip(table["answered_at"].to_pylist(), hours, strict=True)]
        at = table.schema.names.index("answered_at")
        table = table.set_column(at, column, pa.array(times, column.type))
        pq.write_table(table, out / f"data/part-{number:05d}.parquet")
    return list(pd.read_parquet(out / "data/part-00000.parquet").id)


def ids_of(part: str) -> list[str]:
    return list(pd.read_parquet(f"out/data/{part}").id)


@pytest.mark.parametrize("step", [None, "older-dropped", "before-commit", "set-aside"])
def test_of_two_rows_the_one_answered_last_stays(photos: Path, endpoint: str, step: str | None) -> None:
    """Parts that hold a record twice lose its older row, in whichever it is; a rebuild that ends anywhere in the
    middle can be repeated, and neither loses a record.
    """
    (photos / "broken.jpg").unlink()
    ask(photos, endpoint, overrides={"output.rows_per_part": 3})
    first, second, third = doubled(Path("out"))

    def die(reached: str) -> None:
        if reached == step:
            raise KeyboardInterrupt

    if step is not None:
        with pytest.raises(KeyboardInterrupt):
            rebuild(Path("out"), now=lambda: NOON, failpoint=die)
        assert set(pd.read_parquet("out/data").id) == {path.name for path in photos.iterdir()}
    report = rebuild(Path("out"), now=lambda: NOON)
    assert report.records == 5
    assert report.older_rows == {None: 3, "before-commit": 3, "older-dropped": 2, "set-aside": 0}[step]
    assert (ids_of("part-00000.parquet"), ids_of("part-00007.parquet")) == ([first], [second, third])
    assert ask(photos, endpoint, overrides={"output.rows_per_part": 3}).requests == 0


def test_status_tells_what_there_is(photos: Path, endpoint: str) -> None:
    """Counts by status and kind, tokens against the prediction, and that the last run is complete."""
    ask(photos, endpoint)
    status = read_status(Path("out"))
    assert (status.records, status.bad, status.state) == ({"ok": 5, "failed": 1}, 1, "done")
    assert status.prompt_tokens == status.predicted_prompt_tokens > 0
    text = "\n".join(lines(status))
    assert "6 records (5 ok, 1 failed)" in text
    assert "1,505 in, as predicted" in text
    assert re.search(r"is complete: 6 of 6 images, \d+\.\d a second, at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", text)


def test_status_after_a_rebuild(photos: Path, endpoint: str) -> None:
    """A new ledger knows of no run, and says so in words, not in a row of Nones. Before, `status` names the rebuild."""
    ask(photos, endpoint)
    Path("out/ledger.sqlite").unlink()
    for look in (read_status, pipeline.report):
        with pytest.raises(ResourceError, match=r"ledger\.sqlite is gone\. .*`vision-batch rebuild out`"):
            look(Path("out"))
    rebuild(Path("out"), now=lambda: NOON)
    text = "\n".join(lines(read_status(Path("out"))))
    assert "6 records (5 ok, 1 failed)" in text
    assert text.endswith("no run has been at work here since it was merged, or its ledger rebuilt")
    assert "None" not in text


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
