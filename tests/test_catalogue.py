"""What is known of models."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.catalogue import families, family_of, host_of, price_of, rule_of, unknown_rule
from pipeline.errors import InputError

TODAY = date(2026, 11, 20)


@pytest.mark.parametrize(
    ("model", "base", "field"),
    [
        ("gpt-4o", 85, "max_tokens"),
        ("openai/gpt-4o-2024-08-06", 85, "max_tokens"),
        ("gpt-4o-mini", 2833, "max_tokens"),
        ("GPT-4.1", 85, "max_tokens"),
        ("gpt-5", 70, "max_completion_tokens"),
        ("gpt-5.1", 70, "max_completion_tokens"),
        ("o3", 75, "max_completion_tokens"),
    ],
)
def test_tile_models(model: str, base: int, field: str) -> None:
    """Names with a gateway's prefix, a date or capitals find their family, its rule and its parameter."""
    family = family_of(model)
    assert family is not None
    assert (rule_of(family, TODAY).tokens(512, 512, "low").expected, family.max_tokens_field) == (base, field)


@pytest.mark.parametrize("model", ["gpt-5.4-mini", "gpt-4.1-mini", "o4-mini"])
def test_patch_models_are_not_billed_by_tiles(model: str) -> None:
    """A model that is billed by patches is not predicted by tiles."""
    family = family_of(model)
    assert family is not None
    assert "patch" in rule_of(family, TODAY).name


def test_a_model_nobody_described() -> None:
    """An unknown name is no error."""
    assert family_of("llava:13b") is None


def test_every_family_has_source_and_date() -> None:
    """Facts without a source are not facts."""
    for family in families():
        assert family.source
        assert family.checked_on.year >= 2026


def test_prices() -> None:
    """A provider that publishes prices has them; one that does not, or a server of one's own, has none."""
    price = price_of("gpt-4o", "https://api.openai.com/v1")
    assert price is not None
    assert (price.input_usd_per_mtok, price.output_usd_per_mtok) == (Decimal("2.5"), Decimal(10))
    assert price_of("gpt-4o", "https://api.aimlapi.com/v1") is None
    assert price_of("gpt-4o", "http://127.0.0.1:8000/v1") is None
    assert price_of("gpt-4o", None) == price


@pytest.mark.parametrize(
    ("model", "day", "host", "name"),
    [
        ("gpt-4o", TODAY, "", "openai-tile-2026-08"),
        ("gpt-5.2", TODAY, "", "openai-patch-2026-08"),
        ("gpt-5.2", date(2026, 5, 1), "", "openai-patch-2026-spring"),
        ("claude-3-5-sonnet-latest", TODAY, "", "anthropic-standard-2026"),
        ("qwen2.5-vl-72b-instruct", TODAY, "", "qwen-28-2025"),
        ("qwen2.5-vl-72b-instruct", TODAY, "api.siliconflow.cn", "siliconflow-28-2025"),
        (
            "qwen2.5-vl-72b-instruct",
            TODAY,
            "dashscope-intl.aliyuncs.com",
            "dashscope-28-1280-2026 | dashscope-28-16384-2026",
        ),
        ("gpt-5.7", TODAY, "", "unknown-2026-11"),
        ("llava:13b", TODAY, "", "unknown-2026-11"),
    ],
)
def test_which_rule_counts(model: str, day: date, host: str, name: str) -> None:
    """The day and the host choose among a family's rules; a model without any has the bounds of all."""
    assert rule_of(family_of(model), day, host).name == name


def test_limits_and_batches() -> None:
    """What a vendor accepts, and what a host of other people's models accepts of them."""
    family = family_of("claude-opus-4-7")
    assert family is not None
    assert (family.limits.max_side, family.json_schema) == (8000, "ignored")
    assert family.batch is not None
    assert family.batch.discount == Decimal("0.5")
    host = host_of("acme.openai.azure.com")
    assert host is not None
    assert host.limits.max_images == 10
    assert host_of("api.openai.com") is None
    assert unknown_rule().max_side == 2048


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    """A user's families count before ours; a mistake names the file, the family and what is wrong."""
    own = tmp_path / "models.toml"
    text = """
checked_on = 2026-11-20
[sources.bill]
title = "Our bill"
url = "https://example.com"
checked_on = 2026-11-20
[[family]]
name = "ours"
match = ["GPT-4o", "my-deployment"]
[[family.rule]]
name = "ours-2026"
kind = "openai-tile"
params = { base = 1, tile = 2 }
source = "bill"
"""
    own.write_text(text, encoding="utf-8")
    assert rule_of(family_of("openai/gpt-4o", own), TODAY).tokens(512, 512).expected == 3
    for wrong, words in [
        (text.replace("tile = 2", "tiles = 2"), "no parameter 'tiles'"),
        (text.replace('source = "bill"', 'source = "none"'), "names no source"),
        (text.replace("match =", "matches ="), "unknown key 'matches'"),
        (text.replace('kind = "openai-tile"\n', ""), "'kind' is missing"),
        ("family = [", "models.toml"),
    ]:
        own.write_text(wrong, encoding="utf-8")
        with pytest.raises(InputError, match=r"models\.toml") as caught:
            family_of("openai/gpt-4o", own)
        assert words in str(caught.value)
