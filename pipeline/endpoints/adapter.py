"""What the rest of the package uses of a kind of endpoint, and the registry of those that exist.

An adapter says where requests go, what their bodies are, what responses mean, and which bills a response does not
count. The engine, a run, `check`, `estimate` and `preview` use this protocol only. `docs/extending.md` shows how to
add one.
"""

from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable
from urllib.parse import urlsplit

from pipeline.config.families import family_for
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import EndpointConfig, RequestConfig
from pipeline.endpoints.chat import CHAT
from pipeline.endpoints.ocr import OCR
from pipeline.endpoints.ofr import OFR
from pipeline.endpoints.other_models import OtherModel
from pipeline.endpoints.reading import Response
from pipeline.endpoints.responses import RESPONSES
from pipeline.endpoints.traits import OF_CHAT, HasTraits, Traits
from pipeline.errors import InputError
from pipeline.labels.sending import LabelsMode
from pipeline.records import Answer, Failure, PreparedImage


class RequestTemplate(Protocol):
    """The requests of one configuration, complete but for their images."""

    def body(self, images: Sequence[PreparedImage]) -> bytes:
        """The body to send. The images of `request.messages` come first, as they do in the next methods."""

    def pieces(self, images: Sequence[PreparedImage]) -> tuple[bytes, ...]:
        """The same in pieces, where several requests send the same images: `image.base64` is one of them."""

    def digest(self, images: Sequence[PreparedImage]) -> str:
        """The column `request_sha256`: equal for equal requests about equal bytes."""

    def preview(self, images: Sequence[PreparedImage]) -> str:
        """The request for people to read: indented, each image replaced by its length."""

    def renamed(self, body: bytes, model: str) -> bytes:
        """The same body for an endpoint that has another name for the model."""


@runtime_checkable
class LabelsTemplate(RequestTemplate, Protocol):
    """Requests that can ask for labels (`request.labels`)."""

    def adapted(self, body: bytes, mode: LabelsMode, corrected: Answer | None = None) -> bytes:
        """The same body as it asks in another mode, or repeats an answer that is to be corrected."""


class EndpointAdapter(Protocol):
    """One kind of endpoint. One that is not like a chat model has `traits`, too."""

    @property
    def path(self) -> str:
        """Where requests are posted, below the base URL; with a leading slash, below what stands before its `/v1`."""

    @property
    def other_models(self) -> Sequence[OtherModel]:
        """Models that a request may involve and whose tokens the response does not count."""

    def template(self, request: RequestConfig, model: str, max_tokens_field: str) -> RequestTemplate:
        """Prepare the requests of a configuration. Raises InputError where a setting cannot be sent."""

    def read(self, response: Response) -> Answer | Failure:
        """What a response with a 2xx status means. Other statuses are read alike for all adapters."""


@runtime_checkable
class LimitedAdapter(EndpointAdapter, Protocol):
    """An endpoint that lacks parameters which `[request]` has."""

    @property
    def lacks(self) -> Sequence[str]:
        """Their names."""


ADAPTERS: Final[dict[str, EndpointAdapter]] = {
    "chat": CHAT,
    "responses": RESPONSES,
}
"""By the name that `endpoint.api` holds."""

OF_TASKS: Final[dict[str, EndpointAdapter]] = {
    "ocr": OCR,
    "ofr": OFR,
}
"""By the name that `request.task` holds; with the task `caption` the endpoint's own counts."""


def adapter_named(name: str) -> EndpointAdapter:
    """The adapter of this name. Raises InputError that lists the registered ones."""
    found = ADAPTERS.get(name)
    if found is None:
        raise InputError(f"endpoint.api: {name!r} is not known; known: {', '.join(ADAPTERS)}")
    return found


def api_of(config: RunConfig, one: EndpointConfig) -> str:
    """The name of an endpoint's adapter: as the user says, else by what the catalogue has of its model."""
    if one.api != "auto":
        return one.api
    family, model = family_for(config, one), one.model or config.request.model or ""
    return "responses" if family is not None and family.lacks_chat(model) else "chat"


def adapter_at(config: RunConfig, one: EndpointConfig) -> EndpointAdapter:
    """The adapter of one endpoint of a configuration: that of the task, where it has one."""
    return OF_TASKS.get(config.request.task) or adapter_named(api_of(config, one))


def adapter_of(config: RunConfig) -> EndpointAdapter:
    """The adapter of a configuration, whose endpoints share prepared requests. Raises InputError where they cannot."""
    names = list(dict.fromkeys(api_of(config, one) for one in config.all_endpoints))
    if len(names) > 1 and config.request.task not in OF_TASKS:
        raise InputError(
            f"endpoint.api: the endpoints of one run share their requests, and these differ: {', '.join(names)}; "
            "run each of them on its own"
        )
    return adapter_at(config, config.all_endpoints[0])


def traits_of(config: RunConfig) -> Traits:
    """What a run with this configuration does otherwise than with a chat model."""
    adapter = adapter_at(config, config.all_endpoints[0])
    return adapter.traits if isinstance(adapter, HasTraits) else OF_CHAT


def other_model(config: RunConfig, endpoint: EndpointConfig) -> str | None:
    """The model that this endpoint asks beside the one that is named, and whose tokens its responses do not count."""
    host = config.catalogue.host or urlsplit(endpoint.base_url).hostname or ""
    model, fields = endpoint.model or config.request.model or "", config.request.sent_parameters
    names = (other.name(fields, model, host) for other in adapter_at(config, endpoint).other_models)
    return next(filter(None, names), None)
