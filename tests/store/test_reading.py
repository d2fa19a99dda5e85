"""Reading an output directory: `pipeline.read` and `pipeline.scan`."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

import pipeline
from pipeline.errors import InputError, ResourceError
from tests.store.test_dataset import answered, failed, names, open_out


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Twelve answers in three parts, the manifest's columns with the first, and a failure."""
    first = answered("000.jpg")
    first = replace(first, record=replace(first.record, extra='{"split": "train", "caption": "theirs"}'))
    with open_out(tmp_path / "out") as dataset:
        dataset.commit([first, *(answered(name) for name in names(11, 1)), failed("no.jpg")])
    return tmp_path / "out"


def test_reading_without_choices_gives_every_row(out: Path) -> None:
    """Proves the conveniences: money as float, the manifest's columns beside ours, a name of ours with a prefix."""
    frame = pipeline.read(out)
    stored = pd.read_parquet(out / "data")
    assert list(frame["id"]) == [*names(12), "no.jpg"]
    assert list(frame.columns) == [*stored.columns[:-1], "split", "record.caption"]
    assert frame["cost_usd"].dtype == "float64"
    assert (frame["cost_usd"][0], frame["split"][0], frame["record.caption"][0]) == (0.0020325, "train", "theirs")
    same = [name for name in stored.columns if name not in {"cost_usd", "record"}]
    pd.testing.assert_frame_equal(frame[same], stored[same])


def test_columns_and_rows_are_chosen(out: Path) -> None:
    """Proves that only the named columns come, in their order, and only the rows for which `where` is true."""
    frame = pipeline.read(out, columns=["status", "id"], where="error_kind = 'timeout' OR id < '002.jpg'")
    assert frame.to_dict("list") == {"status": ["ok", "ok", "failed"], "id": ["000.jpg", "001.jpg", "no.jpg"]}
    assert pipeline.read(out, columns=["cost_usd"], where="status = 'ok'")["cost_usd"].sum() == pytest.approx(0.02439)
    assert len(pipeline.read(out, where="status = 'invalid'")) == 0


def test_a_scan_gives_batches_as_they_are_stored(out: Path) -> None:
    """Proves that batches keep the stored types and the order of the parts, and come one after the other."""
    batches = list(pipeline.scan(out, columns=["id", "cost_usd"], where="cost_usd IS NOT NULL"))
    table = pa.Table.from_batches(batches)
    assert table.schema.field("cost_usd").type == pa.decimal128(18, 9)
    assert table["id"].to_pylist() == names(12)
    assert set(table["cost_usd"].to_pylist()) == {Decimal("0.002032500")}


def test_mistakes_are_named_before_anything_is_read(out: Path, tmp_path: Path) -> None:
    """Proves that `scan` refuses at once, not at its first batch, and that an empty OUT has no rows."""
    with pytest.raises(InputError, match="no column 'colour'; known: id, prompt_name"):
        pipeline.scan(out, columns=["id", "colour"])
    with pytest.raises(InputError, match="is expected at character 6"):
        pipeline.scan(out, where="id = ")
    with pytest.raises(InputError, match="no vision-batch output here"):
        pipeline.read(tmp_path / "nothing")
    (tmp_path / "new" / "data").mkdir(parents=True)
    assert len(pipeline.read(tmp_path / "new", columns=["id"])) == 0
    assert list(pipeline.scan(tmp_path / "new")) == []


def test_a_damaged_part_is_named(out: Path) -> None:
    """Proves that a flipped byte of a page is found by its checksum, and that the error names the part."""
    path = out / "data" / "part-00001.parquet"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    with pytest.raises(ResourceError, match="part-00001"):
        pipeline.read(out)
