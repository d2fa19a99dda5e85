"""What is known of models, as values: every fact with its source, its date and how sure it is."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
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


@dataclass(frozen=True, slots=True)
class Host:
    """An endpoint of other people's models."""

    name: str
    match: tuple[str, ...]
    limits: Limits


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
