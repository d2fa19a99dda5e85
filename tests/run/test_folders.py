"""Folders as people have them, through the command: what is said, asked and written."""

import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import pipeline
from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.sources import open_sources, passed_over
from tests.builders import ask
from tests.support import Command, MakeImage, emulator_get, unstamped

LINE = "4 images; passed over: 1 .aae, 1 .db, 2 without an image's first bytes, 1 unreadable"


@pytest.fixture
def phone(make_image: MakeImage) -> Path:
    """A folder with images, other files and what only looks like one."""
    for number, name in enumerate(("IMG 0001.JPG", "x.jpg/in'ner \".png", "line\nbreak.jpg")):
        make_image(f"phone/{name}", seed=number)
    folder = Path("phone").resolve()
    shutil.copy(folder / "IMG 0001.JPG", folder / "bare")
    for name in ("IMG_0001.AAE", "Thumbs.db", ".DS_Store", "notes", "zero"):
        (folder / name).write_bytes(b"" if name == "zero" else b"text")
    (folder / "gone").symlink_to("nowhere")
    return folder


def test_what_is_passed_over_is_said(phone: Path, command: Command, endpoint: str) -> None:
    """A run says it once, `estimate` and a dry run each time; the summaries for programs hold it too."""
    asked = ("run", "phone", "-o", "out", "--model", "gpt-4o", "--base-url", endpoint)
    code, out, err = command(*asked, "--dry-run")
    assert (code, out.splitlines()[0], "passed over" in err) == (0, LINE, False)
    assert json.loads(command(*asked, "--dry-run", "--json")[1])["passed_over"][".aae"] == 1
    code, _, err = command(*asked)
    assert code == 0
    assert [line for line in unstamped(err) if "passed over" in line] == [LINE]
    assert set(pd.read_parquet("out/data")["id"]) == {"IMG 0001.JPG", "bare", "x.jpg/in'ner \".png", "line\nbreak.jpg"}
    code, out, err = command(*asked, "--json")
    assert (code, "passed over" in err) == (0, False)
    assert json.loads(out)["passed_over"] == {
        ".aae": 1, ".db": 1, "without an image's first bytes": 2, "unreadable": 1,
    }  # fmt: skip
    assert "passed over in its sources: 1 .aae, 1 .db, " in command("status", "out")[1]
    (phone / "more.fits").write_bytes(b"data")
    assert "4 images; passed over: 1 .aae, 1 .db, 1 .fits, 2 " in command(*asked)[2]
    code, out, _ = command("estimate", "phone", "--model", "gpt-4o")
    assert (code, out.splitlines()[0][:50]) == (0, "4 images in phone; passed over: 1 .aae, 1 .db, 1 .")
    assert json.loads(command("estimate", "phone", "--model", "gpt-4o", "--json")[1])["passed_over"][".fits"] == 1


def test_a_folder_of_other_files_only(command: Command, phone: Path) -> None:
    """`source.extensions` decides alone, and the error names the key and what was there."""
    code, _, err = command("estimate", "phone", "--model", "gpt-4o", "--set", 'source.extensions=[".fits"]')
    assert code == 2
    assert "no images here; 10 other files were seen (2 .jpg, 1 .aae, 1 .db, 1 .png, 4 without suffix)" in err


def test_every_way_to_name_files(make_image: MakeImage, endpoint: str) -> None:
    """A glob, one image and each kind of manifest: every image is asked once, as its own bytes, with its columns."""
    hashes = [hashlib.sha256(make_image(f"photos/{n}.jpg", 40, 30, seed=n).read_bytes()).hexdigest() for n in range(2)]
    names = ["photos/0.jpg", "photos/1.jpg"]
    listed = pd.DataFrame({"image": names, "mood": ["calm", "bright"]})
    for name, separator in (("list.csv", ","), ("list.csv.gz", ","), ("list.tsv", "\t")):
        listed.to_csv(name, sep=separator, index=False)
    listed.to_json("list.jsonl", orient="records", lines=True)
    listed.to_parquet("list.parquet")
    Path("list.txt").write_text("\n".join(names))
    with_columns = [(f"list.{suffix}", names) for suffix in ("csv", "csv.gz", "tsv", "jsonl", "parquet")]
    without = [("list.txt", names), ("photos/*.jpg", ["0.jpg", "1.jpg"]), ("photos/0.jpg", ["0.jpg"])]
    for at, (source, ids) in enumerate([*with_columns, *without]):
        summary = ask(source, endpoint, out=f"out{at}")
        assert (summary.by_status, summary.requests) == ({"ok": len(ids)}, len(ids)), source
        rows = pd.read_parquet(f"out{at}/data").sort_values("id")
        assert (rows.id.tolist(), rows.sha256.tolist()) == (ids, hashes[: len(ids)]), source
        columns = [json.loads(text) for text in rows.record.dropna()]
        assert columns == ([{"mood": "calm"}, {"mood": "bright"}] if at < len(with_columns) else []), source


