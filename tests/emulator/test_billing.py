"""Tokens by the published rules."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalogue import unknown_rule
from pipeline.emulator.billing import BY_NAME, Billing, cut_to_tokens, prompt_text_tokens
from pipeline.errors import InputError
from pipeline.tokens.text import text_tokens


@pytest.mark.parametrize(
    ("model", "width", "height", "detail", "tokens"),
    [
        ("gpt-4o", 1024, 1024, "high", 765),
        ("gpt-4o", 2048, 4096, "high", 1105),
        ("gpt-4o", 4096, 8192, "low", 85),
        ("gpt-4o-mini", 2048, 4096, "high", 36835),
        ("gpt-4o-mini", 2048, 4096, "low", 2833),
        ("gpt-5", 1024, 1024, "auto", 70 + 4 * 140),
        ("o3", 512, 512, "auto", 75 + 150),
    ],
)
def test_published_examples(model: str, width: int, height: int, detail: str, tokens: int) -> None:
    """OpenAI's "Images and vision" and Azure's page print these figures (gpt-5 and o3: their rule, by hand)."""
    assert BY_NAME.image_rule(model).tokens(width, height, detail).expected == tokens


@pytest.mark.parametrize(
    ("model", "base"),
    [
        ("gpt-4o-2024-11-20", 85),
        ("gpt-4o-mini-2024-07-18", 2833),
        ("openai/gpt-4o-mini", 2833),
        ("gpt-5-chat-latest", 70),
        ("gpt-5.1", 70),
        ("o1-pro", 75),
        ("gpt-4.1", 85),
    ],
)
def test_a_version_is_billed_as_its_model(model: str, base: int) -> None:
    """Dates, suffixes and a router's prefix do not hide the model."""
    assert BY_NAME.image_rule(model).tokens(512, 512, "low").expected == base


def test_an_unknown_model_is_billed_as_it_is_estimated() -> None:
    """By the median of all known rules, not by that of some model: a rehearsal is billed what the estimate said."""
    assert BY_NAME.image_rule("some-model") is unknown_rule()
    assert not BY_NAME.wants_max_completion_tokens("some-model")


OWN = """
[sources.bill]
title = "Our bill"
checked_on = 2026-01-01
[[family]]
name = "ours"
match = ["team-*"]
like = "gpt-5"
"""


def test_families_that_are_stated(tmp_path: Path) -> None:
    """A family that is named bills every model; one's own file counts first; a host may have rules of its own."""
    own = tmp_path / "own.toml"
    own.write_text(OWN)
    assert Billing("gpt-4o-mini").image_rule("team-a").tokens(512, 512, "low").expected == 2833
    assert Billing(None, own).image_rule("team-a").tokens(512, 512, "low").expected == 70
    assert Billing(None, own).wants_max_completion_tokens("team-a")
    there = Billing(rules_of="api.siliconflow.cn").image_rule("qwen2.5-vl-7b")
    assert (there.name, there.tokens(1024, 1024, "auto").expected) == ("siliconflow-28-2025", 256)
    with pytest.raises(InputError, match="no such family"):
        Billing("gtp-4o")


@pytest.mark.parametrize(
    ("model", "wants"),
    [("gpt-5", True), ("gpt-6-sol", True), ("openai/o4-mini", True), ("gpt-4o", False), ("llava", False)],
)
def test_reasoning_models_want_the_newer_field(model: str, wants: bool) -> None:  # noqa: FBT001 -- a case
    """`max_tokens` is refused exactly by gpt-5, gpt-6, o1, o3 and o4."""
    assert BY_NAME.wants_max_completion_tokens(model) is wants


def test_text_is_billed_as_documented() -> None:
    """A token for 4 bytes, 4 for a message, 3 for the answer's start."""
    assert text_tokens("") == 0
    assert text_tokens("abcde") == 2
    assert text_tokens("\u00e4\u00e4\u00e4") == 2
    assert prompt_text_tokens(["abcd", "abcd"], messages=2) == 2 + 8 + 3


@given(text=st.text(), max_tokens=st.integers(1, 20))
def test_a_cut_text_costs_what_it_may(text: str, max_tokens: int) -> None:
    """A cut text is a beginning of the text, valid Unicode, and within the limit."""
    cut = cut_to_tokens(text, max_tokens)
    assert text.startswith(cut)
    assert text_tokens(cut) <= max_tokens
