"""The body of a chat/completions request.

Shape: OpenAI, "Images and vision" (chat/completions), which AI/ML API, 302.AI and the gateways share.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from pipeline.endpoints.chat_messages import CHAT_PARTS, MessageSettings, messages_of
from pipeline.endpoints.chat_parameters import ParameterSettings, parameter_fields
from pipeline.endpoints.endings import Dialect, Endings
from pipeline.endpoints.template import BodyTemplate, Place
from pipeline.errors import InputError
from pipeline.labels.sending import LabelsRequest

DIALECT: Final = Dialect("messages", "text", lambda body, asked: {**body, "response_format": asked})


class PromptSettings(ParameterSettings, MessageSettings, Protocol):
    """The settings that a body consists of; `config.sections.RequestConfig` has them."""

    @property
    def labels(self) -> str | None: ...
    @property
    def labels_mode(self) -> str: ...
    @property
    def detail(self) -> str: ...


class ChatTemplate(BodyTemplate):
    """The requests of one configuration."""

    def __init__(self, request: PromptSettings, model: str, max_tokens_field: str) -> None:
        """Raises InputError where `request.extra` or the prompt cannot be sent."""
        if "response_format" in request.extra and request.labels is not None:
            raise InputError("request.extra.response_format: request.labels sets it; leave one of the two out")
        self._request, self._max_tokens_field = request, max_tokens_field
        super().__init__(request, model)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields beside model, messages and schema, as they stand in every body."""
        return parameter_fields(self._request, self._max_tokens_field)

    def _body(self, places: Sequence[Place]) -> dict[str, Any]:
        request = self._request
        body: dict[str, Any] = {"model": self._model, "messages": messages_of(request, places, CHAT_PARTS)}
        return {**body, **parameter_fields(request, self._max_tokens_field)}

    def _endings_of(self, body: Mapping[str, Any], asked: LabelsRequest) -> Endings:
        return Endings.of(body, asked, DIALECT)
