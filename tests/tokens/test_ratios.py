"""Billed against predicted: counted by model, and the rule that would fit."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tokens.ratios import Billed, Ratio, count_billed, fits, models_of, ratios_of
from tests.tokens.token_rules import described

SIZES = [(512, 512), (1024, 768), (768, 1024), (2048, 1024), (300, 900), (1568, 1568), (4032, 3024)]
TEXT = 50
RULES = [(name.partition("/")[0], rule) for name, rule in described().items()]


def bills(name: str, detail: str, text: int) -> list[Billed]:
    rule = described()[name]
    return [Billed(w, h, text + rule.tokens(w, h, detail).expected) for w, h in SIZES]


def test_counts_by_model() -> None:
    """What was billed and predicted adds up by model; what is not known of an answer does not count."""
    counts: Counter[str] = Counter({"ok": 3})
    count_billed(counts, "gpt-4o 2", billed=110, predicted=100)
    count_billed(counts, "gpt-4o 2", billed=90, predicted=100)
    count_billed(counts, None, billed=5, predicted=10)
    count_billed(counts, "m", billed=None, predicted=10)
    count_billed(counts, "m", billed=7, predicted=0)
    first, second = ratios_of(models_of(counts))
    assert first == Ratio(model="gpt-4o 2", answers=2, prompt_tokens=200, predicted_prompt_tokens=200)
    assert (second.model, second.value) == ("(not named)", 0.5)


@pytest.mark.parametrize(
    ("answers", "billed", "is_off"), [(19, 2000, False), (20, 1021, True), (20, 1020, False), (20, 979, True)]
)
def test_when_a_ratio_is_off(answers: int, billed: int, *, is_off: bool) -> None:
    """More than 2 % in either direction, over 20 answers and more."""
    ratio = Ratio(model="m", answers=answers, prompt_tokens=billed, predicted_prompt_tokens=1000)
    assert ratio.is_off is is_off


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("gpt-4o/openai-tile-2026-08", "auto"),
        ("gpt-4o-mini/openai-tile-2026-08", "auto"),
        ("gpt-5.5/openai-patch-2026-08", "high"),
        ("claude-standard/anthropic-standard-2026", "auto"),
        ("qwen2.5-vl/qwen-28-2025", "auto"),
    ],
)
def test_the_rule_that_billed_is_found(name: str, detail: str) -> None:
    """From the bills alone, with a text that is longer than we think, the rule that made them comes first."""
    first = fits(bills(name, detail, TEXT + 7), RULES, detail=detail, text=TEXT)[0]
    assert name.partition("/")[0] in first.families
    assert first.detail == detail
    assert first.off == 0
    assert str(first).endswith("within 0.0 %")


def test_a_server_that_ignores_detail() -> None:
    """Asked for `low` and billed for `high`: the same rule, with the detail that it used."""
    found = fits(bills("gpt-4o/openai-tile-2026-08", "high", TEXT), RULES, detail="low", text=TEXT)
    assert (found[0].detail, "gpt-4o" in found[0].families) == ("high", True)


def test_bills_that_no_rule_gives() -> None:
    """Where nothing published fits, nothing is proposed."""
    assert fits([Billed(w, h, w * h) for w, h in SIZES], RULES, detail="auto", text=TEXT) == ()


@given(st.integers(TEXT // 2, 2 * TEXT))
def test_any_text_between_half_and_twice(text: int) -> None:
    """The tokenizer may be another one than we think: the rule is found all the same."""
    first = fits(bills("claude-high/anthropic-high-2026", "auto", text), RULES, detail="auto", text=TEXT)[0]
    assert "claude-high" in first.families