def test_rows_of_an_image_folder(make_image: MakeImage, endpoint: str) -> None:
    """The other columns stand in the prompt and in `record`; a row without its file fails, and nothing else does."""
    for number, name in enumerate(("a", "b", "unnamed")):
        make_image(f"set/train/{name}.jpg", seed=number)
    Path("set/train/metadata.csv").write_text("file_name,title\na.jpg,Quay\nb.jpg,Dog\ngone.jpg,None\n")
    summary = ask("set", endpoint, prompt="Is this a {{ title }}?")
    assert summary.by_status == {"ok": 2, "failed": 1}
    assert summary.by_error == {"image_missing": 1}
    assert summary.passed_over == {"without a row in the metadata": 1}
    rows = pd.read_parquet("out/data").set_index("id")
    assert {name: json.loads(record)["title"] for name, record in rows["record"].items()} == {
        "train/a.jpg": "Quay", "train/b.jpg": "Dog", "train/gone.jpg": "None",
    }  # fmt: skip


def test_prompts_that_build_on_sidecars(make_image: MakeImage, endpoint: str) -> None:
    """Each request has the text beside its image; a missing one is found before anything is sent."""
    for number, name in enumerate(("a", "b")):
        make_image(f"photos/{name}.jpg", seed=number)
    Path("photos/a.txt").write_text("one girl, smile")
    with pytest.raises(InputError, match=r"record 'b\.jpg': 'sidecar' is undefined"):
        ask("photos", endpoint, prompt="Tags: {{ sidecar }}")
    assert emulator_get(endpoint, "stats")["requests"] == 0
    summary = ask("photos", endpoint, prompt="Tags: {{ sidecar | default('none') }}. Describe the image.")
    assert summary.by_status == {"ok": 2}
    rows = pd.read_parquet("out/data").set_index("id")
    assert json.loads(rows["record"].to_dict()["a.jpg"]) == {"sidecar": "one girl, smile"}
    assert rows["prompt_tokens"].to_dict()["a.jpg"] > rows["prompt_tokens"].to_dict()["b.jpg"]
    assert rows["record"].isna().to_dict()["b.jpg"]


def test_sidecars_are_read_only_where_they_are_named(make_image: MakeImage, endpoint: str) -> None:
    """A prompt that is no template, or names other columns, opens no file beside an image."""
    make_image("photos/a.jpg")
    Path("photos/a.txt").mkdir()  # reading it is an error
    assert ask("photos", endpoint, prompt="What is a sidecar? {{ id }}", out="named").by_status == {"ok": 1}


def test_only_images_without_a_caption(make_image: MakeImage, endpoint: str) -> None:
    """`skip_captioned` passes over images with a caption beside them, and a night without others is no error."""
    for number, name in enumerate(("a", "b")):
        make_image(f"photos/{name}.jpg", seed=number)
    Path("photos/a.txt").write_text("done")
    summary = ask("photos", endpoint, skip_captioned=True)
    assert (summary.images, summary.by_status) == (1, {"ok": 1})
    assert summary.passed_over == {".txt": 1, "captioned before": 1}
    Path("photos/b.txt").write_text("done")
    summary = ask("photos", endpoint, skip_captioned=True)
    assert (summary.images, summary.asked, summary.exit_code) == (0, 0, 0)
    with pytest.raises(InputError, match=r"no images to estimate; passed over: 2 \.txt, 2 captioned before"):
        pipeline.estimate("photos", models=["gpt-4o"], skip_captioned=True, quiet=True)


def test_several_sources(make_image: MakeImage, endpoint: str, command: Command) -> None:
    """Folders, manifests and standard input in one run; what cannot be read is said before anything starts."""
    make_image("one/a.jpg", seed=1)
    make_image("one/sub/b.jpg", seed=2)
    make_image("two/c.jpg", seed=3)
    Path("one/a.fits").write_bytes(b"")
    Path("two/d.xcf").write_bytes(b"")
    Path("list.csv").write_text("id,image,title\nz,one/a.jpg,again\n")
    for wrong, message in (
        (["one", "./one/"], r"\./one/: this folder is named twice"),
        (["one/sub", "two", "one"], r"one/sub lies within one, which is a SOURCE too"),
        (["ftp://host/x", "one"], r"^ftp://host/x: "),
        (["one", "list.csv", "ftp://host/x"], r"^ftp://host/x: "),
        (["one", "-", "two", "-"], r"standard input \(-\) can be read only once"),
    ):
        with pytest.raises(InputError, match=message):
            open_sources(wrong, SourceConfig())
    source = open_sources(["one", "list.csv", "two"], SourceConfig())
    assert source.check() == 4
    assert dict(passed_over(source)) == {".fits": 1, ".xcf": 1}
    summary = pipeline.run(["one", "list.csv", "two"], out="out", base_url=endpoint, model="gpt-4o", quiet=True)
    assert summary.by_status == {"ok": 4}
    assert set(pd.read_parquet("out/data")["id"]) == {"a.jpg", "sub/b.jpg", "z", "c.jpg"}
    code, _, err = command("run", "two", "one", "two/..", "-o", "out", "--base-url", endpoint)
    assert (code, err.count("\n")) == (2, 1)
