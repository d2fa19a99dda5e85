"""Several prompts about each image: a row each, the image opened and decoded once."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest

import pipeline
from pipeline.errors import BudgetReachedError, InputError
from pipeline.images.frames import prepare_images
from pipeline.images.locate import opened
from pipeline.run import images
from tests.builders import ask
from tests.emulators import emulator
from tests.support import Command, MakeImage, emulator_get

CAPTION = {"name": "caption", "text": "Describe it."}
COLOUR = {"name": "colour", "text": "Which colour is it mostly?"}
OBJECTS = {"name": "objects", "text": "List the objects, separated by commas."}
THREE = {"prompts": [CAPTION, COLOUR, OBJECTS]}


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How many times a run opens files, and prepares images."""
    found: Counter[str] = Counter()

    def open_one(*args: Any) -> Any:
        found["opened"] += 1
        return opened(*args)

    def prepare_one(*args: Any) -> Any:
        found["prepared"] += 1
        return prepare_images(*args)

    with patch.object(images, "opened", open_one), patch.object(images, "prepare_images", prepare_one):
        yield found


def rows(out: str = "out") -> pd.DataFrame:
    return pd.read_parquet(f"{out}/data").sort_values(["id", "prompt_name"], ignore_index=True)


def test_three_prompts_are_three_rows_and_one_image(make_image: MakeImage, emulator_url: str) -> None:
    """100 records and 3 prompts: 300 rows, 100 files opened and decoded, every prediction what was billed."""
    for number in range(100):
        make_image(f"photos/{number:03}.jpg", 64, 48, seed=number)
    with counted() as found:
        summary = ask("photos", emulator_url, overrides=THREE)
    assert found == {"opened": 100, "prepared": 100}
    assert (summary.images, summary.prompts, summary.asked, summary.by_status) == (100, 3, 300, {"ok": 300})
    table = rows()
    assert table.groupby("prompt_name").size().to_dict() == {"caption": 100, "colour": 100, "objects": 100}
    assert len(set(zip(table["id"], table["prompt_name"], strict=True))) == 300
    assert table["prompt_tokens"].equals(table["predicted_prompt_tokens"])
    assert table["request_sha256"].nunique() == 300
    again = ask("photos", emulator_url, overrides=THREE)
    assert (again.asked, again.skipped) == (0, 300)


def test_a_resume_asks_the_missing_prompts(make_image: MakeImage) -> None:
    """A run stops after 7 requests; the next asks exactly the other 8 rows, and a new prompt asks its 5 alone."""
    for number in range(5):
        make_image(f"photos/{number}.jpg", seed=number)
    with emulator() as url:
        with pytest.raises(BudgetReachedError, match="8 of 15 rows remain"):
            ask("photos", url, overrides={**THREE, "budget.max_requests": 7})
        assert len(rows()) == 7
        assert ask("photos", url, overrides=THREE).asked == 8
        assert emulator_get(url, "stats")["requests"] == 15
        more = {"prompts": [*THREE["prompts"], {"name": "mood", "text": "Which mood?"}]}
        with pytest.raises(InputError, match="prompts"):
            ask("photos", url, overrides=more)
        assert ask("photos", url, overrides=more, on_config_change="keep").asked == 5
        assert emulator_get(url, "stats")["requests"] == 20
    assert rows().groupby("prompt_name").size().to_dict() == {"caption": 5, "colour": 5, "mood": 5, "objects": 5}


def test_a_manifest_is_passed_over_by_rows(make_image: MakeImage, emulator_url: str) -> None:
    """A mark of a manifest stands where all prompts have their rows; 3 rows more are asked 3 prompts each."""
    name = make_image("photo.jpg").name
    manifest = Path("list.csv")
    manifest.write_text("id,image\n" + "".join(f"r{number},{name}\n" for number in range(1_200)))
    summary = ask("list.csv", emulator_url, overrides=THREE)
    assert (summary.asked, summary.followers, summary.requests) == (3_600, 3_597, 3)
    with manifest.open("a") as file:
        file.writelines(f"more{number},{name}\n" for number in range(3))
    again = ask("list.csv", emulator_url, overrides=THREE)
    assert (again.skipped, again.asked, again.requests) == (3_600, 9, 0)
    assert set(rows()["duplicate_of"].dropna()) <= set(rows()["id"])


