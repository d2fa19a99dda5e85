"""The strict mode of structured outputs: what it takes, and the form of a schema that it takes.

Source: OpenAI, "Structured model outputs", Supported schemas (read as documented in February 2026): types, keywords
and limits; oneOf, minLength and maxLength are rejected by the API and in no list of what is supported.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pipeline.labels.schema import LabelSchema, Schema, resolved

MOST_PROPERTIES, MOST_LEVELS = 5_000, 10
MOST_CHARS = 120_000
"""Of names of properties and definitions, and of values of enums, together."""
MOST_ENUM_VALUES, LONG_ENUM, MOST_LONG_ENUM_CHARS = 1_000, 250, 15_000

_SUPPORTED: Final = frozenset(
    {
        *("type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf"),
        *("$ref", "$defs", "definitions", "title", "description", "pattern", "format", "multipleOf"),
        *("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "minItems", "maxItems"),
    }
)
_UNSUPPORTED: Final = frozenset(
    {
        *("allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies"),
        *("patternProperties", "propertyNames", "minProperties", "maxProperties", "unevaluatedProperties"),
        *("prefixItems", "additionalItems", "unevaluatedItems", "contains", "minContains", "maxContains"),
        *("uniqueItems", "minLength", "maxLength", "$dynamicRef", "$recursiveRef"),
    }
)
"""Keywords that say what is valid. Any other keyword that is not supported is left out: it only describes."""
_FORMATS: Final = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_DEFINITIONS: Final = ("$defs", "definitions")
_MOST_PARTS: Final = 20_000
"""References that take each other's place can make a short schema endless."""


class NotStrictError(Exception):
    """The schema has no form for the strict mode; the message says where and why."""


def strict_form(schema: LabelSchema) -> dict[str, Any]:
    """The same schema for the strict mode: every property required, an optional one nullable, and no others.

    Raises NotStrictError where that would change what is valid.
    """
    root = schema.root
    top = resolved(root, root) if "$ref" in root or "allOf" in root else root
    definitions = {word: root[word] for word in _DEFINITIONS if word in root}
    form = _Former(root).of({**top, **definitions}, "the top level", ())
    if (problem := strict_problem(form)) is not None:
        raise NotStrictError(problem)
    return form


