"""Reads the labels of an answer: its text as JSON, validated against the schema by the library jsonschema."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import ErrorKind
from pipeline.formatting import printable
from pipeline.labels.extraction import extracted
from pipeline.labels.schema import LabelSchema, Schema, resolved, validator_class
from pipeline.labels.shape import Fields, OpenSchemaError, UnstorableError, shape_of, stored
from pipeline.records import Answer, Status

MOST_PROBLEMS, MOST_PROBLEM_CHARS = 8, 200
"""What an answer is told of its errors: lines, and characters of each."""


@dataclass(frozen=True, slots=True)
class _Nulls:
    """Which properties of an object are left out where they are null, and what is below them."""

    optional: frozenset[str]
    schemas: Mapping[str, Schema]


class LabelReader:
    """Reads the answers of one run."""

    def __init__(self, schema: LabelSchema) -> None:
        from referencing import Registry  # noqa: PLC0415 - with jsonschema a tenth of a second, in labelling runs only

        self._root = schema.root
        self._validator = validator_class(schema.root)(schema.root, registry=Registry())
        self._nulls: dict[int, _Nulls] = {}
        self._shape: Fields | None = None
        with suppress(OpenSchemaError):
            self._shape = shape_of(schema)

    def read(self, answer: Answer) -> Answer:
        """The answer with its labels; with what is wrong with them; or marked as cut off."""
        if answer.caption is None or answer.status not in {Status.OK, Status.TRUNCATED}:
            return answer
        found = extracted(answer.caption)
        problems: list[str] = [] if found.value is not None else [found.why]
        if found.value is not None:
            try:
                value = self._without_nulls(found.value, self._root)
                problems = self._problems(value)
                if not problems:
                    return replace(answer, labels=self._stored(value))
            except UnstorableError as error:
                problems = [str(error)]
            except RecursionError:
                problems = ["the JSON is nested too deeply"]
        if found.is_cut or (answer.status is Status.TRUNCATED and found.value is None):
            return replace(answer, status=Status.TRUNCATED)
        return replace(
            answer,
            status=Status.INVALID,
            error_kind=ErrorKind.LABELS_INVALID,
            error_message="; ".join(problems),
            problems=tuple(problems),
        )

    def _problems(self, value: object) -> list[str]:
        """One line for each error, with its place."""
        errors = sorted(self._validator.iter_errors(value), key=lambda error: [str(step) for step in error.path])
        lines = [_line(error) for error in errors]
        if len(lines) > MOST_PROBLEMS:
            lines[MOST_PROBLEMS - 1 :] = [f"and {len(lines) - MOST_PROBLEMS + 1} more errors"]
        return lines

    def _stored(self, value: dict[str, Any]) -> dict[str, Any] | str:
        if self._shape is not None:
            labels: dict[str, Any] = stored(value, self._shape)
            return labels
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
        except ValueError:
            raise UnstorableError("a number is beyond 64 bits") from None

    def _without_nulls(self, value: Any, schema: Any) -> Any:  # noqa: ANN401 - JSON
        """Without the nulls that stand for optional properties, as the strict form of a schema asks for them."""
        if not isinstance(schema, dict) or not isinstance(value, dict | list):
            return value
        for option in self._options(schema):
            if isinstance(value, list):
                value = [self._without_nulls(item, option.get("items")) for item in value]
                continue
            nulls = self._nulls_of(option)
            value = {
                name: self._without_nulls(item, nulls.schemas.get(name))
                for name, item in value.items()
                if item is not None or name not in nulls.optional
            }
        return value

    def _options(self, schema: Schema) -> Iterator[Schema]:
        """The schema itself, and those of a union that take a list or an object."""
        schema = resolved(schema, self._root)
        yield schema
        for word in ("anyOf", "oneOf"):
            options = [resolved(one, self._root) for one in schema.get(word, []) if isinstance(one, dict)]
            nested = [one for one in options if "properties" in one or "items" in one]
            if len(nested) == 1:  # of several, none is known to be meant
                yield nested[0]

    def _nulls_of(self, schema: Schema) -> _Nulls:
        known = self._nulls.get(id(schema.get("properties")))
        if known is None:
            properties = schema.get("properties", {})
            required = schema.get("required", [])
            optional = {
                name
                for name, one in properties.items()
                if name not in required and not self._validator.evolve(schema=one).is_valid(None)
            }
            known = _Nulls(frozenset(optional), properties)
            if "properties" in schema:
                self._nulls[id(properties)] = known
        return known


def _line(error: Any) -> str:  # noqa: ANN401 - of jsonschema
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path).lstrip(".")
    return printable(f"{path or 'the object'}: {error.message}")[:MOST_PROBLEM_CHARS]
