"""Captions for batches of a dataset: any kind of image, typed columns, and rows that fail alone."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

import pipeline
from pipeline.ray import Captioner
from tests.emulators import emulator
from tests.support import MakeImage, emulator_get

SCHEMA = {
    "type": "object",
    "properties": {"orientation": {"type": "string"}, "width": {"type": "integer"}},
    "required": ["orientation", "width"],
}


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 30, 30)).save(file, "JPEG")
    return file.getvalue()


def test_each_format_of_a_batch_gets_typed_columns_and_failed_rows_stay_alone(make_image: MakeImage) -> None:
    path = str(make_image("one.jpg", 60, 40))
    images: list[Any] = [jpeg(), b"no image", path, "/not/there.jpg", None]
    objects = np.empty(5, dtype=object)
    objects[:] = images
    with emulator(["--rpm", "6000"]) as url:
        captioner = Captioner(image="im", prefix="a_", base_url=url, model="gpt-4o")
        batches: list[Any] = [
            {"im": objects, "n": np.arange(5)},
            pa.table({"im": pa.array([jpeg(), b"no image", None, b"", jpeg()], pa.binary()), "n": range(5)}),
            pd.DataFrame({"im": images, "n": range(5)}, index=[3, 1, 4, 1, 5]),
        ]
        arrow = pa.table({name: values for name, values in captioner(batches[0]).items() if name != "im"})
        table, frame = captioner(batches[1]), captioner(batches[2])
        assert arrow["a_status"].to_pylist() == ["ok", "failed", "ok", "failed", "failed"]
        assert table["a_status"].to_pylist() == ["ok", "failed", "failed", "failed", "ok"]
        assert frame["a_status"].to_list() == arrow["a_status"].to_pylist()
        assert list(frame.index) == [3, 1, 4, 1, 5]
        assert arrow["a_error_kind"].to_pylist()[:4] == [None, "image_unsupported", None, "image_missing"]
        for name, kind in (("a_caption", pa.string()), ("a_prompt_tokens", pa.int64()), ("a_error_kind", pa.string())):
            assert table.schema.field(name).type == arrow.schema.field(name).type == kind
            assert frame[name].dtype == pd.ArrowDtype(kind)
        pixels = captioner({"im": np.zeros((3, 20, 30, 3), np.uint8), "n": [1, 2, 3]})
        assert pixels["a_caption"][2].as_py().startswith("A landscape-format image, 30 x 20 pixels")
        floats = captioner({"im": np.zeros((1, 20, 30), np.float32)})
        assert "pixels are 8 or 16 bits" in floats["a_error_message"][0].as_py()
        assert captioner({"im": []})["a_status"].to_pylist() == []
        with pytest.raises(pipeline.InputError, match="no column 'im'; the dataset has picture"):
            captioner({"picture": objects})
        assert emulator_get(url, "stats")["requests"] == 2 + 2 + 2 + 3
        captioner.close()


def test_labels_and_templates_and_what_ends_all(tmp_path: Path) -> None:
    with emulator(["--api-key", "right"]) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "right")
        captioner = Captioner(base_url=url, model="gpt-4o", labels=SCHEMA, prompt="Is it a {{ title }}?")
        found = captioner({"image": [jpeg(), jpeg()], "title": np.array(["cat", "dog"]), "other": [b"x", None]})
        assert found["labels"].type == pa.struct({"orientation": pa.string(), "width": pa.int64()})
        assert found["labels"][0].as_py()["width"] is not None
        captioner.close()
        patch.setenv("OPENAI_API_KEY", "wrong")
        refused = Captioner(base_url=url, model="gpt-4o")
        for _ in range(2):
            with pytest.raises(pipeline.EndpointStoppedError):
                refused({"image": [jpeg()]})
        with pytest.raises(pipeline.InputError, match="one prompt"):
            Captioner(overrides={"prompts": [{"name": "a", "text": "A?"}, {"name": "b", "text": "B?"}]})
        bounded = Captioner(base_url=url, api_key_env="RIGHT", model="gpt-4o", max_requests=2)
        patch.setenv("RIGHT", "right")
        with pytest.raises(pipeline.BudgetReachedError):
            bounded({"image": [jpeg()] * 3})
