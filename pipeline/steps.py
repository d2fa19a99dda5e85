"""The steps of one record, made from a configuration: fetch, prepare, ask, and what asking costs."""

import resource
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_CEILING, Decimal
from urllib.parse import urlsplit

import aiohttp

from pipeline.catalogue import family_of, price_of, rule_of
from pipeline.config import EndpointConfig, RunConfig
from pipeline.edges import storage
from pipeline.edges.chat import ChatEndpoint
from pipeline.edges.images import prepare_image, warm_up
from pipeline.errors import EndpointStoppedError, InputError
from pipeline.gates import ThreadRoom
from pipeline.policy.budget import Amounts
from pipeline.policy.concurrency import MOST
from pipeline.policy.costs import Price, cost_usd
from pipeline.policy.presizing import LookedAt
from pipeline.policy.prompts import RequestTemplate, model_field
from pipeline.policy.retry import stop_message
from pipeline.policy.text import message_tokens, most_message_tokens
from pipeline.policy.tokens import TokenRule
from pipeline.records import Answer, Failure, ImageRecord, PreparedImage, PreparedRequest, Usage
from pipeline.stages import Endpoint

MEGABYTE = 1 << 20
NAMED_MODELS = 8
"""How many of a server's models an error message names."""


async def with_model(config: RunConfig, chat: ChatEndpoint) -> RunConfig:
    """The same with a model: a server that serves just one is not asked which."""
    if config.request.model is not None:
        return config
    found = await chat.models()
    if isinstance(found, Failure):
        raise EndpointStoppedError(stop_message(found))
    if len(found) != 1:
        names = ", ".join(found[:NAMED_MODELS]) + (" ..." if len(found) > NAMED_MODELS else "")
        raise InputError(f"name a model with --model; {config.endpoint.base_url} serves {names or 'none'}")
    return config.model_copy(update={"request": config.request.model_copy(update={"model": found[0]})})


@dataclass(frozen=True, slots=True)
class Preparer:
    """A record -> a request that only needs sending. Called in the decoding threads."""

    config: RunConfig
    template: RequestTemplate
    size: LookedAt
    room: ThreadRoom
    rule: TokenRule
    prompt_tokens: int
    most_prompt_tokens: int
    max_answer_tokens: int | None

    @classmethod
    def build(cls, config: RunConfig, today: date) -> "Preparer":
        """`today` decides which of a model's dated rules counts."""
        warm_up()
        request = config.request
        model = request.model or ""
        family = family_of(model)
        rule = rule_of(family, today, urlsplit(config.all_endpoints[0].base_url).hostname or "")
        wanted = request.max_tokens_field
        field_name = (family.max_tokens_field if family else "max_tokens") if wanted == "auto" else wanted
        return cls(
            config=config,
            template=RequestTemplate.build(request, model, field_name),
            size=LookedAt(rule, request.detail, config.images.max_side),
            room=ThreadRoom(config.images.decode_mb * MEGABYTE),
            rule=rule,
            prompt_tokens=message_tokens(request.system, request.prompt),
            most_prompt_tokens=most_message_tokens(request.system, request.prompt),
            max_answer_tokens=None if request.max_tokens is None else request.max_tokens * request.choices,
        )

    def __call__(self, record: ImageRecord, data: bytes | None) -> PreparedRequest | Failure:
        image = self.image(record, data)
        return image if isinstance(image, Failure) else self.request(record, image)

    def request(self, record: ImageRecord, image: PreparedImage) -> PreparedRequest:
        facts = image.facts
        tokens = self.rule.tokens(facts.sent_width, facts.sent_height, self.config.request.detail)
        return PreparedRequest(
            record=record,
            facts=facts,
            body=self.template.render(image),
            request_sha256=self.template.digest(image.sha256),
            predicted_prompt_tokens=self.prompt_tokens + tokens.expected,
            most_prompt_tokens=self.most_prompt_tokens + tokens.upper,
            max_answer_tokens=self.max_answer_tokens,
            token_rule=self.rule.name,
        )

    def image(self, record: ImageRecord, data: bytes | None) -> PreparedImage | Failure:
        images = self.config.images
        stamp = storage.stamp(record.location)  # before it is read: what changes meanwhile is noticed later
        if data is None:
            read = storage.read_file(record.location, int(images.max_file_mb * MEGABYTE))
            if isinstance(read, Failure):
                return read
            data = read
        image = prepare_image(data, self.size, images, self.room.held)
        if isinstance(image, Failure) or stamp is None:
            return image
        return replace(image, facts=replace(image.facts, stamp=stamp))


