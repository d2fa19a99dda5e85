"""`estimate --sample` end to end: asked through the run's machinery, kept, and right about the whole."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import pipeline
from pipeline.errors import InputError
from pipeline.estimates.figures import ModelEstimate
from pipeline.estimates.render import files
from pipeline.estimates.render import text as render
from tests.support import emulator_get

pytestmark = pytest.mark.usefixtures("shared_emulator")


SIZES = [(96, 64), (200, 150), (520, 400), (700, 900), (900, 300), (1100, 800)]
PRICE = {"prices.models": [{"model": "*", "input_usd_per_mtok": "2.5", "output_usd_per_mtok": "10"}]}


def draw(folder: Path, images: int) -> Path:
    """Images of mixed sizes and contents, which the emulator describes in more words or fewer."""
    folder.mkdir()
    random = np.random.default_rng(7)
    for number in range(images):
        size = SIZES[random.choice(len(SIZES), p=[0.1, 0.2, 0.3, 0.2, 0.1, 0.1])]
        colours = int(random.integers(1, 9))
        small = random.integers(0, 255, (1, colours, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize(size, Image.Resampling.NEAREST)
        picture.save(folder / f"{number:04}.jpg", quality=60)
    return folder.resolve()


def sampled(source: Path, url: str, **more: object) -> ModelEstimate:
    settings: dict[str, object] = {"sample": 20, "model": "gpt-4o", "base_url": url, "overrides": PRICE, **more}
    (model,) = pipeline.estimate(source, **settings).models  # type: ignore[arg-type] # settings as they come
    return model


def test_the_truth_lies_within(tmp_path: Path, endpoint: str) -> None:
    """Of twenty samples' intervals at least seventeen hold what a whole run is billed, in tokens and in dollars."""
    source = draw(tmp_path / "photos", 300)
    pipeline.run(source, out="out", model="gpt-4o", base_url=endpoint, quiet=True, overrides=PRICE)
    rows = pd.read_parquet("out/data")
    assert rows.completion_tokens.nunique() > 5
    before = emulator_get(endpoint, "stats")["requests"]
    found = [sampled(source, endpoint, sample=30, seed=seed, out="out") for seed in range(20)]
    assert emulator_get(endpoint, "stats")["requests"] == before  # all are kept: nothing is paid twice
    for name, truth in [("output_tokens", rows.completion_tokens.sum()), ("cost_usd", rows.cost_usd.sum())]:
        spans = [getattr(model, name) for model in found]
        assert sum(span.low <= truth <= span.high for span in spans) >= 17
        assert all(span.low < span.expected < span.high for span in spans)
    assert all(model.input_tokens.expected == rows.prompt_tokens.sum() for model in found)


def test_answers_are_kept_and_used(tmp_path: Path, endpoint: str) -> None:
    """The same command asks nothing twice, and a run on the same OUT asks only for the rest."""
    source = draw(tmp_path / "photos", 40)
    model = sampled(source, endpoint, out="out")
    assert model.output_basis == "measured"
    assert model.sample is not None
    assert (model.sample.asked, model.sample.answered, model.sample.out) == (20, 20, "out")
    assert emulator_get(endpoint, "stats")["requests"] == 20
    assert sampled(source, endpoint, out="out").cost_usd == model.cost_usd
    assert emulator_get(endpoint, "stats")["requests"] == 20
    summary = pipeline.run(source, out="out", model="gpt-4o", base_url=endpoint, quiet=True, overrides=PRICE)
    assert (summary.requests, summary.skipped) == (20, 20)


def test_without_a_place_a_folder_is_made(tmp_path: Path, endpoint: str) -> None:
    """Each model and question has a folder of its own; the text names it, and has reasoning tokens as a line."""
    source = draw(tmp_path / "photos", 12)
    found = pipeline.estimate(source, sample=6, models="gpt-4o,gpt-5", base_url=endpoint, detail="low")
    folders = sorted(Path("estimate-sample").iterdir())
    assert [folder.name[:6] for folder in folders] == ["gpt-4o", "gpt-5-"]
    assert all(len(pd.read_parquet(folder / "data")) == 6 for folder in folders)
    text = " ".join(render.text(found).split())
    assert f"the answers are kept in {folders[0]}" in text
    assert "reasoning tokens: none in " in text
    assert found.models[0].cost_usd is None  # no price is known at this address


def test_machines_of_ones_own(tmp_path: Path, endpoint: str) -> None:
    """Pace, hours, dollars with an interval, and from which price on an API is cheaper."""
    source = draw(tmp_path / "photos", 60)
    model = sampled(source, endpoint, sample=40, overrides={"prices.usd_per_hour": "2.50"})
    sample = model.sample
    assert sample is not None
    assert sample.images_per_s is not None
    assert sample.hours is not None
    assert sample.own_usd is not None
    assert sample.hours.expected == pytest.approx(60 / sample.images_per_s.expected / 3600)
    assert float(sample.own_usd.expected) == pytest.approx(2.5 * sample.hours.expected, abs=1e-9)
    assert sample.own_usd.low < sample.own_usd.expected < (sample.own_usd.high or 0)
    assert sample.own_usd_per_image is not None
    assert model.cost_usd == sample.own_usd
    found = pipeline.estimate(
        source, sample=40, model="gpt-4o", base_url=endpoint, overrides={"prices.usd_per_hour": "2.50"}
    )
    assert "an API is cheaper below $" in render.text(found)


