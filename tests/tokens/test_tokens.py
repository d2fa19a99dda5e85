"""Image tokens by the published tile rule."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.tokens import OpenAITiles
from pipeline.tokens.sizing import OPENAI_HIGH

GPT_4O = OpenAITiles("gpt-4o", 85, 170)
GPT_4O_MINI = OpenAITiles("gpt-4o-mini", 2833, 5667)
SIDES = st.integers(1, 70_000)


@pytest.mark.parametrize(
    ("rule", "size", "detail", "tokens"),
    [
        (GPT_4O, (1024, 1024), "high", 765),
        (GPT_4O, (2048, 4096), "high", 1105),
        (GPT_4O, (4096, 8192), "low", 85),
        (GPT_4O, (512, 512), "high", 255),
        (GPT_4O, (513, 512), "high", 425),
        (GPT_4O, (1, 1), "auto", 255),
        (GPT_4O_MINI, (2048, 4096), "high", 36_835),
        (GPT_4O_MINI, (2048, 4096), "low", 2833),
    ],
)
def test_published_examples(rule: OpenAITiles, size: tuple[int, int], detail: str, tokens: int) -> None:
    """The worked examples of OpenAI's and Azure's pages come out to the token."""
    assert rule.tokens(*size, detail).expected == tokens


@given(SIDES, SIDES)
@example(4097, 3071)
@example(2731, 2047)
def test_pre_sizing_does_not_change_the_price(width: int, height: int) -> None:
    """An image costs the same whether it is sent as it is or at the size that is sent in its place."""
    assert GPT_4O.tokens(width, height, "high") == GPT_4O.tokens(*OPENAI_HIGH.target(width, height), "high")


@given(SIDES, SIDES)
def test_the_price_is_bounded(width: int, height: int) -> None:
    """2048 x 768 is four by two tiles: no image costs more, and none less than one tile."""
    assert 85 + 170 <= GPT_4O.tokens(width, height, "high").expected <= 85 + 8 * 170
