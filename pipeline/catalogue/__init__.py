"""What is known of models: facts as data, in the TOML files beside this one, each with source and date."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pipeline.policy.costs import Price
from pipeline.policy.tokens import TileRule

MaxTokensField = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True, slots=True)
class Family:
    """Models that are billed, and asked, alike."""

    name: str
    match: tuple[str, ...]
    """Patterns of model names, in lower case, without a gateway's prefix."""
    max_tokens_field: MaxTokensField
    image_tokens: TileRule | None
    """None where the rule is not known (yet)."""
    source: str
    checked_on: date


def bare_name(model: str) -> str:
    """The name without a gateway's prefix: `openai/gpt-4o` -> `gpt-4o`."""
    return model.rsplit("/", 1)[-1].lower()


def family_of(model: str) -> Family | None:
    """The family of a model's name, or None for one that nobody has described yet."""
    name = bare_name(model)
    for family in families():
        if any(fnmatchcase(name, pattern) for pattern in family.match):
            return family
    return None


@cache
def families() -> Sequence[Family]:
    found: list[Family] = []
    for file in sorted(Path(__file__).parent.glob("*.toml")):
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        found.extend(_family(entry, document) for entry in document["family"])
    return tuple(found)


def _family(entry: dict[str, Any], document: dict[str, Any]) -> Family:
    tile = entry.get("tile")
    rule = None
    if tile is not None:
        rule = TileRule(f"openai-tile/{document['checked_on']:%Y-%m}", tile["base"], tile["tile"])
    return Family(
        name=entry["name"],
        match=tuple(entry["match"]),
        max_tokens_field=entry["max_tokens_field"],
        image_tokens=rule,
        source=document["source"],
        checked_on=document["checked_on"],
    )


def price_of(model: str, base_url: str | None) -> Price | None:
    """The published price of a model at an endpoint, None where none is known.

    `base_url` None looks for the model wherever it is sold first (for rehearsals on the emulator).
    Source: the genai-prices package, which dates its entries; it is read from disk, never from the network.
    """
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - 1.6 MB of tables, only where a price is asked for

    name = model if base_url else bare_name(model)
    try:
        found = calc_price(Usage(input_tokens=1), name, provider_api_url=base_url)
    except (LookupError, ValueError):
        return None
    price = found.model_price
    if price.input_mtok is None or price.output_mtok is None:
        return None
    return Price(
        input_usd_per_mtok=_base(price.input_mtok),
        output_usd_per_mtok=_base(price.output_mtok),
        cached_usd_per_mtok=None if price.cache_read_mtok is None else _base(price.cache_read_mtok),
        source=f"genai-prices: {found.provider.id}/{found.model.id}",
    )


def _base(price: Any) -> Decimal:  # noqa: ANN401 - a Decimal, or genai-prices' tiers, of which the first counts
    return Decimal(getattr(price, "base", price))
