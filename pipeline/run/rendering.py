"""Prompts with columns of the record in them (`{{ title }}`): Jinja templates, in its sandbox.

A prompt without `{{`, `{%` and `{#` is no template, and costs nothing. A value of a column is data: what looks like
a template in it stays as it is.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pipeline.config.run_config import RunConfig
from pipeline.config.sections import RequestConfig
from pipeline.errors import InputError
from pipeline.records import ImageRecord

_MARKS: Final = ("{{", "{%", "{#")
_LISTED: Final = 20
"""Columns that a message names."""
_SIDECAR: Final = re.compile(r"\{[{%](?:(?!\}\}|%\}).)*\bsidecar\b", re.DOTALL)
"""The name within an expression or a statement of a template."""
Render = Callable[[Mapping[str, object]], str]


@dataclass(frozen=True, slots=True)
class Rendering:
    """The templates of one prompt: settings of its request, rendered for a record."""

    prompt_name: str
    fields: Mapping[str, Render]

    def __call__(self, record: ImageRecord) -> dict[str, str]:
        """The settings for this record. Raises InputError that names the column, the record and its line."""
        values = values_of(record)
        try:
            return {field: render(values) for field, render in self.fields.items()}
        except Exception as error:  # noqa: BLE001 - a template may do what an expression of Python may
            raise InputError(self._flaw(record, values, error)) from None

    def _flaw(self, record: ImageRecord, values: Mapping[str, object], error: Exception) -> str:
        columns = [name for name in values if name != "record"]
        known = ", ".join(columns[:_LISTED]) + (" ..." if len(columns) > _LISTED else "")
        line = "" if record.line is None else f" (line {record.line:,})"
        return (
            f"the prompt {self.prompt_name!r} cannot be made for the record {record.id!r}{line}: {error}; it has: "
            f'{known}. Correct the template, or write {{{{ NAME | default("...") }}}} for a column that may be missing'
        )


def values_of(record: ImageRecord) -> dict[str, object]:
    """What a template may name: the record's other columns, `id` and `image`, and all columns as `record`."""
    columns: dict[str, object] = {} if record.extra is None else orjson.loads(record.extra)
    return {"id": record.id, "image": record.image, "record": columns, **columns}


def rendering_of(request: RequestConfig) -> Rendering | None:
    """The templates of a request; None where its texts are the same for all records.

    Raises InputError where a text is no valid template.
    """
    texts = {"prompt": request.prompt, "system": request.system or ""}
    fields = {field: compiled(f"request.{field}", text) for field, text in texts.items() if is_template(text)}
    return Rendering(request.prompt_name, fields) if fields else None


def is_template(text: str) -> bool:
    return any(mark in text for mark in _MARKS)


def names_sidecar(config: RunConfig) -> bool:
    """Whether a template may name the column `sidecar`, so that the files beside the images have to be read."""
    texts = (text for request in config.requests for text in (request.prompt, request.system or ""))
    return any(_SIDECAR.search(text) for text in texts)


def check_records(config: RunConfig, records: Callable[[], Iterable[ImageRecord]]) -> None:
    """Render the prompts of all records. Raises InputError at the first one that has not what they name."""
    renderings = [found for request in config.requests if (found := rendering_of(request)) is not None]
    if renderings:
        for record in records():
            for rendering in renderings:
                rendering(record)


def compiled(setting: str, text: str) -> Render:
    """The template of a setting. Raises InputError where it is none."""
    # Imported only where it is used: 20 ms.
    from jinja2 import StrictUndefined, TemplateSyntaxError  # noqa: PLC0415 - see above
    from jinja2.sandbox import SandboxedEnvironment  # noqa: PLC0415 - see above

    environment = SandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, finalize=_finalised
    )
    try:
        return environment.from_string(text).render
    except TemplateSyntaxError as error:
        raise InputError(
            f"`{setting}`: not a valid template: {error.message} (line {error.lineno}); "
            "text that is no template stands between {% raw %} and {% endraw %}"
        ) from None


def _finalised(value: Any) -> Any:  # noqa: ANN401 - whatever an expression gives
    """An empty cell is empty text, not `None`."""
    return "" if value is None else value
