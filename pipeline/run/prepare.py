"""The steps of one record, made from a configuration: fetch, prepare, ask, and what asking costs."""

import resource
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_CEILING, Decimal
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

import aiohttp
import anyio

from pipeline.catalogue import Family, bare_name, family_named, first_family, price_of, rule_of
from pipeline.catalogue.facts import on_host
from pipeline.catalogue.prices import Price, cost_usd
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import EndpointConfig, OwnPrice
from pipeline.endpoints.chat import ChatEndpoint
from pipeline.endpoints.session import Proxies
from pipeline.endpoints.template import RequestTemplate, model_field
from pipeline.engine.semaphores import ThreadRoom
from pipeline.engine.stages import Endpoint
from pipeline.errors import EndpointStoppedError, ErrorKind, InputError
from pipeline.files import stamp
from pipeline.images import storage
from pipeline.images.prepare import prepare_image, warm_up
from pipeline.limits.budget import Amounts
from pipeline.limits.concurrency import MOST
from pipeline.limits.decision import FINAL_STOPS, stop_message
from pipeline.records import Answer, Failure, Grow, ImageFacts, ImageRecord, PreparedImage, PreparedRequest, Usage
from pipeline.redaction.addresses import public_url
from pipeline.tokens import TokenRange, TokenRule, UnknownRule
from pipeline.tokens.presizing import LookedAt
from pipeline.tokens.prompt import Question
from pipeline.tokens.text import calibrated, message_tokens, most_message_tokens

MEGABYTE = 1 << 20
NAMED_MODELS = 8
"""How many of a server's models an error message names."""
Ask = Callable[[PreparedRequest], Awaitable[Answer | Failure]]


async def with_model(config: RunConfig, chat: ChatEndpoint) -> RunConfig:
    """The same with a model: a server that serves just one is not asked which."""
    if config.request.model is not None:
        return await _with_family(config, config.request.model, chat)
    found = await chat.models()
    if isinstance(found, Failure):
        raise EndpointStoppedError(no_list_message(found))
    if len(found) != 1:
        names = ", ".join(found[:NAMED_MODELS]) + (" ..." if len(found) > NAMED_MODELS else "")
        where = public_url(config.all_endpoints[0].base_url)
        raise InputError(f"name a model with `request.model`; {where} serves {names or 'none'}")
    config = config.model_copy(update={"request": config.request.model_copy(update={"model": found[0]})})
    return await _with_family(config, found[0], chat)


def no_list_message(failure: Failure) -> str:
    """Why no model is known: the list of models does not come, in the server's words."""
    is_of_the_list = failure.kind not in {*FINAL_STOPS, ErrorKind.UNREACHABLE}
    words = failure.message.removesuffix(".") if is_of_the_list else stop_message(failure)
    return (
        f"no model is named, and the endpoint's list of models cannot be read: {words}; "
        "name the model with `request.model`"
    )


async def _with_family(config: RunConfig, model: str, chat: ChatEndpoint) -> RunConfig:
    """The same with the family of a private name, where the catalogue does not know it and the server tells."""
    if family_for(config) is not None:
        return config
    family = first_family(await chat.also_known_as(model), config.catalogue.file)
    if family is None:
        return config
    return config.model_copy(update={"request": config.request.model_copy(update={"model_family": family.name})})


def family_for(config: RunConfig, one: EndpointConfig | None = None) -> Family | None:
    """The family of the model that an endpoint (None: the first) is asked for: as the user says, else by the name that
    the endpoint has for it, else by its own; None where none of these tells.
    """
    named, own = config.request.model_family, config.catalogue.file
    if named is not None:
        return family_named(named, own)
    names = (one or config.all_endpoints[0]).model, config.request.model
    return first_family([name for name in names if name], own)


def emulating(config: RunConfig, rules_host: str) -> list[str]:
    """What `vision-batch emulate` has to be told so that it bills as the model would be at `rules_host`."""
    family, own = family_for(config), config.catalogue.file
    words = [] if own is None else ["--catalogue", str(own)]
    words += [] if family is None else ["--model-family", family.name]
    return [*words, "--rules-of", rules_host] if rules_host else words


