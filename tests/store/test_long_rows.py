"""Rows of megabytes: a row's other columns have a bound, shown before anything is sent; what waits counts in bytes."""

import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline import InputError
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import SourceConfig
from pipeline.locations import LocalFile
from pipeline.records import Answer, ImageRecord, Outcome, Status
from pipeline.sources import open_sources
from pipeline.store import parquet, rows, sealing
from pipeline.store.dataset import Dataset
from pipeline.store.ledger import sqlite
from tests.store.test_dataset import NOON
from tests.stub import stub
from tests.support import MakeImage

CONFIG = RunConfig.model_validate({"request": {"model": "gpt-4o"}})
LIMIT = SourceConfig().max_record_kb * 1024
CASES = 300

Rows = list[tuple[str, str]]
"""(id, note) of each row."""


def as_csv(rows: Rows, quote: str = "") -> str:
    return "id,image,note\n" + "".join(f"{name},a.jpg,{quote}{note}{quote}\n" for name, note in rows)


def as_jsonl(rows: Rows) -> str:
    return "".join(json.dumps({"id": name, "image": "a.jpg", "note": note}) + "\n" for name, note in rows)


def as_table(rows: Rows) -> bytes:
    sink = io.BytesIO()
    ids, notes = [name for name, _ in rows], [note for _, note in rows]
    pq.write_table(pa.table({"id": ids, "image": ["a.jpg"] * len(rows), "note": notes}), sink)
    return sink.getvalue()


FORMATS: dict[str, Callable[[Rows], str | bytes]] = {
    "plain.csv": as_csv,
    "quoted.csv": lambda rows: as_csv(rows, '"'),
    "list.csv.gz": lambda rows: gzip.compress(as_csv(rows).encode()),
    "list.tsv": lambda rows: as_csv(rows).replace(",", "\t"),
    "list.jsonl": as_jsonl,
    "list.parquet": as_table,
}


