"""`estimate` as people use it, and that the bill agrees with it."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import pipeline
from pipeline.config.loading import load_config
from pipeline.config.run_config import RunConfig
from pipeline.display.last_screen import describe
from pipeline.errors import InputError
from pipeline.estimates.figures import ModelEstimate
from pipeline.estimates.job import Candidate, parse_size, provider_and_model
from pipeline.estimates.render import files
from pipeline.estimates.render import text as render
from tests import warm
from tests.support import MakeImage

ROOT = Path(__file__).parents[2]
TODAY = date(2026, 11, 20)
MODELS = ["gpt-4o", "gpt-4.1-mini", "gpt-5.6", "claude-haiku-4-5", "gemini-2.5-flash", "pixtral-12b", "llava:13b"]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def vision_batch(tmp_path: Path) -> Command:
    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        command = ["-m", "pipeline", "estimate", *arguments]
        return warm.run(command, timeout=60, cwd=tmp_path, env={**os.environ, **environ})

    return run


@pytest.fixture
def photos(make_image: MakeImage, tmp_path: Path) -> Path:
    """Twelve images of mixed sizes and formats, one turned by EXIF, and one file that is no image."""
    sizes = [(4032, 3024), (1600, 1200), (640, 480), (300, 900), (2500, 400), (512, 512)]
    for number, (width, height) in enumerate(sizes):
        make_image(f"photos/{number}.jpg", width, height, seed=number)
        make_image(f"photos/{number}.{('png', 'webp')[number % 2]}", height // 2, width // 2, seed=number)
    (tmp_path / "photos/broken.jpg").write_text("no image")
    return tmp_path / "photos"


def one(sources: object = (), **settings: object) -> ModelEstimate:
    (found,) = pipeline.estimate(sources, **settings).models  # type: ignore[arg-type] # settings by name
    return found


@pytest.mark.parametrize("model", MODELS[:-1])
def test_the_bill_agrees(model: str, photos: Path, endpoint: str, tmp_path: Path) -> None:
    """A run of the same folder on the emulator is billed exactly the input tokens that were expected."""
    estimated = pipeline.estimate(photos, models=model)
    pipeline.run(photos, out=tmp_path / "out", model=model, base_url=endpoint, max_failed=1, quiet=True)
    rows = pipeline.read(tmp_path / "out")
    assert estimated.models[0].input_tokens.expected == rows.prompt_tokens.sum()
    assert (estimated.images, estimated.readable.expected) == (13, 12)
    assert estimated.unreadable.by_kind == rows.error_kind.value_counts().to_dict() == {"image_unsupported": 1}


def test_sizes_without_a_source() -> None:
    """2.3 million images of one size: tokens by the rule, dollars by the price, half of it by batch."""
    found = one(count=2_300_000, sizes=["1600x1200"], models="gpt-4o", output_tokens=100)
    assert found.typical_tokens.expected == 85 + 170 * 4
    assert found.input_tokens.expected == 2_300_000 * (765 + found.text_tokens.expected)
    assert found.output_tokens.expected == 230_000_000
    assert found.cost_usd is not None
    assert found.cost_usd.expected == (found.input_tokens.expected * Decimal("2.5") + 2_300_000_000) / 1_000_000
    assert found.batch_cost_usd is not None
    assert found.batch_cost_usd.expected * 2 == found.cost_usd.expected
    two = one(count=5, sizes=["512x512", "1024x1024"], models="gpt-4o")
    assert two.input_tokens.expected == 3 * 255 + 2 * 765 + 5 * two.text_tokens.expected


def test_a_model_that_nobody_knows(vision_batch: Command) -> None:
    """A range and a sentence, and no price: `unknown` on screen, null in JSON; never an error."""
    done = vision_batch("--count", "10", "--size", "640x480", "--models", "nobodys-model:7b")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "no token rule is known for 'nobodys-model:7b': the range covers the rules of known models" in said
    assert "price: unknown" in done.stdout
    found = json.loads(
        vision_batch("--count", "10", "--size", "640x480", "--models", "nobodys-model:7b", "--json").stdout
    )
    (model,) = found["models"]
    assert (model["price"], model["cost_usd"], model["batch_cost_usd"]) == (None, None, None)
    assert model["input_tokens"]["low"] < model["input_tokens"]["expected"] < model["input_tokens"]["high"]


def test_where_a_model_is_sold() -> None:
    """`provider:model` takes that provider's price, a bare name that of its first seller, an endpoint its own."""
    assert provider_and_model("openrouter:openai/gpt-4o") == ("openrouter", "openai/gpt-4o")
    assert provider_and_model("llava:13b") == (None, "llava:13b")
    routed, bare = (
        one(count=1, sizes=["9x9"], models="openrouter:openai/gpt-4o"),
        one(count=1, sizes=["9x9"], models="gpt-4o"),
    )
    assert routed.price is not None
    assert bare.price is not None
    assert ("openrouter/" in routed.price.source, "openai/gpt-4o" in bare.price.source) == (True, True)
    assert (routed.batch_cost_usd, bare.batch_cost_usd is None) == (None, False)
    there = one(count=1, sizes=["9x9"], models="gpt-4o", base_url="https://api.aimlapi.com/v1")
    assert (there.price, there.where, there.token_rule) == (None, "api.aimlapi.com", "openai-tile-2026-08")


