"""What is known of models: how they bill an image, at which sizes, what they accept and cost, and who says so."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from urllib.parse import urlsplit

from pipeline.catalogue import (
    Batch,
    DatedRule,
    Family,
    Limits,
    Source,
    all_families,
    described,
    family_named,
    host_of,
    near_names,
    seller_in,
    unknown_rule,
)
from pipeline.catalogue.facts import Evidence, JsonSchema
from pipeline.catalogue.offers import host_among, price_at
from pipeline.config import RunConfig
from pipeline.policy.costs import Price
from pipeline.policy.tokens import (
    AUTO,
    KINDS,
    GeminiCrops,
    GeminiGrid,
    SpanningRule,
    TokenRange,
    TokenRule,
    UnknownRule,
    spanning,
)
from pipeline.progress import printable
from pipeline.steps import price_for

EXAMPLES = ((4032, 3024), (1024, 768), (512, 512))
"""A photograph of 12 megapixels, a picture from the web, a thumbnail: pixels."""
TABLE_SIZE = (1024, 768)
RESOLUTIONS = ("low", "medium", "high", "ultra_high")
"""Parameters of Gemini's rules that are values of Google's own field `media_resolution`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A model as somebody asks for it: by a name, at a provider, at the configured endpoint, or anywhere."""

    model: str
    name: str
    """As it was written: `openrouter:openai/gpt-4o`."""
    provider: str | None = None
    """As genai-prices names it."""
    anywhere: bool = True
    """Nobody said where: the price is that of where it is sold first."""


@dataclass(frozen=True, slots=True)
class RuleCard:
    """One published token rule of a model."""

    name: str
    parameters: str
    evidence: Evidence
    source: Source
    valid_from: date | None
    valid_to: date | None
    note: str


@dataclass(frozen=True, slots=True)
class SizeCard:
    """What becomes of an image of `width` x `height`, asked for with this `detail`."""

    width: int
    height: int
    detail: str
    sent_width: int
    sent_height: int
    tokens: TokenRange


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """All that is known of one model, or of one family."""

    name: str
    family: str | None
    """None: nobody has described this model, and what follows are bounds."""
    near: tuple[str, ...]
    """Families with names like it."""
    patterns: tuple[str, ...]
    rules: tuple[RuleCard, ...]
    """Those that count today and there; the first is expected, the range of tokens spans them."""
    details: tuple[str, ...]
    auto: str
    sizes: tuple[SizeCard, ...]
    max_tokens_field: str
    json_schema: JsonSchema
    limits: Limits
    host_limits: Limits | None
    """Of the endpoint, where it is known for other people's models."""
    batch: Batch | None
    price: Price | None
    traps: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON: money as text, dates in ISO 8601."""
        return {**_plain(asdict(self)), "price": None if self.price is None else _plain(asdict(self.price))}

    def tokens(self, size: tuple[int, int]) -> TokenRange:
        """Of an image of one of the example sizes, with what `auto` means."""
        return next(card.tokens for card in self.sizes if (card.width, card.height, card.detail) == (*size, AUTO))

    def lines(self) -> list[str]:
        """For people: a line a fact."""
        name = printable(self.name)
        if self.family is None:
            like = f"; like it are: {', '.join(self.near)}" if self.near else ""
            bounds = "What follows are the bounds of all published rules; --model-family NAME says which of them it has"
            said = [f"{name}: nobody has described this model{like}. {bounds}"]
        else:
            said = [f"{name}: family {self.family} ({', '.join(self.patterns)})"]
        said += [line for rule in self.rules for line in _rule_lines(rule)]
        means = f"; auto means {self.auto}" if self.auto != AUTO else ""
        said.append(f"detail       {', '.join(self.details) or 'none: there is nothing to choose from'}{means}")
        said += [_size_line(card) for card in self.sizes]
        said += _limit_lines("limits", self.limits)
        said += _limit_lines("host", self.host_limits) if self.host_limits else []
        said.append(f"answer       its length is bounded by {self.max_tokens_field}; JSON schema: {self.json_schema}")
        said.append(f"batch        {_batch(self.batch)}")
        own = "unknown; [prices] in a configuration gives your own"
        price = own if self.price is None else f"{self.price} ({self.price.origin})"
        said.append(f"price        {price}")
        return said + [f"trap         {trap}" for trap in self.traps]


def model_cards(config: RunConfig, today: date, name: str | Asked | None = None) -> tuple[ModelCard, ...]:
    """Of one model or family, or of all families. `config` says where it is asked, own families and own prices.

    A name that nobody knows gives a card of bounds. Raises InputError for a catalogue file that cannot be read.
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
    there = host_of(host)
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
        limits=family.limits if family else Limits(),
        host_limits=there.limits if there else None,
        batch=family.batch if family else None,
        price=_price(config, asked),
        traps=(*_unsold(config, asked), *_traps(rule, dated)),
    )


