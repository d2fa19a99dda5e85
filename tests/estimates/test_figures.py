"""From tokens to dollars and hours, and what a user would not expect."""

import json
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from pipeline.catalogue.prices import Price
from pipeline.estimates.figures import cost_of, plain, seconds_at, text_range, traps
from pipeline.estimates.histogram import SizeClass
from pipeline.tokens import TokenRange, UnknownRule
from pipeline.tokens.prompt import PromptShape, answer_tokens, dearer_detail, out_of_reach
from pipeline.tokens.ranges import Range
from tests.tokens.token_rules import described

IMAGES = Range(1000, 990, 1000)


def asked(name: str, detail: str) -> PromptShape:
    return PromptShape(rule=described()[name], detail=detail, text=TokenRange.exactly(0))


def by_detail(shape: PromptShape) -> dict[str, float]:
    return {one: shape.image_tokens(4032, 3024, one).expected for one in shape.rule.details}


def test_money_is_exact() -> None:
    """Tokens times price, images and requests that are charged by themselves, and no price at all."""
    price = Price(Decimal("0.4"), Decimal("1.6"), usd_per_image=Decimal("0.001"))
    found = cost_of(IMAGES, Range(1_000_003, 990_000, 1_000_003), Range(100_000, 990, 300_000), price)
    assert found == Range(Decimal("1.5600012"), Decimal("1.387584"), Decimal("1.8800012"))
    assert cost_of(IMAGES, Range.exactly(1), Range.exactly(1), None) is None
    unbounded = cost_of(IMAGES, Range.exactly(1), Range(1, 1, None), price)
    assert unbounded is not None
    assert unbounded.high is None


def test_answers_without_a_sample() -> None:
    """The assumption reaches to `max_tokens`, never beyond; what a user states is taken as it is."""
    assert answer_tokens(IMAGES, stated=None, max_tokens=300, choices=1) == Range(100_000, 990, 300_000)
    assert answer_tokens(IMAGES, stated=None, max_tokens=20, choices=1) == Range(20_000, 990, 20_000)
    assert answer_tokens(IMAGES, stated=None, max_tokens=None, choices=2) == Range(200_000, 1980, None)
    assert answer_tokens(IMAGES, stated=42, max_tokens=300, choices=1) == Range(42_000, 41_580, 42_000)


def test_time_is_that_of_the_tighter_limit() -> None:
    """Requests or tokens a minute, whichever takes longer; unknown without either."""
    tokens = Range(2_000_000, 1_000_000, 3_000_000)
    assert seconds_at(IMAGES, tokens, rpm=None, tpm=None) is None
    assert seconds_at(IMAGES, tokens, rpm=500, tpm=None) == (Range(120.0, 118.8, 120.0), "500 requests a minute")
    assert seconds_at(IMAGES, tokens, rpm=500, tpm=100_000) == (
        Range(1200.0, 600.0, 1800.0),
        "100,000 tokens a minute",
    )
    assert seconds_at(IMAGES, Range(10, 10, None), rpm=None, tpm=10) == (Range(60.0, 60.0, None), "10 tokens a minute")


def test_text_without_a_tokenizer() -> None:
    """The range holds the estimate."""
    assert text_range(46, 160) == Range(46, 23, 160)


def test_low_that_costs_more_than_high() -> None:
    """It is said in one line, with the cheaper choice; where `low` is cheap nothing is said."""
    dear, cheap = asked("gpt-5.4/openai-patch-2026-08", "low"), asked("gpt-4o/openai-tile-2026-08", "low")
    (line,) = traps(dear, by_detail(dear))
    assert "`low` costs more than `high`" in line
    assert "take `request.detail=high`" in line
    assert traps(cheap, by_detail(cheap)) == ()


def test_auto_that_means_original() -> None:
    """It is said what `high` would take instead."""
    shape = asked("gpt-5.6/openai-patch-2026-08", "auto")
    tokens = by_detail(shape)
    (line,) = traps(shape, tokens)
    assert f"`auto` means `original` on this model ({tokens['original']:,.0f} tokens an image)" in line
    assert f"`request.detail=high` takes {tokens['high']:,.0f}" in line
    assert traps(asked("gpt-5.6/openai-patch-2026-08", "original"), tokens) == ()


def test_a_detail_that_makes_no_difference() -> None:
    """A model that does not know the detail is named with what it knows; of an unknown one nothing is claimed."""
    shape = asked("claude-standard/anthropic-standard-2026", "low")
    assert traps(shape, {}) == ("detail 'low' makes no difference to this model: it has none",)
    unknown = UnknownRule("unknown", (shape.rule,), 2048)
    assert traps(PromptShape(rule=unknown, detail="low", text=TokenRange.exactly(0)), {}) == ()


def test_only_the_choice_that_was_made_is_dear() -> None:
    """A trap that the user has not stepped into is named by an estimate, not before a run."""
    shape = asked("gpt-5.4/openai-patch-2026-08", "auto")
    tokens = by_detail(shape)
    assert "`low` costs more" in traps(shape, tokens)[0]
    assert dearer_detail(shape, tokens) is None
    assert dearer_detail(replace(shape, detail="low"), tokens) == traps(shape, tokens)[0]
    assert dearer_detail(shape, {}) is None


def test_tokens_that_no_size_has() -> None:
    """The least that the model bills is said, and the detail that comes down to it where there is one."""
    tiles = asked("gpt-4o/openai-tile-2026-08", "auto")
    line = out_of_reach(replace(tiles, max_image_tokens=200))
    assert line is not None
    assert "no image has 200 tokens or fewer on this model: the smallest has 255 at detail auto" in line
    assert "take `request.detail=low`, about 85" in line
    least = out_of_reach(replace(tiles, max_image_tokens=50))
    assert least is not None
    assert "take" not in least
    assert out_of_reach(replace(tiles, max_image_tokens=255)) is None
    assert out_of_reach(tiles) is None


@dataclass(frozen=True)
class _Value:
    span: Range[Decimal]
    day: date
    sizes: tuple[SizeClass, ...]
    nothing: None = None


def test_plain_values() -> None:
    """Money as text, dates as ISO 8601, what is unknown null: JSON can be written of it."""
    value = _Value(Range.exactly(Decimal("1.50")), date(2026, 11, 20), (SizeClass(0.1, None, 3),))
    assert json.loads(json.dumps(plain(value))) == {
        "span": {"expected": "1.5", "low": "1.5", "high": "1.5"},
        "day": "2026-11-20",
        "sizes": [{"above_mp": 0.1, "up_to_mp": None, "images": 3}],
        "nothing": None,
    }
