"""The fields of a chat/completions request beside its messages: the parameters, and what the user adds."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from pipeline.errors import InputError

_OWN_OPTION: Final = {
    "model": "request.model",
    "messages": "request.prompt, request.system and request.messages",
    "max_tokens": "request.max_tokens",
    "max_completion_tokens": "request.max_tokens and request.max_tokens_field",
    "temperature": "request.temperature",
    "stream": "request.stream",
    "stream_options": "request.stream",
}


class ParameterSettings(Protocol):
    """The settings that become fields; `config.sections.RequestConfig` has them."""

    @property
    def max_tokens(self) -> int | None: ...
    @property
    def sent_parameters(self) -> dict[str, Any]:
        """The parameters that are set, by the API's own names."""

    @property
    def stream(self) -> bool: ...
    @property
    def extra(self) -> dict[str, Any]: ...


def parameter_fields(request: ParameterSettings, max_tokens_field: str) -> dict[str, Any]:
    """The fields after `messages`. Raises InputError where `request.extra` has one with a setting of its own."""
    parameters = request.sent_parameters
    _check_extra(request.extra, parameters)
    fields: dict[str, Any] = {}
    if request.max_tokens is not None:
        fields[max_tokens_field] = request.max_tokens
    fields |= parameters
    if request.stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return {**fields, **request.extra}


def at_tier(body: bytes, tier: str, other: str) -> bytes:
    """The same body for another service tier. Texts of a body have their quotes escaped, and hold no such field."""
    before, field, after = body.rpartition(b'"service_tier":"%s"' % tier.encode())
    return b'%s"service_tier":"%s"%s' % (before, other.encode(), after) if field else body


def _check_extra(extra: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    for key in extra:
        if key in _OWN_OPTION or key in parameters:
            raise InputError(f"request.extra.{key}: set {_OWN_OPTION.get(key, f'request.{key}')} instead")
