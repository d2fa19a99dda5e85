"""Exports with images and requests, each read back by the library that it is for: counts and texts are equal."""

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openai import OpenAI
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from PIL import Image
from pydantic import TypeAdapter
from webdataset.tariterators import group_by_keys, tar_file_expander

import pipeline
from pipeline.errors import InputError, ResourceError
from pipeline.export import batchfile, hf
from pipeline.export import webdataset as shards
from pipeline.originals import Originals
from pipeline.store.outdir import to_toml
from tests.builders import ask
from tests.containers import tar_of
from tests.originals.test_originals import IMAGES
from tests.support import Command

LABELS = {"type": "object", "properties": {"mood": {"type": "string"}, "size": {"type": "object", "properties": {
    "w": {"type": "integer"}}, "required": ["w"]}, "a.b": {"type": "integer"}}, "required": ["mood", "size", "a.b"],
}  # fmt: skip


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, emulator_url: str) -> Path:
    """A folder, two shards and labels asked from there; `out`, `of-shards` and `labelled`."""
    work, before = tmp_path_factory.mktemp("asked"), Path.cwd()
    os.chdir(work)
    try:
        for name, data in IMAGES.items():
            (work / "photos" / "in").mkdir(parents=True, exist_ok=True)
            (work / "photos" / "in" / name).write_bytes(data)
        for number in range(2):
            members = [(f"a/b/{at}.png", data) for at, data in enumerate(IMAGES.values())]
            (work / f"{number}.tar").write_bytes(tar_of(members))
        ask("photos", emulator_url)
        ask("*.tar", emulator_url, out="of-shards")
        ask("photos", emulator_url, out="labelled", labels=LABELS)
    finally:
        os.chdir(before)
    return work


def captions(out: Path) -> dict[str, str]:
    rows = pipeline.read(out, ["id", "caption"], "status = 'ok'")
    return dict(zip(rows["id"], rows["caption"], strict=True))


def samples(shard: Path) -> list[dict[str, Any]]:
    """A shard as `webdataset` reads it, which closes no file of its own accord."""
    with shard.open("rb") as file:
        return list(group_by_keys(tar_file_expander([{"url": str(shard), "stream": file}])))


def decoded(data: bytes) -> tuple[tuple[int, int], bytes]:
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return picture.size, picture.tobytes()


def test_datasets_reads_image_folders_and_parquet(asked: Path, tmp_path: Path) -> None:
    """Proves texts, images and labels; that a second export is the same; that a card and small row groups are there."""
    out, expected = asked / "out", captions(asked / "out")
    for _ in range(2):
        pipeline.export(asked / "labelled", "imagefolder", tmp_path / "folder", caption_column="label")
        report = pipeline.export(out, "hf", tmp_path / "hf", template="sks, {{ caption }}")
        assert (report.rows, report.left_out) == (len(expected), {})
    cache = str(tmp_path / "cache")
    folder = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "folder"), split="train", cache_dir=cache)
    parquet = datasets.load_dataset(str(tmp_path / "hf"), split="train", cache_dir=cache)
    assert [name for name in folder.column_names if name != "image"] == [
        "label", "labels.mood", "labels.size.w", "labels.a.b"
    ]  # fmt: skip
    assert None not in folder["labels.a.b"]
    assert sorted(folder["label"]) == sorted(captions(asked / "labelled").values())
    assert dict(zip(parquet["id"], parquet["text"], strict=True)) == {n: f"sks, {t}" for n, t in expected.items()}
    for row in parquet:
        assert row["image"].convert("RGB").tobytes() == decoded(IMAGES[row["id"].removeprefix("in/")])[1]
    assert (tmp_path / "hf" / "README.md").read_text().startswith("---\nconfigs:")


