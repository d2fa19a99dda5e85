"""A schema of labels, checked: it is valid JSON Schema, of an object, and refers to nothing outside itself."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from pipeline.errors import InputError

Schema = Mapping[str, Any]
"""A JSON Schema, or a part of one."""
DEEPEST = 100
"""Levels of lists and objects in a schema. Every walk through it takes some of Python's stack for each."""
_MOST_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class LabelSchema:
    """One schema of labels."""

    text: str
    """As JSON: what the configuration holds."""
    root: Schema

    @classmethod
    @lru_cache(maxsize=8)
    def of(cls, text: str, where: str = "the schema") -> "LabelSchema":
        """Parse and check a schema, once: one of thousands of properties takes a second. Raises InputError, which
        calls it `where`.
        """
        root = json.loads(text)
        if _is_too_deep(root):
            raise InputError(f"`request.labels`: {where}: nested deeper than {DEEPEST} levels")
        _check(root, where)
        return cls(text, root)

    @property
    def name(self) -> str:
        """What a request calls it: its title, as far as OpenAI allows the characters."""
        title = self.root.get("title")
        name = re.sub(r"[^A-Za-z0-9_-]", "_", title)[:_MOST_NAME_CHARS] if isinstance(title, str) else ""
        return name or "labels"

    @property
    def top(self) -> Schema:
        """The schema of the object itself, where the root is a reference to it."""
        return resolved(self.root, self.root)


def resolved(schema: Schema, root: Schema) -> Schema:
    """The schema that references lead to, with what stands beside them; also of an `allOf` of one.

    Raises LookupError for references in a circle.
    """
    seen: set[str] = set()
    while True:
        if isinstance(reference := schema.get("$ref"), str):
            if reference in seen:
                raise LookupError(f"{reference} refers to itself")
            seen.add(reference)
            found = target(reference, root)
        else:
            only = schema.get("allOf")
            if not isinstance(only, list) or len(only) != 1 or not isinstance(only[0], dict):
                return schema
            found = only[0]
        schema = {**found, **{key: value for key, value in schema.items() if key not in {"$ref", "allOf"}}}


def target(reference: str, root: Schema) -> Schema:
    """What `#/$defs/x` refers to. Raises LookupError where that is nothing, or no schema."""
    if reference != "#" and not reference.startswith("#/"):
        raise LookupError(f"{reference!r} is not within the schema: only references such as #/$defs/name are read")
    found: Any = root
    for step in reference.split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(name)] if isinstance(found, list) else found[name]
        except (LookupError, ValueError, TypeError):
            raise LookupError(f"{reference!r} refers to nothing") from None
    if not isinstance(found, dict):
        raise LookupError(f"{reference!r} does not refer to an object that is a schema")  # noqa: TRY004 - as above
    return found


def allows_objects_only(top: Schema) -> bool:
    """Whether every value that a schema allows is an object, as far as its own keywords say."""
    return top.get("type") == "object" or ("type" not in top and isinstance(top.get("properties"), dict))


def _check(root: Any, where: str) -> None:  # noqa: ANN401 - JSON
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415 - a tenth of a second, which other runs do not need

    try:
        validator_class(root).check_schema(root)
        for reference in _references(root):
            target(reference, root)
        top = resolved(root, root)
    except SchemaError as error:
        place = "/".join(str(step) for step in error.absolute_path) or "its top level"
        raise InputError(f"`request.labels`: {where}: no valid JSON Schema, at {place}: {error.message}") from None
    except LookupError as error:
        raise InputError(f"`request.labels`: {where}: {error.args[0]}") from None
    if not allows_objects_only(top):
        kind = top.get("type", "no type")
        raise InputError(
            f"`request.labels`: {where} describes no object at its top level (type: {kind}), and labels are the fields "
            'of one. Put it into an object: {"type": "object", "properties": {"value": ...}, "required": ["value"]}'
        )


def validator_class(root: Schema) -> Any:  # noqa: ANN401 - a class of jsonschema's protocol
    """The validator of the draft that `$schema` names; of 2020-12 where it names none."""
    from jsonschema.validators import Draft202012Validator, validator_for  # noqa: PLC0415 - as above

    return validator_for(root, default=Draft202012Validator)


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            yield reference
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _references(item)


def _is_too_deep(value: object) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            item
            for one in level
            for item in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
        ]
        if not level:
            return False
    return True
