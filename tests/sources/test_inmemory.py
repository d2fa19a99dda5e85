"""Records that the calling program holds, from the values to the rows of a run over loopback."""

import io
import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image, ImageCms, ImageOps

import pipeline
from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.images.locate import read_image
from pipeline.locations import ImageUrl, InMemoryImage, LocalFile
from pipeline.records import ImageRecord
from pipeline.sources import open_sources, source_list, source_name
from pipeline.sources.items import encoded
from tests.support import MakeImage

RED, BLUE = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (50, 30), "blue")


def records(items: Any, **settings: Any) -> list[ImageRecord]:
    return list(open_sources(source_list(items), SourceConfig(**settings)).records())


def picture_of(record: ImageRecord) -> Image.Image:
    data = read_image(record.images[0], 1 << 20)
    assert isinstance(data, bytes)
    return Image.open(io.BytesIO(data))


def test_one_source_or_several() -> None:
    """A list of paths names several sources; rows, images, iterators and sequences of them are one."""
    assert source_list("photos") == source_list(Path("photos")) == ["photos"]
    assert source_list(["a", Path("b.csv")]) == ["a", "b.csv"]
    rows = [{"image": "a.jpg"}]
    assert source_list(rows) == [rows]
    assert source_list([RED, BLUE]) == [[RED, BLUE]]
    assert source_list([rows, "photos"]) == [rows, "photos"]
    assert source_list(iter(["a.jpg", "b.jpg"])) == [["a.jpg", "b.jpg"]]
    assert [source_name(one) for one in (rows, Path("a"), "http://u:p@h/a")] == ["records in memory", "a", "http://h/a"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (pd.DataFrame({"id": ["a"], "image": ["a.jpg"]}), r'give `frame.to_dict\("records"\)`'),
        ({"id": "a", "image": "a.jpg"}, "not one dict"),
        (42, "not one int"),
    ],
)
def test_what_is_no_list_of_records(given: Any, said: str) -> None:
    """One sentence says what to give instead."""
    with pytest.raises(InputError, match=said):
        source_list(given)


class Rows:
    """A sequence as those of PyTorch are: `__getitem__` and a length."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, str]:
        return [{"image": "a.jpg"}, {"image": "b.jpg"}][index]


def test_a_sequence_without_an_iterator() -> None:
    """It is read by its numbers."""
    rows: Any = Rows()
    assert source_list(rows) == [rows]
    assert [record.id for record in records(rows)] == ["a.jpg", "b.jpg"]


def test_rows() -> None:
    """Columns are found as in a manifest; an image is a path, an address, bytes, an image, or bytes with a path."""
    rows = [
        {"id": 7, "image": "a/b.jpg", "caption": "a cat"},
        {"id": "eight", "image": Path("/abs.jpg"), "caption": None},
        {"id": "nine", "image": "http://h/a.jpg?sig=secret"},
        {"id": "ten", "image": RED, "caption": "red", "thumbnail": BLUE},
        {"id": "eleven", "image": {"bytes": None, "path": "c.jpg"}},
    ]
    found = records(rows)
    assert [(record.id, record.line, record.extra) for record in found] == [
        ("7", 1, '{"caption":"a cat"}'), ("eight", 2, '{"caption":null}'), ("nine", 3, None),
        ("ten", 4, '{"caption":"red"}'), ("eleven", 5, None),
    ]  # fmt: skip
    assert [record.images[0] for record in (*found[:3], found[4])] == [
        LocalFile("a/b.jpg", "a/b.jpg"), LocalFile("/abs.jpg", "/abs.jpg"),
        ImageUrl("http://h/a.jpg", "http://h/a.jpg?sig=secret"), LocalFile("c.jpg", "c.jpg"),
    ]  # fmt: skip
    assert isinstance(found[3].images[0], InMemoryImage)
    assert picture_of(found[3]).getpixel((0, 0)) == (255, 0, 0)


class _Colour(Enum):
    RED = "red"


def test_values_of_numpy_and_pandas_are_plain() -> None:
    """As a DataFrame's `to_dict("records")` gives them: what the file of the same frame would say."""
    values = {
        "taken": pd.Timestamp("2024-05-01"),
        "gone": pd.NaT,
        "none": pd.NA,
        "vector": np.arange(3),
        "every_other": np.arange(6)[::2],
        "count": np.int64(7),
        "share": np.float32(0.5),
        "good": np.True_,
        "nested": [{"n": np.int8(1)}],
        "path": Path("a/b"),
        "uuid": UUID(int=5),
        "colour": _Colour.RED,
    }
    expected = {
        "taken": "2024-05-01T00:00:00",
        "gone": None,
        "none": None,
        "vector": [0, 1, 2],
        "every_other": [0, 2, 4],
        "count": 7,
        "share": 0.5,
        "good": True,
        "nested": [{"n": 1}],
        "path": "a/b",
        "uuid": "00000000-0000-0000-0000-000000000005",
        "colour": "red",
    }
    for more in ({}, {"big": 2**70}):  # which orjson does not write
        (found,) = records([{"image": "a.jpg", "id": np.int64(3), **values, **more}])
        assert found.id == "3"
        assert json.loads(str(found.extra)) == {**expected, **more}


