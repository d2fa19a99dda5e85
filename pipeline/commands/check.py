"""One small request an endpoint that shows whether a run would work: address, key, model, and that images are seen."""

import hashlib
import io
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw

from pipeline.catalogue import all_families
from pipeline.catalogue.prices import Price
from pipeline.config.families import family_for
from pipeline.config.images import ImagesConfig
from pipeline.config.keys import api_key
from pipeline.config.prices import way_to_price
from pipeline.config.run_config import RunConfig
from pipeline.endpoints.adapter import adapter_at, adapter_of
from pipeline.endpoints.client import EndpointClient
from pipeline.endpoints.pricing import prices_for
from pipeline.engine.progress import exact
from pipeline.engine.stages import Clock
from pipeline.errors import EndpointStoppedError, ErrorKind, InputError
from pipeline.http.session import open_session
from pipeline.limits.decision import stop_message
from pipeline.locations import InMemoryImage
from pipeline.money import usd_text
from pipeline.records import Answer, Failure, ImageFacts, ImageRecord, PreparedImage, PreparedRequest, RateLimitInfo
from pipeline.run.endpoints import parameters_of, targets_of
from pipeline.run.job import Job, endpoint_names
from pipeline.run.model import with_model
from pipeline.run.prepare import Preparer
from pipeline.tokens.ratios import TOLERATED, Billed, fits
from pipeline.tokens.text import message_tokens

PROMPT = "Which colour is the large shape in this image? Answer with the colour only."
COLOUR = "red"
_WIDTH: Final = 100
"""Of a table that goes to a file or a pipe, in characters."""
_LEAST_ADDRESS: Final = 16
_MOST_ADAPTED: Final = 8
"""Parameters that one request may have that the endpoint does not take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What one request to one endpoint showed."""

    endpoint: str
    model: str
    error: str | None = None
    """Why the request failed, in the provider's words; everything below is empty then."""
    answer: str | None = None
    sees_images: bool = False
    """The answer names the colour of the picture."""
    prompt_tokens: int | None = None
    predicted_prompt_tokens: int | None = None
    completion_tokens: int | None = None
    pages: int | None = None
    """As billed, where pages are, and no tokens."""
    token_rule: str = ""
    """By which the prompt was predicted."""
    rule_source: str = ""
    """Who says so, and when it was read."""
    cost_usd: Decimal | None = None
    price: str | None = None
    """With its source; None where none is known."""
    requests_limit: float | None = None
    """As the endpoint's headers advertise it, nearly always a minute's; so the next."""
    tokens_limit: float | None = None
    latency_s: float | None = None
    warning: str | None = None
    """Where the token rule does not fit the bill of this request."""

    @property
    def ratio(self) -> float | None:
        """Billed / predicted prompt tokens; None where one of them is not known."""
        billed, predicted = self.prompt_tokens, self.predicted_prompt_tokens
        return billed / predicted if billed is not None and predicted else None

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; money as text."""
        ratio = None if self.ratio is None else round(self.ratio, 6)
        return {"ratio": ratio} | asdict(self) | {"cost_usd": usd_text(self.cost_usd)}

    def lines(self) -> list[str]:
        """The same for people."""
        if self.error is not None:
            return [f"endpoint    {self.endpoint}: failed", f"error       {self.error}"]
        ratio = "" if self.ratio is None else f"; {self.ratio:.3f} of that is billed"
        predicted = (
            "" if self.predicted_prompt_tokens is None else f" ({self.predicted_prompt_tokens:,} predicted{ratio})"
        )
        if self.prompt_tokens is not None and self.prompt_tokens == self.predicted_prompt_tokens:
            predicted = ", as predicted"
        cost = "unknown" if self.cost_usd is None else exact(self.cost_usd)
        unpriced = f"no price is known for this model there; {way_to_price(self.model)}"
        price = unpriced if self.price is None else self.price
        seen = "yes" if self.sees_images else f"not certain: the picture is {COLOUR}"
        return [
            f"endpoint    {self.endpoint}: reachable, the request was accepted",
            f"model       {self.model}",
            f"sees images {seen}; it answered {self.answer!r}",
            *(
                [
                    f"tokens      {_number(self.prompt_tokens)} in{predicted}, {_number(self.completion_tokens)} out",
                    f"token rule  {self.token_rule} ({self.rule_source})",
                ]
                if self.pages is None
                else [f"pages       {self.pages:,} billed"]
            ),
            f"cost        {cost} ({price})",
            f"limits      {_limits(self.requests_limit, self.tokens_limit)}",
            f"latency     {self.latency_s or 0:.2f} s",
            *([] if self.warning is None else [f"warning     {self.warning}"]),
        ]


def _number(count: int | None) -> str:
    return "not reported" if count is None else f"{count:,}"


def _limits(requests: float | None, tokens: float | None) -> str:
    advertised = [
        f"{amount:,.0f} {what} a minute" for amount, what in ((requests, "requests"), (tokens, "tokens")) if amount
    ]
    return ", ".join(advertised) + ", from its headers" if advertised else "its headers advertise none"


def lines(reports: Sequence[CheckReport], columns: int | None = None) -> list[str]:
    """What people read: one report as it is; of several a table of one line each, then each as it is."""
    if len(reports) == 1:
        return reports[0].lines()
    details = [line for report in reports for line in ("", *report.lines())]
    return [*_table(reports, columns or _WIDTH), *details]


def _table(reports: Sequence[CheckReport], columns: int) -> list[str]:
    """One line an endpoint, in `columns` characters where that leaves room for addresses."""
    cells = [["endpoint", "result", "sees images", "tokens in", "ratio", "cost", "latency"]]
    cells += [_cells(report) for report in reports]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    others = sum(widths[1:]) + 2 * len(widths[1:])
    widths[0] = min(widths[0], max(_LEAST_ADDRESS, columns - others))
    rows = ((_cut(first, widths[0]), *rest) for first, *rest in cells)
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cells(report: CheckReport) -> list[str]:
    if report.error is not None:
        return [report.endpoint, "failed", "", "", "", "", ""]
    return [
        report.endpoint,
        "ok",
        "yes" if report.sees_images else "not certain",
        _number(report.prompt_tokens),
        "" if report.ratio is None else f"{report.ratio:.3f}",
        "unknown" if report.cost_usd is None else exact(report.cost_usd),
        f"{report.latency_s or 0:.2f} s",
    ]


def _cut(text: str, width: int) -> str:
    """`text` without its middle where it is too long: endpoints differ in host and path, or in the key's name."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


