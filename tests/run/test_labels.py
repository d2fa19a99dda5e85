"""Labelling runs: typed columns over nights and resumes, wrong answers corrected and counted, and what is refused."""

import json
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

import pipeline
from pipeline.errors import BudgetReachedError, EndpointStoppedError, InputError
from pipeline.export import export
from pipeline.records import Status, is_unanswered
from tests.builders import ask
from tests.emulators import emulator
from tests.support import Command, MakeImage, emulator_get

SCHEMA: dict[str, Any] = {
    "title": "Photo",
    "type": "object",
    "properties": {
        "scene": {"enum": ["indoor", "outdoor"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 9},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
        "note": {"type": "string"},
        "size": {
            "type": "object",
            "properties": {"w": {"type": "integer"}, "h": {"type": "number"}},
            "required": ["w"],
        },
    },
    "required": ["scene", "count", "score", "tags", "size"],
}
TYPE = pa.struct(
    {
        "scene": pa.string(), "count": pa.int64(), "score": pa.float64(), "tags": pa.list_(pa.string()),
        "note": pa.string(), "size": pa.struct({"w": pa.int64(), "h": pa.float64()}),
    }
)  # fmt: skip
WRONG = ("type", "missing", "enum", "fenced", "prose")
WRONG_TENTH = [word for name in WRONG for word in ("--fault", f"labels_{name}={0.1 / len(WRONG)}")]


def draw(make_image: MakeImage, numbers: range) -> None:
    for number in numbers:
        make_image(f"photos/{number:03}.png", 24 + number, 20, seed=number)


def tokens_of(row: Any) -> int:
    return int(row["prompt_tokens"] or 0) + int(row["completion_tokens"] or 0)


def test_two_nights_and_a_resume(make_image: MakeImage) -> None:
    """10 % wrong answers: typed columns for every reader, rows that are ok or invalid, and each billed attempt once."""
    Path("schema.json").write_text(json.dumps(SCHEMA, indent=1))
    more: dict[str, Any] = {"labels": "schema.json", "max_failed": 100, "concurrency": 4}
    with emulator([*WRONG_TENTH, "--seed", "170"]) as url:
        draw(make_image, range(40))
        with pytest.raises(BudgetReachedError):
            ask("photos", url, overrides={"budget.max_requests": 25}, **more)
        ask("photos", url, **more)
        draw(make_image, range(40, 80))
        make_image("photos/copy.png", 24, 20, seed=0)
        Path("elsewhere.json").write_text(json.dumps(SCHEMA))
        summary = ask("photos", url, **{**more, "labels": "elsewhere.json"})
        stats = emulator_get(url, "stats")
        assert ask("photos", url, **more).requests == 0
    rows = pd.read_parquet("out/data").set_index("id")
    assert (len(rows), rows.index.is_unique, summary.followers) == (81, True, 1)
    assert set(rows.status) <= {"ok", "invalid"}
    table = ds.dataset("out/data").to_table()
    assert table.schema.field("labels").type == TYPE
    assert sum(tokens_of(row) for row in table.to_pylist()) == stats["prompt_tokens"] + stats["completion_tokens"]
    assert sum(table["attempts"].to_pylist()) == stats["billed"] > 81
    for row in table.to_pylist():
        check_row(row)
    copy, original = (next(row for row in table.to_pylist() if row["id"] == name) for name in ("copy.png", "000.png"))
    assert (copy["duplicate_of"], copy["labels"]) == ("000.png", original["labels"])
    loaded = datasets.load_dataset("out", split="train", cache_dir="cache")
    assert loaded.features["labels"]["size"]["h"].dtype == "float64"
    assert [row["labels"] for row in loaded] == table["labels"].to_pylist()
    check_reading(rows)


def check_row(row: dict[str, Any]) -> None:
    """Labels where they are valid; else the text, and why."""
    if row["status"] == "ok":
        assert (row["error_kind"], row["labels"]["scene"] in {"indoor", "outdoor"}) == (None, True)
        assert 1 <= row["labels"]["count"] <= 9
    else:
        assert row["labels"] is None
        assert row["caption"]
    if row["status"] == "invalid":
        assert (row["error_kind"], row["attempts"]) == ("labels_invalid", 2)
        assert row["error_message"]


def check_reading(rows: pd.DataFrame) -> None:
    """Columns of their own in `read` and exports, a struct in `scan`; `where` takes fields."""
    flat = pipeline.read("out").set_index("id")
    names = ["labels.scene", "labels.count", "labels.score", "labels.tags", "labels.note", "labels.size.w"]
    assert [name for name in flat.columns if name.startswith("labels")] == [*names, "labels.size.h"]
    ok = flat[flat.status == "ok"]
    assert ok["labels.scene"].to_dict() == {name: one["scene"] for name, one in rows.labels.items() if one is not None}
    where = "labels.scene = 'indoor' AND labels.size.w > 5 AND labels.count IN (1, 2, 3, 4, 5)"
    found = pipeline.read("out", columns=["id", "labels.scene", "labels.size"], where=where)
    assert list(found.columns) == ["id", "labels.scene", "labels.size.w", "labels.size.h"]
    wanted = ok[(ok["labels.scene"] == "indoor") & (ok["labels.size.w"] > 5) & (ok["labels.count"] <= 5)]
    assert sorted(found.id) == sorted(wanted.index)
    assert next(pipeline.scan("out", columns=["labels"])).schema.field("labels").type == TYPE
    with pytest.raises(InputError, match=r"no column 'labels\.nothing'; known: .*labels\.scene"):
        pipeline.read("out", columns=["labels.nothing"])


def test_an_ledger_is_rebuilt_and_parts_are_compacted(make_image: MakeImage, endpoint: str, command: Command) -> None:
    """Labels survive both, also where the ledger is lost, and are exported flat."""
    draw(make_image, range(7))
    ask("photos", endpoint, labels=SCHEMA, overrides={"output.rows_per_part": 2})
    before = {row["id"]: row["labels"] for batch in pipeline.scan("out") for row in batch.to_pylist()}
    assert command("compact", "out", "--rows-per-part", "4")[0] == 0
    Path("out/ledger.sqlite").unlink()
    pipeline.rebuild("out")
    assert ask("photos", endpoint, labels=SCHEMA).requests == 0
    draw(make_image, range(7, 8))
    assert ask("photos", endpoint, labels=SCHEMA).requests == 1
    after = {row["id"]: row["labels"] for batch in pipeline.scan("out") for row in batch.to_pylist()}
    assert {name: after[name] for name in before} == before
    assert pipeline.status("out").records == {"ok": 8}
    export(Path("out"), "jsonl", Path("rows.jsonl"))
    row = json.loads(Path("rows.jsonl").read_text().splitlines()[0])
    assert (row["labels.size.w"], "labels" in row) == (before[row["id"]]["size"]["w"], False)


def test_another_schema_is_refused(make_image: MakeImage, endpoint: str) -> None:
    """One OUT has one schema: its content counts, also under `keep`; no request is sent."""
    draw(make_image, range(1))
    ask("photos", endpoint, labels=SCHEMA)
    draw(make_image, range(1, 2))
    other = {**SCHEMA, "properties": {**SCHEMA["properties"], "count": {"type": "number"}}}
    for changed in ({"labels": other}, {}):
        for more in ({}, {"on_config_change": "keep"}):
            with pytest.raises(InputError, match="its column `labels` is fixed"):
                ask("photos", endpoint, **changed, **more)
    described = {**SCHEMA, "description": "What the picture shows."}
    assert ask("photos", endpoint, labels=described, on_config_change="keep").requests == 1
    ask("photos", endpoint, out="plain")
    with pytest.raises(InputError, match=r"fixed \(there is none\)"):
        ask("photos", endpoint, out="plain", labels=SCHEMA, on_config_change="refresh")
    assert emulator_get(endpoint, "stats")["billed"] == 4


def requests_of(url: str) -> list[dict[str, Any]]:
    return [one["body"] for one in emulator_get(url, "requests?last=50")]


@pytest.mark.parametrize(
    ("model", "overrides", "kind", "is_in_prompt"),
    [
        ("gpt-4o", {}, "json_schema", False),
        ("qwen2.5-vl-7b-instruct", {}, "json_object", True),
        ("claude-sonnet-4-5", {}, None, True),
        ("gpt-4o", {"request.labels_mode": "json_object"}, "json_object", True),
        ("gpt-4o", {"request.labels_mode": "prompt"}, None, True),
    ],
)
def test_how_it_is_asked(
    make_image: MakeImage, endpoint: str, model: str, overrides: dict[str, Any], kind: str | None, *, is_in_prompt: bool
) -> None:
    """By the catalogue, or as the user says; the last message has the schema where `response_format` does not."""
    draw(make_image, range(2))
    notes: list[str] = []
    summary = ask("photos", endpoint, model=model, labels=SCHEMA, overrides=overrides, on_note=notes.append)
    assert summary.by_status == {"ok": 2}
    body = requests_of(endpoint)[-1]
    assert body.get("response_format", {}).get("type") == kind
    assert ("JSON Schema" in body["messages"][-1]["content"][-1].get("text", "")) == is_in_prompt
    assert any("`request.labels`: this" in note for note in notes) == is_in_prompt
    rows = pd.read_parquet("out/data")
    assert set(rows.prompt_tokens - rows.predicted_prompt_tokens.astype(int)) & set(range(-8, 9))


def test_a_correction_repeats_the_answer(make_image: MakeImage) -> None:
    """The second request has the image, the answer and what is wrong with it; a third is never sent."""
    draw(make_image, range(1))
    with emulator(["--fault", "labels_enum=1"]) as url:
        assert ask("photos", url, labels=SCHEMA, max_failed=1).by_status == {"invalid": 1}
        first, second = sorted(requests_of(url), key=lambda body: len(body["messages"]))
        assert ask("photos", url, labels=SCHEMA, max_failed=1).requests == 0
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert second["response_format"] == first["response_format"]
    said, asked = second["messages"][len(first["messages"]) :]
    row = pd.read_parquet("out/data").iloc[0]
    assert (said["role"], said["content"]) == ("assistant", row.caption)
    assert "scene: 'none of these' is not one of ['indoor', 'outdoor']" in asked["content"]
    with emulator() as url:
        assert ask("photos", url, labels=SCHEMA, retry_status="invalid").by_status == {"ok": 1}
        assert ask("photos", url, labels=SCHEMA, retry_kind="labels_invalid").requests == 0


def test_a_model_that_never_answers_in_json_stops_the_run(make_image: MakeImage) -> None:
    """Twenty records invalid alike are the request's fault, each asked twice and paid for."""
    draw(make_image, range(30))
    with emulator(["--fault", "gibberish=1"]) as url:
        with pytest.raises(EndpointStoppedError, match=r"alike \(labels_invalid\): the answer is no valid JSON"):
            ask("photos", url, labels=SCHEMA, concurrency=1)
        stats = emulator_get(url, "stats")
    rows = pd.read_parquet("out/data")
    assert (set(rows.status), set(rows.attempts)) == ({"invalid"}, {2})
    assert len(rows) in {20, 21}  # one more answer may come home after the stop
    out = pipeline.status("out")
    assert (out.prompt_tokens or 0) + (out.completion_tokens or 0) == stats["prompt_tokens"] + stats[
        "completion_tokens"
    ]
    assert 40 <= stats["billed"] <= 43
    assert all(is_unanswered(Status(status), None) for status in rows.status)


def test_an_endpoint_that_rejects_the_schema(make_image: MakeImage) -> None:
    """It is asked in the next way from then on, said once; no record fails, and no attempt counts against one."""
    draw(make_image, range(12))
    notes: list[str] = []
    with emulator(["--model-family", "qwen2.5-vl"]) as url:  # takes json_object, and the run is not told so
        summary = ask("photos", url, model="my-own-model", labels=SCHEMA, on_note=notes.append)
        statuses = emulator_get(url, "stats")["statuses"]
        assert summary.by_status == {"ok": 12}
        assert (statuses["200"], statuses["400"] >= 1) == (12, True)
        (said,) = [note for note in notes if "rejects `json_schema`" in note]
        assert "request.labels_mode=json_object" in said
        more: dict[str, Any] = {"overrides": {"request.labels_mode": "json_schema"}, "concurrency": 1}
        draw(make_image, range(40))
        with pytest.raises(EndpointStoppedError, match="bad_request"):
            ask("photos", url, out="fixed", model="my-own-model", labels=SCHEMA, **more)


def test_endpoints_that_take_schemas_differently(make_image: MakeImage) -> None:
    """One prepared request serves both: by `response_format` here, by the prompt there."""
    draw(make_image, range(16))
    with emulator() as strict, emulator() as ignoring:
        endpoints = [
            {"base_url": strict, "model": "gpt-4o", "concurrency": 2},
            {"base_url": ignoring, "model": "claude-sonnet-4-5", "concurrency": 2},
        ]
        asked: dict[str, Any] = {"labels": SCHEMA, "overrides": {"endpoints": endpoints}}
        summary = pipeline.run("photos", out="out", model="gpt-4o", quiet=True, **asked)
        formats = [{bool(body.get("response_format")) for body in requests_of(url)} for url in (strict, ignoring)]
    assert (summary.by_status, formats) == ({"ok": 16}, [{True}, {False}])


def test_an_open_schema_is_one_text(make_image: MakeImage, endpoint: str) -> None:
    """It is said before anything is sent; the column is JSON, and `read` leaves it so."""
    draw(make_image, range(3))
    tree = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "kids": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["name", "kids"],
    }
    notes: list[str] = []
    assert ask("photos", endpoint, labels=tree, on_note=notes.append, max_tokens=9_000).by_status == {"ok": 3}
    assert any("one JSON text, not typed fields (kids[]: # is recursive)" in note for note in notes)
    assert {tuple(json.loads(text)) for text in pipeline.read("out").labels} == {("name", "kids")}


