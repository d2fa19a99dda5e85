"""Image folders with `metadata.csv`, `.jsonl` or `.parquet`, as `datasets` reads them."""

import json
import os
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.locations import LocalFile
from pipeline.records import ImageRecord
from pipeline.sources import open_source, passed_over
from pipeline.sources.base import Source

ROWS = [{"file_name": "b.jpg", "title": "Ä, b", "n": 1}, {"file_name": "./x/a.jpg", "title": "a", "n": 2}]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        lines = [",".join(rows[0]), *(",".join(f'"{cell}"' for cell in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def plant(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)


def read(source: Source) -> list[ImageRecord]:
    found = list(source.records())
    assert source.check() == len(found)
    return found


def ids(root: Path, **settings: Any) -> list[str]:
    return [record.id for record in read(open_source(root, SourceConfig(**settings)))]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_rows_are_joined_with_their_images(tmp_path: Path, name: str) -> None:
    """Proves the order, ids, paths and other columns of each format; an image without a row is passed over."""
    plant(tmp_path, "b.jpg", "x/a.jpg", "x/c.png", "d.jpg")
    write(tmp_path / name, ROWS)
    source = open_source(tmp_path)
    records = read(source)
    assert [record.id for record in records] == ["b.jpg", "x/a.jpg"]
    places = [image for record in records for image in record.images]
    assert all(isinstance(place, LocalFile) and Path(place.path).is_file() for place in places)
    columns = [json.loads(record.extra or "") for record in records]
    assert [(row["title"], int(row["n"])) for row in columns] == [("Ä, b", 1), ("a", 2)]
    assert dict(passed_over(source)) == {"without a row in the metadata": 2}


def test_the_same_images_count_as_for_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves against `datasets` itself which images of a folder count, and that they come in the same order."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    plant(tmp_path / "photos", "b.jpg", "x/a.jpg", "x/c.png", "d.jpg", "x/y/e.jpg")
    write(tmp_path / "photos/metadata.jsonl", ROWS)
    write(tmp_path / "photos/x/y/metadata.jsonl", [{"file_name": "e.jpg", "title": "e", "n": 3}])
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "photos"), split="train", cache_dir=str(tmp_path / "cache")
    )
    theirs = [row["image"]["path"] for row in loaded.cast_column("image", datasets.Image(decode=False))]
    ours = [str(tmp_path / "photos" / name) for name in ids(tmp_path / "photos")]
    assert sorted(ours) == sorted(theirs)
    assert ours == [str(tmp_path / "photos" / name) for name in ("b.jpg", "x/a.jpg", "x/y/e.jpg")]


def test_metadata_of_subfolders(tmp_path: Path) -> None:
    """Proves that ids have the subfolder before them, and that a folder without metadata is walked as ever."""
    plant(tmp_path, "a.jpg", "test/b.jpg", "train/a.jpg", "train/deep/c.jpg")
    write(tmp_path / "train/metadata.jsonl", [{"file_name": "deep/c.jpg"}, {"file_name": "a.jpg"}])
    assert ids(tmp_path) == ["a.jpg", "test/b.jpg", "train/deep/c.jpg", "train/a.jpg"]


def test_ids_of_the_rows_count(tmp_path: Path) -> None:
    """Proves that a column `id` names the records, that `source.id_column` chooses, and that two rows may not agree."""
    plant(tmp_path, "s/a.jpg", "s/b.jpg")
    (tmp_path / "s/metadata.csv").write_text("file_name,id,k\na.jpg,7,x\nb.jpg,8,y\n")
    assert ids(tmp_path) == ["7", "8"]
    assert ids(tmp_path, id_column="k") == ["x", "y"]
    for name in ("metadata.csv", "metadata.jsonl", "metadata.parquet"):
        (tmp_path / "s/metadata.csv").unlink(missing_ok=True)
        write(tmp_path / "s" / name, [{"file_name": f"{one}.jpg", "id": one} for one in "ab"])
        assert ids(tmp_path, id_column="file_name") == ["s/a.jpg", "s/b.jpg"]
        (tmp_path / "s" / name).unlink()
    (tmp_path / "s/metadata.csv").write_text("file_name\na.jpg\na.jpg\n")
    with pytest.raises(InputError, match=r"id .s/a.jpg. stands for .* in two rows"):
        open_source(tmp_path).check()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"left_file_name": "a.jpg", "right_file_name": "b.jpg"}, ["a.jpg"]),
        ({"file_names": ["b.jpg", "a.jpg"], "title": "t"}, ["b.jpg", "a.jpg"]),
        ({"image": "no", "path": "no", "file_name": "b.jpg"}, ["b.jpg"]),
        ({"file_name": "gone.jpg"}, ["gone.jpg"]),
    ],
)
def test_columns_that_name_images(tmp_path: Path, row: dict[str, Any], expected: list[str]) -> None:
    """Proves which column counts; a list is one record, and a missing file is a record whose row will say so."""
    plant(tmp_path, "a.jpg", "b.jpg")
    write(tmp_path / "metadata.jsonl", [row])
    source = open_source(tmp_path)
    [record] = read(source)
    assert [image.name for image in record.images] == expected
    assert record.id == expected[0]
    assert source.has_several == (len(expected) > 1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.csv", "name,title\na,b\n", r"metadata\.csv: no column 'file_name'.*name, title.*metadata=false"),
        ("metadata.jsonl", "{oops\n", r"metadata\.jsonl:1: not valid JSON"),
        ("metadata.jsonl", '{"file_name": "a.jpg"}\n{"file_name": ""}\n', r"metadata\.jsonl:2: the image is empty"),
        ("metadata.csv", "file_name,t\na.jpg,1,2\n", r"metadata\.csv:2: 3 fields, where the header has 2"),
        ("metadata.parquet", "PAR1", r"metadata\.parquet: not a Parquet file"),
        ("metadata.csv", "", r"metadata\.csv: no column 'file_name'"),
    ],
)
def test_metadata_that_cannot_be_used(tmp_path: Path, name: str, text: str, message: str) -> None:
    """Proves that what is wrong with metadata is said with file and line, and that the folder can be read without."""
    plant(tmp_path, "a.jpg")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        open_source(tmp_path).check()
    assert ids(tmp_path, metadata=False) == ["a.jpg"]


