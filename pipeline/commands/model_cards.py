"""Facts about a model as values, and as lines for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal

from pipeline.catalogue import Batch, Limits, Source
from pipeline.catalogue.facts import CountTokens, Evidence, JsonSchema, Parameters, Reasoning
from pipeline.catalogue.prices import Price
from pipeline.commands.model_parameters import request_lines
from pipeline.config.prices import way_to_price
from pipeline.formatting import printable
from pipeline.tokens import AUTO, TokenRange

TABLE_SIZE = (1024, 768)
COUNTED: Mapping[CountTokens, str] = {"requested": "prompt and max_tokens", "billed": "the tokens that are billed"}


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
    """The size sent and the tokens of an image of `width` x `height` with this `detail`."""

    width: int
    height: int
    detail: str
    sent_width: int
    sent_height: int
    tokens: TokenRange


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """The facts about one model, or about one family."""

    name: str
    family: str | None
    """None: the model is in no catalogue, and the figures are bounds."""
    near: tuple[str, ...]
    """Families with names like it."""
    patterns: tuple[str, ...]
    rules: tuple[RuleCard, ...]
    """The rules that apply today at this endpoint; the first is expected, the range of tokens spans all."""
    details: tuple[str, ...]
    auto: str
    sizes: tuple[SizeCard, ...]
    max_tokens_field: str
    json_schema: JsonSchema
    count_tokens: CountTokens
    """What counts against tokens a minute."""
    reasoning: Reasoning | None
    """How it thinks before it answers; None: not unless a request asks for it."""
    parameters: Parameters
    tiers: Mapping[str, Price]
    """Its price at service tiers beside the default one."""
    api: str | None
    """The API that it is asked through, where it has no chat/completions."""
    limits: Limits
    host_limits: Limits | None
    """Of the endpoint, where it is known for other people's models."""
    batch: Batch | None
    price: Price | None
    sold_as: tuple[str, ...]
    """Names under which its price is known, where under this one none is."""
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
            bounds = (
                "The figures are the bounds of all published rules; `request.model_family=NAME` selects one of them"
            )
            said = [f"{name}: this model is in no catalogue{like}. {bounds}"]
        else:
            said = [f"{name}: family {self.family} ({', '.join(self.patterns)})"]
        said += [line for rule in self.rules for line in _rule_lines(rule)]
        means = f"; auto means {self.auto}" if self.auto != AUTO else ""
        said.append(f"detail       {', '.join(self.details) or 'none: there is nothing to choose from'}{means}")
        said += [_size_line(card) for card in self.sizes]
        said += _limit_lines("limits", self.limits)
        said += _limit_lines("host", self.host_limits) if self.host_limits else []
        said.append(f"answer       its length is bounded by {self.max_tokens_field}; JSON schema: {self.json_schema}")
        said += [f"api          {self.api}"] if self.api else []
        said += request_lines(self.reasoning, self.parameters)
        said.append(f"a minute     {COUNTED[self.count_tokens]} count against its tokens a minute")
        said.append(f"batch        {_batch(self.batch)}")
        sold = f"; it is sold as {' and '.join(self.sold_as)}" if self.sold_as else ""
        unknown = f"unknown{sold}; {way_to_price(self.name)}"
        price = unknown if self.price is None else f"{self.price} ({self.price.origin})"
        said.append(f"price        {price}")
        said += [f"price        {name}: {tier} ({tier.origin})" for name, tier in self.tiers.items()]
        return said + [f"trap         {trap}" for trap in self.traps]


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


_TABLE_NOTES = (
    "+1: one more published rule may bill it; the first is expected, and the range spans all.",
    "by model: vision-batch models NAME shows the price of one.",
)


def table(cards: Sequence[ModelCard]) -> list[str]:
    """All of them for people: a line a family."""
    width, height = TABLE_SIZE
    heads = ("family", "token rule", "detail", "auto", f"tokens at {width}x{height}", "$ in/out a Mtok", "rule read")
    rows = [heads, *(_row(card) for card in cards)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, "", *_TABLE_NOTES]


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
