"""What is sent is what the model looks at, or less where the user says so."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.tokens import OpenAITiles, TokenRule
from pipeline.tokens.presizing import LEAST_SIDE, LookedAt
from pipeline.tokens.sizing import SizeRule
from tests.tokens.token_rules import described

RULE = OpenAITiles("tile", 85, 170)


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.sampled_from(["low", "high", "auto"]))
def test_sizing_for_a_model_changes_no_bill(width: int, height: int, detail: str) -> None:
    """Sent as the model looks at it, an image is billed as if it had been sent as it is."""
    sent = LookedAt(RULE, detail).target(width, height)
    assert RULE.tokens(*sent, detail) == RULE.tokens(width, height, detail)


def test_max_side_makes_it_smaller_still() -> None:
    """`images.max_side` is a further limit, within the model's own."""
    assert LookedAt(RULE, "high", max_side=200).target(800, 600) == (200, 150)
    assert LookedAt(RULE, "high", max_side=5000).target(4032, 3024) == (1024, 768)


RULES = [rule for _, rule in sorted(described().items())]
SIDES = st.integers(1, 9000)


@given(st.sampled_from(RULES), SIDES, SIDES, st.sampled_from(["low", "high", "auto"]), st.integers(1, 3000))
def test_a_limit_in_tokens(rule: TokenRule, width: int, height: int, detail: str, limit: int) -> None:
    """What is sent has no more tokens than the limit, or is as without; a pixel more on the long side is too much."""
    free = LookedAt(rule, detail).target(width, height)
    sent = LookedAt(rule, detail, max_tokens=limit).target(width, height)
    if sent == free:
        least = SizeRule(min(LEAST_SIDE, max(free))).target(*free)
        dear = max(free) > LEAST_SIDE and rule.tokens(*free, detail).expected > limit
        assert not dear or rule.tokens(*least, detail).expected > limit
        return
    more = SizeRule(max(sent) + 1).target(*free)
    assert rule.tokens(*sent, detail).expected <= limit
    assert rule.tokens(*more, detail).expected > limit
    assert max(sent) >= LEAST_SIDE


def test_the_largest_size_within_a_limit() -> None:
    """gpt-4o sees 765 tokens of four tiles, 425 of two, and never fewer than 255."""
    assert LookedAt(RULE, "high", max_tokens=765).target(4032, 3024) == (1024, 768)
    assert LookedAt(RULE, "high", max_tokens=764).target(4032, 3024) == (683, 512)
    assert LookedAt(RULE, "high", max_tokens=255).target(4032, 3024) == (512, 384)
    assert LookedAt(RULE, "high", max_tokens=254).target(4032, 3024) == (1024, 768)
    assert [LookedAt(RULE, "high", max_tokens=limit).reaches() for limit in (255, 254)] == [True, False]
