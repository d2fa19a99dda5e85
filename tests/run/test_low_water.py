"""The low-water mark: what a resume passes over unseen is done with, whatever has become of the manifest since."""

import gzip
import json
import os
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.config.run_config import RunConfig
from pipeline.errors import ErrorKind, InputError
from pipeline.locations import LocalFile
from pipeline.records import Failure, ImageRecord, Outcome
from pipeline.run import low_water
from pipeline.run.job import Job
from pipeline.run.low_water import LowWater
from pipeline.sources import open_sources
from pipeline.store.dataset import Dataset
from pipeline.store.ledger.sqlite import SqliteLedger
from tests.containers import tar_of
from tests.stub import stub
from tests.support import MakeImage

CASES = int(os.environ.get("LOW_WATER_CASES", "60"))
"""Manifests that change under seeded runs; a long form tries 2,000."""
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
CONFIG = RunConfig.model_validate({"request": {"model": "gpt-4o"}})
PADDING = "x" * 2_000
"""In every row, so that a run has not read the whole manifest when its first request is sent."""


def line(kind: str, record_id: str, image: str) -> str:
    if kind == "jsonl":
        return json.dumps({"id": record_id, "image": image, "note": PADDING}) + "\n"
    quote = '"' if kind == "quoted" else ""
    return f"{record_id},{image},{quote}{PADDING}{quote}\n"


@pytest.mark.parametrize("kind", ["csv", "quoted", "jsonl"])
def test_rows_appended_while_a_run_goes_on(make_image: MakeImage, kind: str) -> None:
    """300 rows come while the first request is answered, and are asked; 300 others in their place are asked by the
    next run, and by the one after it nothing is.
    """
    image = make_image("photo.jpg")
    manifest = Path("list.jsonl" if kind == "jsonl" else "list.csv").resolve()
    first = "" if kind == "jsonl" else "id,image,note\n"
    first += "".join(line(kind, f"row{number}", image.name) for number in range(1_000))
    manifest.write_text(first)
    done: list[bool] = []

    def answer(_: int) -> int:
        if not done:
            done.append(True)
            with manifest.open("a") as file:
                file.writelines(line(kind, f"new{number}", image.name) for number in range(300))
        return 200

    settings: dict[str, Any] = {"out": "out", "model": "gpt-4o", "quiet": True, "concurrency": 4}
    with stub(answer) as server:
        seen = pipeline.run(manifest, base_url=server.base_url, **settings).asked
        assert seen == (1_000 if kind == "csv" else 1_300)  # Arrow reads a plain CSV up to the size that it had
        manifest.write_text(first + "".join(line(kind, f"other{number}", image.name) for number in range(300)))
        night = pipeline.run(manifest, base_url=server.base_url, **settings)
        assert (night.exit_code, night.asked, night.skipped) == (0, 300, 1_000)
        assert pipeline.run(manifest, base_url=server.base_url, **settings).asked == 0
    assert len(pd.read_parquet("out/data", columns=["id"])) == seen + 300


def test_a_mark_of_an_older_version_is_passed_by(make_image: MakeImage, endpoint: str) -> None:
    """A mark that covers bytes, not ids, may promise too much: it is replaced, and every key is looked up once."""
    image = make_image("photo.jpg")
    manifest = Path("list.csv").resolve()
    manifest.write_text(f"image\n{image.name}\n")
    settings: dict[str, Any] = {"out": "out", "model": "gpt-4o", "quiet": True, "base_url": endpoint}
    pipeline.run(manifest, **settings)
    (name,) = in_ledger({})
    in_ledger({name: {"size": 6, "digest": "00", "records": 2}})
    with manifest.open("a") as file:
        file.write(f"./{image.name}\n")
    assert pipeline.run(manifest, **settings).asked == 1
    assert set(in_ledger({})[name]) == {"records", "ids"}


@pytest.mark.parametrize("kind", ["manifests", "shards"])
def test_several_files_have_one_mark(make_image: MakeImage, endpoint: str, kind: str) -> None:
    """It stands behind the last file; where the first one grows no record is lost, and the mark rises again."""
    images = [make_image(f"{number}.jpg", seed=number).read_bytes() for number in range(5)]
    names = {"manifests": ("a.csv", "b.csv"), "shards": ("a.tar", "b.tar")}[kind]

    def write(name: str, numbers: list[int]) -> None:
        files = [(f"{number}.jpg", images[number]) for number in numbers]
        rows = "".join(f"{file}\n" for file, _ in files)
        Path(name).write_bytes(tar_of(files) if kind == "shards" else f"image\n{rows}".encode())

    write(names[0], [0, 1])
    write(names[1], [2, 3])
    settings: dict[str, Any] = {"out": "out", "model": "gpt-4o", "quiet": True, "base_url": endpoint}
    assert pipeline.run(list(names), **settings).asked == 4
    assert [mark["records"] for mark in in_ledger({}).values()] == [4]
    write(names[0], [0, 1, 4])
    night = pipeline.run(list(names), **settings)
    assert (night.asked, night.skipped) == (1, 4)
    assert [mark["records"] for mark in in_ledger({}).values()] == [5]