def test_webdataset_reads_shards(asked: Path, tmp_path: Path) -> None:
    """Proves texts, images and rows of whole shards, which hold no slash and no second dot in their keys."""
    expected = captions(asked / "of-shards")
    report = pipeline.export(asked / "of-shards", "webdataset", tmp_path / "wds")
    assert (report.rows, len(expected)) == (2 * len(IMAGES), 2 * len(IMAGES))
    found = samples(tmp_path / "wds" / "00000.tar")
    assert {json.loads(one["json"])["id"]: one["txt"].decode() for one in found} == expected
    for one in found:
        assert hashlib.sha256(one["png"]).hexdigest() == json.loads(one["json"])["sha256"]


def test_a_table_beside_each_shard(asked: Path, tmp_path: Path, command: Command) -> None:
    """Proves that keys are those of `webdataset`, and that a table that is another program's is not replaced."""
    for arguments in (["--images", "none"], ["--images", "none", str(tmp_path)]):
        assert command("export", str(asked / "of-shards"), "--to", "webdataset", *arguments)[0] == 0
    expected = captions(asked / "of-shards")
    for number in range(2):
        rows = pq.read_table(asked / f"{number}.captions.parquet").to_pylist()
        assert rows == pq.read_table(tmp_path / f"{number}.captions.parquet").to_pylist()
        keys = [one["__key__"] for one in samples(asked / f"{number}.tar")]
        assert {row["key"]: row["text"] for row in rows} == {key: expected[f"{number}/{key}"] for key in keys}
    pq.write_table(pa.table({"a": [1]}), asked / "1.captions.parquet")
    code, _, said = command("export", str(asked / "of-shards"), "--to", "webdataset", "--images", "none")
    assert (code, "no export wrote it" in said) == (2, True)
    (asked / "1.captions.parquet").unlink()
    assert command("export", str(asked / "of-shards"), "--to", "webdataset")[0] == 2
    left = pipeline.export(asked / "out", "webdataset", images="none").left_out
    assert left == {"image that is in no shard of this machine": len(IMAGES)}


def test_requests_are_those_that_were_sent(asked: Path, tmp_path: Path, emulator_url: str) -> None:
    """Proves that the official client takes each body, and that the endpoint gives it the same answer."""
    lines, expected = list[Any](), dict[str, str]()
    for name in ("labelled", "out", "of-shards"):
        report = pipeline.export(asked / name, "openai-batch", tmp_path / "batch.jsonl")
        assert (report.notes, report.left_out) == ((), {})
        lines = [json.loads(line) for line in (tmp_path / "batch.jsonl").read_text().splitlines()]
        expected = captions(asked / name)
        assert [line["custom_id"] for line in lines] == list(expected)
        assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/chat/completions")}
    client = OpenAI(base_url=emulator_url, api_key="k")
    for line in lines[:2]:
        body: Any = TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(line["body"])
        assert client.chat.completions.create(**line["body"]).choices[0].message.content == expected[line["custom_id"]]
        assert body["model"] == "gpt-4o"


