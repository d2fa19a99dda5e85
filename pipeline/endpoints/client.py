"""One attempt at one endpoint: bytes out, a priced `Answer` or `Failure` back."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import formatdate
from functools import lru_cache

import aiohttp

from pipeline.catalogue.tiers import DEFAULT
from pipeline.endpoints.adapter import EndpointAdapter, RequestTemplate
from pipeline.endpoints.charsets import in_utf8
from pipeline.endpoints.chat_parameters import at_tier
from pipeline.endpoints.labels import EndpointLabels
from pipeline.endpoints.parameters import EndpointParameters
from pipeline.endpoints.pricing import TierPrices, most_amounts, predicted_cost_usd
from pipeline.endpoints.reading import Response, read_response
from pipeline.endpoints.target import Target
from pipeline.endpoints.transfer import MAX_ANSWER_BYTES, network_failure, too_long
from pipeline.errors import ErrorKind
from pipeline.http.posting import Poster
from pipeline.http.proxies import proxy_of
from pipeline.limits.budget import Amounts
from pipeline.records import Answer, Failure, PreparedRequest

Observe = Callable[[PreparedRequest, Answer | Failure], None]
"""Called with every request that was sent and its result."""

NO_PRICE = TierPrices(None)
_NO_CAPACITY = frozenset({429, 498})
"""Statuses of a service tier without capacity, as `errors.py` reads them; any other overload is the endpoint's."""


class EndpointClient:
    """Sends prepared requests to one endpoint. `session` comes from `http.session.open_session`."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        target: Target,
        adapter: EndpointAdapter,
        template: RequestTemplate,
        *,
        prices: TierPrices = NO_PRICE,
        tier: str | None = None,
        observe: Observe | None = None,
        labels: EndpointLabels | None = None,
        parameters: EndpointParameters | None = None,
        keep_thinking: bool = False,
        clock: Callable[[], float] = time.monotonic,
        epoch: Callable[[], float] = time.time,
    ) -> None:
        """`template` made the requests, which ask for the service tier `tier`.

        `clock` gives seconds, `epoch` seconds since 1970.
        """
        self._target, self._adapter, self._template = target, adapter, template
        self._poster = Poster(
            session,
            target.url(adapter.path),
            target.headers,
            max_bytes=MAX_ANSWER_BYTES,
            proxied=proxy_of(target.endpoint) is not None,
        )
        self._prices, self._tier, self._observe = prices, tier, observe
        self._labels, self._parameters, self._keep_thinking = labels, parameters, keep_thinking
        self._clock, self._epoch = clock, epoch

    async def ask(self, request: PreparedRequest) -> Answer | Failure:
        """One attempt, never repeated. What the network and the server do is a value.

        A request that its service tier has no capacity for was not served: where it falls back, the same attempt goes
        on at the default tier. The cost is the provider's own figure, else tokens x price. Cancelling it closes the
        connection.
        """
        labels, parameters = self._labels if request.asks_labels else None, self._parameters
        mode = None if labels is None else labels.mode
        changes = None if parameters is None else parameters.changes
        body, most = self._body(request), self.most(request)
        result = await self._post(body, most, request)
        if self._prices.falls_back and self._tier is not None and _lacks_capacity(result):
            result = await self._post(at_tier(body, self._tier, DEFAULT), most, request)
        if result.cost_usd is None and result.usage is not None:
            price = self._prices.of(result.service_tier if isinstance(result, Answer) else None)
            if price is not None:
                cost = predicted_cost_usd(request, result.usage, price, self._prices.other)
                result = replace(result, cost_usd=cost)
        if self._observe is not None:
            self._observe(request, result)
        if parameters is not None and changes is not None:
            result = parameters.read(result, changes)
        return result if labels is None or mode is None else labels.read(result, mode)

    def most(self, request: PreparedRequest) -> Amounts:
        """The most that one attempt can take of a budget; None where prompt, answer or price are not bounded."""
        return most_amounts(request, self._prices)

    def _body(self, request: PreparedRequest) -> bytes:
        model = self._target.endpoint.model
        labels = self._labels if request.asks_labels else None
        body = request.body if labels is None else labels.body(request)
        body = body if self._parameters is None else self._parameters.body(body)
        return body if model is None else self._template.renamed(body, model)

    async def _post(self, body: bytes, most: Amounts, request: PreparedRequest) -> Answer | Failure:
        started = self._clock()
        try:
            status, found, content = await self._poster.post(body)
        except (aiohttp.ClientError, OSError) as error:
            return network_failure(error, self._target.redactor)
        if content is None:
            return too_long(status)
        headers = self._dated(found)
        came = Response(
            status=status, headers=headers, body=in_utf8(content, headers), latency_s=self._clock() - started,
            redactor=self._target.redactor, most=most, images=request.image_facts, keep_thinking=self._keep_thinking,
        )  # fmt: skip
        return read_response(came, self._adapter.read)

    def _dated(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Dates in headers count against the response's own; where it has none, against this machine's clock."""
        if "Date" in headers:
            return headers
        own = {name.lower(): value for name, value in headers.items()}
        return own | {"date": _http_date(int(self._epoch()))}


@lru_cache(maxsize=1)
def _http_date(epoch: int) -> str:
    return formatdate(epoch, usegmt=True)


def _lacks_capacity(result: Answer | Failure) -> bool:
    return isinstance(result, Failure) and result.kind is ErrorKind.OVERLOADED and result.status in _NO_CAPACITY
