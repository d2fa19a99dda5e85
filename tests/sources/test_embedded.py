"""Images inside of Parquet and Arrow files, as `datasets`, img2dataset and pyarrow write them."""

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.images.locate import read_image
from pipeline.locations import EmbeddedImage, LocalFile
from pipeline.records import Failure, ImageRecord
from pipeline.sources import embedded, open_source
from pipeline.sources.embedded import EmbeddedColumn
from pipeline.sources.tables import ImageCells, cells_of
from tests.containers import table_bytes

SKIP = SourceConfig(skip_bad_rows=True)
FILE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
ONE, TWO = {"bytes": b"one", "path": "1.jpg"}, {"bytes": b"two", "path": None}
ELSEWHERE, NOTHING = {"bytes": None, "path": "sub/3.jpg"}, {"bytes": None, "path": None}


def table(kind: Any, cells: list[Any], name: str = "image", **columns: Any) -> pa.Table:
    return pa.table({name: pa.array(cells, kind), **columns})


def read(path: Path, config: SourceConfig | None = None) -> list[ImageRecord]:
    source = open_source(path, config)
    count = source.check()
    records = list(source.records())
    assert count == len(records)
    return records


def images_of(records: list[ImageRecord]) -> list[list[bytes | Failure]]:
    return [[read_image(image, 1 << 20) for image in record.images] for record in records]


def written(path: Path, data: pa.Table, rows: int = 2) -> Path:
    """As Parquet, or as an Arrow stream."""
    path.write_bytes(table_bytes(path.suffix[1:], data, rows))
    return path


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        (FILE, [ONE, TWO, ONE]),
        (pa.struct({"bytes": pa.binary()}), [{"bytes": b"one"}, {"bytes": b"two"}, {"bytes": b"one"}]),
        (pa.binary(), [b"one", b"two", b"one"]),
        (pa.large_binary(), [b"one", b"two", b"one"]),
    ],
)
def test_one_image_a_row(tmp_path: Path, suffix: str, kind: Any, cells: list[Any]) -> None:
    """Hugging Face's struct and plain bytes: the id is the file's name and the row, no record holds bytes."""
    records = read(written(tmp_path / f"m.{suffix}", table(kind, cells, label=[7, 8, 9])))
    assert [record.id for record in records] == [f"m.{suffix}#{row}" for row in (1, 2, 3)]
    assert [record.extra for record in records] == [f'{{"label":{label}}}' for label in (7, 8, 9)]
    assert records[0].image == ("1.jpg" if kind == FILE else f"m.{suffix}#1")
    assert (records[1].image, records[1].line) == (f"m.{suffix}#2", 2)
    assert all(record.held_bytes < 1000 for record in records)
    assert images_of(records) == [[b"one"], [b"two"], [b"one"]]
    assert images_of(records[::-1]) == [[b"one"], [b"two"], [b"one"]]  # once more, from the end


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("kind", [pa.list_(FILE), pa.large_list(FILE), pa.list_(pa.binary())])
def test_lists_of_images(tmp_path: Path, suffix: str, kind: Any) -> None:
    """Several images a record; an empty list and a null in a list are rows that are named, or skipped."""
    has_names = kind != pa.list_(pa.binary())
    cells: list[Any] = [[ONE, TWO], [TWO], [ONE, TWO, ONE]]
    rows = cells if has_names else [[one["bytes"] for one in row] for row in cells]
    path = written(tmp_path / f"m.{suffix}", table(kind, rows, "images", id=["a", "b", "c"]))
    source = open_source(path)
    records = read(path)
    assert [(record.id, len(record.images)) for record in records] == [("a", 2), ("b", 1), ("c", 3)]
    assert images_of(records) == [[b"one", b"two"], [b"two"], [b"one", b"two", b"one"]]
    first = "1.jpg" if has_names else f"m.{suffix}#1/0"
    assert [image.name for image in records[0].images] == [first, f"m.{suffix}#1/1"]
    assert source.check() == 3
    assert source.has_several
    odd = [*rows, [], None, [rows[0][0], None]]
    path = written(tmp_path / f"odd.{suffix}", table(kind, odd, "images"))
    with pytest.raises(InputError, match=rf"odd\.{suffix}: row 4: the list of images is empty; fix the row, or skip"):
        open_source(path).check()
    source = open_source(path, SKIP)
    assert (source.check(), source.skipped) == (3, 3)
    assert images_of(list(source.records())) == [[b"one", b"two"], [b"two"], [b"one", b"two", b"one"]]


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_path_in_place_of_bytes(tmp_path: Path, suffix: str) -> None:
    """A struct without bytes is its path, relative to the file; one without both is a row that is named."""
    path = written(tmp_path / f"m.{suffix}", table(FILE, [ONE, ELSEWHERE, NOTHING, None, TWO]))
    with pytest.raises(InputError, match=rf"m\.{suffix}: row 3: the image is missing; fix the row, or skip"):
        open_source(path).check()
    source = open_source(path, SKIP)
    assert (source.check(), source.skipped) == (3, 2)
    first, second, third = source.records()
    assert [one.id for one in (first, second, third)] == [f"m.{suffix}#1", "sub/3.jpg", f"m.{suffix}#5"]
    assert second.images == (LocalFile("sub/3.jpg", f"{tmp_path}/sub/3.jpg"),)
    assert images_of([first, third]) == [[b"one"], [b"two"]]
    path = written(tmp_path / f"paths.{suffix}", table(FILE, [ELSEWHERE] * 2, id=[1, 2]))
    assert [record.images for record in read(path)] == [second.images] * 2