def test_what_has_changed_is_left_out(tmp_path: Path, emulator_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves it for images that are gone or others now, in all formats that hold them; and several prompts' names."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name, data in [*IMAGES.items(), ("gone.png", IMAGES["0.png"] + b" "), ("other.png", IMAGES["0.png"] + b"  ")]:
        Path("photos", name).write_bytes(data)
    two = {"prompts": [{"name": "one", "text": "First?"}, {"name": "two", "text": "Second?"}]}
    ask("photos", emulator_url, config=_toml(tmp_path, two))
    Path("photos", "gone.png").unlink()
    Path("photos", "other.png").write_bytes(b"x")
    report = pipeline.export("out", "openai-batch", "batch.jsonl", exclude_flags=["none"])
    assert report.left_out == {"image missing": 2, "image changed": 2}
    names = [json.loads(line)["custom_id"] for line in Path("batch.jsonl").read_text().splitlines()]
    assert sorted(names) == sorted(f"{prompt}/{name}" for prompt in ("one", "two") for name in IMAGES)
    for to in ("txt", "imagefolder", "hf", "webdataset"):
        with pytest.raises(InputError, match=r"answers to several prompts \(one, two\).*`prompt_name=one`"):
            pipeline.export("out", to, "x")
    with pytest.raises(InputError, match="out has no rows of a prompt 'three'; known: one, two"):
        pipeline.export("out", "csv", "x.csv", prompt_name="three")
    for to in ("imagefolder", "hf", "webdataset"):
        report = pipeline.export("out", to, to, prompt_name="two")
        assert (report.rows, report.left_out) == (len(IMAGES), {"image missing": 1, "image changed": 1})
        assert report.examples == {"image missing": ["gone.png"], "image changed": ["other.png"]}
        for dest in ("photos/new", "out/x", "photos"):
            with pytest.raises(InputError, match="lies within"):
                pipeline.export("out", to, dest, prompt_name="two")
        Path(f"mine-{to}").mkdir()
        Path(f"mine-{to}", "thesis.txt").write_text("x")
        with pytest.raises(InputError, match="holds other files"):
            pipeline.export("out", to, f"mine-{to}", prompt_name="two")
    assert pipeline.export("out", "imagefolder", "photos", prompt_name="one", images="none").rows == len(IMAGES) + 2


def _toml(tmp_path: Path, values: dict[str, Any]) -> Path:
    lines = [f"[[prompts]]\n{to_toml(one)}" for one in values["prompts"]]
    (tmp_path / "two.toml").write_text("\n".join(lines))
    return tmp_path / "two.toml"


@pytest.mark.parametrize("to", ["hf", "webdataset"])
def test_an_interrupted_export_goes_on(to: str, asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that complete files stay, that no image is read again, and that other rows begin anew."""
    monkeypatch.setattr(hf, "_FILE_BYTES", 1)
    monkeypatch.setattr(hf, "_GROUP_ROWS", 1)
    monkeypatch.setattr(shards, "_FILE_ROWS", 1)
    opened: list[str] = []
    original = Originals.open

    def flaky(self: Originals, row: Any) -> Any:
        opened.append(row["id"])
        if len(opened) == 3:
            raise OSError(28, "No space left on device")
        return original(self, row)

    monkeypatch.setattr(Originals, "open", flaky)
    with pytest.raises(ResourceError, match="No space left"):
        pipeline.export(asked / "out", to, tmp_path / "dest")
    assert len(_files(tmp_path / "dest")) == 2
    assert not list(tmp_path.rglob(".*.tmp"))
    report = pipeline.export(asked / "out", to, tmp_path / "dest")
    assert (report.rows, len(opened)) == (len(IMAGES), len(IMAGES) + 1)
    assert len(_files(tmp_path / "dest")) == len(IMAGES)
    assert pipeline.export(asked / "out", to, tmp_path / "dest").rows == len(IMAGES)
    assert len(opened) == len(IMAGES) + 1
    assert pipeline.export(asked / "out", to, tmp_path / "dest", where="id = 'in/0.png'").rows == 1
    assert len(_files(tmp_path / "dest")) == 1


def _files(dest: Path) -> list[Path]:
    return sorted(path for path in dest.rglob("*") if path.suffix in {".tar", ".parquet"})


def test_a_batch_has_a_most_of_requests(asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that requests go on in further files."""
    monkeypatch.setattr(batchfile, "MOST_REQUESTS", 2)
    report = pipeline.export(asked / "out", "openai-batch", tmp_path / "b.jsonl")
    files = sorted(tmp_path.iterdir())
    assert (report.rows, len(files)) == (len(IMAGES), -(-len(IMAGES) // 2))
    assert sum(len(path.read_text().splitlines()) for path in files) == len(IMAGES)


def test_nothing_to_export(asked: Path, tmp_path: Path) -> None:
    """Proves that no row makes a file without rows that its library reads."""
    for to, dest in (("jsonl", "a.jsonl"), ("csv", "a.csv"), ("parquet", "a.parquet"), ("openai-batch", "b.jsonl")):
        assert pipeline.export(asked / "out", to, tmp_path / dest, where="id = 'none'").rows == 0
        assert (tmp_path / dest).is_file()
    assert pipeline.export(asked / "out", "hf", tmp_path / "hf", where="id = 'none'").rows == 0
    assert pq.read_table(tmp_path / "hf" / "data").num_rows == 0