def manifest(name: str, rows: Rows) -> Path:
    content = FORMATS[name](rows)
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(name)


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_that_is_too_long_is_named_before_anything_is_sent(make_image: MakeImage, name: str) -> None:
    """Of three rows the second holds a megabyte and a half: exit 2 with its place, or it is left out when that is said,
    or it is answered when the bound is raised.
    """
    make_image("a.jpg")
    rows = [("1", "x"), ("2", "y" * (3 * LIMIT // 2)), ("3", "z")]
    settings: dict[str, Any] = {"out": "out", "model": "gpt-4o", "quiet": True}
    with stub() as server:
        place = {"list.parquet": ": row 2", "list.jsonl": ":2"}.get(name, ":3")
        with pytest.raises(
            InputError, match=rf"{name}{place}: its other columns take 1,536 KiB, and source.max_record"
        ):
            pipeline.run(manifest(name, rows), base_url=server.base_url, **settings)
        assert not server.paths
        skipping = pipeline.run(name, base_url=server.base_url, **settings, skip_bad_rows=True)
        assert (skipping.asked, skipping.images) == (2, 2)
        more = {"source.max_record_kb": 2_000}
        assert pipeline.run(name, base_url=server.base_url, **settings, overrides=more).asked == 1
    read = pd.read_parquet("out/data").set_index("id")["record"]
    assert [json.loads(read[key])["note"] for key in "123"] == [note for _, note in rows]


def test_a_stream_says_it_as_it_comes(monkeypatch: pytest.MonkeyPatch, make_image: MakeImage) -> None:
    """Standard input cannot be read ahead: the run ends at the row that is too long, and names it; what is asked
    before it is committed.
    """
    image = make_image("a.jpg")
    lines = [json.dumps({"id": str(number), "image": str(image), "note": "x"}) for number in range(3)]
    lines.append(json.dumps({"id": "long", "image": str(image), "note": "y" * 2 * LIMIT}))
    stream = io.TextIOWrapper(io.BytesIO("\n".join(lines).encode()))
    monkeypatch.setattr("sys.stdin", stream)
    with stub() as server:
        with pytest.raises(InputError, match="standard input:4: its other columns take 2,048 KiB"):
            pipeline.run("-", out="out", base_url=server.base_url, model="gpt-4o", quiet=True)
        assert len(pd.read_parquet("out/data")) >= server.asked.total()


def verdicts(path: Path, config: SourceConfig) -> tuple[str, str]:
    """What the check says of a manifest, and what reading it says."""
    said = []
    for pass_over in (lambda source: source.check(), lambda source: list(source.records())):
        try:
            said.append("" if pass_over(open_sources([path], config)) else "none")
        except InputError as error:
            said.append(str(error))
    return said[0], said[1]


def test_the_check_and_the_run_agree_on_every_row(tmp_path: Path) -> None:
    """Seeded rows around bounds of 1 to 200 KiB, of letters, quotes, control characters and wide ones, in every format:
    the check refuses exactly what the run would refuse, with the same words, and no row beyond the bound passes.
    """
    refused = 0
    for case in range(CASES):
        chance = random.Random(case)
        config = SourceConfig(max_record_kb=chance.choice([1, 2, 7, 100, 200]))
        limit = config.max_record_kb * 1024
        name = chance.choice(sorted(FORMATS))
        letter, takes = chance.choice([("x", 1), ("é", 2), ("😀", 4), ("\x01", 6), ("\\", 2)])
        characters = max(0, (limit - len('{"note":""}')) // takes + chance.choice([-9, -1, 0, 1, 9]))
        rows = [(str(number), letter * chance.choice([1, characters // 2, characters])) for number in range(1, 9)]
        checked, read = verdicts(manifest(name, rows), config)
        assert checked == read, (case, name)
        too_long = [
            len(json.dumps({"note": note}, ensure_ascii=False, separators=(",", ":")).encode()) > limit
            for _, note in rows
        ]
        assert bool(checked) == any(too_long), (case, name)
        refused += bool(checked)
    assert CASES // 10 < refused < CASES - CASES // 10


def long_answer(name: str, size: int) -> Outcome:
    answer = Answer(status=Status.OK, caption=name * (size // len(name)), model="gpt-4o")
    return Outcome(record=ImageRecord(name, (LocalFile(name, name),)), result=answer, attempts=1)


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bound in bytes, a thousandth of what it is."""
    monkeypatch.setattr(rows, "BATCH_BYTES", 4 << 10)
    monkeypatch.setattr(parquet, "GROUP_BYTES", 8 << 10)
    monkeypatch.setattr(sqlite, "_BYTES_A_BATCH", 4 << 10)
    monkeypatch.setattr(sealing, "PART_BYTES", 256 << 10)


@pytest.mark.usefixtures("small_bounds")
def test_much_that_waits_is_sealed_in_pieces(tmp_path: Path) -> None:
    """A megabyte waits where a batch is 4 KB, as 1 GB would for the real bounds: the next start seals all of it, row
    groups stay small, and a part that is full by its bytes takes no more rows.
    """
    out = tmp_path / "out"
    first = Dataset.open(out, config=CONFIG, run_id="night", now=lambda: NOON)
    names = [f"{number:03}" for number in range(300)]
    for name in names:
        first.commit([long_answer(name, 3_600)])
    first.close(seal=False)
    with Dataset.open(out, config=CONFIG, run_id="night", now=lambda: NOON) as second:
        assert not any(second.missing([ImageRecord(name, (LocalFile(name, name),)) for name in names]))
    parts = sorted((out / "data").glob("*.parquet"))
    footers = [pq.read_metadata(part) for part in parts]
    assert [name for part in parts for name in pq.read_table(part)["id"].to_pylist()] == names
    assert 4 <= len(parts) <= 6
    groups = [footer.row_group(group) for footer in footers for group in range(footer.num_row_groups)]
    assert max(group.num_rows for group in groups) <= 4


@pytest.mark.usefixtures("small_bounds")
def test_rows_of_a_full_part_are_replaced_inside_it(tmp_path: Path) -> None:
    """Rows that are asked again go to their own parts, however large these are; one key is one row."""
    out = tmp_path / "out"
    names = [f"{number:03}" for number in range(100)]
    parts = []
    for size in (3_600, 40, 9_000):
        with Dataset.open(out, config=CONFIG, run_id="night", now=lambda: NOON) as night:
            night.commit([long_answer(name, size) for name in names])
        frame = pd.read_parquet(out / "data")
        assert sorted(frame["id"]) == names
        assert set(frame["caption"].str.len()) == {size // 3 * 3}
        parts.append([pq.read_metadata(part).num_rows for part in sorted((out / "data").glob("*.parquet"))])
    assert (len(parts[0]), parts[1:]) == (2, parts[:1] * 2)