def emulated(config: RunConfig, url: str, rules_host: str) -> RunConfig:
    """The same asked at an emulator, which stands for the first endpoint and bills by the rules of `rules_host`."""
    changed = {
        "endpoint": config.all_endpoints[0].model_copy(update={"base_url": url}),
        "endpoints": (),
        "catalogue": config.catalogue.model_copy(update={"host": rules_host or None}),
    }
    return config.model_copy(update=changed)


@dataclass(slots=True)
class TextTokens:
    """How many tokens the text of every request has: estimated, until the first bill tells."""

    tokens: int
    is_billed: bool = False


@dataclass(frozen=True, slots=True)
class Preparer:
    """A record -> a request that only needs sending. Called in the decoding threads."""

    config: RunConfig
    template: RequestTemplate
    size: LookedAt
    room: ThreadRoom
    """For decoding."""
    files: ThreadRoom
    """For what is read from the disk."""
    rule: TokenRule
    text: TextTokens
    most_prompt_tokens: int
    max_answer_tokens: int | None

    @classmethod
    def build(cls, config: RunConfig, today: date) -> "Preparer":
        """`today` decides which of a model's dated rules counts."""
        warm_up()
        request = config.request
        model = request.model or ""
        family = family_for(config)
        rule = rule_of(family, today, config.rules_host)
        wanted = request.max_tokens_field
        field_name = (family.max_tokens_field if family else "max_tokens") if wanted == "auto" else wanted
        return cls(
            config=config,
            template=RequestTemplate.build(request, model, field_name),
            size=LookedAt(rule, request.detail, config.images.max_side, config.images.max_image_tokens),
            room=ThreadRoom(config.images.decode_mb * MEGABYTE),
            files=ThreadRoom(config.images.decode_mb * MEGABYTE),
            rule=rule,
            text=TextTokens(message_tokens(request.system, request.prompt)),
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
            predicted_prompt_tokens=self.text.tokens + tokens.expected,
            most_prompt_tokens=self.most_prompt_tokens + tokens.upper,
            max_answer_tokens=self.max_answer_tokens,
            token_rule=self.rule.name,
        )

    def learning(self, ask: Ask) -> Ask:
        """The same, and the first answer with a bill tells how many tokens the text has."""

        async def asked(request: PreparedRequest) -> Answer | Failure:
            result = await ask(request)
            if not self.text.is_billed and isinstance(result, Answer) and result.usage.prompt_tokens is not None:
                self.learn(request, result.usage.prompt_tokens)
            return result

        return asked

    def learn(self, request: PreparedRequest, prompt_tokens: int) -> None:
        question, facts = self.config.request, request.facts
        image = self.rule.tokens(facts.sent_width, facts.sent_height, question.detail)
        tokens = calibrated(prompt_tokens, image, question.system, question.prompt)
        self.text.is_billed = True
        if tokens is not None:
            self.text.tokens = tokens

    def saved(self, facts: ImageFacts) -> int:
        """Tokens that an image has less than if it were sent as it is, or as large as it is not refused; 0 where
        nobody knows the rule.
        """
        sent = facts.sent_width, facts.sent_height
        if isinstance(self.rule, UnknownRule) or sent == (facts.width, facts.height):
            return 0
        unsized = self.question().unsized_tokens(facts.width, facts.height)
        return unsized - self.rule.tokens(*sent, self.config.request.detail).expected

    def question(self) -> Question:
        """The same as an estimate asks it."""
        images = self.config.images
        return Question(
            rule=self.rule,
            detail=self.config.request.detail,
            text=TokenRange.exactly(self.text.tokens),
            max_side=images.max_side,
            max_image_tokens=images.max_image_tokens,
        )

    def image(self, record: ImageRecord, data: bytes | None) -> PreparedImage | Failure:
        if data is not None:
            return prepare_image(data, self.size, self.config.images, self.room.held)
        before = stamp(record.location)  # before it is read: what changes meanwhile is noticed later
        most = int(self.config.images.max_file_mb * MEGABYTE)
        # Held before `room` is asked for, never after it: no two threads can wait for each other.
        with self.files.held(min(storage.length(record.location), most)):
            read = storage.read_file(record.location, most)
            if isinstance(read, Failure):
                return read
            image = prepare_image(read, self.size, self.config.images, self.room.held)
        if isinstance(image, Failure) or before is None:
            return image
        return replace(image, facts=replace(image.facts, stamp=before))


