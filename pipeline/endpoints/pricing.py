"""What requests to an endpoint cost: by the user's own table, else as published."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from pipeline.catalogue import bare_name, price_of
from pipeline.catalogue.prices import Price, cost_usd
from pipeline.catalogue.tiers import DEFAULT, tier_named, tier_prices
from pipeline.config.prices import OwnPrice
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import EndpointConfig
from pipeline.endpoints.adapter import other_model, traits_of
from pipeline.limits.budget import Amounts
from pipeline.records import PreparedRequest, Usage


@dataclass(frozen=True, slots=True)
class TierPrices:
    """What requests of a run cost at one endpoint, by the service tier that serves them."""

    asked: Price | None
    """At the tier that is asked for; None where it is unknown."""
    by_tier: Mapping[str, Price] = field(default_factory=dict)
    falls_back: bool = False
    """Whether a request is sent again at the default tier where the asked one has no capacity."""
    other: Price | None = None
    """Of another model that reads the images first, and that responses do not count."""

    def of(self, served: str | None) -> Price | None:
        """By the tier that a response names."""
        return self.asked if served is None else self.by_tier.get(tier_named(served), self.asked)

    def possible(self) -> tuple[Price | None, ...]:
        """The prices at which one request may be billed."""
        return (self.asked, self.of(DEFAULT)) if self.falls_back else (self.asked,)


def prices_for(config: RunConfig, one: EndpointConfig, *, emulated: bool) -> TierPrices:
    """What the model costs at the endpoint: by the user's own table, else as published.

    On the emulator: at the host that it stands in for, else where it is sold first. Where another model reads the
    images first, its price is needed, too, unless the user's own table has one of an image or a request. An own price
    counts at every service tier. Where pages are billed, it is an own price that counts no tokens: published tables
    have none, or zero.
    """
    request, host = config.request, config.catalogue.host
    model, asked = one.model or request.model or "", tier_named(request.service_tier)
    falls_back = request.service_tier_fallback == DEFAULT and asked != DEFAULT
    own = own_price(config.prices.models, model, one.base_url, stands_for=host if emulated else None)
    if traits_of(config).bills_pages:
        return TierPrices(own if own and not own.counts_tokens else None)
    reader = other_model(config, one)
    other = None if reader is None else reader_price(config, one, reader, emulated=emulated)
    if reader is not None and own is not None and (own.usd_per_image or own.usd_per_request):
        return TierPrices(own, {}, falls_back)  # which stands for the reading
    if reader is not None and other is None:
        return TierPrices(None, {}, falls_back)
    if own is not None:
        return TierPrices(own, {}, falls_back, other)
    standard = price_of(model, one.base_url) if not emulated else None
    if emulated:
        standard = (price_of(model, f"https://{host}/v1") if host else None) or price_of(model, None)
    by_tier = tier_prices(model, standard)
    return TierPrices(by_tier.get(asked), by_tier, falls_back, other)


def reader_price(config: RunConfig, one: EndpointConfig, reader: str, *, emulated: bool) -> Price | None:
    """What a model that reads images first costs: by the user's own table, at this host, else where it is sold first.

    The last is an assumption about a host that publishes no price in tokens.
    """
    stands_for = config.catalogue.host if emulated else None
    own = own_price(config.prices.models, reader, one.base_url, stands_for=stands_for)
    return own or price_of(reader, None if emulated else one.base_url) or price_of(reader, None)


def price_for(config: RunConfig, one: EndpointConfig, *, emulated: bool) -> Price | None:
    """What the model costs at the endpoint, at the service tier that is asked for."""
    return prices_for(config, one, emulated=emulated).asked


def most_cost_usd(request: PreparedRequest, price: Price, other: Price | None = None) -> Decimal | None:
    """Every token and every page at the full price. `other` is the price of a model that reads the images first."""
    prompt, answer = request.most_prompt_tokens, request.max_answer_tokens
    if prompt is None or answer is None:
        return None
    pages = request.pages
    if pages is None and price.usd_per_page:
        return None
    usage = Usage(prompt_tokens=prompt, completion_tokens=answer, pages=pages)
    cost = cost_usd(usage, price, images=len(request.image_facts))
    more = (
        None
        if request.other_usage is None
        else cost_usd(request.other_usage[1], other, images=len(request.image_facts))
    )
    return cost if cost is None or more is None else cost + more


def predicted_cost_usd(request: PreparedRequest, usage: Usage, price: Price, other: Price | None) -> Decimal | None:
    """Usage as billed x price, and what another model that reads the images first is expected to cost."""
    images = len(request.image_facts)
    cost = cost_usd(usage, price, images=images)
    more = None if request.other_usage is None else cost_usd(request.other_usage[0], other, images=images)
    return cost if cost is None or more is None else cost + more


def most_amounts(request: PreparedRequest, prices: TierPrices) -> Amounts:
    """The most that one attempt can take of a budget, at the dearest tier that may serve it.

    None where prompt, answer or price are not bounded.
    """
    prompt, answer = request.most_prompt_tokens, request.max_answer_tokens
    costs = [None if price is None else most_cost_usd(request, price, prices.other) for price in prices.possible()]
    known = [cost for cost in costs if cost is not None]
    nano = int(max(known).scaleb(9).to_integral_value(ROUND_CEILING)) if len(known) == len(costs) else None
    return Amounts(nano, None if prompt is None or answer is None else prompt + answer, 1)


def own_price(
    prices: tuple[OwnPrice, ...], model: str, base_url: str | None, stands_for: str | None = None
) -> Price | None:
    """The first of the user's own prices that is meant for this model there, or at the host that it stands for."""
    for own in prices:
        matches = any(fnmatchcase(name, own.model.lower()) for name in (model.lower(), bare_name(model)))
        there = own.base_url in {None, base_url} or (stands_for and urlsplit(own.base_url).hostname == stands_for)
        if matches and there:
            return Price(
                input_usd_per_mtok=own.input_usd_per_mtok or Decimal(0),
                output_usd_per_mtok=own.output_usd_per_mtok or Decimal(0),
                cached_usd_per_mtok=own.cached_usd_per_mtok,
                source=own.source,
                usd_per_request=own.usd_per_request or Decimal(0),
                usd_per_image=own.usd_per_image or Decimal(0),
                usd_per_page=own.usd_per_page or Decimal(0),
                checked_on=own.checked_on,
            )
    return None
