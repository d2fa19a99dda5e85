"""What asking about many images would cost: values, and the arithmetic from tokens to dollars and hours."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import date
from decimal import Decimal
from math import ceil, isfinite

from pipeline.catalogue.prices import Price
from pipeline.estimates.histogram import Distribution
from pipeline.estimates.statistics import SampleFacts
from pipeline.tokens import AUTO, SpanningRule, UnknownRule
from pipeline.tokens.prompt import PromptShape, Size, dearer_detail
from pipeline.tokens.ranges import Range

_MILLION = Decimal(1_000_000)
_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFact:
    """A token rule that counts, and where it is said."""

    name: str
    evidence: str
    source: str
    url: str
    checked_on: date
    valid_from: date | None = None
    valid_to: date | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """Images that would not be sent, or whose size is unknown, by reason, and the first: (name, kind, message)."""

    images: int
    by_kind: Mapping[str, int]
    examples: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a model takes that reads the images before the one that is asked."""

    model: str
    input_tokens: Range[int]
    output_tokens: Range[int]
    price: Price | None
    cost_usd: Range[Decimal] | None

    def added_to(self, cost: Range[Decimal] | None) -> Range[Decimal] | None:
        """The cost of both models; None where one of them is unknown."""
        own = self.cost_usd
        if cost is None or own is None:
            return None
        high = None if cost.high is None or own.high is None else cost.high + own.high
        return Range(cost.expected + own.expected, cost.low + own.low, high)

    def __str__(self) -> str:
        tokens = f"{self.input_tokens.expected:,} tokens in and {self.output_tokens.expected:,} out"
        price = "no price of it is known" if self.price is None else f"{self.price} ({self.price.origin})"
        return f"{self.model} reads the images first: about {tokens}; {price}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEstimate:
    """All images on one model. Tokens are of the whole job; `cost_usd` is None where no price is known."""

    name: str
    """As the user named it."""
    model: str
    where: str
    """Whose price it is: a host, a provider, or where the model is sold first."""
    family: str | None
    token_rule: str
    rules: tuple[RuleFact, ...]
    detail: str
    text_tokens: Range[int]
    """Of the requests of one image."""
    typical_sent: Size
    typical_tokens: Range[int]
    """Of the typical image alone."""
    mean_tokens: Range[int]
    """Of an image alone, in the mean over those that would be sent."""
    input_tokens: Range[int]
    raw_input_tokens: int
    """Expected, if the images were sent as they are, or at the largest size that the model accepts."""
    sent_pixels: float
    """Of those that the images have, the share that is sent."""
    tokens_by_detail: Mapping[str, float]
    """Expected, an image."""
    output_tokens: Range[int]
    output_basis: str
    """`assumed`, `stated` or `measured`."""
    prompts: int = 1
    """Requests about each image."""
    pages: Range[int] | None = None
    """Where pages are billed and no tokens; an image is one."""
    reasoning_tokens: Range[int] | None = None
    """Part of the output; None: unknown without a sample."""
    reasoning_effort: str | None = None
    """As a request has it; None: it has none."""
    reasoning_allowance: int = 0
    """The room for reasoning beside `max_tokens`, in every answer."""
    reading: "Reading | None" = None
    """Of another model that reads the images first; its cost is part of `cost_usd`."""
    price: Price | None
    cost_usd: Range[Decimal] | None
    batch_price: Price | None
    batch_cost_usd: Range[Decimal] | None
    batch_hours: int | None = None
    seconds: Range[float] | None
    """At the given limits; None where none is given."""
    limited_by: str | None
    notes: tuple[str, ...] = ()
    sample: SampleFacts | None = None
    """Where one was paid for: tokens and cost are measured then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a set of images would take, on one model or several."""

    source: str
    images: int
    """In the source."""
    seen: int
    """Of these, those whose size was looked at: all, or those that a probe drew."""
    readable: Range[int]
    """Images that would be sent."""
    declared: int
    """Of those seen, sizes taken from the manifest's own columns."""
    unreadable: Unreadable
    """Images that would not be sent, by `ErrorKind`."""
    size_unknown: Unreadable
    """Addresses that gave no size for now; they count as those that did."""
    source_bytes: Range[int] | None
    """Of all files; None where no length is known."""
    seed: int | None
    """Of the probe; None where all were seen."""
    sizes: Distribution
    models: tuple[ModelEstimate, ...]
    made_on: date
    notes: tuple[str, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """Files of the source that are no images, by kind."""
    documents: int = 0
    """PDFs beside the images, which are sent whole: what they take cannot be predicted."""

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON: money as text, dates in ISO 8601, what is unknown null."""
        return {name: plain(getattr(self, name)) for name in self.__slots__}


def plain(value: object) -> object:
    """Dataclasses and named tuples as dictionaries, Decimal as text; what JSON has no number for is null."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {one.name: getattr(value, one.name) for one in fields(value)}
    elif isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, float) and not isfinite(value):
        return None
    return value.isoformat() if isinstance(value, date) else value