class Fetcher:
    """Bytes of records that are not files here; None for those that are."""

    def __init__(self, session: aiohttp.ClientSession, max_bytes: int) -> None:
        self._session, self._max_bytes = session, max_bytes

    async def __call__(self, record: ImageRecord) -> bytes | Failure | None:
        if not storage.is_url(record.location):
            return None
        if record.location.startswith("data:"):
            return storage.decode_data_url(record.location)
        return await storage.fetch(self._session, record.location, self._max_bytes)


class PricedChat:
    """One attempt at one endpoint, with its cost: the provider's own figure, else tokens x price."""

    def __init__(self, chat: ChatEndpoint, price: Price | None, names: tuple[bytes, bytes] | None = None) -> None:
        """`names` are the model as requests name it and as this endpoint does, where they differ."""
        self._chat, self._price, self._names = chat, price, names

    async def __call__(self, request: PreparedRequest) -> Answer | Failure:
        body = request.body if self._names is None else request.body.replace(*self._names, 1)
        result = await self._chat.ask(body)
        if result.cost_usd is None and self._price is not None and result.usage is not None:
            return replace(result, cost_usd=cost_usd(result.usage, self._price))
        return result

    def most(self, request: PreparedRequest) -> Amounts:
        """The most that one attempt can take of a budget; None where prompt, answer or price are not bounded."""
        prompt, answer = request.most_prompt_tokens, request.max_answer_tokens
        cost = None if self._price is None else most_cost_usd(request, self._price)
        nano = None if cost is None else int(cost.scaleb(9).to_integral_value(ROUND_CEILING))
        return Amounts(nano, None if prompt is None or answer is None else prompt + answer, 1)


def most_cost_usd(request: PreparedRequest, price: Price) -> Decimal | None:
    """Every token at the full price."""
    prompt, answer = request.most_prompt_tokens, request.max_answer_tokens
    if prompt is None or answer is None:
        return None
    return cost_usd(Usage(prompt_tokens=prompt, completion_tokens=answer), price)


def endpoint_of(
    config: RunConfig, one: EndpointConfig, chat: ChatEndpoint, *, name: str, price: Price | None
) -> Endpoint:
    """What the engine needs to know of one endpoint of a configuration."""
    limits, model = config.limits, config.request.model or ""
    renamed = None
    if one.model is not None and one.model != model:
        renamed = (model_field(model), model_field(one.model))
    asker = PricedChat(chat, price, renamed)
    concurrency = limits.concurrency if one.concurrency is None else one.concurrency
    family = family_of(one.model or model)
    counted = limits.count_tokens
    if counted == "auto":
        counted = "requested" if family is None or family.counts_requested else "billed"
    return Endpoint(
        name=name,
        ask=asker,
        most=asker.most,
        slots=None if concurrency == "auto" else concurrency,
        most_slots=most_slots(),
        rpm=one.rpm or limits.rpm,
        tpm=one.tpm or limits.tpm,
        weight=one.weight,
        counts_billed=counted == "billed",
        timeout_s=one.timeout_s,
    )


def most_slots() -> int:
    """What `concurrency = "auto"` may grow to: every request in flight needs a file handle."""
    handles, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if handles == resource.RLIM_INFINITY else max(1, min(MOST, handles // 2))


def price_for(config: RunConfig, one: EndpointConfig, *, emulated: bool) -> Price | None:
    """The price of the model at the endpoint; on the emulator, what it would cost where it is sold first."""
    return price_of(one.model or config.request.model or "", None if emulated else one.base_url)
