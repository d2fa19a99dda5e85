"""What is known of models, as values: every fact with its source, its date and how sure it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Literal

from pipeline.tokens import TokenRule, spanning

MaxTokensField = Literal["max_tokens", "max_completion_tokens"]
Evidence = Literal["published", "measured", "derived", "unverified"]
CountTokens = Literal["requested", "billed"]
JsonSchema = Literal["strict", "accepted", "json_object", "ignored", "unknown"]


@dataclass(frozen=True, slots=True)
class Source:
    """A document, and the day on which it was read last."""

    title: str
    url: str
    """Empty for what has no address: a bill, a contract."""
    checked_on: date


@dataclass(frozen=True, slots=True)
class DatedRule:
    """A token rule, when and where it counts, and where that is said."""

    rule: TokenRule
    source: Source
    evidence: Evidence
    valid_from: date | None = None
    valid_to: date | None = None
    hosts: tuple[str, ...] = ()
    """How the host's name ends where the rule counts; empty: wherever no other rule names the host."""
    note: str = ""

    def counts_on(self, day: date) -> bool:
        return (self.valid_from is None or self.valid_from <= day) and (self.valid_to is None or day < self.valid_to)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an endpoint accepts; None where nothing is published."""

    max_image_bytes: int | None = None
    max_request_bytes: int | None = None
    max_images: int | None = None
    max_side: int | None = None
    max_pixels: int | None = None
    max_patches: int | None = None
    """Of 32 pixels, after the model's own resizing."""
    formats: tuple[str, ...] = ()
    source: Source | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """The vendor's batch files."""

    discount: Decimal
    max_requests: int | None = None
    max_bytes: int | None = None
    hours: int | None = None
    source: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoning:
    """How models think before they answer, and the room that this takes."""

    efforts: Mapping[str, int] = field(default_factory=dict)
    """The values of `reasoning_effort`, the lowest first, with the tokens to allow for each; empty: there are none."""
    default: str | None = None
    """The effort of a request that names none."""
    allowance: int = 0
    """Tokens to allow where there is no effort to choose."""
    source: Source | None = None
    evidence: Evidence = "unverified"
    note: str = ""

    @property
    def lowest(self) -> str | None:
        return next(iter(self.efforts), None)

    def allowance_at(self, effort: str | None) -> int:
        """The tokens to allow at an effort, or where a request names none."""
        known = effort if effort is not None else self.default
        most = max(self.efforts.values(), default=self.allowance)
        return self.allowance if known is None else self.efforts.get(known, most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What models do not take of the API's parameters."""

    rejects: tuple[str, ...] = ()
    """Rejected in any case."""
    fixed: Mapping[str, float] = field(default_factory=dict)
    """Rejected with any value but this one."""
    only_without_reasoning: tuple[str, ...] = ()
    """Rejected unless the effort of reasoning is `none`."""
    ignores: tuple[str, ...] = ()
    """Accepted, and without effect."""
    source: Source | None = None
    evidence: Evidence = "unverified"
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPrice:
    """A service tier of some models, and its price: a share of the default tier's, or dollars a million tokens."""

    name: str
    provider: str
    """As genai-prices names it."""
    match: tuple[str, ...]
    source: Source
    share: Decimal | None = None
    input_usd_per_mtok: Decimal = Decimal(0)
    output_usd_per_mtok: Decimal = Decimal(0)
    cached_usd_per_mtok: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """An endpoint of other people's models."""

    name: str
    match: tuple[str, ...]
    limits: Limits
    takes_addresses: bool = True
    """False where it is published that images are taken as bytes only."""


@dataclass(frozen=True, slots=True)
class Family:
    """Models that are billed, and asked, alike."""

    name: str
    match: tuple[str, ...]
    """Patterns of model names, in lower case; without a gateway's prefix, unless they hold a `/`."""
    max_tokens_field: MaxTokensField
    source: str
    checked_on: date
    rules: tuple[DatedRule, ...] = ()
    limits: Limits = Limits()
    json_schema: JsonSchema = "unknown"
    batch: Batch | None = None
    count_tokens: CountTokens = "requested"
    """What counts against tokens a minute: the prompt's and `max_tokens`, or those billed."""

    reasoning: Reasoning | None = None
    """None: these models do not reason, or only where a request asks for it."""
    parameters: Parameters = Parameters()
    responses_only: tuple[str, ...] = ()
    """Patterns of model names that the vendor serves through its Responses API, and not through chat/completions."""
    responses_source: Source | None = None

    def lacks_chat(self, model: str) -> bool:
        """Whether a model has no chat/completions. A gateway's prefix means a server that may well have it."""
        return any(fnmatchcase(model.lower(), pattern) for pattern in self.responses_only)

    @property
    def counts_requested(self) -> bool:
        return self.count_tokens == "requested"

    def rules_for(self, on: date, host: str = "") -> tuple[DatedRule, ...]:
        """The rules that count on a day at a host; where none is valid on it, all that the host has."""
        there = tuple(rule for rule in self.rules if on_host(rule.hosts, host))
        there = there or tuple(rule for rule in self.rules if not rule.hosts)
        return tuple(rule for rule in there if rule.counts_on(on)) or there

    def rule(self, on: date, host: str = "") -> TokenRule | None:
        """One rule for all that count; None where nothing is published of this family."""
        counting = self.rules_for(on, host)
        return spanning(tuple(dated.rule for dated in counting)) if counting else None


def on_host(endings: tuple[str, ...], host: str) -> bool:
    return any(host == ending or host.endswith(f".{ending}") for ending in endings)