def test_a_rehearsal_needs_no_key(tmp_path: Path) -> None:
    """On the emulator the price is the one of where the model is sold first; nothing leaves this machine."""
    source = draw(tmp_path / "photos", 10)
    (model,) = pipeline.estimate(source, sample=5, model="gpt-4o", emulator=True).models
    assert model.cost_usd is not None
    assert model.price is not None
    assert model.sample is not None
    assert model.raw_input_tokens == model.input_tokens.expected  # all are sent as they are: nothing is saved
    assert model.sample.no_pace == "too few answers for a pace (7 at least)"
    assert 0 < (model.sample.spent_usd or 0) < model.cost_usd.expected
    again = pipeline.estimate(source, sample=5, model="gpt-4o", emulator=True, overrides={"prices.usd_per_hour": "2"})
    text = " ".join(render.text(again).split())
    assert "pace: unknown: too few answers for a pace (7 at least); what your own machines cost is unknown" in text
    assert "images (seed 0) have their bill, $0.0" in text
    rows = pd.read_parquet(next(Path("estimate-sample").iterdir()) / "data")
    assert set(rows.endpoint) == {"emulator"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"probe": 3}, "`sample=` asks images of a SOURCE"),
        ({"sample": 1}, "two images at least"),
        ({"models": "openrouter:openai/gpt-4o"}, "only names whose price counts"),
        ({"models": "gpt-4o,gpt-5", "out": "out"}, "`out=` keeps the answers of one model"),
        ({"base_url": "https://api.example.com"}, "no key for https://api.example.com/v1"),
    ],
)
def test_samples_that_cannot_be(tmp_path: Path, endpoint: str, more: dict[str, object], said: str) -> None:
    """One line before anything is sent."""
    source = draw(tmp_path / "photos", 4)
    with pytest.raises(InputError) as caught:
        sampled(source, endpoint, **more)
    assert said in str(caught.value)
    assert emulator_get(endpoint, "stats")["requests"] == 0


def test_a_sample_of_a_manifest_moves_no_mark(tmp_path: Path, endpoint: str) -> None:
    """A resume passes over a manifest's beginning only where all of it is done: a sample does not count as that."""
    source = draw(tmp_path / "photos", 20)
    Path("list.csv").write_text("image\n" + "".join(f"{file}\n" for file in sorted(source.iterdir())))
    sampled(Path("list.csv"), endpoint, sample=6, out="out")
    for requests in (14, 0):
        summary = pipeline.run("list.csv", out="out", model="gpt-4o", base_url=endpoint, quiet=True, overrides=PRICE)
        assert summary.requests == requests
    assert len(pd.read_parquet("out/data")) == 20


def test_a_run_on_a_sample(tmp_path: Path, endpoint: str) -> None:
    """The images of a sample are those of the estimate's; the same command asks nothing twice, a whole run the rest."""
    source = draw(tmp_path / "photos", 40)
    (source / "broken.jpg").write_text("no image")
    settings: dict[str, Any] = {"out": "out", "model": "gpt-4o", "base_url": endpoint, "quiet": True}
    settings["overrides"] = {**PRICE, "request.dedup": False}
    summary = pipeline.run(source, sample=12, seed=3, **settings)
    assert (summary.images, summary.requests, summary.by_status) == (12, 12, {"ok": 12})
    assert pipeline.run(source, sample=12, seed=3, **settings).requests == 0
    assert sampled(source, endpoint, sample=12, seed=3, out="out").sample is not None
    assert emulator_get(endpoint, "stats")["requests"] == 12
    rest = pipeline.run(source, **settings)
    assert (rest.requests, rest.skipped, rest.by_status["failed"]) == (28, 12, 1)
    for source_name, wanted in (("-", 3), (source, 1)):
        with pytest.raises(InputError, match="`sample="):
            pipeline.run(source_name, sample=wanted, **settings)


def test_a_sample_in_a_file(tmp_path: Path, endpoint: str) -> None:
    """CSV has what a paid sample showed, in columns that are empty without one."""
    source = draw(tmp_path / "photos", 30)
    price = {"prices.usd_per_hour": "2.50"}
    whole = pipeline.estimate(source, sample=20, model="gpt-4o", base_url=endpoint, overrides=price)
    plain = pipeline.estimate(source, models="gpt-4o")
    (row,), (empty,) = (list(csv.DictReader(io.StringIO(files.as_csv(one)))) for one in (whole, plain))
    sample = whole.models[0].sample
    assert sample is not None
    assert sample.own_usd is not None
    assert row.keys() == empty.keys()
    assert (row["sample_asked"], row["sample_answered"], row["sample_seed"]) == ("20", "20", "0")
    assert (row["sample_out"], row["own_usd"]) == (sample.out, f"{sample.own_usd.expected:f}")
    assert float(row["images_per_s_low"]) < float(row["images_per_s"]) < float(row["images_per_s_high"])
    assert {empty[name] for name in row if name.startswith(("sample", "own", "hours", "images_per_s"))} == {""}
