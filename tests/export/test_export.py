"""Exports: the registry, which rows are written, and the tables: JSON lines, CSV, Parquet."""

import csv
import json
import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.errors import InputError, ResourceError
from pipeline.export import ExportChoices, export, jsonl
from pipeline.store.reading import scan_flat
from tests.builders import ask
from tests.originals.test_originals import SAMPLES
from tests.store.test_dataset import answered, failed, names, open_out
from tests.support import Command


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Twelve answers in three parts, and a failure."""
    with open_out(tmp_path / "out") as dataset:
        dataset.commit([answered(name, f"caption of {name}\n“é”") for name in names(12)])
        dataset.commit([failed("no.jpg")])
    return tmp_path / "out"


def test_json_lines_hold_every_row_as_it_is_stored(out: Path, tmp_path: Path) -> None:
    """Proves one object a row with all columns, money as exact text, times as instants, null as null."""
    assert export(out, "jsonl", tmp_path / "rows.jsonl", ExportChoices(status=None)).rows == 13
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == [*names(12), "no.jpg"]
    first, last = rows[0], rows[-1]
    assert (first["caption"], first["cost_usd"]) == ("caption of 000.jpg\n“é”", "0.002032500")
    assert first["answered_at"] == "2026-11-03T12:00:00Z"
    assert (last["status"], last["caption"], last["error_kind"]) == ("failed", None, "timeout")
    assert list(first) == list(last)


def test_rows_and_columns_are_chosen(out: Path, tmp_path: Path) -> None:
    """Proves that `columns` and `where` select as in `read`, and that a file of that name is replaced."""
    dest = tmp_path / "rows.jsonl"
    dest.write_text("old")
    chosen = ExportChoices(columns=("id", "status"), where="status != 'ok'", status=None)
    assert export(out, "jsonl", dest, chosen).rows == 1
    assert json.loads(dest.read_text()) == {"id": "no.jpg", "status": "failed"}
    assert export(out, "jsonl", tmp_path / "2026" / "11" / "rows.jsonl", chosen).rows == 1  # its folder is made


def test_keywords(out: Path, tmp_path: Path) -> None:
    """One name is a list of one; what is no keyword is one sentence."""
    pipeline.export(out, "jsonl", tmp_path / "one.jsonl", columns="id")
    assert {*json.loads((tmp_path / "one.jsonl").read_text().splitlines()[0])} == {"id"}
    with pytest.raises(InputError, match="unknown option 'wher' of an export; known: prompt_name, where, "):
        pipeline.export(out, "jsonl", tmp_path / "two.jsonl", wher="x")  # type: ignore[call-arg]


def test_nothing_unfinished_is_left(out: Path, tmp_path: Path) -> None:
    """Proves that an export which fails on the way leaves what was there, and no second file."""
    dest = tmp_path / "rows.jsonl"
    dest.write_text("old")
    (out / "data" / "part-00002.parquet").write_bytes(b"damaged")
    with pytest.raises(ResourceError, match="part-00002"):
        export(out, "jsonl", dest)
    assert dest.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "rows.jsonl"]


def test_an_unknown_format_names_the_known_ones(out: Path, tmp_path: Path) -> None:
    """Proves that a mistyped format, column or condition ends before anything is written."""
    with pytest.raises(InputError, match="'json' is no export format; known: txt, imagefolder, "):
        export(out, "json", tmp_path / "x")
    with pytest.raises(InputError, match="no column 'colour'"):
        export(out, "jsonl", tmp_path / "x", ExportChoices(columns=("colour",)))
    with pytest.raises(InputError, match="where: "):
        export(out, "jsonl", tmp_path / "x", ExportChoices(where="id"))
    assert not (tmp_path / "x").exists()


def test_csv_defuses_formulas(tmp_path: Path) -> None:
    """Proves that no cell or header is taken for a formula, and that all texts are read back, whatever is in them."""
    texts = ["=1+1", "+1", "-1", "@a", "\tx", "\rx", "\nx", "＝1", "a=1", 'say "é",\r\nover\ntwo lines', " ", "1e5"]
    with open_out(tmp_path / "out") as dataset:
        dataset.commit([answered(f"{text}.jpg", text) for text in texts])
    assert export(tmp_path / "out", "csv", tmp_path / "rows.csv").rows == len(texts)
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for text, row in zip(texts, rows, strict=True):
        mark = "" if text[0] not in "=+-@\t\r\n＝" else "'"
        assert (row["caption"], row["id"], row["error_kind"]) == (mark + text, f"{mark}{text}.jpg", "")
        assert (row["cost_usd"], row["flags"]) == ("0.002032500", "[]")


def test_a_warehouse_gets_new_and_changed_rows(tmp_path: Path, emulator_url: str, command: Command) -> None:
    """Proves that merging each export by key gives the dataset, also of runs in one second; labels are columns."""
    photos, dest = tmp_path / "photos", tmp_path / "rows.parquet"
    photos.mkdir()
    labels = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}
    out, warehouse, since, rows = (
        tmp_path / "out",
        dict[str, dict[str, object]](),
        list[str](),
        list[dict[str, object]](),
    )
    for night, name in enumerate(("a.png", "b.png", "b.png")):
        (photos / name).write_bytes(SAMPLES[night].read_bytes())
        ask(photos, emulator_url, out=out, labels=labels, refresh_changed=True)
        code, said, _ = command("export", str(out), "--to", "parquet", str(dest), *since)
        since = ["--since", said.split()[-1]]
        rows = pq.read_table(dest).to_pylist()
        assert (code, [row["id"] for row in rows]) == (0, [name])
        warehouse |= {row["id"]: row for row in rows}
    assert command("export", str(out), "--to", "parquet", str(dest), *since)[1].startswith(f"{out}: 0 rows in")
    assert pq.read_table(dest).column_names == list(rows[0])
    assert warehouse == {row["id"]: row for row in (r for b in scan_flat(out)[1] for r in b.to_pylist())}
    assert rows[0]["labels.mood"]


def test_an_export_that_is_interrupted_leaves_nothing_half_written(
    out: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proves it for Ctrl-C and SIGTERM, with their exit codes."""
    for number, exit_code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        monkeypatch.setattr(jsonl, "_line", lambda _, number=number: os.kill(os.getpid(), number))
        before = signal.getsignal(number)
        code, _, said = command("export", str(out), "--to", "jsonl", str(tmp_path / "rows.jsonl"))
        assert (code, said.splitlines()) == (
            exit_code, ["vision-batch: interrupted; no file is half written, and the same command writes the rest"],
        )  # fmt: skip
        assert signal.getsignal(number) == before
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_dest_that_is_no_file_is_left_alone(out: Path, tmp_path: Path, command: Command) -> None:
    """Proves it for links, as /dev/stdout is one, devices and folders; and that a format has to be named."""
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for dest in (tmp_path / "link", "/dev/null", "-", tmp_path):
        code, _, said = command("export", str(out), "--to", "jsonl", str(dest))
        assert (code, "name" in said) == (2, True)
    assert not (tmp_path / "target").exists()
    assert command("export", str(out), "x")[2].startswith("vision-batch: --to FORMAT is missing; formats: txt, ")
    assert command("export", str(out), "--to", "jsonl")[2].startswith("vision-batch: the format jsonl needs a DEST")
    assert command("export", str(out), "--to", "csv", "x", "--template", "a")[0] == 2
