"""Tokens x price, in Decimal, and the estimate for text."""

from decimal import Decimal

from pipeline.catalogue.prices import Price, cost_usd
from pipeline.records import Usage
from pipeline.tokens.text import message_tokens, text_tokens

PRICE = Price(Decimal("2.5"), Decimal(10), Decimal("1.25"))


def test_exact_to_the_last_digit() -> None:
    """1,105 in and 33 out at gpt-4o's price: 0.0027625 + 0.00033 dollars, no float in between."""
    assert cost_usd(Usage(prompt_tokens=1105, completion_tokens=33), PRICE) == Decimal("0.0030925")


def test_cached_tokens_have_their_own_price() -> None:
    """The cached part of the prompt is billed at the cached price, the rest at the full one."""
    usage = Usage(prompt_tokens=1000, cached_tokens=400, completion_tokens=0)
    assert cost_usd(usage, PRICE) == Decimal("0.002")
    assert cost_usd(usage, Price(Decimal("2.5"), Decimal(10))) == Decimal("0.0025")


def test_unknown_is_not_zero() -> None:
    """Without a price, or without a count, there is no cost to tell."""
    assert cost_usd(Usage(prompt_tokens=1), None) is None
    assert cost_usd(Usage(), PRICE) is None


def test_text_estimate() -> None:
    """A quarter of the bytes, rounded up, and what surrounds messages; a message not sent costs nothing."""
    assert text_tokens("") == 0
    assert text_tokens("hello") == 2
    assert message_tokens(None, "12345678") == 3 + 4 + 2
    assert message_tokens("1234", "12345678") == 3 + 4 + 1 + 4 + 2
