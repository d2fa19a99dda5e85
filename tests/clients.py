"""A client of one endpoint as tests use it: bytes go out, and no image has to be prepared."""

import time
from collections.abc import Callable

import aiohttp

from pipeline.config.sections import EndpointConfig, RequestConfig
from pipeline.endpoints.chat import CHAT
from pipeline.endpoints.client import EndpointClient
from pipeline.endpoints.models import also_known_as, list_models
from pipeline.endpoints.target import Target
from pipeline.locations import LocalFile
from pipeline.records import Answer, Failure, ImageRecord, PreparedRequest


def request(body: bytes) -> PreparedRequest:
    """A prepared request with this body, about no image in particular."""
    record = ImageRecord("x", (LocalFile("x", "x"),))
    return PreparedRequest(record=record, image_facts=(), pieces=(body,), request_sha256="0" * 64)


class ChatClient:
    """Asks one endpoint of chat/completions, and lists its models."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoint: EndpointConfig,
        key: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        self.target = Target.of(endpoint, key)
        self.url = self.target.url(CHAT.path)
        template = CHAT.template(RequestConfig(), "gpt-4o", "max_tokens")
        self.client = EndpointClient(session, self.target, CHAT, template, clock=clock, epoch=epoch)

    async def ask(self, body: bytes = b"{}") -> Answer | Failure:
        return await self.client.ask(request(body))

    async def models(self) -> tuple[str, ...] | Failure:
        return await list_models(self.target)

    async def also_known_as(self, model: str) -> tuple[str, ...]:
        return await also_known_as(self.target, model)