def test_presets_and_files_stand_beside_models(tmp_path: Path) -> None:
    """A preset or a file brings its own model and question; flags count for all of them."""
    (tmp_path / "own.toml").write_text('[request]\nmodel = "gpt-4o"\ndetail = "low"\nprompt = "?"\n')
    found = pipeline.estimate(count=4, sizes=["1024x1024"], models=["openai", str(tmp_path / "own.toml"), "gpt-4o"])
    assert [model.name for model in found.models] == ["gpt-4.1-mini (openai)", "gpt-4o (own)", "gpt-4o"]
    assert [model.typical_tokens.expected for model in found.models[1:]] == [85, 765]
    assert found.models[1].text_tokens.expected < found.models[2].text_tokens.expected
    low = pipeline.estimate(count=4, sizes=["1024x1024"], models="openai,gpt-4o", detail="low")
    assert [model.detail for model in low.models] == ["low", "low"]
    both = pipeline.estimate(count=4, sizes=["1024x1024"], config=["openai", tmp_path / "own.toml"])
    assert [model.name for model in both.models] == ["gpt-4.1-mini (openai)", "gpt-4o (own)"]


def test_no_model_at_all() -> None:
    """Some well-known ones are compared, and it is said which."""
    found = pipeline.estimate(count=1, sizes=["100x100"])
    assert len(found.models) == 3
    assert "no model was named" in found.notes[0]


def test_a_probe_widens_the_range(photos: Path) -> None:
    """Of 12 readable images among 13 six are looked at: the interval holds the truth, and is wider than the rule's."""
    whole, part = one(photos, models="gpt-4o"), pipeline.estimate(photos, models="gpt-4o", probe=6, seed=3)
    assert (part.images, part.seen, part.seed) == (13, 6, 3)
    assert part.models[0].input_tokens.low < whole.input_tokens.expected < (part.models[0].input_tokens.high or 0)
    assert part.models[0].input_tokens.low < whole.input_tokens.low


def test_a_probe_has_bounds(make_image: MakeImage, tmp_path: Path) -> None:
    """Of images that are all alike, too: tokens, readable images and bytes of all files have a range."""
    for number in range(12):
        make_image(f"same/{number}.png", 64, 64)
    found = pipeline.estimate(tmp_path / "same", models="gpt-4o", probe=6)
    (model,) = found.models
    size = (tmp_path / "same/0.png").stat().st_size
    assert (found.readable.expected, found.readable.low, found.readable.high) == (12, 9, 12)
    assert found.source_bytes is not None
    assert (found.source_bytes.expected, found.source_bytes.low, found.source_bytes.high) == (
        12 * size, 9 * size, 15 * size,
    )  # fmt: skip
    assert model.input_tokens.low < model.input_tokens.expected < (model.input_tokens.high or 0)
    text = render.text(found)
    assert "readable: 12 (9 to 12)" in text
    assert "no spread seen in 6 images: the range allows for 3 in 6 others to differ" in " ".join(text.split())


