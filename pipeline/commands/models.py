"""Facts about models: how they bill an image, at which sizes, what they accept and cost, each with its source."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from fractions import Fraction

from pipeline.catalogue import (
    DatedRule,
    Family,
    Limits,
    all_families,
    described,
    family_named,
    host_of,
    near_names,
    seller_in,
    unknown_rule,
)
from pipeline.catalogue.facts import Parameters
from pipeline.catalogue.offers import host_among, price_at, sellers
from pipeline.catalogue.prices import Price
from pipeline.catalogue.tiers import DEFAULT, tier_prices
from pipeline.commands.model_cards import ModelCard, RuleCard, SizeCard, table
from pipeline.config.run_config import RunConfig
from pipeline.endpoints.pricing import price_for
from pipeline.formatting import printable
from pipeline.tokens import AUTO, KINDS, GeminiCrops, GeminiGrid, SpanningRule, TokenRule, UnknownRule, spanning

__all__ = ["EXAMPLES", "Asked", "ModelCard", "RuleCard", "SizeCard", "model_cards", "table"]

EXAMPLES = ((4032, 3024), (1024, 768), (512, 512))
"""A photograph of 12 megapixels, a picture from the web, a thumbnail: pixels."""
RESOLUTIONS = ("low", "medium", "high", "ultra_high")
"""Parameters of Gemini's rules that are values of Google's own field `media_resolution`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A model as the user names it: at a provider, at the configured endpoint, or anywhere."""

    model: str
    name: str
    """As it was written: `openrouter:openai/gpt-4o`."""
    provider: str | None = None
    """As genai-prices names it."""
    anywhere: bool = True
    """No endpoint is named: the price is that of its first provider."""


def model_cards(config: RunConfig, today: date, name: str | Asked | None = None) -> tuple[ModelCard, ...]:
    """Of one model or family, or of all families. `config` says where it is asked, own families and own prices.

    An unknown name gives a card of bounds. Raises InputError for a catalogue file that cannot be read.
    """
    own = config.catalogue.file
    if name is None:
        return tuple(_card(config, today, Asked(one.name, one.name), one) for one in all_families(own))
    asked = Asked(name, name) if isinstance(name, str) else name
    said = config.request.model_family
    return (_card(config, today, asked, family_named(said, own) if said else described(asked.model, own)),)


def _card(config: RunConfig, today: date, asked: Asked, family: Family | None) -> ModelCard:
    host = _host(config, asked, family)
    dated = family.rules_for(today, host) if family else ()
    rule = spanning(tuple(each.rule for each in dated)) if dated else unknown_rule()
    there, price = host_of(host), _price(config, asked)
    return ModelCard(
        name=asked.name,
        family=family.name if family else None,
        near=() if family else tuple(near_names(asked.model, config.catalogue.file)),
        patterns=family.match if family else (),
        rules=tuple(_rule_card(each) for each in dated),
        details=rule.details,
        auto=rule.auto,
        sizes=tuple(_size(rule, *size, detail) for size in EXAMPLES for detail in _details(rule)),
        max_tokens_field=family.max_tokens_field if family else "max_tokens",
        json_schema=family.json_schema if family else "unknown",
        count_tokens=family.count_tokens if family else "requested",
        reasoning=family.reasoning if family else None,
        parameters=family.parameters if family else Parameters(),
        tiers={name: tier for name, tier in tier_prices(asked.model, price).items() if name != DEFAULT},
        api=_api(asked, family),
        limits=family.limits if family else Limits(),
        host_limits=there.limits if there else None,
        batch=family.batch if family else None,
        price=price,
        sold_as=sellers(asked.model) if price is None else (),
        traps=(*_unsold(config, asked), *_traps(rule, dated)),
    )


def _api(asked: Asked, family: Family | None) -> str | None:
    if family is None or not family.lacks_chat(asked.model):
        return None
    source = family.responses_source
    return "responses: it has no chat/completions" + (f" ({source.title}, read {source.checked_on})" if source else "")


def _host(config: RunConfig, asked: Asked, family: Family | None) -> str:
    if asked.provider is None:
        return config.rules_host
    return host_among(asked.provider, [host for rule in family.rules for host in rule.hosts] if family else ())


def _price(config: RunConfig, asked: Asked) -> Price | None:
    if asked.provider is not None:
        return price_at(asked.model, asked.provider)
    one = config.all_endpoints[0].model_copy(update={"model": asked.model})
    return price_for(config, one, emulated=asked.anywhere)


def _unsold(config: RunConfig, asked: Asked) -> list[str]:
    seller = seller_in(asked.model, config.catalogue.file)
    return [f"{printable(seller)} is no provider whose prices are known"] if seller else []


def _rule_card(dated: DatedRule) -> RuleCard:
    rule = dated.rule
    return RuleCard(
        rule.name, _parameters(rule), dated.evidence, dated.source, dated.valid_from, dated.valid_to, dated.note
    )


def _parameters(rule: TokenRule) -> str:
    """The kind as a catalogue file names it, and its numbers; what is not set, or adds nothing, is left out."""
    kind = next((kind for kind, build in KINDS.items() if build is type(rule)), type(rule).__name__)
    names = [field.name for field in fields(rule) if field.name != "name"]  # type: ignore[arg-type] # all are dataclasses
    values = ((_parameter(rule, name), getattr(rule, name)) for name in names)
    return f"{kind}: {', '.join(f'{name} {_value(value)}' for name, value in values if value)}"


def _parameter(rule: TokenRule, name: str) -> str:
    return f"media_resolution_{name}" if isinstance(rule, GeminiCrops | GeminiGrid) and name in RESOLUTIONS else name


def _value(value: object) -> str:
    if isinstance(value, Fraction):
        return f"{float(value):g}"
    if not is_dataclass(value):
        return str(value)
    known = ((field.name, getattr(value, field.name)) for field in fields(value))
    return f"({', '.join(f'{name} {each}' for name, each in known if each) or 'no limit'})"


def _details(rule: TokenRule) -> tuple[str, ...]:
    """Those that differ."""
    return (AUTO, *(detail for detail in rule.details if detail != rule.auto))


def _size(rule: TokenRule, width: int, height: int, detail: str) -> SizeCard:
    sent = rule.looked_at(width, height, detail)
    return SizeCard(width, height, detail, *sent, rule.tokens(*sent, detail))


def _traps(rule: TokenRule, dated: Sequence[DatedRule]) -> list[str]:
    """What a user would not expect, with the cheaper choice."""
    if isinstance(rule, UnknownRule):
        return []
    found = []
    for width, height in EXAMPLES:
        tokens = {detail: _size(rule, width, height, detail).tokens.expected for detail in rule.details}
        low, high, meant = tokens.get("low"), tokens.get("high"), tokens.get(rule.auto)
        if low is not None and high is not None and low > high:
            found.append(f"low costs more than high: {low:,} against {high:,} tokens at {width}x{height}")
        if rule.auto == "original" and meant and high and meant > high:
            found.append(
                f"auto means original: {meant:,} tokens at {width}x{height}, {meant / high:.1f} times "
                f"the {high:,} of `request.detail=high`"
            )
    if isinstance(rule, SpanningRule):
        found.append(f"{len(rule.rules)} published rules may bill it: the first is expected, ranges span all")
    if all(each.evidence == "unverified" for each in dated):
        found.append("no bill and no document confirms its rule: compare predicted and billed with `check`")
    return found
