"""Runs over shards, Parquet with images inside, datasets on disk and what img2dataset writes, read back from OUT."""

import gzip
import hashlib
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.errors import InputError
from pipeline.sources.embedded import EmbeddedColumn
from tests.builders import ask
from tests.containers import tar_of
from tests.support import Command, MakeImage, emulator_get

CAPTIONS = {f"{number:09d}": f"tag {number}" for number in range(6)}


@pytest.fixture
def files(make_image: MakeImage) -> dict[str, bytes]:
    """Six photographs by their keys."""
    return {key: make_image(f"plain/{key}.jpg", seed=n).read_bytes() for n, key in enumerate(CAPTIONS)}


def rows() -> pd.DataFrame:
    return pd.read_parquet("out/data").set_index("id").sort_index()


def facts(key: str) -> dict[str, object]:
    """What img2dataset notes of an image."""
    return {"url": f"http://h.example/{key}.jpg", "caption": CAPTIONS[key], "key": key, "status": "success"}


def shards(files: Mapping[str, bytes], suffix: str = "tar") -> str:
    """Two shards as img2dataset writes them, with its tables and statistics."""
    for number in range(2):
        keys = list(files)[3 * number : 3 * number + 3]
        members = [
            member
            for key in keys
            for member in (
                (f"{key}.jpg", files[key]),
                (f"{key}.txt", CAPTIONS[key].encode()),
                (f"{key}.json", json.dumps(facts(key)).encode()),
            )
        ]
        tar = tar_of(members)
        Path(f"i2d/{number:05d}.{suffix}").write_bytes(tar if suffix == "tar" else gzip.compress(tar, 1))
        pq.write_table(pa.Table.from_pylist([facts(key) for key in keys]), f"i2d/{number:05d}.parquet")
        Path(f"i2d/{number:05d}_stats.json").write_text("{}")
    return f"i2d/{{00000..00001}}.{suffix}"


def embedded(files: Mapping[str, bytes]) -> str:
    """The same as img2dataset's `--output_format parquet`."""
    for number in range(2):
        keys = list(files)[3 * number : 3 * number + 3]
        table = pa.Table.from_pylist([{"jpg": files[key], **facts(key)} for key in keys])
        pq.write_table(table, f"i2d/{number:05d}.parquet")
    return "i2d/*.parquet"


def folder(files: Mapping[str, bytes]) -> str:
    """The same as `--output_format files`."""
    Path("i2d/00000").mkdir()
    for key, data in files.items():
        Path(f"i2d/00000/{key}.jpg").write_bytes(data)
        Path(f"i2d/00000/{key}.txt").write_text(CAPTIONS[key])
        Path(f"i2d/00000/{key}.json").write_text(json.dumps(facts(key)))
    return "i2d"


def on_disk(files: Mapping[str, bytes]) -> str:
    """As `datasets` saves them, with the splits of a dictionary."""
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    cells = [{"bytes": data, "path": None} for data in files.values()]
    both = datasets.Dataset.from_dict({"image": cells, "caption": list(CAPTIONS.values())}, features=features)
    datasets.DatasetDict({"train": both.select(range(4)), "test": both.select((4, 5))}).save_to_disk("i2d/saved")
    return "i2d/saved"


@pytest.mark.parametrize(
    ("write", "column", "ids"),
    [
        (shards, "txt", ["00000/000000000", "00001/000000005"]),
        (lambda files: shards(files, "tgz"), "txt", ["00000/000000000", "00001/000000005"]),
        (embedded, "caption", ["00000.parquet#1", "00001.parquet#3"]),
        (folder, "", ["00000/000000000.jpg", "00000/000000005.jpg"]),
        (on_disk, "caption", ["test/data-00000-of-00001.arrow#1", "train/data-00000-of-00001.arrow#4"]),
    ],
    ids=["webdataset", "tgz", "parquet", "files", "datasets"],
)
def test_every_source_gives_every_image_once(
    files: dict[str, bytes], write: Callable[[Mapping[str, bytes]], str], column: str, ids: list[str], endpoint: str
) -> None:
    """Half of it, then the rest: each image is asked once, with its columns in the prompt, and as its own bytes."""
    Path("i2d").mkdir()
    source = write(files)
    prompt = {"prompt": f"Describe. Tag: {{{{ {column} }}}}"} if column else {}
    assert ask(source, endpoint, limit=3, **prompt).by_status == {"ok": 3}
    summary = ask(source, endpoint, **prompt)
    assert (summary.by_status, summary.requests) == ({"ok": 3}, 3)
    assert emulator_get(endpoint, "stats")["requests"] == 6
    found = rows()
    assert [found.index[0], found.index[-1]] == ids
    assert sorted(found.sha256) == sorted(hashlib.sha256(data).hexdigest() for data in files.values())
    assert set(found.width) == {320}
    if column:
        noted = {json.loads(text)[column] for text in found.record}
        assert noted == set(CAPTIONS.values())