def test_sizes_that_are_too_large() -> None:
    """`--count --size` counts what a run would not send, as a manifest's own sizes do."""
    found = pipeline.estimate(count=10, sizes=["512x512", "20000x20000"], models="gpt-4o")
    assert (found.readable.expected, found.unreadable.by_kind) == (5, {"image_too_large": 5})


def test_the_mean_and_the_detail() -> None:
    """Tokens of an image are the mean, in the table as in the block; a detail that was chosen is named."""
    found = pipeline.estimate(count=2, sizes=["512x512", "1024x1024"], models="gpt-4o")
    assert found.models[0].mean_tokens.expected == (255 + 765) / 2
    assert "detail in force" not in render.text(found)
    low = pipeline.estimate(count=2, sizes=["512x512"], models="gpt-4o", detail="low")
    assert "  detail in force: low\n" in render.text(low)


def test_a_narrow_terminal() -> None:
    """No line is wider than the terminal: a table that does not fit becomes a line a figure."""
    found = pipeline.estimate(count=2_300_000, sizes=["512x512", "1600x1200"], models="gpt-4.1-mini,gpt-4o", rpm=500)
    narrow = render.text(found, 60).splitlines()
    assert max(map(len, narrow)) <= 60
    assert "  an image: 510 (255 to 765)" not in narrow  # a mean, which has no range of its own
    assert "  an image: 510" in narrow
    assert any(line.startswith("model ") for line in render.text(found, 140).splitlines())
    assert render.text(found) == render.text(found, 140)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk(tmp_path: Path) -> None:
    """`estimate >/dev/full`: exit code 5 and one line, no bug of ours."""
    command = [sys.executable, "-m", "pipeline", "estimate", "--count", "3", "--size", "9x9"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, cwd=tmp_path, env=environ, check=False
        )
    assert done.returncode == 5, done.stderr
    assert done.stderr == "vision-batch: standard output: No space left on device\n"


def test_a_run_of_a_thousand_years() -> None:
    """A limit next to nothing takes endlessly long: a figure in JSON, and words on the screen."""
    found = pipeline.estimate(count=10**15, sizes=["512x512"], models="gpt-4o", rpm=1e-3)
    assert json.loads(files.as_json(found))["models"][0]["seconds"]["expected"] > 10**15
    assert "over 1,000 years" in render.text(found)


def test_time_at_the_limits() -> None:
    """Where a provider counts what is asked for, `max_tokens` takes part; two endpoints have twice as much."""
    settings = {"count": 600, "sizes": ["512x512"], "models": "gpt-4o", "max_tokens": 300, "output_tokens": 10}
    slow, unlimited = one(**settings, rpm=60), one(**settings)
    assert (slow.seconds and slow.seconds.expected, slow.limited_by) == (600.0, "60 requests a minute")
    assert (unlimited.seconds, unlimited.limited_by) == (None, None)
    tokens = one(**settings, tpm=1000)
    assert tokens.seconds is not None
    assert tokens.seconds.expected == 60 * (unlimited.input_tokens.expected + 600 * 300) / 1000
    two: dict[str, object] = {"endpoints": [{"base_url": "http://127.0.0.1:1"}, {"base_url": "http://127.0.0.1:2"}]}
    shared = one(
        count=600, sizes=["512x512"], config=RunConfig.model_validate({**two, "request": {"model": "gpt-4o"}}), rpm=60
    )
    assert shared.seconds is not None
    assert shared.seconds.expected == 300.0


def test_an_endpoint_of_another_price_is_named() -> None:
    """The figures are the first one's; of endpoints that are alike nothing is said."""
    first, second = "http://127.0.0.1:1", "http://127.0.0.1:2"
    prices = [{"model": "*", "input_usd_per_mtok": "1", "output_usd_per_mtok": "1"}]

    def notes(*endpoints: dict[str, object]) -> str:
        config = {"endpoints": [*endpoints], "request": {"model": "gpt-4o"}, "prices": {"models": prices}}
        found = one(count=6, sizes=["512x512"], config=RunConfig.model_validate(config))
        return "\n".join(found.notes)

    mini: dict[str, object] = {"base_url": second, "model": "gpt-4o-mini"}
    said = f"those of gpt-4o at {first}/v1 alone; it shares the requests with gpt-4o-mini at {second}/v1"
    assert said in notes({"base_url": first}, mini)
    assert f"{said}, gpt-4o-mini at {first}/v1" in notes({"base_url": first}, mini, {**mini, "base_url": first})
    for alike in (mini | {"model": None}, mini | {"model": "gpt-4o"}):
        assert "alone;" not in notes({"base_url": first}, alike)