def test_metadata_counts_for_folders_only(tmp_path: Path) -> None:
    """Proves that a glob selects files, that two formats in a folder are refused, and that bad rows can be skipped."""
    plant(tmp_path, "a.jpg", "b.jpg")
    write(tmp_path / "metadata.csv", [{"file_name": "a.jpg", "t": "1"}])
    assert [record.id for record in read(open_source(f"{tmp_path}/*.jpg"))] == ["a.jpg", "b.jpg"]
    (tmp_path / "metadata.csv").write_text("file_name,t\na.jpg,1\nb.jpg\n")
    source = open_source(tmp_path, SourceConfig(skip_bad_rows=True))
    assert [record.id for record in read(source)] == ["a.jpg"]
    assert source.skipped == 1
    write(tmp_path / "metadata.jsonl", [{"file_name": "a.jpg"}])
    with pytest.raises(InputError, match=r"holds metadata\.csv and metadata\.jsonl"):
        open_source(tmp_path).check()


def test_only_regular_files_are_metadata(tmp_path: Path) -> None:
    """Proves that a pipe called `metadata.csv` is passed over and never waited for, and that a link is followed."""
    plant(tmp_path / "a", "a.jpg", "b.jpg")
    os.mkfifo(tmp_path / "a/metadata.csv")
    source = open_source(tmp_path / "a")
    assert [record.id for record in read(source)] == ["a.jpg", "b.jpg"]
    assert dict(passed_over(source)) == {".csv": 1}
    (tmp_path / "a/metadata.csv").unlink()
    write(tmp_path / "rows.csv", [{"file_name": "b.jpg"}])
    (tmp_path / "a/metadata.csv").symlink_to(tmp_path / "rows.csv")
    assert ids(tmp_path / "a") == ["b.jpg"]


def test_rows_count_whatever_their_suffix(tmp_path: Path) -> None:
    """Proves that `source.extensions` passes over no image that a row names, and those of folders without rows."""
    plant(tmp_path, "x/a.jpg", "x/b.jpg", "x/c.png", "x/deep/d.jpg", "y/e.jpg", "y/f.png")
    write(tmp_path / "x/metadata.csv", [{"file_name": name} for name in ("a.jpg", "c.png", "deep/d.jpg")])
    source = open_source(tmp_path, SourceConfig(extensions=(".png",)))
    assert [record.id for record in read(source)] == ["x/a.jpg", "x/c.png", "x/deep/d.jpg", "y/f.png"]
    assert dict(passed_over(source)) == {"without a row in the metadata": 1, ".jpg": 1}