def test_what_labels_cannot_be_combined_with(make_image: MakeImage, endpoint: str) -> None:
    """A second `response_format` is an error; the tokens of the schema are part of the estimate."""
    draw(make_image, range(1))
    with pytest.raises(InputError, match=r"request\.labels sets it"):
        ask("photos", endpoint, labels=SCHEMA, overrides={"request.extra": {"response_format": {"type": "text"}}})
    plain = pipeline.estimate("photos", model="gpt-4o", prompt="x").models[0]
    labelled = pipeline.estimate("photos", model="gpt-4o", prompt="x", labels=SCHEMA).models[0]
    assert labelled.text_tokens.expected > plain.text_tokens.expected + 50
    assert '"json_schema"' in pipeline.dry_run("photos", model="gpt-4o", labels=SCHEMA)


def test_nothing_of_labels_is_imported_without_them(make_image: MakeImage, endpoint: str) -> None:
    """OUT has no such column, and its configuration the hash that it had."""
    draw(make_image, range(1))
    ask("photos", endpoint)
    assert "labels" not in pipeline.read("out").columns
    assert "response_format" not in requests_of(endpoint)[-1]


def test_json_that_is_cut_off(make_image: MakeImage) -> None:
    """It is truncated, not invalid, and asked no second time; a caption that is no JSON is not touched by the fault."""
    draw(make_image, range(2))
    with emulator(["--fault", "labels_cut=1"]) as url:
        assert ask("photos", url, out="captions").by_status == {"ok": 2}
        summary = ask("photos", url, labels=SCHEMA)
    assert (summary.by_status, summary.requests) == ({"truncated": 2}, 2)
    assert pipeline.read("out")["labels.scene"].isna().all()


