"""What requests to an endpoint cost: by the user's own table, else as published."""

from decimal import ROUND_CEILING, Decimal
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from pipeline.catalogue import bare_name, price_of
from pipeline.catalogue.prices import Price, cost_usd
from pipeline.config.prices import OwnPrice
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import EndpointConfig
from pipeline.endpoints.adapter import counts_every_model
from pipeline.limits.budget import Amounts
from pipeline.records import PreparedRequest, Usage


def price_for(config: RunConfig, one: EndpointConfig, *, emulated: bool) -> Price | None:
    """What the model costs at the endpoint: by the user's own table, else as published.

    On the emulator: at the host that it stands in for, else where it is sold first. Where responses do not count all
    models that are billed, the price is unknown, unless the user's own table has one of an image or a request.
    """
    model, host = one.model or config.request.model or "", config.catalogue.host
    own = own_price(config.prices.models, model, one.base_url, stands_for=host if emulated else None)
    if not counts_every_model(config, one):
        return own if own and (own.usd_per_image or own.usd_per_request) else None
    if own is not None or not emulated:
        return own or price_of(model, one.base_url)
    return (price_of(model, f"https://{host}/v1") if host else None) or price_of(model, None)


def most_cost_usd(request: PreparedRequest, price: Price) -> Decimal | None:
    """Every token at the full price."""
    prompt, answer = request.most_prompt_tokens, request.max_answer_tokens
    if prompt is None or answer is None:
        return None
    return cost_usd(Usage(prompt_tokens=prompt, completion_tokens=answer), price, images=len(request.image_facts))


def most_amounts(request: PreparedRequest, price: Price | None) -> Amounts:
    """The most that one attempt can take of a budget; None where prompt, answer or price are not bounded."""
    prompt, answer = request.most_prompt_tokens, request.max_answer_tokens
    cost = None if price is None else most_cost_usd(request, price)
    nano = None if cost is None else int(cost.scaleb(9).to_integral_value(ROUND_CEILING))
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
                checked_on=own.checked_on,
            )
    return None