class Fetcher:
    """Bytes of records that are not files here; None for those that are."""

    def __init__(self, session: aiohttp.ClientSession, max_bytes: int, at_once: int) -> None:
        self._session, self._max_bytes = session, max_bytes
        self._proxy_of = Proxies()
        self._connections = anyio.Semaphore(at_once)
        """Waited for here: in the session it would count as time that the host takes."""

    async def __call__(self, record: ImageRecord, grow: Grow) -> bytes | Failure | None:
        where = record.location
        if not storage.is_url(where):
            return None
        async with self._connections:
            return await storage.fetch(self._session, where, self._max_bytes, self._proxy_of(where), grow=grow)


class PricedChat:
    """One attempt at one endpoint, with its cost: the provider's own figure, else tokens x price."""

    def __init__(self, chat: ChatEndpoint, price: Price | None, names: tuple[bytes, bytes] | None = None) -> None:
        """`names` are the model as requests name it and as this endpoint does, where they differ."""
        self._chat, self._price, self._names = chat, price, names

    async def __call__(self, request: PreparedRequest) -> Answer | Failure:
        body = request.body if self._names is None else request.body.replace(*self._names, 1)
        result = await self._chat.ask(body, self.most(request))
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


def renamed(model: str, one: EndpointConfig) -> tuple[bytes, bytes] | None:
    """The field `model` as it is written into requests, and as this endpoint wants it, where they differ."""
    if one.model is None or one.model == model:
        return None
    return model_field(model), model_field(one.model)


def endpoint_of(
    config: RunConfig, one: EndpointConfig, chat: ChatEndpoint, *, name: str, price: Price | None
) -> Endpoint:
    """What the engine needs to know of one endpoint of a configuration."""
    of = len(config.all_endpoints)
    limits, model = config.limits, config.request.model or ""
    asker = PricedChat(chat, price, renamed(model, one))
    concurrency = limits.concurrency if one.concurrency is None else one.concurrency
    family = family_for(config, one)
    counted = limits.count_tokens
    if counted == "auto":
        counted = "requested" if family is None or family.counts_requested else "billed"
    return Endpoint(
        name=name,
        ask=asker,
        most=asker.most,
        slots=None if concurrency == "auto" else min(concurrency, most_slots(of)),
        most_slots=min(MOST, most_slots(of)),
        rpm=one.rpm or limits.rpm,
        tpm=one.tpm or limits.tpm,
        weight=one.weight,
        counts_billed=counted == "billed",
        timeout_s=one.timeout_s,
    )


def most_slots(endpoints: int = 1) -> int:
    """Requests in flight that each of so many endpoints may have: every one needs a file handle of this process."""
    handles, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if handles == resource.RLIM_INFINITY else max(1, handles // 2 // endpoints)


def price_for(config: RunConfig, one: EndpointConfig, *, emulated: bool) -> Price | None:
    """What the model costs at the endpoint: by the user's own table, else as published.

    On the emulator: at the host that it stands in for, else where it is sold first. Where two models are billed, the
    tokens of one are only a part of it: unless the user's own table has a price of an image or a request for the
    other, it is unknown.
    """
    model, host = one.model or config.request.model or "", config.catalogue.host
    own = own_price(config.prices.models, model, one.base_url, stands_for=host if emulated else None)
    if bills_two_models(config, one):
        return own if own and (own.usd_per_image or own.usd_per_request) else None
    if own is not None or not emulated:
        return own or price_of(model, one.base_url)
    return (price_of(model, f"https://{host}/v1") if host else None) or price_of(model, None)


def bills_two_models(config: RunConfig, one: EndpointConfig) -> bool:
    """Whether another model reads the image first and is billed as well. Source: 302.AI, "Image analysis"."""
    name, host = one.model or config.request.model or "", config.catalogue.host or urlsplit(one.base_url).hostname or ""
    return "ocr_model" in config.request.extra or (name.endswith("-ocr") and on_host(("302.ai",), host))


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
