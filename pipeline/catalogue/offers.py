"""Who sells a model, and for how much in a batch. Source: the genai-prices package, read from disk only."""

import re
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from itertools import islice
from typing import Any

from pipeline.catalogue import Family, price_of
from pipeline.catalogue.prices import Price

MOST_SELLERS = 2
FROM_TABLES = "genai-prices"
"""How the source of a published price begins; one of the user's own begins otherwise."""


@cache
def providers() -> frozenset[str]:
    """The names that may stand before a model's: `provider:model`."""
    return frozenset(provider.id for provider in _tables())


def price_at(model: str, provider: str) -> Price | None:
    """The published price of a model at a provider; None where it is not sold there."""
    return _price(model, provider_id=provider)


def batch_price(model: str, standard: Price | None, family: Family | None, **where: str | None) -> Price | None:
    """The price in a provider's batch files; None where it is not known that there are any.

    `where` is `provider_id` or `provider_api_url`, as genai-prices names them, and `standard` what an online request
    costs there. A published price counts first, then the family's discount where its own vendor sells it.
    """
    if standard is None or not standard.source.startswith(FROM_TABLES):
        return None
    found = _price(model, price_context={"processing": "batch"}, **where)
    # Where nothing is published of batches, the tables give the standard price again.
    if found is not None and found.input_usd_per_mtok != standard.input_usd_per_mtok:
        return replace(found, source=f"{found.source}, batch", checked_on=standard.checked_on)
    first = price_of(model, None)
    if family is None or family.batch is None or first is None or first.source != standard.source:
        return None
    share, said = 1 - family.batch.discount, family.batch.source
    return Price(
        input_usd_per_mtok=standard.input_usd_per_mtok * share,
        output_usd_per_mtok=standard.output_usd_per_mtok * share,
        source=f"{share:.0%} of the online price: {said.title if said else family.source}",
        checked_on=said.checked_on if said else family.checked_on,
    )


def sellers(model: str) -> tuple[str, ...]:
    """Up to two ways to write `provider:model` where providers sell it under a name of their own."""
    ending = f"/{model.lower()}"
    found = (f"{provider.id}:{one.id}" for provider in _tables() for one in provider.models if one.id.endswith(ending))
    return tuple(islice(found, MOST_SELLERS))


def host_among(provider: str, endings: Iterable[str]) -> str:
    """Of the hosts for which rules of their own are known, the provider's; empty where none is."""
    pattern = next((one.api_pattern for one in _tables() if one.id == provider), "(?!)")
    return next((host for host in endings if re.match(pattern, f"https://{host}/v1")), "")


def _price(model: str, **where: Any) -> Price | None:  # noqa: ANN401 - genai-prices' own arguments
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - 1.6 MB of tables, only where a price is asked for

    try:
        found = calc_price(Usage(input_tokens=1), model, **where)
    except (LookupError, ValueError):
        return None
    price = found.model_price
    if price.input_mtok is None or price.output_mtok is None:
        return None
    return Price(
        input_usd_per_mtok=_base(price.input_mtok),
        output_usd_per_mtok=_base(price.output_mtok),
        source=f"{FROM_TABLES} {version(FROM_TABLES)}: {found.provider.id}/{found.model.id}",
    )


def _base(price: Any) -> Decimal:  # noqa: ANN401 - a Decimal, or tiers by the prompt's length: the first counts
    return Decimal(getattr(price, "base", price))


def _tables() -> Any:  # noqa: ANN401 - genai-prices' providers
    from genai_prices.data import providers as tables  # noqa: PLC0415 - as above

    return tables
