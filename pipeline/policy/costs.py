"""Tokens x price. Money is Decimal; what is unknown is None, never zero."""

from dataclasses import dataclass
from decimal import Decimal

from pipeline.records import Usage

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars a million tokens."""

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_usd_per_mtok: Decimal | None = None
    """Of the part of the input that came from the provider's cache; None: like the rest of it."""
    source: str = ""


def cost_usd(usage: Usage, price: Price | None) -> Decimal | None:
    """What `usage` costs, exactly; None without a price or without any token count."""
    if price is None or usage.prompt_tokens is None:
        return None
    cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
    cached_price = price.input_usd_per_mtok if price.cached_usd_per_mtok is None else price.cached_usd_per_mtok
    total = (
        (usage.prompt_tokens - cached) * price.input_usd_per_mtok
        + cached * cached_price
        + (usage.completion_tokens or 0) * price.output_usd_per_mtok
    )
    return total / _MILLION