def _host(config: RunConfig, asked: Asked, family: Family | None) -> str:
    if asked.provider is None:
        return urlsplit(config.all_endpoints[0].base_url).hostname or ""
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
                f"the {high:,} of --detail high"
            )
    if isinstance(rule, SpanningRule):
        found.append(f"{len(rule.rules)} published rules may bill it: the first is expected, ranges span all")
    if all(each.evidence == "unverified" for each in dated):
        found.append("no bill and no document confirms its rule: compare predicted and billed with `check`")
    return found


def _rule_lines(rule: RuleCard) -> list[str]:
    dates = f"from {rule.valid_from} " if rule.valid_from else ""
    dates += f"until {rule.valid_to} " if rule.valid_to else ""
    note = f"; {rule.note}" if rule.note else ""
    return [
        f"token rule   {rule.name} {dates}({rule.evidence}{note})",
        f"             {rule.parameters}",
        f"             {_source(rule.source)}",
    ]


def _source(source: Source) -> str:
    return f"{source.title}, read {source.checked_on}" + (f": {source.url}" if source.url else "")


def _size_line(card: SizeCard) -> str:
    sent = f"{card.sent_width}x{card.sent_height}"
    return f"size         {card.width}x{card.height} {card.detail}: sent {sent}, {_tokens(card.tokens)} tokens"


def _tokens(tokens: TokenRange) -> str:
    if tokens.lower == tokens.upper:
        return f"{tokens.expected:,}"
    return f"{tokens.expected:,} ({tokens.lower:,} to {tokens.upper:,})"


def _limit_lines(what: str, limits: Limits) -> list[str]:
    named = {
        "an image": _bytes(limits.max_image_bytes),
        "a request": _bytes(limits.max_request_bytes),
        "a request ": limits.max_images and f"{limits.max_images:,} images",
        "a side": limits.max_side and f"{limits.max_side:,} pixels",
        "an image ": limits.max_pixels and f"{limits.max_pixels:,} pixels",
        "after resizing": limits.max_patches and f"{limits.max_patches:,} patches",
    }
    said = [f"{amount} {of.strip()}" for of, amount in named.items() if amount]
    said += ["formats " + ", ".join(limits.formats)] if limits.formats else []
    note = f"; {limits.note}" if limits.note else ""
    source = f" ({_source(limits.source)})" if limits.source else ""
    return [f"{what:12} {', '.join(said) or 'none published'}{note}{source}"]


def _bytes(count: int | None) -> str | None:
    return None if count is None else f"{count / (1 << 20):g} MiB"


def _batch(batch: Batch | None) -> str:
    if batch is None:
        return "none known"
    known = (
        (batch.max_requests, "{:,} requests a file"),
        (batch.max_bytes and batch.max_bytes >> 20, "{} MiB a file"),
        (batch.hours, "within {} hours"),
    )
    said = [f"{batch.discount:.0%} off", *(text.format(value) for value, text in known if value)]
    return ", ".join(said) + (f" ({_source(batch.source)})" if batch.source else "")


def table(cards: Sequence[ModelCard]) -> list[str]:
    """All of them for people: a line a family."""
    width, height = TABLE_SIZE
    heads = ("family", "token rule", "detail", "auto", f"tokens at {width}x{height}", "$ in/out", "rule read")
    rows = [heads, *(_row(card) for card in cards)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return ["  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(card: ModelCard) -> tuple[str, ...]:
    first = card.rules[0] if card.rules else None
    more = f" +{len(card.rules) - 1}" if len(card.rules) > 1 else ""
    price = card.price
    per_token = price and f"${price.input_usd_per_mtok.normalize():f}/{price.output_usd_per_mtok.normalize():f}"
    return (
        card.name,
        first.name + more if first else "none published: bounds",
        ",".join(card.details) or "-",
        card.auto if card.auto != AUTO else "-",
        _tokens(card.tokens(TABLE_SIZE)),
        per_token or "by model",
        str(first.source.checked_on) if first else "-",
    )


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return {name: _plain_value(value) for name, value in values.items()}


def _plain_value(value: object) -> object:
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, (list, tuple)):
        return [_plain_value(each) for each in value]
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return value.isoformat() if isinstance(value, date) else value
