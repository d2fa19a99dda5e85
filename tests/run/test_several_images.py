"""Records of several images: a list in a row, or neighbouring rows of a manifest."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.errors import InputError
from pipeline.export import export
from tests.builders import ask
from tests.support import Command, MakeImage

FOUR = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
ROWS = [{"id": "one", "images": FOUR}, {"id": "two", "images": ["d.jpg"]}]
TEXTS = [None, "before", None, "after"]


@pytest.fixture
def photos(make_image: MakeImage) -> None:
    for number, name in enumerate(FOUR):
        make_image(name, 640 + 100 * number, 480, seed=number)


def written(kind: str) -> str:
    """The same two records as a manifest of each kind."""
    if kind == "jsonl":
        Path("list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif kind == "objects":
        each = [{**row, "images": [{"image": one, "text": None} for one in row["images"]]} for row in ROWS]
        Path("list.objects.jsonl").write_text("".join(json.dumps(row) + "\n" for row in each))
        return "list.objects.jsonl"
    elif kind == "csv":
        pd.DataFrame([{**row, "images": json.dumps(row["images"])} for row in ROWS]).to_csv("list.csv", index=False)
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), "list.parquet")
    return f"list.{kind}"


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("kind", ["jsonl", "objects", "csv", "parquet"])
def test_a_list_is_one_record(kind: str, emulator_url: str) -> None:
    """Four images in one record bill the sum of their predictions; the column `images` describes each."""
    summary = ask(written(kind), emulator_url)
    assert (summary.images, summary.by_status) == (2, {"ok": 2})
    one, two = rows().to_dict("records")
    alone = [ask(name, emulator_url, out=f"alone-{name}").prompt_tokens or 0 for name in FOUR]
    assert one["prompt_tokens"] == one["predicted_prompt_tokens"] == sum(alone) - 3 * _text_tokens(emulator_url)
    assert [image["image"] for image in one["images"]] == FOUR
    assert [image["width"] for image in one["images"]] == [640, 740, 840, 940]
    assert (one["image"], one["width"], len(two["images"])) == ("a.jpg", 640, 1)
    assert two["prompt_tokens"] == alone[-1]


def _text_tokens(url: str) -> int:
    """Of the default prompt: what is billed beside the image."""
    (model,) = pipeline.estimate("a.jpg", quiet=True, model="gpt-4o", base_url=url).models
    return model.text_tokens.expected


def rows(out: str = "out") -> pd.DataFrame:
    return pd.read_parquet(f"{out}/data").sort_values("id", ignore_index=True)


def body_of(source: Any, url: str, **more: Any) -> list[Any]:
    """The parts of the last message of the first request."""
    shown = pipeline.dry_run(source, model="gpt-4o", base_url=url, **more)
    parts: list[Any] = json.loads(shown[shown.index("{") :])["messages"][-1]["content"]
    return [part.get("text", part["type"]) for part in parts]


@pytest.mark.usefixtures("photos")
def test_rows_of_one_group_are_one_record(emulator_url: str, command: Command) -> None:
    """Pages of a document in their order, each with its text before it; the id is the value of the column."""
    pages = [("x", "c.jpg", "page 1"), ("x", "a.jpg", ""), ("y", "b.jpg", "")]
    frame = pd.DataFrame([{"doc": doc, "image": image, "image_text": text, "lang": "de"} for doc, image, text in pages])
    frame.to_csv("pages.csv", index=False)
    code, _, stderr = command(
        "run", "pages.csv", "-o", "out", "--model", "gpt-4o", "--base-url", emulator_url, "--group-by", "doc", "-q"
    )
    assert code == 0, stderr
    table = rows()
    assert list(table["id"]) == ["x", "y"]
    assert [[image["image"] for image in images] for images in table["images"]] == [["c.jpg", "a.jpg"], ["b.jpg"]]
    assert json.loads(table["record"][0])["lang"] == "de"
    assert (table["predicted_prompt_tokens"] - table["prompt_tokens"]).between(0, 1).all()
    parts = body_of("pages.csv", emulator_url, prompt="What?", group_by="doc")
    assert parts == ["What?", "page 1", "image_url", "image_url"]
    again = ask("pages.csv", emulator_url, group_by="doc")
    assert (again.asked, again.skipped) == (0, 2)
    in_memory = [{"doc": doc, "image": image, "image_text": text} for doc, image, text in pages]
    assert body_of(in_memory, emulator_url, prompt="What?", group_by="doc") == parts


@pytest.mark.usefixtures("photos")
def test_texts_of_images_in_a_list(emulator_url: str) -> None:
    """A list of objects, or a column `image_text` beside the list of images, gives each image its text."""
    listed = {"image": ["a.jpg", "b.jpg"], "image_text": [None, "after"]}
    objects = {"image": [{"image": "a.jpg"}, {"image": "b.jpg", "text": "after"}]}
    for row in (listed, objects):
        Path("list.jsonl").write_text(json.dumps(row) + "\n")
        assert body_of("list.jsonl", emulator_url, prompt="?") == ["?", "image_url", "after", "image_url"]


@pytest.mark.usefixtures("photos")
def test_one_broken_image_fails_the_record_before_sending(emulator_url: str) -> None:
    """Nothing of the record is sent; the row names the image and lists all of them."""
    Path("c.jpg").write_bytes(b"no image")
    summary = ask(written("jsonl"), emulator_url)
    assert (summary.by_status, summary.requests) == ({"failed": 1, "ok": 1}, 1)
    failed = rows().query("id == 'one'").iloc[0]
    assert failed["error_kind"] == "image_unsupported"
    assert failed["error_message"].startswith("c.jpg: ")
    assert [image["image"] for image in failed["images"]] == FOUR


@pytest.mark.usefixtures("photos")
def test_too_many_images_are_not_sent(emulator_url: str) -> None:
    """More images than the model accepts in a request fail the record before sending."""
    Path("list.jsonl").write_text(json.dumps({"id": "six", "images": [*FOUR, *FOUR[:2]]}) + "\n")
    summary = ask("list.jsonl", emulator_url, overrides={"catalogue.host": "api.groq.com"})
    assert (summary.by_status, summary.requests) == ({"failed": 1}, 0)
    failed = rows().iloc[0]
    assert failed["error_kind"] == "request_too_large"
    assert "6 images in one request are more than the 5" in failed["error_message"]


@pytest.mark.parametrize(
    ("source", "text", "settings", "message"),
    [
        ("p.csv", "doc,image\nx,a\ny,b\nx,c\n", {"group_by": "doc"}, "'x' .column 'doc'. begin on lines 2 and 4"),
        ("p.csv", "doc,image\nx,a\n", {"group_by": "page"}, "no column 'page'; columns: doc, image"),
        ("p.txt", "a.jpg\n", {"group_by": "doc"}, "`source.group_by` names a column"),
        ("p.jsonl", '{"image": []}\n', {}, "p.jsonl:1: the list of images is empty"),
        ("p.jsonl", '{"image": ["a", 3]}\n', {}, "p.jsonl:1: the image is a number, not text"),
        ("p.jsonl", '{"image": [{"image": "a", "text": 3}]}\n', {}, "the text of an image is int, not text"),
    ],
)
def test_what_cannot_be_a_record(
    source: str, text: str, settings: dict[str, Any], message: str, emulator_url: str
) -> None:
    """Exit code 2 with the line, before anything is sent."""
    Path(source).write_text(text)
    with pytest.raises(InputError, match=message):
        ask(source, emulator_url, **settings)
    assert not Path("out").exists()


@pytest.mark.usefixtures("photos")
def test_an_out_of_single_images_takes_no_others(emulator_url: str) -> None:
    """The column `images` is decided when OUT is made: a later night with several images is exit code 2."""
    ask("a.jpg", emulator_url)
    assert "images" not in rows().columns
    with pytest.raises(InputError, match="has no column `images`"):
        ask(written("jsonl"), emulator_url)


@pytest.mark.usefixtures("photos")
def test_the_column_survives_exports_and_a_rebuild(emulator_url: str, command: Command) -> None:
    """A list of structs is exported, compacted and rebuilt as it is."""
    ask(written("jsonl"), emulator_url)
    before = rows()["images"].tolist()
    export(Path("out"), "jsonl", Path("rows.jsonl"))
    assert {len(json.loads(line)["images"]) for line in Path("rows.jsonl").read_text().splitlines()} == {4, 1}
    Path("out/ledger.sqlite").unlink()
    for words in (("rebuild", "out"), ("compact", "out")):
        code, _, stderr = command(*words)
        assert code == 0, stderr
    assert [list(images) for images in rows()["images"]] == [list(images) for images in before]
    assert ask("list.jsonl", emulator_url).asked == 0


@pytest.mark.usefixtures("photos")
def test_an_estimate_counts_every_image(emulator_url: str) -> None:
    """Five images in two records: their tokens, two texts, two answers; confirmation counts them alike."""
    source = written("jsonl")
    estimate = pipeline.estimate(source, quiet=True, model="gpt-4o", base_url=emulator_url)
    summary = ask(source, emulator_url)
    (model,) = estimate.models
    assert (estimate.images, model.input_tokens.expected) == (5, summary.prompt_tokens)
    assert model.output_tokens.expected == 2 * 100
    assert any("2.5 images a record" in note for note in model.notes)
