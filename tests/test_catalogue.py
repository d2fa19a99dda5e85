"""What is known of models."""

from decimal import Decimal

import pytest

from pipeline.catalogue import families, family_of, price_of


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
    assert family.image_tokens is not None
    assert (family.image_tokens.base, family.max_tokens_field) == (base, field)


@pytest.mark.parametrize("model", ["gpt-5.4-mini", "gpt-4.1-mini", "o4-mini"])
def test_patch_models_have_no_rule_yet(model: str) -> None:
    """A model that is billed by patches is not predicted by tiles."""
    family = family_of(model)
    assert family is not None
    assert family.image_tokens is None


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