def test_a_resume_reads_no_image_that_has_its_row(
    files: dict[str, bytes], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a Parquet file only what is missing is read: the second night reads two images, the third none."""
    read: list[int] = []
    plain = EmbeddedColumn.read

    def noted(column: EmbeddedColumn, row: int, place: int) -> bytes:
        read.append(row)
        return plain(column, row, place)

    monkeypatch.setattr(EmbeddedColumn, "read", noted)
    cells = [{"bytes": data, "path": f"{key}.jpg"} for key, data in files.items()]
    pq.write_table(pa.table({"image": cells}), "m.parquet", row_group_size=2)
    ask("m.parquet", endpoint, limit=4)
    assert sorted(read) == [1, 2, 3, 4]
    read.clear()
    ask("m.parquet", endpoint)
    assert sorted(read) == [5, 6]
    read.clear()
    assert ask("m.parquet", endpoint).requests == 0
    assert read == []
    assert list(rows().image) == [f"{key}.jpg" for key in CAPTIONS]


def test_damage_costs_its_own_images_only(files: dict[str, bytes], endpoint: str, command: Command) -> None:
    """A cut shard ends the command before anything is sent; by option the others are asked, and stay."""
    Path("i2d").mkdir()
    source = shards(files)
    second = Path("i2d/00001.tar")
    second.write_bytes(second.read_bytes()[:20_000])
    code, _, stderr = command("run", source, "-o", "out", "--model", "gpt-4o", "--base-url", endpoint)
    assert code == 2
    [line] = stderr.strip().splitlines()
    assert "i2d/00001.tar: damaged at byte" in line
    assert line.endswith("or go on without the rest of it with --skip-bad-rows")
    assert emulator_get(endpoint, "stats")["requests"] == 0
    summary = ask(source, endpoint, skip_bad_rows=True)
    assert summary.by_status["ok"] >= 3
    shards(files)
    assert ask(source, endpoint).by_status["ok"] == 6 - summary.by_status["ok"]
    assert list(rows().status) == ["ok"] * 6
    assert emulator_get(endpoint, "stats")["requests"] == 6


def test_what_a_shard_passes_over_is_said(files: dict[str, bytes], endpoint: str, command: Command) -> None:
    """As of a folder: in a run, a dry run, `estimate`, and in what programs read."""
    link = tarfile.TarInfo("b.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "a.jpg"
    start = link.tobuf()
    Path("s.tar").write_bytes(start + tar_of([("a.jpg", files["000000000"]), ("c.npy", b"0"), ("d.npy", b"0")]))
    line = "1 image; passed over: 2 .npy, 1 stored as a link"
    asked = ("run", "s.tar", "-o", "out", "--model", "gpt-4o", "--base-url", endpoint)
    assert command(*asked, "--dry-run")[1].splitlines()[0] == line
    assert line in command(*asked)[2]
    assert json.loads(command(*asked, "--json")[1])["passed_over"] == {".npy": 2, "stored as a link": 1}
    assert "; passed over: 2 .npy, 1 stored as a link" in command("estimate", "s.tar", "--model", "gpt-4o")[1]


def test_one_odd_image_is_one_row(files: dict[str, bytes], endpoint: str) -> None:
    """Bytes that are no image, and none at all, are failed rows of their own kind."""
    Path("s.tar").write_bytes(tar_of([("a.jpg", files["000000000"]), ("b.jpg", b"no image"), ("c.jpg", b"")]))
    pq.write_table(pa.table({"image": [b"no image", b""]}), "m.parquet")
    pq.write_table(pa.table({"image": [{"bytes": b"", "path": "plain/000000000.jpg"}]}), "cells.parquet")
    Path("p.tgz").write_bytes(gzip.compress(tar_of([("c.jpg", b"")])))
    sources = ["s.tar", "m.parquet", "cells.parquet", "p.tgz"]
    summary = pipeline.run(sources, out="out", base_url=endpoint, model="gpt-4o", quiet=True)
    assert summary.by_status == {"ok": 1, "failed": 6}
    kinds = rows().error_kind
    assert kinds["s/b"] == kinds["m.parquet#1"] != kinds["s/a"]
    assert kinds["s/c"] == kinds["m.parquet#2"] == kinds["cells.parquet#1"] == kinds["p/c"] == "image_empty"
    with pytest.raises(InputError, match=r"i2d: .*no such file"):
        ask("i2d", endpoint)
