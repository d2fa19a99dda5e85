"""The body of a request to the Responses API.

Shape: OpenAI, API reference "Responses", as the official client's types have it (package openai 3.52.0,
`types/responses`): `input` of messages whose parts are `input_text`, `input_image` with its `detail`, and
`input_file`; `instructions`; `max_output_tokens`; `reasoning`; `text.format`; `store`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.endpoints.chat_messages import Part, Parts, messages_of
from pipeline.endpoints.chat_request import PromptSettings
from pipeline.endpoints.endings import Dialect, Endings
from pipeline.endpoints.template import BodyTemplate, Place
from pipeline.errors import InputError
from pipeline.labels.sending import LabelsRequest

LACKS: Final = ("n", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias")
"""Parameters of chat/completions that this API does not have."""
_PROBABILITIES: Final = "message.output_text.logprobs"
_OWN_OPTION: Final = {
    "model": "request.model",
    "input": "request.prompt and request.messages",
    "instructions": "request.system",
    "max_output_tokens": "request.max_tokens",
    "stream": "request.stream",
    "reasoning.effort": "request.reasoning_effort",
}
_OF_CHAT: Final = {
    "messages": "request.prompt and request.messages",
    "max_tokens": "request.max_tokens",
    "max_completion_tokens": "request.max_tokens",
    "response_format": "request.labels, or request.extra.text",
    "stream_options": "request.stream",
}
"""Fields of chat/completions, which this API rejects."""


class ResponsesTemplate(BodyTemplate):
    """The requests of one configuration."""

    def __init__(self, request: PromptSettings, model: str) -> None:
        """Raises InputError where a setting cannot be sent."""
        _check(request)
        self._request = request
        super().__init__(request, model)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that an endpoint may turn out not to take, as they stand in every body."""
        kept = {"max_output_tokens"} | ({"text"} if self._request.labels is not None else set())
        return {name: value for name, value in _fields(self._request).items() if name not in kept}

    def _body(self, places: Sequence[Place]) -> dict[str, Any]:
        request = self._request
        messages = messages_of(request, places, _PARTS)
        body: dict[str, Any] = {"model": self._model}
        if request.system:
            body["instructions"] = messages.pop(0)["content"]
        return {**body, "input": messages, **_fields(request)}

    def _endings_of(self, body: Mapping[str, Any], asked: LabelsRequest) -> Endings:
        return Endings.of(body, asked, _DIALECT)


def _check(request: PromptSettings) -> None:
    for name in LACKS:
        if name in request.sent_parameters:
            raise InputError(f"`request.{name}`: the Responses API has no such parameter; leave it out")
    for name in ("system_name", "user_name"):
        if getattr(request, name) is not None:
            raise InputError(f"`request.{name}`: messages of the Responses API have no name; leave it out")
    if any(message.role == "assistant" and message.images for message in request.messages):
        raise InputError("`request.messages`: an answer of the Responses API holds no images; move them to a question")
    _check_extra(request)


def _check_extra(request: PromptSettings) -> None:
    reasoning, text = _table(request.extra, "reasoning"), _table(request.extra, "text")
    for key in [*request.extra, *(f"reasoning.{name}" for name in reasoning)]:
        own = {**_OWN_OPTION, **_OF_CHAT}.get(key) or (f"request.{key}" if key in request.sent_parameters else None)
        if own is not None:
            raise InputError(f"request.extra.{key}: set {own} instead")
    if "format" in text and request.labels is not None:
        raise InputError("request.extra.text.format: request.labels sets it; leave one of the two out")
    if not isinstance(request.extra.get("include", []), list):
        raise InputError("request.extra.include: write a list of texts")


def _table(extra: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = extra.get(key, {})
    if not isinstance(found, dict):
        raise InputError(f"request.extra.{key}: write a table of fields")
    return found


def _fields(request: PromptSettings) -> dict[str, Any]:
    """The fields behind `input`. Nothing is stored at the provider, unless `request.extra.store` says so."""
    parameters, extra = dict(request.sent_parameters), dict(request.extra)
    effort, asks_probabilities = parameters.pop("reasoning_effort", None), parameters.pop("logprobs", False)
    fields: dict[str, Any] = {}
    if request.max_tokens is not None:
        fields["max_output_tokens"] = request.max_tokens
    fields |= parameters
    reasoning = ({} if effort is None else {"effort": effort}) | extra.pop("reasoning", {})
    include = ([_PROBABILITIES] if asks_probabilities else []) + extra.pop("include", [])
    if reasoning:
        fields["reasoning"] = reasoning
    if include:
        fields["include"] = include
    if request.stream:
        fields["stream"] = True
    return {**fields, "store": False, **extra}


def _with_format(body: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """A format lies flat here, where chat/completions puts its schema into a field of its own."""
    flat = {"type": asked["type"], **asked.get("json_schema", {})}
    return {**body, "text": {"format": flat, **body.get("text", {})}}


def _text(text: str) -> Part:
    return {"type": "input_text", "text": text}


def _image(place: Place, detail: str) -> Part:
    if not place.slot.filename:
        return {"type": "input_image", "image_url": place.url, "detail": detail}
    return {"type": "input_file", "filename": place.slot.filename, "file_data": place.url}


_PARTS: Final = Parts(_text, _image)
_DIALECT: Final = Dialect("input", "input_text", _with_format)