def cost_of(
    requests: Range[int],
    tokens_in: Range[int],
    tokens_out: Range[int],
    price: Price | None,
    pages: Range[int] | None = None,
) -> Range[Decimal] | None:
    """US dollars, of an image a request; None without a price. `pages` are images and pages of documents."""
    if price is None:
        return None
    read = requests if pages is None else pages

    def usd(sent: int, asked: int, answered: int, looked_at: int) -> Decimal:
        by_tokens = asked * price.input_usd_per_mtok + answered * price.output_usd_per_mtok
        flat = sent * (price.usd_per_request + price.usd_per_image) + looked_at * price.usd_per_page
        return flat + by_tokens / _MILLION

    most = requests.high, tokens_in.high, tokens_out.high, read.high
    return Range(
        usd(requests.expected, tokens_in.expected, tokens_out.expected, read.expected),
        usd(requests.low, tokens_in.low, tokens_out.low, read.low),
        None if None in most else usd(*(one or 0 for one in most)),
    )


def seconds_at(
    images: Range[int], tokens: Range[int], *, rpm: float | None, tpm: float | None
) -> tuple[Range[float], str] | None:
    """How long the limits allow it to take at best, and which of them decides; None where none is given."""
    by_requests = [0.0 if rpm is None else count / rpm for count in (images.expected, images.low)]
    by_tokens = [0.0 if tpm is None else count / tpm for count in (tokens.expected, tokens.low)]
    if rpm is None and tpm is None:
        return None
    expected, low = (_MINUTE_S * max(pair) for pair in zip(by_requests, by_tokens, strict=True))
    most = [
        None if count is None else _MINUTE_S * count / limit
        for count, limit in ((images.high, rpm), (tokens.high, tpm))
        if limit is not None
    ]
    known = [one for one in most if one is not None]
    word = f"{rpm:,.0f} requests a minute" if by_requests[0] >= by_tokens[0] else f"{tpm or 0:,.0f} tokens a minute"
    return Range(expected, low, max(known) if len(known) == len(most) else None), word


def text_range(expected: int, most: int) -> Range[int]:
    """Without a tokenizer: hardly any prose has more than 8 bytes a token, twice what is expected."""
    return Range(expected, ceil(expected / 2), most)


def no_spread(count: int, what: str) -> str:
    """Why a range is as wide as it is although all that was seen is alike."""
    return f"no spread seen in {count:,} {what}: the range allows for {min(3, count)} in {count:,} others to differ"


def traps(shape: PromptShape, by_detail: Mapping[str, float]) -> tuple[str, ...]:
    """What a user would not expect of a model and a detail, with the cheaper choice, a line each."""
    rule, asked = shape.rule, shape.detail
    if isinstance(rule, UnknownRule):
        return ()
    found = []
    if asked != AUTO and asked not in rule.details:
        known = f"it distinguishes {', '.join(rule.details)}" if rule.details else "it has none"
        found.append(f"detail {asked!r} makes no difference to this model: {known}")
    if asked == AUTO and (line := dearer_detail(replace(shape, detail="low"), by_detail)) is not None:
        found.append(line)
    if (line := dearer_detail(shape, by_detail)) is not None:
        found.append(line)
    if isinstance(rule, SpanningRule):
        found.append(f"{len(rule.rules)} published rules may bill it; the range spans them, the first is expected")
    return tuple(found)
