"""302.AI's image analysis: a text model is asked, and another one reads the images first; both are billed."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pipeline
from pipeline import BudgetReachedError
from tests import builders
from tests.stub import Reply, answer, stub
from tests.support import MakeImage

READER_USD = {"in": Decimal("0.15e-6"), "out": Decimal("0.6e-6")}
OWN = {"model": "gpt-3.5-turbo*", "input_usd_per_mtok": "0.5", "output_usd_per_mtok": "1.5"}
AT_302: dict[str, Any] = {"catalogue.host": "api.302.ai", "prices.models": [OWN]}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "the suffix": ("gpt-3.5-turbo-ocr", {}),
    "the field": ("gpt-3.5-turbo", {"request.ocr_model": "gpt-4o-mini"}),
    "the field in extra": ("gpt-3.5-turbo", {"request.extra": {"ocr_model": "gpt-4o-mini"}}),
}
IMAGE_TOKENS = 2833 + 5667
READING_USD = IMAGE_TOKENS * READER_USD["in"] + 300 * READER_USD["out"]
PARAMETERS: dict[str, Any] = {
    "temperature": 0.2, "top_p": 0.1, "n": 2, "stop": "END", "max_tokens": 77, "presence_penalty": 0.5,
    "frequency_penalty": -0.5, "logit_bias": {"50256": -100}, "user": "someone",
}  # fmt: skip
"""Every one that the page lists beside model and messages; `stream` is asked for on its own."""


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(3):
        make_image(f"photos/{number}.png", 64 + number, 48, seed=number)
    return Path("photos").resolve()


@pytest.mark.parametrize("way", WAYS)
def test_the_body_and_the_sum_of_both(way: str, photos: Path) -> None:
    """The body is as the page has it; a row costs the usage of the one and the predicted reading of the other."""
    model, more = WAYS[way]
    with stub() as server:
        done = builders.ask(photos, server.base_url, model=model, overrides={**AT_302, **more})
        body = json.loads(server.bodies[0])
    assert body.pop("messages")[0]["content"][1]["image_url"]["url"].startswith("data:image/")
    assert body == {"model": model, "max_tokens": 300, **({} if way == "the suffix" else {"ocr_model": "gpt-4o-mini"})}
    rows = pd.read_parquet("out/data")
    own = 100 * Decimal("0.5e-6") + 5 * Decimal("1.5e-6")  # as the server bills them
    assert set(rows.cost_usd) == {own + READING_USD}
    assert done.cost_usd == 3 * (own + READING_USD)
    assert set(rows.token_rule) == {"reading by openai-tile-2026-08"}
    assert rows.predicted_prompt_tokens.between(300, 400).all()


def test_every_parameter_of_the_page(photos: Path) -> None:
    """Each is sent under its name with its value, and as a stream where that is asked for."""
    overrides = {**AT_302, **{f"request.{name}": value for name, value in PARAMETERS.items()}, "request.stream": True}
    with stub() as server:
        done = builders.ask(photos, server.base_url, model="gpt-3.5-turbo-ocr", overrides=overrides)
        body = json.loads(server.bodies[0])
    assert done.exit_code == 0
    assert {name: body[name] for name in PARAMETERS} == PARAMETERS
    assert body["stream"] is True
    assert set(body) == {"model", "messages", "stream", "stream_options", *PARAMETERS}


def test_a_cost_that_is_stated_is_the_cost(photos: Path) -> None:
    """The provider's own figure counts both."""
    with stub(lambda width: Reply(200, answer(width) | {"usage": {"prompt_tokens": 9, "cost": 0.25}})) as server:
        builders.ask(photos, server.base_url, model="gpt-3.5-turbo-ocr", overrides=AT_302)
    assert set(pd.read_parquet("out/data").cost_usd) == {Decimal("0.25")}


def test_a_budget_reserves_the_longest_reading(photos: Path) -> None:
    """A request is not sent where the longest reading would exceed the budget, though what is expected would not."""
    most = IMAGE_TOKENS * READER_USD["in"] + 16_384 * (READER_USD["out"] + Decimal("0.5e-6"))
    with stub() as server:
        with pytest.raises(BudgetReachedError):
            builders.ask(photos, server.base_url, model="gpt-3.5-turbo-ocr", overrides=AT_302, max_cost=str(most))
        assert server.asked.total() == 0


@pytest.mark.parametrize("way", ["the suffix", "the field"])
def test_what_is_said(way: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whose cost is predicted; and, of a model that reads images itself, that the work is done twice."""
    _, more = WAYS[way]
    model = "gpt-4o-ocr" if way == "the suffix" else "gpt-4o"
    with stub() as server:
        builders.ask(photos, server.base_url, model=model, overrides={**AT_302, **more}, quiet=False)
    said = capsys.readouterr().err
    assert f"gpt-4o-mini reads each image before {model} is asked, and is billed too" in said
    way_out = "name it without -ocr" if way == "the suffix" else "leave `request.ocr_model` out"
    assert f"{model} reads images itself, so that gpt-4o-mini does its work twice: {way_out}" in said


@pytest.mark.usefixtures("shared_emulator")
def test_a_rehearsal_bills_what_is_predicted(photos: Path) -> None:
    """The emulator gives the reading to the model that is asked, and no image."""
    overrides = {**AT_302, "endpoint.base_url": "https://api.302.ai/v1", "request.dedup": False}
    pipeline.run(photos, out="out", model="gpt-3.5-turbo-ocr", emulator=True, quiet=True, overrides=overrides)
    rows = pd.read_parquet("out/data")
    assert list(rows.prompt_tokens) == list(rows.predicted_prompt_tokens)
    assert (rows.cost_usd > READING_USD).all()
