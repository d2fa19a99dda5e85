"""What is known of models: facts as data, in the TOML files beside this one, each with source and date."""

import re
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.catalogue import naming
from pipeline.catalogue.facts import Batch, DatedRule, Family, Host, Limits, MaxTokensField, Source, on_host
from pipeline.catalogue.naming import bare_name, matching, matching_part, named_or_matching
from pipeline.catalogue.prices import Price
from pipeline.catalogue.reading import families, hosts, read_families, unknown_rule
from pipeline.errors import InputError
from pipeline.tokens import TokenRule

__all__ = [
    "Batch",
    "DatedRule",
    "Family",
    "Host",
    "Limits",
    "MaxTokensField",
    "Source",
    "all_families",
    "bare_name",
    "described",
    "families",
    "family_named",
    "family_of",
    "first_family",
    "host_of",
    "near_names",
    "price_of",
    "rule_of",
    "seller_in",
    "unknown_rule",
]


def family_of(model: str, own: Path | None = None) -> Family | None:
    """The family of a model's name, or None where the catalogue has no entry.

    `own` is a user's file in the format of ours; what it says counts first.
    """
    return matching_part(model, all_families(own))


def seller_in(model: str, own: Path | None = None) -> str:
    """What stands before the colon of `acme:gpt-4o`: a provider's name, where only what follows it is known."""
    before, _, after = model.partition(":")
    known = all_families(own)
    return before if not matching(model, known) and matching(after, known) else ""


def described(name: str, own: Path | None = None) -> Family | None:
    """The family of this name, or else of a model of this name; None where there is neither."""
    return named_or_matching(name, all_families(own))


def family_named(name: str, own: Path | None = None) -> Family:
    """The same. Raises InputError with the nearest names where there is neither."""
    found = described(name, own)
    if found is None:
        near = ", ".join(near_names(name, own))
        raise InputError(
            f"`model_family=` {name!r}: no such family;{f' did you mean {near}?' if near else ''} "
            "`vision-batch models` lists them"
        )
    return found


def first_family(names: Iterable[str], own: Path | None = None) -> Family | None:
    """Of several names of one model, the first that is known."""
    return next((family for name in names if (family := family_of(name, own)) is not None), None)


def near_names(name: str, own: Path | None = None) -> list[str]:
    """Up to three families whose names, or whose models' names, are most like this one."""
    return naming.near_names(name, all_families(own))


def all_families(own: Path | None = None) -> Sequence[Family]:
    """A user's own families, then ours: the first that matches counts."""
    return (*read_families(own), *families()) if own else families()


def rule_of(family: Family | None, on: date, host: str = "") -> TokenRule:
    """How images are billed on a day at a host: never None, for unknown models it is a bound."""
    return (family.rule(on, host) if family else None) or unknown_rule()


def host_of(name: str) -> Host | None:
    """What is known of the host of an endpoint, by its name."""
    return next((host for host in hosts() if on_host(host.match, name)), None)


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
        source=f"genai-prices {_version()}: {found.provider.id}/{found.model.id}",
        checked_on=_last_day(found.model.price_comments or ""),
    )


@cache
def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415 - 20 ms, only where a price is shown

    return version("genai-prices")


def _last_day(comments: str) -> date | None:
    """When the tables say that a price was verified; few of them do."""
    days = [date.fromisoformat(found) for found in re.findall(r"\bverified on (\d{4}-\d\d-\d\d)", comments)]
    return max(days, default=None)


def _base(price: Any) -> Decimal:  # noqa: ANN401 - a Decimal, or genai-prices' tiers: the first counts
    return Decimal(getattr(price, "base", price))