async def check_endpoints(config: RunConfig, *, emulated: bool = False) -> tuple[CheckReport, ...]:
    """Ask every endpoint of a configuration, one after the other, about one picture drawn here.

    Raises InputError before anything is sent, where a key is missing or a setting cannot be used. What an endpoint
    does is its report.
    """
    names = endpoint_names(Job(sources=(), out=Path(), config=config, emulated=emulated))
    async with AsyncExitStack() as sessions:
        for one in config.all_endpoints:
            adapter_at(config, one)
        targets = targets_of(config, [api_key(one) for one in config.all_endpoints])
        opened = [await sessions.enter_async_context(open_session(one.endpoint, connections=1)) for one in targets]
        reports: list[CheckReport] = []
        for target, session, name in zip(targets, opened, names, strict=True):
            alone, said = config.model_copy(update={"endpoint": target.endpoint, "endpoints": ()}), list[str]()
            try:
                alone = await with_model(alone, target)
            except (EndpointStoppedError, InputError) as error:
                if isinstance(error, InputError) and not reports:
                    raise  # as in a run: the list of the first shows which models there are to choose from
                reports.append(CheckReport(endpoint=name, model="(not named)", error=str(error)))
                continue
            if not reports:  # as in a run: all are asked for the model of the first
                config = config.model_copy(update={"request": alone.request})
            prepare = _preparer(alone)
            prices, tier = prices_for(alone, alone.endpoint, emulated=emulated), alone.request.service_tier
            parameters = parameters_of(alone, prepare.template, name, said.append)
            client = EndpointClient(
                session, target, adapter_of(alone), prepare.template, prices=prices, tier=tier, parameters=parameters
            )
            reports.append(await _check_endpoint(prepare, client, name=name, price=prices.asked, said=said))
    return tuple(reports)


def _preparer(config: RunConfig) -> Preparer:
    """Prepares the one request of `config`: its own prompt, about the picture that is drawn here."""
    changes = {"prompt": PROMPT, "system": None, "messages": (), "labels": None}
    request = config.request.model_copy(update=changes)
    return Preparer.build(config.model_copy(update={"request": request, "prompts": ()}), Clock().utc().date())