@pytest.mark.parametrize(
    ("columns", "config", "expected"),
    [
        ({"url": pa.string(), "jpg": pa.binary()}, {}, "jpg"),
        ({"url": pa.string(), "webp": pa.binary(), "key": pa.string()}, {"id_column": "key"}, "webp"),
        ({"img": FILE, "label": pa.string()}, {}, "img"),
        ({"photo": pa.binary()}, {"image_column": "photo"}, "photo"),
        ({"path": pa.string(), "thumb": pa.binary()}, {}, "path"),
        ({"url": pa.string(), "jpg": pa.string()}, {}, "url"),
        ({"image": FILE, "url": pa.string()}, {"image_column": "url"}, "url"),
        ({"photo": pa.binary()}, {}, "no column that holds images; columns: photo"),
        ({"a": FILE, "b": FILE}, {}, "no column that holds images; columns: a, b"),
        ({"image": pa.int64()}, {}, "the column 'image' holds int64, not paths, addresses or images"),
        ({"image": pa.list_(pa.int64())}, {}, "not paths, addresses or images"),
        ({"image": pa.struct({"bytes": pa.int64()}), "url": pa.string()}, {}, "`source.image_column=url`"),
    ],
)
def test_which_column(tmp_path: Path, columns: dict[str, Any], config: dict[str, str], expected: str) -> None:
    """The columns of img2dataset, of Hugging Face, by name and by type; what is none is one line."""
    cells = {FILE: ONE, pa.binary(): b"jpg", pa.string(): "text", pa.int64(): 1, pa.list_(pa.int64()): [1]}
    data = {name: pa.array([cells.get(kind)], kind) for name, kind in columns.items()}
    path = written(tmp_path / "m.parquet", pa.table(data))
    if expected not in columns:
        with pytest.raises(InputError) as caught:
            open_source(path, SourceConfig(**config)).check()
        assert expected in str(caught.value)
        return
    [record] = read(path, SourceConfig(**config))
    assert isinstance(record.images[0], EmbeddedImage if columns[expected] != pa.string() else LocalFile)
    assert expected not in json.loads(record.extra or "{}")
    assert record.id == ("text" if columns[expected] == pa.string() or config.get("id_column") else "m.parquet#1")


def test_no_pass_reads_images(tmp_path: Path) -> None:
    """Neither the check nor a pass over the records touches the bytes: with these damaged both go through."""
    cells = [{"bytes": b"needle" + bytes([number]) * 100, "path": f"{number}.jpg"} for number in range(40)]
    path = written(tmp_path / "m.parquet", table(FILE, cells, n=list(range(40))), rows=20)
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + whole[4:].replace(b"needle", b"\xff" * 6, 1))
    page = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    path.write_bytes(whole[:page] + b"\xff" * 8 + whole[page + 8 :])
    records = read(path)
    assert len(records) == 40
    found = images_of(records)
    assert all(isinstance(one, Failure) and "damaged from row 1 on" in one.message for [one] in found[:20])
    assert [one for [one] in found[20:]] == [cell["bytes"] for cell in cells[20:]]


