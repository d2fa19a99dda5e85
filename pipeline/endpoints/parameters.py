"""The parameters of one endpoint during a run: what it turns out not to take is renamed or left out, once for all.

A field that no setting of the user put into the request is adapted in any case, another one where `request.adapt`
says so; else the run ends. `labels.py` does the same for the way in which a schema is sent.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol, runtime_checkable

from pipeline.endpoints.untaken import untaken_fields
from pipeline.errors import ErrorKind
from pipeline.records import Answer, Failure, Status

_OTHER_NAME: Final = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}

Changes = Mapping[str, str | None]
"""What becomes of fields: another name, or None for those that are left out."""


@runtime_checkable
class AdaptableTemplate(Protocol):
    """Requests whose fields beside text and images can be renamed and left out."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """These fields. Each stands in every body, behind a comma and as JSON without spaces."""


class EndpointParameters:
    """What one endpoint takes of the fields of a run's requests."""

    def __init__(
        self,
        fields: Mapping[str, Any],
        settings: Mapping[str, str],
        *,
        name: str,
        adapts: bool,
        say: Callable[[str], None],
    ) -> None:
        """`settings` names the setting of the user that put a field there; `say` shows a line to the user."""
        self._fields, self._settings, self._name = fields, settings, name
        self._adapts, self._say = adapts, say
        self._has_answered = False
        self.changes: Changes = {}
        """Replaced, and not changed, so that a request can keep those that it was sent with."""

    def body(self, body: bytes) -> bytes:
        """A body as this endpoint takes it."""
        for field, name in self.changes.items():
            value = self._fields[field]
            before, found, after = body.partition(_written(field, value))
            if found:
                body = b"".join([before, b"" if name is None else _written(name, value), after])
        return body

    def read(self, result: Answer | Failure, sent: Changes) -> Answer | Failure:
        """A result of a request that was sent with the changes `sent`."""
        if isinstance(result, Answer):
            self._has_answered = self._has_answered or result.status is not Status.REFUSED
            return result
        if result.kind is not ErrorKind.BAD_REQUEST:
            return result
        names = {sent.get(field, field): field for field in self._fields}
        untaken = untaken_fields([name for name in names if name is not None], result.message, result.param)
        fields = [names[name] for name in untaken]
        current = [field for field in fields if self.changes.get(field, field) == sent.get(field, field)]
        if not fields or any(field in self.changes for field in current):
            return result  # of something else, or of the other name, too
        changes = {field: _OTHER_NAME.get(field) for field in current}
        insisted = [self._settings[field] for field in changes if field in self._settings]
        if insisted and not self._adapts:
            return result if self._has_answered else _ended(result, insisted)
        self.changes = {**self.changes, **changes}
        for field, name in changes.items():
            instead = "is left out" if name is None else f"is sent as `{name}`"
            self._say(f"note: {self._name} does not take `{field}` ({result.message}): from now on it {instead}")
        return replace(result, kind=ErrorKind.FORMAT_REJECTED)


def _ended(rejected: Failure, settings: list[str]) -> Failure:
    named = " and ".join(f"`{setting}`" for setting in settings)
    message = f"{rejected.message.removesuffix('.')} ({named})"
    return replace(rejected, kind=ErrorKind.PARAMETER_REJECTED, message=message)


def _written(name: str, value: object) -> bytes:
    return f',"{name}":{json.dumps(value, ensure_ascii=False, separators=(",", ":"))}'.encode()