def test_images_without_a_name() -> None:
    """Their position is their id, and they are encoded only when they are read."""
    found = records([RED, BLUE])
    assert [(record.id, record.image) for record in found] == [("0", "0"), ("1", "1")]
    assert [picture_of(record).size for record in found] == [(40, 30), (50, 30)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "records in memory: no records"),
        ([{"text": "no image"}], "records in memory: no column that holds images; columns: text"),
        ([{"image": "a.jpg"}, {"image": None}], "record 2: the image is missing; fix the record, or skip"),
        ([{"image": "a.jpg", "id": 1.5}], "record 1: the id is a fraction"),
        ([7], "record 1: the image is a number, not text"),
        ([{"image": "a.jpg"}, {"image": "b.jpg"}, {"image": "a.jpg"}], "id 'a.jpg' on records 1 and 3"),
    ],
)
def test_what_is_wrong_names_the_record(rows: list[Any], message: str) -> None:
    """In the one pass before anything is sent."""
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        open_sources(source_list([rows] if rows == [] else rows)).check()


def test_bad_rows_are_skipped() -> None:
    """With `source.skip_bad_rows`."""
    assert [record.id for record in records([{"image": "a"}, {"image": 3}, {"image": "c"}], skip_bad_rows=True)] == [
        "a",
        "c",
    ]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr"])
def test_encoding_loses_nothing(mode: str) -> None:
    """Every mode comes back with the same pixels, its EXIF orientation and its colour profile."""
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    image = noise.convert("L").convert("I;16") if mode == "I;16" else noise.convert(mode)
    image.getexif()[0x0112] = 6
    if mode == "RGB":
        image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with Image.open(io.BytesIO(encoded(image))) as again:
        # Pillow turns a TIFF image upright as it loads it, and marks it so.
        kept = image if again.format == "PNG" else ImageOps.exif_transpose(image)
        assert again.getexif()[0x0112] == 6
        assert np.array_equal(np.asarray(again.convert(mode)), np.asarray(kept))
        assert again.info.get("icc_profile") == image.info.get("icc_profile")


def test_a_dataset_is_not_decoded_for_its_ids(make_image: MakeImage, tmp_path: Path) -> None:
    """A `datasets.Dataset` of files and of embedded images: the files as they are, not encoded again."""
    paths = [make_image(f"{number}.jpg", 64, 48, seed=number) for number in range(2)]
    stored = Dataset.from_dict({"picture": [str(path) for path in paths], "split": ["train", "test"]})
    dataset = stored.cast_column("picture", ImageFeature())
    found = records(dataset, image_column="picture")
    assert [record.extra for record in found] == ['{"split":"train"}', '{"split":"test"}']
    assert [record.images[0] for record in found] == [LocalFile(str(path), str(path)) for path in paths]
    embedded = Dataset.from_list([{"image": {"bytes": path.read_bytes(), "path": None}} for path in paths])
    inside = records(embedded.cast_column("image", ImageFeature()))
    assert [read_image(record.images[0], 1 << 20) for record in inside] == [path.read_bytes() for path in paths]


def test_a_run_over_images_in_memory(endpoint: str, tmp_path: Path) -> None:
    """From images to rows, through a real endpoint; a second run on the same OUT asks only for what is new."""

    def generated() -> Iterator[dict[str, object]]:
        yield {"id": "red", "image": RED, "split": "train"}
        yield {"id": "blue", "image": BLUE, "split": "test"}

    summary = pipeline.run(generated(), out=tmp_path / "out", model="gpt-4o", base_url=endpoint, quiet=True)
    assert (summary.exit_code, summary.images, summary.requests) == (0, 2, 2)
    rows = pipeline.read(tmp_path / "out").set_index("id")
    assert list(rows.loc[["red", "blue"], "width"]) == [40, 50]
    assert list(rows.loc[["red", "blue"], "split"]) == ["train", "test"]
    more = [*generated(), {"id": "third", "image": RED.resize((64, 64)), "split": "test"}]
    again = pipeline.run(more, out=tmp_path / "out", model="gpt-4o", base_url=endpoint, quiet=True)
    assert (again.skipped, again.requests) == (2, 1)
    estimate = pipeline.estimate(more, models="gpt-4o")
    assert (estimate.source, estimate.images, estimate.readable.expected) == ("records in memory", 3, 3)
