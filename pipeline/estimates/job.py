"""One estimate as asked for: the candidates, and the images or their number."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from urllib.parse import urlsplit

from pipeline.catalogue import DatedRule, Family
from pipeline.catalogue.offers import batch_price, host_among, price_at, providers
from pipeline.catalogue.prices import Price
from pipeline.catalogue.tiers import DEFAULT, tier_named, tier_prices
from pipeline.config.families import family_for
from pipeline.config.loading import presets
from pipeline.config.run_config import RunConfig
from pipeline.endpoints.adapter import other_model
from pipeline.endpoints.pricing import prices_for, reader_price
from pipeline.errors import InputError
from pipeline.estimates.figures import text_range
from pipeline.run.labels import schema_words
from pipeline.run.model import rule_for
from pipeline.run.parameters import EffectiveRequest, effective_request
from pipeline.sources import SourceLike
from pipeline.tokens import TokenRange, TokenRule
from pipeline.tokens.pages import BY_PAGE
from pipeline.tokens.prompt import PromptShape, Size
from pipeline.tokens.text import message_tokens, most_message_tokens

DEFAULT_PRESETS = ("openai", "anthropic", "gemini")
"""Whose models are compared where none is named."""


LEAST_PROBE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One model to estimate for, and the configuration that it would be asked with."""

    name: str
    config: RunConfig
    provider: str | None = None
    """Whose price counts, as genai-prices names it; None: the configured endpoint's."""
    anywhere: bool = False
    """No endpoint was named: the model is priced where it is sold first."""

    @property
    def model(self) -> str:
        return self.config.all_endpoints[0].model or self.config.request.model or ""

    @property
    def host(self) -> str:
        """Of the endpoint; empty where none was named."""
        return "" if self.anywhere or self.provider else urlsplit(self.config.all_endpoints[0].base_url).hostname or ""

    @property
    def rules_host(self) -> str:
        """The host whose own rules count; empty where none was named."""
        config = self.config
        if self.provider is None:
            return (config.catalogue.host or "") if self.anywhere else config.rules_host
        family = self.family()
        return host_among(self.provider, [host for rule in family.rules for host in rule.hosts] if family else ())

    @property
    def where(self) -> str:
        return self.provider or ("where it is sold first" if self.anywhere else self.host)

    def family(self) -> Family | None:
        return family_for(self.config)

    def asked(self, rule: TokenRule) -> EffectiveRequest:
        """The request of a run; a parameter that the model does not take is noted, and no error."""
        return effective_request(self.config, rule, adapts=True)

    def rules(self, today: date) -> tuple[DatedRule, ...]:
        family = self.family()
        return family.rules_for(today, self.rules_host) if family else ()

    def prompt_shape(self, today: date) -> PromptShape:
        """What a run with this configuration would ask of each image."""
        request, rule = self.config.request, rule_for(self.config, today, self.rules_host)
        words = schema_words(self.config)
        asked = self.config.requests
        texts = [(*one.message_texts, words if one.labels else None) for one in asked if rule is not BY_PAGE]
        text = text_range(
            sum(message_tokens(*each) for each in texts), sum(most_message_tokens(*each) for each in texts)
        )
        return PromptShape(
            rule=rule,
            detail=request.detail,
            text=TokenRange(text.expected, text.high or text.expected, text.low),
            prompts=len(asked),
            max_side=self.config.images.max_side,
            max_image_tokens=self.config.images.max_image_tokens,
        )

    def reader(self) -> tuple[str, Price | None] | None:
        """The model that reads the images first, with its price; None where there is none."""
        endpoint = self.config.all_endpoints[0]
        reader = other_model(self.config, endpoint)
        return None if reader is None else (reader, reader_price(self.config, endpoint, reader, emulated=self.anywhere))

    def prices(self) -> tuple[Price | None, Price | None]:
        """(online, by batch); None where it is unknown."""
        endpoint, family = self.config.all_endpoints[0], self.family()
        if self.provider is not None:
            standard, tier = price_at(self.model, self.provider), tier_named(self.config.request.service_tier)
            batch = batch_price(self.model, standard, family, provider_id=self.provider)
            return tier_prices(self.model, standard).get(tier), batch
        prices = prices_for(self.config, endpoint, emulated=self.anywhere)
        name = self.model.rsplit("/", 1)[-1].lower() if self.anywhere else self.model
        at = None if self.anywhere else endpoint.base_url
        standard = prices.by_tier.get(DEFAULT, prices.asked)
        return prices.asked, batch_price(name, standard, family, provider_api_url=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateJob:
    """One estimate as asked for: a source, or a number of images with their sizes."""

    candidates: Sequence[Candidate]
    sources: Sequence[SourceLike] = ()
    count: int | None = None
    sizes: Sequence[Size] = ()
    """With `count`: images are spread evenly over them."""
    probe: int | None = None
    seed: int = 0
    limit: int | None = None
    output_tokens: int | None = None
    """Of one answer, as the user expects them."""
    today: date
    notes: tuple[str, ...] = ()


def is_configuration(name: str) -> bool:
    """Whether an entry of `models=` is a preset or a file (`mine.toml`, `./mine`), and no model (`openai/gpt-4o`)."""
    return name.endswith(".toml") or name.startswith(("./", "../", "/")) or name in presets()


def provider_and_model(name: str) -> tuple[str | None, str]:
    """`openrouter:openai/gpt-4o` -> its two parts; a colon after anything but a known provider is part of the name."""
    provider, colon, model = name.partition(":")
    return (provider, model) if colon and model and provider in providers() else (None, name)


def parse_size(text: str) -> Size:
    """`1600x1200` -> pixels. Raises InputError."""
    found = re.fullmatch(r"(\d{1,6})\s*[xX\N{MULTIPLICATION SIGN}*]\s*(\d{1,6})", text.strip())
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if min(size) < 1:
        raise InputError(f"`sizes=` {text!r}: write WIDTHxHEIGHT in pixels, for example 1600x1200")
    return size


def check_job(job: EstimateJob) -> None:
    """Raises InputError where the parts of a command do not fit each other."""
    if job.count is None and not job.sources:
        raise InputError("name a SOURCE, or say how many images of what size: `count=10000` `sizes=1600x1200`")
    if job.count is not None and job.sources:
        raise InputError("`count=` takes the place of a SOURCE; name one of them")
    if job.count is not None and any(one.config.source.own_shard for one in job.candidates):
        raise InputError("`source.shard` is a part of a SOURCE, and `count=` has none: divide the count by N instead")
    if (job.count is None) != (not job.sizes):
        raise InputError("`count=` and `sizes=` belong together: `count=10000` `sizes=1600x1200`")
    if job.probe is not None and (job.probe < LEAST_PROBE or job.count is not None):
        raise InputError("`probe=N` looks at N images of a SOURCE, and at two at least")
