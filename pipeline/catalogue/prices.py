"""Tokens or pages x price. Money is Decimal; what is unknown is None, never zero."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from pipeline.records import Usage

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars a million tokens, and what is charged whatever their number."""

    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cached_usd_per_mtok: Decimal | None = None
    """Of the part of the input that came from the provider's cache; None: like the rest of it."""
    source: str = ""
    usd_per_request: Decimal = Decimal(0)
    usd_per_image: Decimal = Decimal(0)
    usd_per_page: Decimal = Decimal(0)
    """Of a document; an image is one page."""
    checked_on: date | None = None
    """When the source was read; None where it does not say."""

    @property
    def counts_tokens(self) -> bool:
        """False where only requests, images or pages are charged: without token counts there is a bill all the same."""
        return not (self.usd_per_request or self.usd_per_image or self.usd_per_page) or bool(
            self.input_usd_per_mtok or self.output_usd_per_mtok
        )

    def __str__(self) -> str:
        """What is charged, without the source."""
        parts = []
        if self.counts_tokens:
            cached = "" if self.cached_usd_per_mtok is None else f" (cached {_plain(self.cached_usd_per_mtok)})"
            tokens = f"{_plain(self.input_usd_per_mtok)} in{cached}, {_plain(self.output_usd_per_mtok)} out"
            parts.append(f"{tokens} a million tokens")
        parts += [f"{_plain(self.usd_per_image)} an image"] if self.usd_per_image else []
        parts += [f"{_plain(self.usd_per_page)} a page"] if self.usd_per_page else []
        parts += [f"{_plain(self.usd_per_request)} a request"] if self.usd_per_request else []
        return " and ".join(parts)

    @property
    def origin(self) -> str:
        """Source and date."""
        return self.source + (f", {self.checked_on}" if self.checked_on else "")


def _plain(amount: Decimal) -> str:
    """All digits, and two behind the point where there are any: $10, $0.40, $0.075."""
    plain = amount.normalize()
    return f"${plain:.2f}" if plain.as_tuple().exponent == -1 else f"${plain:f}"


def cost_usd(usage: Usage, price: Price | None, images: int = 1) -> Decimal | None:
    """What one request costs, exactly; None without a price, or where tokens are charged and not known."""
    if price is None:
        return None
    pages = images if usage.pages is None else usage.pages
    flat = price.usd_per_request + images * price.usd_per_image + pages * price.usd_per_page
    if not price.counts_tokens:
        return flat
    if usage.prompt_tokens is None or (usage.completion_tokens is None and price.output_usd_per_mtok):
        return None
    cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
    cached_price = price.input_usd_per_mtok if price.cached_usd_per_mtok is None else price.cached_usd_per_mtok
    total = (
        (usage.prompt_tokens - cached) * price.input_usd_per_mtok
        + cached * cached_price
        + (usage.completion_tokens or 0) * price.output_usd_per_mtok
    )
    return flat + total / _MILLION