def test_threads_share_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any order, by several threads at once, and far apart, each gets its own image; what is held is bounded."""
    monkeypatch.setattr(embedded, "_BATCH_BYTES", 3_000)
    monkeypatch.setattr(embedded, "_HELD_BYTES", 10_000)
    monkeypatch.setattr(embedded, "_NEIGHBOURS", 8)
    cells = [bytes([number]) * 1000 for number in range(200)]
    path = written(tmp_path / "m.parquet", table(pa.binary(), cells), rows=50)
    records = read(path)
    [column] = {id(one.images[0].read.func.__self__): one.images[0].read.func.__self__ for one in records}.values()  # type: ignore[union-attr] # a partial
    assert isinstance(column, EmbeddedColumn)
    most, lock = 0, threading.Lock()

    def read_one(number: int) -> bool:
        nonlocal most
        found = read_image(records[number].images[0], 1 << 20)
        with lock:
            most = max(most, column._held_bytes)
        return found == cells[number]

    for order in (range(200), range(199, -1, -7), [0, 199, 3, 120, 60, 0, 61, 59]):
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read_one, order))
    assert most <= 10_000 + 2_000


def test_neighbours_over_the_end_of_a_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is one row ahead, in the next row group, sends no other one back to the beginning."""
    monkeypatch.setattr(embedded, "_BATCH_BYTES", 1)
    records = read(written(tmp_path / "m.parquet", table(pa.binary(), [b"%d" % n for n in range(40)]), rows=10))
    passes: list[list[int]] = []
    plain = pq.ParquetFile.iter_batches

    def noted(file: pq.ParquetFile, rows: int, **more: Any) -> Any:
        passes.append(more["row_groups"])
        return plain(file, rows, **more)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    order = [0, *(at + step for at in range(1, 39, 2) for step in (1, 0)), 39]
    assert images_of([records[at] for at in order]) == [[b"%d" % at] for at in order]
    assert passes == [[0], [1], [2], [3]]
    order = [0, *range(2, 9), 11, 9, 1, 10]
    assert images_of([records[at] for at in order]) == [[b"%d" % at] for at in order]


def test_a_large_row_group_is_not_read_whole(tmp_path: Path) -> None:
    """64 MB in one row group of several pages: a pass over the images holds a fraction."""
    data = table(pa.binary(), [bytes([number]) * (1 << 20) for number in range(64)])
    pq.write_table(data, tmp_path / "m.parquet", compression="none", use_dictionary=False, write_batch_size=4)
    del data
    column = EmbeddedColumn(str(tmp_path / "m.parquet"), "image", ImageCells(is_list=False, bytes=None, path=None), "m")
    before, most = pa.total_allocated_bytes(), 0
    for row in range(1, 65):
        assert column.read(row, 0)[:1] == bytes([row - 1])
        most = max(most, pa.total_allocated_bytes() - before + column._held_bytes)
    assert most < 32 << 20


# --- datasets on disk ---


def saved(folder: Path, rows: int = 5) -> datasets.Dataset:
    cells = [{"bytes": b"%d" % number, "path": None} for number in range(rows)]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    found = datasets.Dataset.from_dict({"image": cells, "text": [f"t{n}" for n in range(rows)]}, features=features)
    found.save_to_disk(folder, num_shards=2)
    return found


