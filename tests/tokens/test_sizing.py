"""Sizes: what is sent is what the model looks at, and never more than there is."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tokens.sizing import OPENAI_HIGH, OPENAI_LOW, SizeRule

SIDES = st.integers(1, 70_000)
RULES = st.sampled_from([OPENAI_HIGH, OPENAI_LOW, SizeRule(1568), SizeRule(2048, 512), SizeRule(16)])


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((4032, 3024), (1024, 768)),
        ((3024, 4032), (768, 1024)),
        ((1024, 1024), (768, 768)),
        ((2048, 4096), (768, 1536)),
        ((1024, 768), (1024, 768)),
        ((5000, 300), (2048, 122)),
        ((1, 20_000), (1, 2048)),
        ((20_000, 1), (2048, 1)),
        ((1, 1), (1, 1)),
    ],
)
def test_high_detail_follows_the_published_rule(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """Fit into 2048 x 2048, then the shorter side into 768, rounded down; small images stay as they are."""
    assert OPENAI_HIGH.target(*size) == expected


@given(RULES, SIDES, SIDES)
def test_a_target_is_never_larger_and_keeps_the_limits(rule: SizeRule, width: int, height: int) -> None:
    """No side grows, none falls below a pixel, both limits hold."""
    sent_width, sent_height = rule.target(width, height)
    assert 1 <= sent_width <= width
    assert 1 <= sent_height <= height
    assert max(sent_width, sent_height) <= rule.max_side
    assert rule.max_short_side is None or min(sent_width, sent_height) <= rule.max_short_side


@given(RULES, SIDES, SIDES)
def test_a_target_is_as_large_as_the_limits_allow(rule: SizeRule, width: int, height: int) -> None:
    """An image that is made smaller reaches one of the limits exactly."""
    sent = rule.target(width, height)
    if sent != (width, height):
        assert max(sent) == rule.max_side or min(sent) == rule.max_short_side


@given(RULES, SIDES, SIDES)
def test_the_aspect_ratio_is_kept_within_one_rounding(rule: SizeRule, width: int, height: int) -> None:
    """Both sides are the same scale times the side, rounded down once (or one pixel, where that gives none)."""
    sent_width, sent_height = rule.target(width, height)
    scales = (
        Fraction(1),
        Fraction(rule.max_side, max(width, height)),
        Fraction(rule.max_short_side or min(width, height), min(width, height)),
    )
    scale = min(scales)
    assert (sent_width, sent_height) == (max(1, int(width * scale)), max(1, int(height * scale)))


@given(RULES, SIDES, SIDES)
def test_sizing_twice_changes_nothing(rule: SizeRule, width: int, height: int) -> None:
    """What was pre-sized arrives at its own size, so that a provider that applies the rule again does nothing."""
    sent = rule.target(width, height)
    assert rule.target(*sent) == sent


@given(RULES, SIDES, SIDES)
def test_turning_an_image_turns_its_target(rule: SizeRule, width: int, height: int) -> None:
    """Portrait and landscape are treated alike."""
    assert rule.target(height, width) == rule.target(width, height)[::-1]
