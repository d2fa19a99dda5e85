"""What a row holds of labels: typed fields, or one JSON text where the schema is recursive or open.

A property that is optional, or that may be null, is a field that may be null: every field of Arrow may.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from pipeline.labels.schema import LabelSchema, Schema, resolved

_LARGEST_INT = 2**63 - 1
_MOST_PARTS = 5_000
"""Fields and items of a struct: references can make a short schema endless."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A plain value."""

    kind: Literal["text", "integer", "number", "boolean"]


@dataclass(frozen=True, slots=True)
class Items:
    """A list of values of one shape."""

    of: "Shape"


@dataclass(frozen=True, slots=True)
class Fields:
    """An object with these properties. Others are in the answer's text only."""

    fields: tuple[tuple[str, "Shape"], ...]


Shape = Scalar | Items | Fields


class OpenSchemaError(Exception):
    """No type of a column holds all values of the schema; the message says which part of it is so."""


class UnstorableError(Exception):
    """A value that is valid for the schema, and that no column can hold."""


def shape_of(schema: LabelSchema) -> Fields:
    """The fields of a row. Raises OpenSchemaError where the labels are one JSON text instead."""
    shape = _Reader(schema.root).of(schema.root, "the top level", ("#",))
    if not isinstance(shape, Fields):
        raise OpenSchemaError("the top level: not an object of named properties")
    return shape


class _Reader:
    """Walks one schema; `path` is a place in it for people, `within` are the references that are being followed."""

    def __init__(self, root: Schema) -> None:
        self._root, self._parts = root, 0

    def of(self, schema: Any, path: str, within: tuple[str, ...]) -> Shape:  # noqa: ANN401 - JSON
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise OpenSchemaError(f"{path}: the schema has more than {_MOST_PARTS:,} fields")
        if not isinstance(schema, dict):
            raise OpenSchemaError(f"{path}: any value is allowed")
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in within:
                raise OpenSchemaError(f"{path}: {reference} is recursive")
            within = (*within, reference)
        try:
            schema = resolved(schema, self._root)
        except LookupError as error:
            raise OpenSchemaError(f"{path}: {error.args[0]}") from None
        if unread := next((word for word in ("allOf", "$dynamicRef", "$recursiveRef") if word in schema), None):
            raise OpenSchemaError(f"{path}: {unread}")
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self._any(schema[word], f"{path}: {word}", within)
        if "enum" in schema or "const" in schema:
            return _of_values(schema.get("enum", [schema.get("const")]), path)
        return self._typed(schema, path, within)

    def _any(self, options: Sequence[Any], path: str, within: tuple[str, ...]) -> Shape:
        shapes = {self.of(option, path, within) for option in options if not _is_null(option)}
        return _common(shapes, path)

    def _typed(self, schema: Schema, path: str, within: tuple[str, ...]) -> Shape:
        kinds = schema.get("type", _implied(schema))
        names = {kinds} if isinstance(kinds, str) else set(kinds)
        shapes: set[Shape] = set()
        for name in names - {"null"}:
            if name == "object":
                shapes.add(self._object(schema, path, within))
            elif name == "array":
                shapes.add(self._array(schema, path, within))
            else:
                shapes.add(_SCALARS[name])
        return _common(shapes, path)

    def _object(self, schema: Schema, path: str, within: tuple[str, ...]) -> Shape:
        properties = schema.get("properties")
        if schema.get("additionalProperties", False) is not False or schema.get("patternProperties"):
            raise OpenSchemaError(f"{path}: properties with any name are allowed")
        if not properties:
            raise OpenSchemaError(f"{path}: an object without named properties")
        prefix = "" if path == "the top level" else f"{path}."
        return Fields(tuple((name, self.of(one, f"{prefix}{name}", within)) for name, one in properties.items()))

    def _array(self, schema: Schema, path: str, within: tuple[str, ...]) -> Shape:
        if schema.get("prefixItems") or not isinstance(schema.get("items"), dict):
            raise OpenSchemaError(f"{path}: a list whose items have no common schema")
        return Items(self.of(schema["items"], f"{path}[]", within))


_SCALARS: Mapping[str, Scalar] = {
    "string": Scalar("text"),
    "integer": Scalar("integer"),
    "number": Scalar("number"),
    "boolean": Scalar("boolean"),
}


def _implied(schema: Schema) -> Sequence[str]:
    """The type of a schema that names none."""
    if isinstance(schema.get("properties"), dict):
        return ["object"]
    return ["array"] if "items" in schema else []


def _common(shapes: set[Shape], path: str) -> Shape:
    if shapes == {Scalar("integer"), Scalar("number")}:
        return Scalar("number")
    if len(shapes) == 1:
        return shapes.pop()
    raise OpenSchemaError(f"{path}: values of different types" if shapes else f"{path}: any value is allowed")


def _of_values(values: Sequence[Any], path: str) -> Shape:
    """Of an enum: a text where all its values are texts."""
    kinds = {_kind_of(value, path) for value in values if value is not None}
    return _common(kinds, path)


def _kind_of(value: object, path: str) -> Shape:
    match value:
        case bool():
            return Scalar("boolean")
        case str():
            return Scalar("text")
        case int():
            return Scalar("integer")
        case float():
            return Scalar("number")
    raise OpenSchemaError(f"{path}: a list or an object as a value")


def _is_null(schema: object) -> bool:
    return isinstance(schema, dict) and (schema.get("type") == "null" or schema.get("const", 0) is None)


def stored(value: Any, shape: Shape, path: str = "") -> Any:  # noqa: ANN401 - JSON
    """A valid value as a row holds it: the named properties, whole numbers as integers where the schema says so.

    Raises UnstorableError, with the place, for a number beyond 64 bits.
    """
    if value is None:
        return None
    match shape:
        case Fields(fields):
            prefix = f"{path}." if path else ""
            return {name: stored(value.get(name), one, f"{prefix}{name}") for name, one in fields}
        case Items(of):
            return [stored(item, of, f"{path}[{at}]") for at, item in enumerate(value)]
        case Scalar("integer"):
            whole = int(value)
            if abs(whole) > _LARGEST_INT:
                raise UnstorableError(f"{path}: {str(whole)[:30]} is beyond 64 bits")
            return whole
        case Scalar("number"):
            return _number(value, path)
    return value


def _number(value: Any, path: str) -> float:  # noqa: ANN401 - a number of JSON
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        raise UnstorableError(f"{path}: {str(value)[:30]} is beyond 64 bits")
    return number