def in_ledger(change: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """The marks of OUT, after these were set."""
    with SqliteLedger(Path("out/ledger.sqlite")) as ledger:
        ledger.set_meta({name: orjson.dumps(mark) for name, mark in change.items()})
        return {name: orjson.loads(ledger.meta(name) or b"{}") for name in ledger.meta_names("mark ")}


WRITERS: dict[str, Callable[[Path, list[str]], None]] = {
    "list.csv": lambda path, ids: overwrite(path, "id,image\n" + "".join(f"{each},a.jpg\n" for each in ids)),
    "quoted.csv": lambda path, ids: overwrite(path, "id,image\n" + "".join(f'"{each}\n",a.jpg\n' for each in ids)),
    "list.tsv": lambda path, ids: overwrite(path, "id\timage\n" + "".join(f"{each}\ta.jpg\n" for each in ids)),
    "list.jsonl": lambda path, ids: overwrite(path, "".join(f'{{"id":"{each}","image":"a"}}\n' for each in ids)),
    "list.txt": lambda path, ids: overwrite(path, "\n".join(ids)),  # its last line has no end
    "list.txt.gz": lambda path, ids: overwrite(path, gzip.compress("\n".join(ids).encode())),
    "list.parquet": lambda path, ids: pq.write_table(pa.table({"id": ids, "image": ["a"] * len(ids)}), path),
}
CHANGES = ("append", "other end", "edit", "cut", "begin", "swap")


def overwrite(path: Path, content: str | bytes) -> None:
    """In place, as an editor or a download does: who has the file open sees the new bytes."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)


class Manifest:
    """A file of rows that changes in every way in which files change."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.path, self._chance, self._made = path, chance, 0
        self.ids: list[str] = []
        self.ids = self._new(chance.randint(1, 60))
        self._write()

    def change(self) -> None:
        chance, ids = self._chance, self.ids
        at = chance.randrange(len(ids))
        match chance.choice(CHANGES):
            case "append":
                ids += self._new(chance.randint(1, 20))
            case "other end":
                ids[at:] = self._new(len(ids) - at)
            case "edit":  # of the same length, so that the size stays
                ids[at : at + 1] = self._new(1)
            case "cut":
                del ids[max(1, at) :]
            case "begin":
                ids[:0] = self._new(1)
            case "swap":
                other = chance.randrange(len(ids))
                ids[at], ids[other] = ids[other], ids[at]
        self._write()

    def _new(self, count: int) -> list[str]:
        self._made += count
        return [f"{self.path.parent.name}-{number:05}" for number in range(self._made - count, self._made)]

    def _write(self) -> None:
        write = WRITERS[self.path.name]
        if self._chance.random() < 0.5:
            write(self.path, self.ids)
            return
        aside = self.path.with_name(f".{self.path.name}")
        write(aside, self.ids)
        aside.replace(self.path)


def one_run(dataset: Dataset, manifest: Manifest, chance: random.Random, *, disturbed: bool) -> None:
    """Read, ask, keep and mark as a run does it; disturbed: the manifest changes meanwhile, the run is killed."""
    source = open_sources([manifest.path], CONFIG.source)
    job = Job(sources=[str(manifest.path)], out=dataset.out, config=CONFIG)
    water = LowWater.of(source, job, dataset.marks)
    if disturbed and chance.random() < 0.3:
        manifest.change()
    read, lowest_open, under_way = water.skip, inf, dict[str, int]()
    records = water.records()
    while batch := list(islice(records, chance.randint(1, 12))):
        for place, (record, is_missing) in enumerate(zip(batch, dataset.missing(batch), strict=True), read):
            if is_missing and record.id not in under_way:
                under_way[record.id] = place
        read += len(batch)
        ended = []
        for name in list(under_way) if not disturbed else chance.sample(sorted(under_way), len(under_way) // 2):
            failed = disturbed and chance.random() < 0.1
            if failed:
                lowest_open = min(lowest_open, under_way[name])
            kind = ErrorKind.TIMEOUT if failed else ErrorKind.IMAGE_MISSING
            ended.append(
                Outcome(record=ImageRecord(name, (LocalFile(name, name),)), result=Failure(kind=kind, message="-"))
            )
            del under_way[name]
        dataset.commit(ended)
        water.rise(dataset.marks, min(lowest_open, next(iter(under_way.values()), read)))
        if disturbed and chance.random() < 0.2:
            manifest.change()
        if disturbed and chance.random() < 0.1:
            return
    water.rise(dataset.marks, min(lowest_open, next(iter(under_way.values()), read)))


def test_manifests_that_change_under_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded manifests of every format change while they are read, between runs and under marks: a run that nothing
    disturbs leaves no row of the manifest without an answer, however many runs were cut off before it.
    """
    monkeypatch.setattr(low_water, "MARK_EVERY", 4)
    skipped = 0
    with Dataset.open(tmp_path / "out", config=CONFIG, run_id="night", now=lambda: NOON) as dataset:
        for case in range(CASES):
            chance = random.Random(case)
            folder = tmp_path / str(case)
            folder.mkdir()
            manifest = Manifest(folder / chance.choice(sorted(WRITERS)), chance)
            for _ in range(chance.randint(1, 4)):
                with suppress(InputError):  # read while it was written
                    one_run(dataset, manifest, chance, disturbed=True)
                if chance.random() < 0.5:
                    manifest.change()
            one_run(dataset, manifest, chance, disturbed=False)
            source = open_sources([manifest.path], CONFIG.source)
            assert not any(dataset.missing(list(source.records()))), (case, manifest.path.name)
            job = Job(sources=[str(manifest.path)], out=dataset.out, config=CONFIG)
            skipped += LowWater.of(source, job, dataset.marks).skip == len(manifest.ids)
    assert skipped == CASES  # and the mark is where it promises least work