class _Former:
    """Makes the strict form of one schema."""

    def __init__(self, root: Schema) -> None:
        self._root, self._parts = root, 0

    def of(self, schema: Any, path: str, within: tuple[str, ...]) -> dict[str, Any]:  # noqa: ANN401 - JSON
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise NotStrictError(f"{path}: the schema has more than {_MOST_PARTS:,} parts")
        if not isinstance(schema, dict):
            raise NotStrictError(f"{path}: any value is allowed")
        schema, within = self._with_inlined(schema, within)
        if unsupported := next((word for word in schema if word in _UNSUPPORTED), None):
            raise NotStrictError(f"{path}: strict mode has no {unsupported}")
        form = {word: value for word, value in schema.items() if word in _SUPPORTED}
        if form.get("format", "date") not in _FORMATS:
            del form["format"]
        if "$ref" in form:
            return form
        for word in _DEFINITIONS:
            if word in form:
                form[word] = {name: self.of(one, f"{word}.{name}", ()) for name, one in form[word].items()}
        if "anyOf" in form:
            form["anyOf"] = [self.of(option, f"{path}: anyOf", within) for option in form["anyOf"]]
        if "items" in form:
            form["items"] = self.of(form["items"], f"{path}[]", within)
        return self._closed(form, path, within) if _is_object(form) else form

    def _with_inlined(self, schema: dict[str, Any], within: tuple[str, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Beside a reference nothing may stand: then what it refers to takes its place, once."""
        if "allOf" in schema and len(schema["allOf"]) == 1:
            schema = {**schema["allOf"][0], **{word: value for word, value in schema.items() if word != "allOf"}}
        reference = schema.get("$ref")
        others = [word for word in schema if word in _SUPPORTED | _UNSUPPORTED and word not in {"$ref", *_DEFINITIONS}]
        if not isinstance(reference, str) or not others:
            return schema, within
        if reference in within:
            return {"$ref": reference}, within
        return dict(resolved(schema, self._root)), (*within, reference)

    def _closed(self, form: dict[str, Any], path: str, within: tuple[str, ...]) -> dict[str, Any]:
        if form.get("additionalProperties", False) is not False:
            raise NotStrictError(f"{path}: properties with any name are allowed")
        properties = form.get("properties")
        if not properties:
            raise NotStrictError(f"{path}: an object without named properties")
        required = form.get("required", [])
        if missing := next((name for name in required if name not in properties), None):
            raise NotStrictError(f"{path}: {missing} is required, and not among its properties")
        prefix = "" if path == "the top level" else f"{path}."
        formed = {name: self.of(one, f"{prefix}{name}", within) for name, one in properties.items()}
        closed = {name: one if name in required else _nullable(one) for name, one in formed.items()}
        return {**form, "properties": closed, "required": list(properties), "additionalProperties": False}


def _nullable(form: dict[str, Any]) -> dict[str, Any]:
    """The same form, which allows null too."""
    kind, options = form.get("type"), form.get("anyOf")
    if isinstance(options, list):
        is_there = any(option.get("type") == "null" for option in options)
        return form if is_there else {**form, "anyOf": [*options, {"type": "null"}]}
    if kind is None or "const" in form:
        return {"anyOf": [form, {"type": "null"}]}
    kinds = [kind] if isinstance(kind, str) else list(kind)
    enum = {"enum": [*form["enum"], *([] if None in form["enum"] else [None])]} if "enum" in form else {}
    return {**form, "type": kinds if "null" in kinds else [*kinds, "null"], **enum}


def _is_object(form: Schema) -> bool:
    kind = form.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or ("properties" in form and kind is None)


def strict_problem(schema: Schema) -> str | None:
    """Why the strict mode rejects this schema as it stands; None where it takes it."""
    if not _is_object(schema) or "anyOf" in schema:
        return "In context=(), the schema must be of type 'object' at its top level."
    found = next(_problems(schema, ()), None)
    return found or _size_problem(schema)


def _problems(schema: Any, context: tuple[str, ...]) -> Iterator[str]:  # noqa: ANN401 - JSON
    if not isinstance(schema, dict):
        yield f"In context={context}, a schema has to be an object."
        return
    for word in schema:
        if word not in _SUPPORTED:
            yield f"In context={context}, '{word}' is not permitted."
    if "$ref" in schema and len(schema.keys() - set(_DEFINITIONS)) > 1:
        yield f"In context={context}, $ref cannot have keywords beside it."
    if not schema.keys() & {"type", "enum", "const", "anyOf", "$ref"}:
        yield f"In context={context}, schema must have a 'type' key."
    if _is_object(schema):
        yield from _object_problems(schema, context)
    if _is_array(schema) and "items" not in schema:
        yield f"In context={context}, array schema missing items."
    for step, child in _children(schema):
        yield from _problems(child, (*context, *step))


def _object_problems(schema: Schema, context: tuple[str, ...]) -> Iterator[str]:
    if schema.get("additionalProperties") is not False:
        yield f"In context={context}, 'additionalProperties' is required to be supplied and to be false."
    missing = [name for name in schema.get("properties", {}) if name not in schema.get("required", [])]
    if missing:
        yield (
            f"In context={context}, 'required' is required to be supplied and to be an array including every key in "
            f"properties. Missing '{missing[0]}'."
        )


def _is_array(schema: Schema) -> bool:
    kind = schema.get("type")
    return kind == "array" or (isinstance(kind, list) and "array" in kind)


def _children(schema: Schema) -> Iterator[tuple[tuple[str, ...], Any]]:
    for word in (*_DEFINITIONS, "properties"):
        for name, child in schema.get(word, {}).items():
            yield (word, name), child
    for at, child in enumerate(schema.get("anyOf", [])):
        yield ("anyOf", str(at)), child
    if "items" in schema:
        yield ("items",), schema["items"]


def _size_problem(root: Schema) -> str | None:
    schemas = list(_all(root))
    properties = sum(len(one.get("properties", {})) for one in schemas)
    enums = [one["enum"] for one in schemas if isinstance(one.get("enum"), list)]
    chars = sum(len(name) for one in schemas for word in (*_DEFINITIONS, "properties") for name in one.get(word, {}))
    chars += sum(len(str(value)) for enum in enums for value in enum)
    chars += sum(len(str(one["const"])) for one in schemas if "const" in one)
    if properties > MOST_PROPERTIES:
        return f"The schema has {properties:,} properties, and strict mode takes {MOST_PROPERTIES:,}."
    if chars > MOST_CHARS:
        return f"Names and values of the schema have {chars:,} characters, and strict mode takes {MOST_CHARS:,}."
    if (values := sum(map(len, enums))) > MOST_ENUM_VALUES:
        return f"The enums of the schema have {values:,} values, and strict mode takes {MOST_ENUM_VALUES:,}."
    longest = max((sum(len(str(one)) for one in enum) for enum in enums if len(enum) > LONG_ENUM), default=0)
    if longest > MOST_LONG_ENUM_CHARS:
        return f"An enum has {longest:,} characters, and strict mode takes {MOST_LONG_ENUM_CHARS:,}."
    if (levels := _levels(root, root, {})) > MOST_LEVELS:
        return f"{levels} levels of nesting exceeds limit of {MOST_LEVELS}."
    return None


def _all(schema: Schema) -> Iterator[Schema]:
    yield schema
    for _, child in _children(schema):
        yield from _all(child)


def _levels(schema: Schema, root: Schema, known: dict[str, int]) -> int:
    """Objects within each other, at most; a recursive reference counts once. `known` are those of references."""
    reference = schema.get("$ref")
    if isinstance(reference, str):
        if reference not in known:
            known[reference] = 0
            known[reference] = _levels(_target(reference, root), root, known)
        return known[reference]
    below = [child for step, child in _children(schema) if step[0] not in _DEFINITIONS]
    return int(_is_object(schema)) + max((_levels(child, root, known) for child in below), default=0)


def _target(reference: str, root: Schema) -> Mapping[str, Any]:
    try:
        return resolved({"$ref": reference}, root)
    except LookupError:
        return {}
