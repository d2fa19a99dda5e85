"""Models that reason work without a flag: the lowest effort is sent, and the room for reasoning is added.

`VISION_BATCH_REASONING_IMAGES=200 pytest tests/run/test_reasoning.py` is the long form.
"""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pipeline
from pipeline import EndpointStoppedError
from pipeline.catalogue import Family, families, family_of
from pipeline.emulator.reasoning import SPENT, WITHOUT_EFFORT
from tests.emulators import emulator
from tests.support import MakeImage, emulator_get

IMAGES = int(os.environ.get("VISION_BATCH_REASONING_IMAGES", "3"))
NAMES = {
    "gpt-5.6": "gpt-5.6-sol",
    "gpt-5.3-codex": "gpt-5.3-codex",
    "gpt-5-later": "gpt-5.7",
    "o-series": "o3",
    "o-series-small": "o3-mini",
    "gemini-3": "gemini-3-pro",
    "qwen3-vl-thinking": "qwen3-vl-8b-thinking",
    "qvq": "qvq-max",
    "qwen3.5": "qwen3.5-plus",
    "magistral": "magistral-medium-latest",
    "gpt-6": "gpt-6-astra",
    "grok": "grok-4",
}
"""A model of each family, where the family's name is none."""


def reasoning_families() -> list[Family]:
    return [family for family in families() if family.reasoning is not None]


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(IMAGES):
        make_image(f"photos/{number:03}.jpg", 64, 48, seed=number)
    return Path("photos").resolve()


def test_every_family_that_reasons_answers_without_a_flag(photos: Path) -> None:
    """All images of every family end `ok`; what is billed keeps within `max_tokens` and the allowance, as reserved."""
    with emulator(["--fast"]) as url:
        for family in reasoning_families():
            model, reasoning = NAMES.get(family.name, family.name), family.reasoning
            found = family_of(model)
            assert found is not None
            assert (found.name, reasoning) == (family.name, found.reasoning)
            summary = pipeline.run(photos, out=f"out/{family.name}", model=model, base_url=url, quiet=True)
            assert (summary.exit_code, summary.by_status) == (0, {"ok": IMAGES}), model
            assert reasoning is not None
            sent = emulator_get(url, "requests?last=1")[0]["body"]
            if family.lacks_chat(model):  # the same in the words of the Responses API
                sent |= {
                    "reasoning_effort": sent["reasoning"]["effort"],
                    family.max_tokens_field: sent["max_output_tokens"],
                }
            assert sent.get("reasoning_effort") == reasoning.lowest
            room = 300 + reasoning.allowance_at(reasoning.lowest)
            assert sent[family.max_tokens_field] == room, model
            rows = pd.read_parquet(f"out/{family.name}/data")
            assert rows.completion_tokens.max() <= room
            assert (rows.reasoning_tokens.sum() > 0) == (reasoning.lowest != "none"), model


def test_the_allowances_hold_what_the_emulator_spends() -> None:
    """The room of each effort is larger than the most that a rehearsal takes of it: no family depends on luck."""
    for family in reasoning_families():
        reasoning = family.reasoning
        assert reasoning is not None
        assert all(SPENT[effort][1] <= room for effort, room in reasoning.efforts.items()), family.name
        assert reasoning.efforts or reasoning.allowance >= WITHOUT_EFFORT[1], family.name
        assert reasoning.evidence == "unverified" or reasoning.source is not None


def test_without_an_allowance_a_run_stops_after_five(make_image: MakeImage) -> None:
    """High effort and no allowance: the first five answers alike end the run, with the setting that mends it."""
    for number in range(30):
        make_image(f"many/{number:02}.jpg", 64, 48, seed=number)
    settings: Any = {"model": "gpt-5-mini", "quiet": True, "concurrency": 1, "out": "out"}
    overrides = {"request.reasoning_effort": "high", "request.reasoning_allowance": 0}
    with emulator(["--fast"]) as url:
        with pytest.raises(EndpointStoppedError) as caught:
            pipeline.run("many", base_url=url, overrides=overrides, **settings)
        words = str(caught.value)
        assert "reasoning_exhausted" in words
        assert "`request.reasoning_allowance=" in words
        assert "`request.reasoning_effort`" in words
        assert emulator_get(url, "stats")["requests"] == 5
        mended = {"request.reasoning_effort": "high", "request.reasoning_allowance": 24000}
        again = pipeline.run("many", base_url=url, overrides=mended, retry_kind="reasoning_exhausted", **settings)
        assert (again.exit_code, again.asked) == (0, 30)
    assert set(pd.read_parquet("out/data").status) == {"ok"}


def test_estimate_and_budget_count_the_allowance(photos: Path) -> None:
    """The range of an estimate reaches to `max_tokens` and the allowance; a run reserves as much."""
    (model,) = pipeline.estimate(photos, models="o3").models
    assert (model.reasoning_effort, model.reasoning_allowance) == ("low", 2048)
    assert model.output_tokens.high == IMAGES * (300 + 2048)
    assert model.output_tokens.expected == IMAGES * (100 + 512)
    (plain,) = pipeline.estimate(photos, models="gpt-4o").models
    assert (plain.reasoning_allowance, plain.output_tokens.high) == (0, IMAGES * 300)
    shown = pipeline.dry_run(photos, model="o3", overrides={"request.reasoning_allowance": 700})
    assert '"max_completion_tokens": 1000' in shown
    assert "1,000 at most" in shown
    assert '"reasoning_effort": "low"' in shown


def test_models_show_it() -> None:
    """`models gpt-5-mini` states effort, room, rejected parameters and the prices of the tiers, with their sources."""
    (card,) = pipeline.models("gpt-5-mini")
    text = "\n".join(card.lines())
    assert "reasoning_effort minimal is sent, and 512 tokens are added to max_tokens" in text
    assert "it does not take top_p" in text
    assert "temperature other than 1" in text
    assert "price        flex: $0.125 in" in text
    (plain,) = pipeline.models("gpt-4o")
    assert "reasoning    none unless a request asks for it" in "\n".join(plain.lines())
