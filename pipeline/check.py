"""One small request that tells whether a run would work: address, key, model, and that the image is seen."""

import hashlib
import io
from dataclasses import asdict, dataclass, replace
from datetime import date
from decimal import Decimal

from PIL import Image, ImageDraw

from pipeline.catalogue import all_families
from pipeline.config import ImagesConfig, RunConfig, api_key
from pipeline.edges.chat import ChatEndpoint
from pipeline.errors import EndpointStoppedError
from pipeline.policy.addresses import public_url
from pipeline.policy.costs import Price
from pipeline.policy.ratios import TOLERATED, Billed, fits
from pipeline.policy.retry import stop_message
from pipeline.policy.rows import usd_text
from pipeline.policy.text import message_tokens
from pipeline.progress import exact
from pipeline.records import Answer, Failure, ImageFacts, ImageRecord, LimitsTold, PreparedImage, PreparedRequest
from pipeline.stages import Clock
from pipeline.steps import Preparer, PricedChat, family_for, price_for, renamed, with_model
from pipeline.wire import open_session

PROMPT = "Which colour is the large shape in this image? Answer with the colour only."
COLOUR = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What one request told."""

    endpoint: str
    model: str
    answer: str | None
    sees_images: bool
    """The answer names the colour of the picture."""
    prompt_tokens: int | None
    predicted_prompt_tokens: int | None
    completion_tokens: int | None
    token_rule: str
    """By which the prompt was predicted."""
    rule_source: str
    """Who says so, and when it was read."""
    cost_usd: Decimal | None
    price: str | None
    """With its source; None where none is known."""
    requests_limit: float | None
    """As the endpoint's headers tell it, nearly always a minute's; so the next."""
    tokens_limit: float | None
    latency_s: float
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
        ratio = "" if self.ratio is None else f"; {self.ratio:.3f} of that is billed"
        predicted = (
            "" if self.predicted_prompt_tokens is None else f" ({self.predicted_prompt_tokens:,} predicted{ratio})"
        )
        cost = "unknown" if self.cost_usd is None else exact(self.cost_usd)
        price = "no price is known for this model there" if self.price is None else self.price
        seen = "yes" if self.sees_images else f"not certain: the picture is {COLOUR}"
        return [
            f"endpoint    {self.endpoint}: reachable, the request was accepted",
            f"model       {self.model}",
            f"sees images {seen}; it answered {self.answer!r}",
            f"tokens      {_number(self.prompt_tokens)} in{predicted}, {_number(self.completion_tokens)} out",
            f"token rule  {self.token_rule} ({self.rule_source})",
            f"cost        {cost} ({price})",
            f"limits      {_limits(self.requests_limit, self.tokens_limit)}",
            f"latency     {self.latency_s:.2f} s",
            *([] if self.warning is None else [f"warning     {self.warning}"]),
        ]


def _number(count: int | None) -> str:
    return "not told" if count is None else f"{count:,}"


def _limits(requests: float | None, tokens: float | None) -> str:
    told = [f"{amount:,.0f} {what} a minute" for amount, what in ((requests, "requests"), (tokens, "tokens")) if amount]
    return ", ".join(told) + ", as its headers tell" if told else "its headers tell none"


async def check_endpoint(config: RunConfig, *, emulated: bool = False) -> CheckReport:
    """Ask about one picture drawn here. Raises EndpointStoppedError in the provider's words."""
    async with open_session(config.endpoint, connections=1) as session:
        chat = ChatEndpoint(session, config.endpoint, api_key(config.endpoint))
        config = await with_model(config, chat)
        question = config.request.model_copy(update={"prompt": PROMPT, "system": None})
        config = config.model_copy(update={"request": question})
        today, price = Clock().utc().date(), price_for(config, config.endpoint, emulated=emulated)
        prepared = Preparer.build(config, today).request(ImageRecord("check", "check", "check"), drawn(config.images))
        names = renamed(config.request.model or "", config.endpoint)
        result = await PricedChat(chat, price, names)(prepared)
    if isinstance(result, Failure):
        raise EndpointStoppedError(stop_message(result))
    shown = "emulator" if emulated else public_url(config.endpoint.base_url)
    report = _report(prepared, result, endpoint=shown, source=rule_source(config, today), price=price)
    return replace(report, warning=misfit(report, config, prepared.facts))


def misfit(report: CheckReport, config: RunConfig, facts: ImageFacts) -> str | None:
    """Why the bill of this one request is not what the rule says, and which published rules would give it."""
    billed, request = report.prompt_tokens, config.request
    if billed is None or report.ratio is None or abs(report.ratio - 1) <= TOLERATED:
        return None
    text = message_tokens(request.system, request.prompt)
    if billed <= text:
        return f"the image was not billed: {billed:,} tokens are no more than its text has (about {text:,})"
    rules = [(family.name, dated.rule) for family in all_families(config.catalogue.file) for dated in family.rules]
    bill, family = Billed(facts.sent_width, facts.sent_height, billed), family_for(config)
    first = report.token_rule.partition(" | ")[0]
    own = [(name, rule) for name, rule in rules if family and name == family.name and rule.name == first]
    if any(fit.detail == request.detail for fit in fits([bill], own, detail=request.detail, text=text)):
        return None  # only the text is longer or shorter than was estimated
    better = [str(fit) for fit in fits([bill], rules, detail=request.detail, text=text)]
    said = f"the token rule does not fit: {report.ratio:.3f} of what was predicted is billed"
    if not better:
        return f"{said}. No published rule gives this bill"
    return f"{said}. A rule that would fit this one request: {'; or '.join(better[:2])}. To say so: --model-family NAME"


def rule_source(config: RunConfig, today: date) -> str:
    """Where the token rule of the configuration's model stands."""
    family = family_for(config)
    rules = family.rules_for(today, config.rules_host) if family else ()
    if family is None or not rules:
        return "nobody has described this model: bounds; --model-family says what it is"
    return f"{family.name}; {rules[0].source.title}, read {rules[0].source.checked_on}"


def drawn(images: ImagesConfig) -> PreparedImage:
    """A red square with a white edge, 256 x 256 pixels, as JPEG."""
    picture = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(picture).rectangle((16, 16, 239, 239), fill=COLOUR)
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
    told = answer.limits or LimitsTold()
    return CheckReport(
        endpoint=endpoint,
        model=answer.model or "(not named)",
        answer=answer.caption,
        sees_images=COLOUR in (answer.caption or "").lower(),
        prompt_tokens=answer.usage.prompt_tokens,
        predicted_prompt_tokens=prepared.predicted_prompt_tokens,
        completion_tokens=answer.usage.completion_tokens,
        token_rule=prepared.token_rule or "",
        rule_source=source,
        cost_usd=answer.cost_usd,
        price=None if price is None else f"{price}; {price.origin}",
        requests_limit=told.requests.limit if told.requests else None,
        tokens_limit=told.tokens.limit if told.tokens else None,
        latency_s=answer.latency_s,
    )