def test_one_of_two_prompts_asks_for_labels(make_image: MakeImage) -> None:
    """Its rows have labels, the rows of the other prompt have text; wrong answers of the first are corrected."""
    draw(make_image, range(12))
    prompts: list[dict[str, Any]] = [
        {"name": "caption", "text": "Describe it."},
        {"name": "photo", "text": "Fill in the fields.", "labels": SCHEMA},
    ]
    with emulator([*WRONG_TENTH, "--seed", "11"]) as url:
        ask("photos", url, overrides={"prompts": prompts}, max_failed=100)
        stats = emulator_get(url, "stats")
        assert ask("photos", url, overrides={"prompts": prompts}, max_failed=100).requests == 0
        prompts[0]["labels"] = {**SCHEMA, "title": "Other"}
        with pytest.raises(InputError, match="there are several schemas of labels"):
            ask("photos", url, overrides={"prompts": prompts})
    table = ds.dataset("out/data").to_table()
    assert table.schema.field("labels").type == TYPE
    by_name = dict(list(table.to_pandas().groupby("prompt_name")))
    assert set(by_name["caption"].status) == {"ok"}
    assert by_name["caption"].labels.isna().all()
    good = by_name["photo"][by_name["photo"].status == "ok"]
    assert (good.labels.notna().all(), len(good) >= 9) == (True, True)
    assert sum(table["attempts"].to_pylist()) == stats["requests"]


def test_labels_of_all_prompts(make_image: MakeImage, emulator_url: str) -> None:
    """`request.labels` beside [[prompts]]: each prompt fills the column."""
    draw(make_image, range(3))
    prompts = [{"name": name, "text": f"Fill in the fields, {name}."} for name in ("first", "second")]
    ask("photos", emulator_url, overrides={"prompts": prompts}, labels=SCHEMA)
    assert pd.read_parquet("out/data").labels.notna().sum() == 6
