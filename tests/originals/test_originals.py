"""Originals: from a row back to the bytes of its image, from any working directory."""

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.locations import Origin
from pipeline.originals import Originals, State
from pipeline.redaction.redactor import NOTHING_SECRET
from pipeline.store.origins import read_origins, write_origins
from pipeline.store.reading import scan
from tests.builders import ask
from tests.containers import table_bytes, tar_of

SAMPLES = sorted(path for path in (Path(__file__).parents[2] / "data" / "samples").glob("*.png"))
IMAGES = {f"{number}.png": path.read_bytes() for number, path in enumerate(SAMPLES)}


def _folder(at: Path) -> list[str]:
    for name, data in IMAGES.items():
        (at / "photos" / "süd").mkdir(parents=True, exist_ok=True)
        (at / "photos" / "süd" / name).write_bytes(data)
    return ["photos"]


def _glob(at: Path) -> list[str]:
    _folder(at)
    return ["photos/*/*.png"]


def _no_utf8(at: Path) -> list[str]:
    folder = os.fsencode(at) + b"/photos\xff"
    os.mkdir(folder)  # noqa: PTH102 - the name is no UTF-8
    for name, data in IMAGES.items():
        with open(folder + b"/\xe9" + name.encode(), "wb") as file:  # noqa: PTH123 - as above
            file.write(data)
    return [os.fsdecode(b"photos\xff")]


def _manifest(at: Path) -> list[str]:
    """Paths that begin in the manifest's folder, and an id that is no path."""
    _folder(at)
    rows = [json.dumps({"id": f"n{number}", "image": f"süd/{name}"}) for number, name in enumerate(IMAGES)]
    (at / "photos" / "list.jsonl").write_text("\n".join(rows))
    return ["photos/list.jsonl"]


def _metadata(at: Path) -> list[str]:
    """Of folders of Hugging Face, each with metadata of its own; ids that are no paths."""
    for split, name in zip(("test", "train"), IMAGES, strict=False):
        (at / "set" / split / "in").mkdir(parents=True)
        (at / "set" / split / "in" / "same.png").write_bytes(IMAGES[name])
        (at / "set" / split / "metadata.csv").write_text(f"file_name,id\nin/same.png,{split}\n")
    return ["set"]


def _single_and_folder(at: Path) -> list[str]:
    _folder(at)
    (at / "one.png").write_bytes(SAMPLES[0].read_bytes() + b" ")
    return ["one.png", "photos"]


def _tar(at: Path) -> list[str]:
    (at / "shards").mkdir()
    for number in range(2):
        (at / "shards" / f"{number}.tar").write_bytes(tar_of([(f"a/{number}-{name}", d) for name, d in IMAGES.items()]))
    return ["shards/*.tar"]


def _packed_tar(at: Path) -> list[str]:
    with tarfile.open(at / "one.tar.gz", "w:gz") as tar:
        for name in IMAGES:
            tar.add(SAMPLES[int(name[:-4])], arcname=name)
    return ["one.tar.gz"]


def _named_table(at: Path) -> list[str]:
    cells = [{"bytes": data, "path": f"x/{name}"} for name, data in IMAGES.items()]
    table = pa.table({"image": pa.array(cells), "id": list(IMAGES)})
    pq.write_table(table, at / "named.parquet", row_group_size=2)
    return ["named.parquet"]


def _numbered_tables(at: Path) -> list[str]:
    for kind in ("parquet", "arrow"):
        table = pa.table({"image": pa.array(list(IMAGES.values()), pa.binary())})
        (at / f"rows.{kind}").write_bytes(table_bytes(kind, table))
    return ["rows.parquet", "rows.arrow"]


@pytest.mark.parametrize(
    "made",
    [_folder, _glob, _no_utf8, _manifest, _metadata, _single_and_folder, _tar, _packed_tar, _named_table,
     _numbered_tables],
)  # fmt: skip
def test_every_row_leads_to_its_image(
    made: Callable[[Path], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulator_url: str
) -> None:
    """Proves it for each kind of source, from another working directory than that of the run."""
    (work := tmp_path / "work").mkdir()
    monkeypatch.chdir(work)
    sources = made(work)
    for _ in range(2):
        pipeline.run(sources, out="out", base_url=emulator_url, model="gpt-4o", quiet=True)
    monkeypatch.chdir(tmp_path)
    originals = Originals(work / "out")
    rows = [row for batch in scan(work / "out") for row in batch.to_pylist()]
    assert rows
    for row in rows:
        found = originals.open(row)
        assert found.state is State.FOUND, row["image"]
        assert found.data
    work.rename(tmp_path / "moved")
    moved = Originals("moved/out")
    assert {moved.open(row).state for row in rows} == {State.FOUND}
    work = tmp_path / "moved"
    noted = json.loads((work / "out" / "sources.json").read_text())["sources"]
    assert len(noted) == len(sources)
    assert all(len(one["runs"]) == 2 for one in noted)


def test_what_is_not_there_any_more_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulator_url: str
) -> None:
    """Proves missing, changed, remote and never read apart; that other bytes of that name are not given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "same.png").write_bytes(IMAGES["0.png"])
    lines = ["same.png", "broken.png", "none.png", "data:image/png;base64,AAAA"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    ask("list.txt", emulator_url)
    found = {row["image"]: row for batch in scan(tmp_path / "out") for row in batch.to_pylist()}
    states = {name: Originals(tmp_path / "out").open(row).state.value for name, row in found.items()}
    assert states.pop("same.png") == "found"
    assert set(states.values()) == {"unread"}
    (tmp_path / "same.png").write_bytes(IMAGES["1.png"])
    changed = Originals(tmp_path / "out").open(found["same.png"])
    assert (changed.state, changed.data) == (State.CHANGED, None)
    (tmp_path / "same.png").unlink()
    assert Originals(tmp_path / "out").open(found["same.png"]).state is State.MISSING
    assert Originals(tmp_path / "out").open({"image": None}).state is State.UNREAD


def test_what_is_remote_is_an_address_that_is_not_fetched(tmp_path: Path) -> None:
    """Proves it for addresses, and for names relative to a manifest from elsewhere."""
    origin = Origin("https://example.com/in/list.csv", address="https://example.com/in/list.csv")
    write_origins(tmp_path, "night", [origin], NOTHING_SECRET)
    row = {"run_id": "night", "sha256": "ab"}
    each = [("s3://b/a.png", "s3://b/a.png"), ("../a b.png", "https://example.com/a%20b.png")]
    for name, address in each:
        found = Originals(tmp_path).open({**row, "image": name})
        assert (found.state, found.address) == (State.REMOTE, address)
    assert Originals(tmp_path).open({**row, "image": "a.png", "run_id": "other"}).state is State.MISSING


@pytest.mark.parametrize(
    "text", ["no JSON", "[]", '{"sources": 1}', '{"sources": [1]}', '{"sources": [{"source": 5}]}']
)
def test_a_damaged_list_of_sources_counts_as_none(tmp_path: Path, text: str) -> None:
    """Also one of another version; the next run writes it anew."""
    (tmp_path / "sources.json").write_text(text)
    assert read_origins(tmp_path) == []
    whole = {"source": "x", "folders": ["/x"], "roots": [], "files": [], "address": None, "runs": 7}
    (tmp_path / "sources.json").write_text(json.dumps({"sources": [whole]}))
    assert read_origins(tmp_path) == []
    write_origins(tmp_path, "r1", [Origin("x", ("/x",))], NOTHING_SECRET)
    assert [(origin.source, *runs) for origin, runs in read_origins(tmp_path)] == [("x", "r1")]
