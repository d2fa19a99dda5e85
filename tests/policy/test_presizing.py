"""What is sent is what the model looks at, or less where the user says so."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.policy.presizing import LookedAt
from pipeline.policy.tokens import OpenAITiles

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
