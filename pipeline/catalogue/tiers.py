"""The service tiers of a model: which there are, and what they cost."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Final

from pipeline.catalogue.facts import TierPrice
from pipeline.catalogue.naming import bare_name
from pipeline.catalogue.prices import Price
from pipeline.catalogue.reading import tiers

DEFAULT: Final = "default"
AUTO: Final = "auto"
"""The tier that the project's settings name; without any it is the default tier."""
_SAME: Final = {"fast": "priority", AUTO: DEFAULT}
"""Other names of a tier."""


def tier_named(tier: str | None) -> str:
    """The name by which a tier is listed; None, as `auto`, is the default tier."""
    return DEFAULT if tier is None else _SAME.get(tier, tier)


def tiers_of(model: str) -> Mapping[str, TierPrice]:
    """The tiers beside the default one that a model has, where it is sold first."""
    name = bare_name(model)
    found: dict[str, TierPrice] = {}
    for entry in tiers():
        if any(fnmatchcase(name, pattern) for pattern in entry.match):
            found.setdefault(entry.name, entry)
    return found


def tier_prices(model: str, standard: Price | None) -> dict[str, Price]:
    """The prices of all tiers by their names, `standard` being that of the default tier.

    A tier is priced where the vendor of the tiers sells the model itself: nothing is known of gateways.
    """
    if standard is None:
        return {}
    found = {DEFAULT: standard}
    for name, entry in tiers_of(model).items():
        if f": {entry.provider}/" in standard.source:
            found[name] = _price(entry, standard)
    return found


def _price(entry: TierPrice, standard: Price) -> Price:
    source = f"{entry.source.title} ({entry.name})"
    cached = standard.cached_usd_per_mtok
    if entry.share is None:
        return replace(
            standard,
            input_usd_per_mtok=entry.input_usd_per_mtok,
            output_usd_per_mtok=entry.output_usd_per_mtok,
            cached_usd_per_mtok=entry.cached_usd_per_mtok,
            source=source,
            checked_on=entry.source.checked_on,
        )
    share: Decimal = entry.share
    return replace(
        standard,
        input_usd_per_mtok=standard.input_usd_per_mtok * share,
        output_usd_per_mtok=standard.output_usd_per_mtok * share,
        cached_usd_per_mtok=None if cached is None else cached * share,
        source=f"{share:.0%} of {standard.source}: {source}",
        checked_on=entry.source.checked_on,
    )
