"""Exports: the registry, which rows are written, and the tables: JSON lines, CSV, Parquet."""

import json
from pathlib import Path

import pytest

from pipeline.errors import InputError, ResourceError
from pipeline.export import ExportChoices, export
from tests.store.test_dataset import answered, failed, names, open_out


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


def test_nothing_unfinished_is_left(out: Path, tmp_path: Path) -> None:
    """Proves that an export which fails on the way leaves what was there, and no second file."""
    dest = tmp_path / "rows.jsonl"
    dest.write_text("old")
    (out / "data" / "part-00002.parquet").write_bytes(b"damaged")
    with pytest.raises(ResourceError, match="part-00002"):
        export(out, "jsonl", dest)
    assert dest.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "rows.jsonl"]
    with pytest.raises(ResourceError, match="No such file"):
        export(out, "jsonl", tmp_path / "none" / "rows.jsonl")


def test_an_unknown_format_names_the_known_ones(out: Path, tmp_path: Path) -> None:
    """Proves that a mistyped format, column or condition ends before anything is written."""
    with pytest.raises(InputError, match="'json' is no export format; known: txt, imagefolder, "):
        export(out, "json", tmp_path / "x")
    with pytest.raises(InputError, match="no column 'colour'"):
        export(out, "jsonl", tmp_path / "x", ExportChoices(columns=("colour",)))
    with pytest.raises(InputError, match="where: "):
        export(out, "jsonl", tmp_path / "x", ExportChoices(where="id"))
    assert not (tmp_path / "x").exists()