def test_a_broken_image_fails_each_prompt(make_image: MakeImage, emulator_url: str) -> None:
    """One broken image of two: a failed row for each prompt, none sent; `--limit` counts images."""
    Path("photos").mkdir()
    Path("photos/0.jpg").write_bytes(b"no image")
    make_image("photos/1.jpg")
    make_image("photos/2.jpg")
    summary = ask("photos", emulator_url, overrides=THREE, limit=2)
    assert (summary.exit_code, summary.by_status, summary.requests) == (1, {"failed": 3, "ok": 3}, 3)
    assert set(rows().query("id == '0.jpg'").error_kind) == {"image_unsupported"}


def test_equal_prompts_are_asked_once(make_image: MakeImage, emulator_url: str) -> None:
    """Two names of one text, and two copies of an image: one request, four rows."""
    make_image("photos/a.jpg", seed=1)
    make_image("photos/b.jpg", seed=1)
    twice = {"prompts": [CAPTION, {**CAPTION, "name": "again"}]}
    summary = ask("photos", emulator_url, overrides=twice)
    assert (summary.asked, summary.followers, summary.requests) == (4, 3, 1)
    assert len(set(rows()["caption"])) == 1


def test_the_image_stands_before_texts_that_differ(make_image: MakeImage, emulator_url: str) -> None:
    """Requests of several prompts begin alike, so that a provider's cache serves; one prompt stays as it was."""
    make_image("photos/a.jpg")
    for prompts, kinds in (([CAPTION], ["text", "image_url"]), ([CAPTION, COLOUR], ["image_url", "text"])):
        shown = pipeline.dry_run("photos", model="gpt-4o", base_url=emulator_url, overrides={"prompts": prompts})
        body = json.loads(shown[shown.index("{") :])
        assert [part["type"] for part in body["messages"][0]["content"]] == kinds
    both = {"prompts": [CAPTION, COLOUR], "request.image_position": "after"}
    shown = pipeline.dry_run("photos", model="gpt-4o", base_url=emulator_url, overrides=both)
    assert shown.startswith("2 requests like this one")
    assert shown.index('"text"') < shown.index('"image_url"')


def test_the_files_of_out_name_the_prompts(make_image: MakeImage, emulator_url: str, command: Command) -> None:
    """`config.toml` is a configuration that continues OUT; the card shows every prompt; `status` counts rows."""
    make_image("photos/a.jpg")
    ask("photos", emulator_url, overrides=THREE)
    card = Path("out/README.md").read_text()
    assert all(f"Prompt `{one['name']}`:" in card and one["text"] in card for one in THREE["prompts"])
    assert pipeline.run("photos", out="out", config="out/config.toml", quiet=True).asked == 0
    code, said, _ = command("status", "out")
    assert code == 0
    assert "3 of 3 rows (3 prompts an image)" in said


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"prompts": [CAPTION, {**COLOUR, "name": "caption"}]}, "the name 'caption' stands twice"),
        ({**THREE, "request.prompt": "?"}, r"`request.prompt` and \[\[prompts\]\] are both set"),
        ({**THREE, "request.prompt_name": "a"}, r"`request.prompt_name` and \[\[prompts\]\] are both set"),
        ({"prompts": [{"name": "a"}]}, r"'prompts.0.text' is missing"),
        ({"prompts": CAPTION}, r"write \[\[prompts\]\] in two brackets"),
    ],
)
def test_prompts_that_cannot_be(overrides: dict[str, Any], message: str, emulator_url: str) -> None:
    """Exit code 2, with the place and the way out."""
    with pytest.raises(InputError, match=message):
        ask("photos", emulator_url, overrides=overrides)


def test_an_estimate_counts_all_prompts(make_image: MakeImage) -> None:
    """Three prompts take three times the image; a run is billed what the estimate says, a sample measures it."""
    for number in range(4):
        make_image(f"photos/{number}.jpg", 640, 480, seed=number)
    with emulator() as url:
        settings: dict[str, Any] = {"base_url": url, "model": "gpt-4o", "overrides": THREE}
        (model,) = pipeline.estimate("photos", quiet=True, **settings).models
        summary = pipeline.run("photos", out="out", quiet=True, **settings)
        assert model.input_tokens.expected == summary.prompt_tokens
        assert (
            model.mean_tokens.expected
            == pipeline.estimate("photos", quiet=True, base_url=url, model="gpt-4o").models[0].mean_tokens.expected
        )
        assert any("3 prompts an image" in note for note in model.notes)
        (sampled,) = pipeline.estimate("photos", quiet=True, sample=4, out="sample", **settings).models
        assert sampled.input_tokens.expected == summary.prompt_tokens
        assert sampled.output_tokens.expected == summary.completion_tokens