def test_a_dataset_on_disk(tmp_path: Path) -> None:
    """What `save_to_disk` writes, and a dictionary of splits: each file's rows, in order, without `datasets`."""
    split = saved(tmp_path / "one")
    records = read(tmp_path / "one")
    first, second = "data-00000-of-00002.arrow", "data-00001-of-00002.arrow"
    assert [record.id for record in records] == [
        *(f"{first}#{row}" for row in (1, 2, 3)),
        *(f"{second}#{row}" for row in (1, 2)),
    ]
    assert images_of(records) == [[b"%d" % number] for number in range(5)]
    assert [record.extra for record in records] == [f'{{"text":"t{number}"}}' for number in range(5)]
    datasets.DatasetDict({"train": split, "test": split.select(range(2))}).save_to_disk(tmp_path / "both")
    ids = [record.id for record in read(tmp_path / "both")]
    assert [ids[0], ids[-1]] == ["train/data-00000-of-00001.arrow#1", "test/data-00000-of-00001.arrow#2"]
    split.to_parquet(tmp_path / "m.parquet")
    assert images_of(read(tmp_path / "m.parquet")) == images_of(records)
    (tmp_path / "one" / second).unlink()
    with pytest.raises(InputError, match="data-00001-of-00002"):
        open_source(tmp_path / "one").check()
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(InputError, match=r"state\.json: describes no dataset that `datasets` has saved; save it again"):
        open_source(tmp_path / "one")


def test_arrow_files_that_are_odd(tmp_path: Path) -> None:
    """A file that is cut or no Arrow file, and one whose images are packed, are one line each."""
    data = table(FILE, [ONE, TWO], text=["x", "y"])
    whole = written(tmp_path / "m.arrow", data, rows=1).read_bytes()
    for content, message in (
        (b"", "not an Arrow file, or cut short"),
        (b"nothing of the kind", "not an Arrow file, or cut short"),
        (whole[: len(whole) - 200], "damaged after row"),
    ):
        (tmp_path / "cut.arrow").write_bytes(content)
        with pytest.raises(InputError, match=message):
            open_source(tmp_path / "cut.arrow").check()
    sink = io.BytesIO()
    large = table(FILE, [{"bytes": bytes(5000), "path": None}])
    with pa.ipc.new_file(sink, large.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(large)
    (tmp_path / "packed.arrow").write_bytes(sink.getvalue())
    with pytest.raises(InputError, match=r"its images are packed, .*; save the dataset with `datasets`, or as Parquet"):
        open_source(tmp_path / "packed.arrow").check()
    with pa.OSFile(str(tmp_path / "file.arrow"), "wb") as file, pa.ipc.new_file(file, data.schema) as writer:
        writer.write_table(data)
    assert images_of(read(tmp_path / "file.arrow")) == [[b"one"], [b"two"]]


def test_values_that_a_dictionary_repeats(tmp_path: Path) -> None:
    """A file of a few hundred bytes whose 400 rows share one value of 4 MB: batches are bounded by what rows take."""
    rows, most = 400, 48 << 20
    value, text = (
        pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([one]))
        for one in (b"\xff\xd8" + bytes(4 << 20), "x" * (4 << 20))
    )
    columns = {
        "flat": {"image": value},
        "struct": {"image": pa.StructArray.from_arrays([value, pa.nulls(rows, pa.string())], ["bytes", "path"])},
        "texts": {"image": pa.array([f"{row}.jpg" for row in range(rows)]), "caption": text},
        "list": {"image": pa.ListArray.from_arrays(pa.array([0, rows], pa.int32()), value)},
    }
    for name, found in columns.items():
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table(found), path, store_schema=False, compression="zstd")
        assert path.stat().st_size < 20_000
        before = pa.total_allocated_bytes()
        source = open_source(path, SourceConfig(max_record_kb=1))
        if name == "list":
            with pytest.raises(InputError, match="the column 'image' takes 1,600 MiB in one row; divide it"):
                source.check()
            continue
        if name == "texts":
            with pytest.raises(InputError, match="row 1: its other columns take 4,096 KiB"):
                source.check()
            continue
        for number, record in enumerate(source.records()):
            if number in {0, 1, rows - 1}:
                assert read_image(record.images[0], 8 << 20) == b"\xff\xd8" + bytes(4 << 20)
            assert pa.total_allocated_bytes() - before < most
        assert number == rows - 1


def test_values_that_an_arrow_dictionary_repeats(tmp_path: Path) -> None:
    """Each is one object, whatever the number of its rows."""
    column = pa.DictionaryArray.from_arrays(pa.array([0, None, 1, 0], pa.int32()), pa.array(["x" * 1000, None]))
    first, nothing, also_nothing, last = cells_of(column)
    assert (len(first), nothing, also_nothing) == (1000, None, None)
    assert first is last
