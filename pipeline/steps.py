"""The steps of one record, made from a configuration: fetch, prepare, ask, and what asking costs."""

from dataclasses import dataclass, replace

import aiohttp

from pipeline.catalogue import family_of, price_of
from pipeline.config import RunConfig
from pipeline.edges import storage
from pipeline.edges.chat import ChatEndpoint
from pipeline.edges.images import prepare_image, warm_up
from pipeline.errors import EndpointStoppedError, InputError
from pipeline.gates import ThreadRoom
from pipeline.policy.costs import Price, cost_usd
from pipeline.policy.prompts import RequestTemplate
from pipeline.policy.retry import stop_message
from pipeline.policy.sizing import SizeRule, size_rule
from pipeline.policy.text import message_tokens
from pipeline.policy.tokens import TileRule
from pipeline.records import Answer, Failure, ImageRecord, PreparedImage, PreparedRequest

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
    rule: SizeRule
    room: ThreadRoom
    image_tokens: TileRule | None
    prompt_tokens: int

    @classmethod
    def build(cls, config: RunConfig) -> "Preparer":
        warm_up()
        request = config.request
        model = request.model or ""
        family = family_of(model)
        wanted = request.max_tokens_field
        field_name = (family.max_tokens_field if family else "max_tokens") if wanted == "auto" else wanted
        return cls(
            config=config,
            template=RequestTemplate.build(request, model, field_name),
            rule=size_rule(request.detail),
            room=ThreadRoom(config.images.decode_mb * MEGABYTE),
            image_tokens=family.image_tokens if family else None,
            prompt_tokens=message_tokens(request.system, request.prompt),
        )

    def __call__(self, record: ImageRecord, data: bytes | None) -> PreparedRequest | Failure:
        image = self.image(record, data)
        return image if isinstance(image, Failure) else self.request(record, image)

    def request(self, record: ImageRecord, image: PreparedImage) -> PreparedRequest:
        facts, rule = image.facts, self.image_tokens
        predicted = None
        if rule is not None:
            predicted = self.prompt_tokens + rule.tokens(
                facts.sent_width, facts.sent_height, self.config.request.detail
            )
        return PreparedRequest(
            record=record,
            facts=facts,
            body=self.template.render(image),
            request_sha256=self.template.digest(image.sha256),
            predicted_prompt_tokens=predicted,
            token_rule=rule.name if rule else None,
        )

    def image(self, record: ImageRecord, data: bytes | None) -> PreparedImage | Failure:
        images = self.config.images
        stamp = storage.stamp(record.location)  # before it is read: what changes meanwhile is noticed later
        if data is None:
            read = storage.read_file(record.location, int(images.max_file_mb * MEGABYTE))
            if isinstance(read, Failure):
                return read
            data = read
        image = prepare_image(data, self.rule, images, self.room.held)
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
    """One attempt, with its cost: the provider's own figure, else tokens x price."""

    def __init__(self, chat: ChatEndpoint, price: Price | None) -> None:
        self._chat, self._price = chat, price

    async def __call__(self, request: PreparedRequest) -> Answer | Failure:
        result = await self._chat.ask(request.body)
        if result.cost_usd is None and self._price is not None and result.usage is not None:
            return replace(result, cost_usd=cost_usd(result.usage, self._price))
        return result


def price_for(config: RunConfig, *, emulated: bool) -> Price | None:
    """The price of the model at the endpoint; on the emulator, what it would cost where it is sold first."""
    return price_of(config.request.model or "", None if emulated else config.endpoint.base_url)