def test_a_rule_of_a_host() -> None:
    """Where a host bills a model otherwise, its own rule counts."""
    config = load_config(None, {"request.model": "qwen2.5-vl-72b-instruct"}, environ={})
    there = load_config(
        None, {"request.model": "qwen2.5-vl-72b-instruct", "endpoint.base_url": "https://api.siliconflow.cn/v1"}, {}
    )
    assert Candidate(name="a", config=config, anywhere=True).prompt_shape(TODAY).rule.name == "qwen-28-2025"
    assert Candidate(name="b", config=there).prompt_shape(TODAY).rule.name == "siliconflow-28-2025"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a SOURCE, or say how many"),
        (["photos", "--count", "3", "--size", "9x9"], "--count takes the place of a SOURCE"),
        (["--count", "3"], "--count and --size belong together"),
        (["photos", "--size", "9x9"], "--count and --size belong together"),
        (["--count", "3", "--size", "9"], "write WIDTHxHEIGHT"),
        (["--count", "3", "--size", "9x9", "--probe", "5"], "--probe N looks at N images of a SOURCE"),
        (["photos", "--output", "a.xlsx"], "write to one of .csv .md .html .json"),
        (["photos", "--output", "nodir/a.html"], "there is no folder nodir"),
        (["photos", "--output", "none.md"], "none.md: this is a folder"),
        (["photos", "--sample", "2", "--emulator", "--output", "nodir/a.html"], "there is no folder nodir"),
        (["--count", "3", "--size", "20000x20000"], "20000 x 20000: image_too_large"),
        (["photos", "-c", "openai", "-c", "gemini", "--models", "gpt-4o"], "one -c is the basis of all"),
        (["none"], "none of 1 images has a size that would be sent; the first, none/a.jpg: image_unsupported"),
    ],
)
def test_commands_that_do_not_fit(vision_batch: Command, photos: Path, arguments: list[str], words: str) -> None:
    """Exit code 2, and what to write instead."""
    for name in ("none", "none.md"):
        (photos.parent / name).mkdir()
    (photos.parent / "none/a.jpg").write_text("text")
    done = vision_batch(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert not (photos.parent / "estimate-sample").exists()  # nothing was paid


def test_sizes_as_written() -> None:
    """With x, X or a multiplication sign."""
    assert {parse_size(text) for text in ("640x480", "640X480", " 640 x 480 ", "640\N{MULTIPLICATION SIGN}480")} == {
        (640, 480)
    }


def test_on_a_terminal(vision_batch: Command, photos: Path) -> None:
    """Counts, reasons, sizes, a row a model, and for each price and rule its source and date; no key is needed."""
    done = vision_batch("photos", "--models", "gpt-4.1-mini,claude-haiku-4-5", "--rpm", "6")
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    assert "13 images in photos" in text
    assert max(map(len, text.splitlines())) <= 100
    assert "1 would not be sent: 1 image_unsupported" in text
    assert "smallest 256 x 256, typical" in text
    assert "8 to 16 MP" in text
    assert "100 tokens an answer are an assumption" in text
    assert re.search(r"^gpt-4\.1-mini  .*  \$0\.\d{4}  .*  2 min\n +\S.*  \$0\.\d{4}-\$0\.\d{4}", text, re.MULTILINE)
    text = " ".join(text.split())
    assert "rule: anthropic-standard-2026 (published; Anthropic, 'Vision'" in text
    assert "checked 2026-11-20" in text
    assert "$0.40 in (cached $0.10), $1.60 out a million tokens (genai-prices" in text
    assert "\x1b" not in text


def test_files_to_keep(vision_batch: Command, photos: Path, tmp_path: Path) -> None:
    """CSV, Markdown, HTML and JSON say the same; the HTML is one file in which names from outside are only text."""
    (photos / "<script>alert(1).jpg").write_text("x")
    for name in ("a.csv", "a.md", "a.html", "a.json"):
        done = vision_batch("photos", "--models", "gpt-4o,nobodys-model", "--output", name)
        assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "a.json").read_text())
    expected = found["models"][0]["cost_usd"]["expected"]
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["gpt-4o", "nobodys-model"]
    assert (Decimal(rows[0]["cost_usd"]), rows[1]["cost_usd"]) == (Decimal(expected), "")
    listed = (tmp_path / "a.md").read_text()
    assert "\n| gpt-4o | " in listed
    assert "<script" not in listed
    page = (tmp_path / "a.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in re.sub(r"<li>.*?</li>|http-equiv", "", page)
    tree = ET.fromstring(re.sub(r"<!doctype html>|<meta[^>]*>", "", page))  # noqa: S314 - our own page
    assert len(tree.findall(".//section[@aria-labelledby='figures']//table//tr")) == 3
    assert len(tree.findall(".//svg/rect[@class='fill-1 size']")) == len(found["sizes"]["classes"])


def test_no_more_tokens_than_that(photos: Path, endpoint: str, tmp_path: Path) -> None:
    """With `max_image_tokens` no image is billed more, the estimate is the bill, and the run tells what was saved."""
    asked: dict[str, Any] = {"model": "gpt-4o", "max_image_tokens": 500}
    found = one(photos, **asked)
    summary = pipeline.run(photos, out="out", base_url=endpoint, max_failed=1, quiet=True, **asked)
    rows = pipeline.read("out").dropna(subset="prompt_tokens")
    assert found.input_tokens.expected == rows.prompt_tokens.sum()
    assert found.raw_input_tokens - found.input_tokens.expected == summary.tokens_saved > 0
    assert (rows.prompt_tokens.max() - found.text_tokens.expected) <= 500
    assert "which saved" in describe(summary)
    with pytest.raises(InputError, match="another configuration"):
        pipeline.run(photos, out="out", base_url=endpoint, quiet=True, model="gpt-4o")
    with pytest.raises(InputError, match=r"no image has 100 tokens or fewer on this model.*take `request.detail=low`"):
        pipeline.run(photos, out="new", base_url=endpoint, quiet=True, model="gpt-4o", max_image_tokens=100)
    assert not Path("new").exists()
    assert any("no image has 100 tokens" in note for note in one(photos, model="gpt-4o", max_image_tokens=100).notes)


def test_a_run_says_what_is_dear(photos: Path, endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`auto` that means `original` is said on standard error before the first request, and not where all is quiet."""
    settings: dict[str, Any] = {"model": "gpt-5.6", "base_url": endpoint, "max_failed": 1}
    pipeline.run(photos, out="out", **settings)
    assert "note: `auto` means `original` on this model" in capsys.readouterr().err
    pipeline.run(photos, out="quiet", quiet=True, **settings)
    pipeline.run(photos, out="high", detail="high", **settings)
    assert "note:" not in capsys.readouterr().err


def test_where_else_it_is_sold() -> None:
    """A model without a price at its own vendor is named as a gateway sells it."""
    found = one(count=1, sizes=["9x9"], models="qwen2.5-vl-72b-instruct")
    assert any("it is sold as openrouter:qwen/qwen2.5-vl-72b-instruct" in note for note in found.notes)


@pytest.mark.parametrize(
    ("amount", "text"),
    [("6963.25", "$6,963"), ("12.346", "$12.35"), ("0.02851", "$0.0285"), ("0.000641", "$0.00064"), ("0", "$0.00")],
)
def test_dollars_of_an_estimate(amount: str, text: str) -> None:
    """No more digits than an estimate deserves, and never so few that nothing is left."""
    assert render.usd(Decimal(amount)) == text


def test_counts_of_an_estimate() -> None:
    """Three digits or fewer, with a unit."""
    assert [render.rounded(n) for n in (999, 1234, 230e6, 64_000, 1.9e9)] == ["999", "1.2k", "230M", "64.0k", "1.9G"]
