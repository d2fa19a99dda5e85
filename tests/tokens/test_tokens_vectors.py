"""Every worked example that vendors published, that others measured, or that follows from either."""

from collections import Counter
from typing import Any

import pytest

from tests.tokens.token_rules import VECTORS, of_vector

USABLE: list[dict[str, Any]] = VECTORS["vectors"]
UNUSABLE: list[dict[str, Any]] = VECTORS["unusable"]


def named(vector: dict[str, Any]) -> str:
    return f"{vector['model']}-{vector['width']}x{vector['height']}-{vector['detail']}"


@pytest.mark.parametrize("vector", USABLE, ids=named)
def test_vector(vector: dict[str, Any]) -> None:
    """The rule gives the figure to the token, and where a size is published, that size."""
    rule = of_vector(vector["rule"])
    image = vector["width"], vector["height"], vector["detail"] or "auto"
    assert rule.tokens(*image).expected == vector["expected"]
    if "looked_at" in vector:
        assert rule.looked_at(*image) == tuple(vector["looked_at"])


@pytest.mark.parametrize("vector", UNUSABLE, ids=named)
def test_a_figure_that_is_not_used_contradicts_its_rule(vector: dict[str, Any]) -> None:
    """It is left out for the reason that stands beside it: the rule gives the other figure."""
    rule = of_vector(vector["rule"])
    found = rule.tokens(vector["width"], vector["height"], vector["detail"] or "auto").expected
    assert found == vector["rule_gives"] != vector["expected"]
    assert vector["why"]


def test_how_many_vectors_each_family_has() -> None:
    """None is lost: 188 are used and nine are not, each with a source."""
    assert Counter(vector["family"] for vector in USABLE) == {
        "openai-tile": 43,
        "openai-gpt-image-1": 1,
        "openai-patch": 58,
        "anthropic": 31,
        "anthropic-legacy": 1,
        "gemini": 19,
        "qwen": 16,
        "mistral": 16,
        "llama4": 2,
        "xai": 1,
    }
    assert Counter(vector["family"] for vector in UNUSABLE) == {
        "openai-gpt-image-1": 1,
        "openai-patch": 5,
        "anthropic": 1,
        "gemini": 1,
        "qwen": 1,
    }
    assert all(VECTORS["sources"][vector["source"]] for vector in USABLE + UNUSABLE)