async def _check_endpoint(
    prepare: Preparer, client: EndpointClient, *, name: str, price: Price | None, said: list[str]
) -> CheckReport:
    """`said` are notes about parameters that the endpoint does not take."""
    config = prepare.config
    image = drawn(config.images, with_word=config.request.task == "ocr")
    record = ImageRecord("check", (InMemoryImage("check", lambda: image.data, len(image.data)),))
    (prepared,) = prepare.requests(record, [image])
    result = await client.ask(prepared)
    for _ in range(_MOST_ADAPTED):
        if not isinstance(result, Failure) or result.kind is not ErrorKind.FORMAT_REJECTED:
            break
        result = await client.ask(prepared)
    if isinstance(result, Failure):
        model = config.endpoint.model or config.request.model or ""
        return CheckReport(endpoint=name, model=model, error=stop_message(result))
    source = rule_source(config, Clock().utc().date())
    report = _report(prepared, result, endpoint=name, source=source, price=price)
    warnings = [note.removeprefix("note: ") for note in said] + [misfit(report, config, image.facts) or ""]
    return replace(report, warning="; ".join(filter(None, warnings)) or None)


def misfit(report: CheckReport, config: RunConfig, facts: ImageFacts) -> str | None:
    """Why the bill of this one request is not what the rule says, and which published rules would give it."""
    billed, request = report.prompt_tokens, config.request
    if billed is None or report.ratio is None or abs(report.ratio - 1) <= TOLERATED:
        return None
    text = message_tokens(*request.message_texts)
    if billed <= text:
        return f"the image was not billed: {billed:,} tokens are no more than its text has (about {text:,})"
    rules = [(family.name, dated.rule) for family in all_families(config.catalogue.file) for dated in family.rules]
    bill, family = Billed(*(facts.sent_size or (0, 0)), billed), family_for(config)
    first = report.token_rule.partition(" | ")[0]
    own = [(name, rule) for name, rule in rules if family and name == family.name and rule.name == first]
    if any(fit.detail == request.detail for fit in fits([bill], own, detail=request.detail, text=text)):
        return None  # only the text is longer or shorter than was estimated
    better = [str(fit) for fit in fits([bill], rules, detail=request.detail, text=text)]
    said = f"the token rule does not fit: {report.ratio:.3f} of what was predicted is billed"
    if not better:
        return f"{said}. No published rule gives this bill"
    fitting = "; or ".join(better[:2])
    return f"{said}. A rule that would fit this one request: {fitting}. To say so: `request.model_family=NAME`"


def rule_source(config: RunConfig, today: date) -> str:
    """Where the token rule of the configuration's model stands."""
    family = family_for(config)
    rules = family.rules_for(today, config.rules_host) if family else ()
    if family is None or not rules:
        return "no token rule is known for this model: bounds; `request.model_family` names the one that fits"
    return f"{family.name}; {rules[0].source.title}, read {rules[0].source.checked_on}"


def drawn(images: ImagesConfig, *, with_word: bool = False) -> PreparedImage:
    """A red square with a white edge, and with the name of its colour in it, 256 x 256 pixels, as JPEG."""
    picture = Image.new("RGB", (256, 256), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((16, 16, 239, 239), fill=COLOUR)
    if with_word:  # for OCR, which reads no colours
        draw.text((128, 128), COLOUR, fill="white", anchor="mm", font_size=96)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=images.quality)
    data = buffer.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    facts = ImageFacts(
        width=256, height=256, sent_width=256, sent_height=256,
        sent_bytes=len(data), source_bytes=len(data), sha256=sha256,
    )  # fmt: skip
    return PreparedImage(data=data, media_type="image/jpeg", sha256=sha256, facts=facts)


def _report(
    prepared: PreparedRequest, answer: Answer, *, endpoint: str, source: str, price: Price | None
) -> CheckReport:
    advertised = answer.limits or RateLimitInfo()
    return CheckReport(
        endpoint=endpoint,
        model=answer.model or "(not named)",
        answer=answer.caption,
        sees_images=COLOUR in (answer.caption or "").lower(),
        prompt_tokens=answer.usage.prompt_tokens,
        predicted_prompt_tokens=prepared.predicted_prompt_tokens,
        completion_tokens=answer.usage.completion_tokens,
        pages=answer.usage.pages,
        token_rule=prepared.token_rule or "",
        rule_source=source,
        cost_usd=answer.cost_usd,
        price=None if price is None else f"{price}; {price.origin}",
        requests_limit=advertised.requests.limit if advertised.requests else None,
        tokens_limit=advertised.tokens.limit if advertised.tokens else None,
        latency_s=answer.latency_s,
    )
