"""Explains what is wrong with a configuration: the place, the key, the nearest known key, never a secret."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from pipeline.config.prices import OwnPrice
from pipeline.config.references import override
from pipeline.config.run_config import RunConfig
from pipeline.redaction.addresses import public_url
from pipeline.redaction.redactor import is_secret_name

_WORDS: Final = {
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "decimal_max_places": "at most {decimal_places} digits after the point",
    "decimal_parsing": "write a number",
    "decimal_type": "write a number",
    "dict_type": "write a table",
    "finite_number": "write a finite number",
    "float_parsing": "write a number",
    "float_type": "write a number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "write a whole number",
    "int_parsing": "write a whole number",
    "int_parsing_size": "the number is too large",
    "int_type": "write a whole number",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "write a list: [..., ...]",
    "literal_error": "write {expected}",
    "model_attributes_type": "write a table",
    "model_type": "write a table",
    "path_type": "write a path",
    "string_too_short": "must not be empty",
    "string_type": "write text in quotes",
    "tuple_type": "write a list: [..., ...]",
}
"""What pydantic calls a mistake, and what to do about it."""


def _plain(item: Mapping[str, Any]) -> str:
    words = _WORDS.get(item["type"])
    if words is None:
        return str(item["msg"]).removeprefix("Value error, ")
    return words.format(**item.get("ctx", {}))


def _known_keys() -> list[str]:
    keys: list[str] = []
    for section, info in RunConfig.model_fields.items():
        keys.append(section)
        model = info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            keys.extend(f"{section}.{key}" for key in model.model_fields)
    return keys


def explain(error: ValidationError, where: str, given_as: Mapping[str, str]) -> str:
    by_place: dict[str, list[str]] = {}
    for item in error.errors(include_url=False, include_input=True):
        by_place.setdefault(_given_as(item["loc"], given_as) or where, []).append(_explain_one(dict(item)))
    return "; ".join(
        f"{place}: {'; '.join(_unnamed(line, place) for line in _once(lines))}" for place, lines in by_place.items()
    )


def _once(lines: Sequence[str]) -> list[str]:
    """The lines without those that say the same of another key: one value may stand for several keys."""
    return list({line.partition(": ")[2] or line: line for line in reversed(lines)}.values())[::-1]


def _unnamed(line: str, place: str) -> str:
    """The line without the key at its beginning where the place names that key already."""
    key, _, rest = line.partition(": ")
    return rest if place == override(key) else line


def _given_as(path: Sequence[object], given_as: Mapping[str, str]) -> str | None:
    """The reference of the override that holds this key or a part of it."""
    dotted = [".".join(map(str, path[:length])) for length in range(len(path), 0, -1)]
    return next((given_as[key] for key in dotted if key in given_as), None)


def _got(path: str, value: object) -> str:
    """A value in a message: short, without the secrets of an address; nothing of a field that may hold a key."""
    named = path.split(".")
    if (
        {"headers", "proxy", "api_key_env"} & set(named)
        or is_secret_name(named[-1])
        or isinstance(value, Mapping | list)
    ):
        return ""
    return f" (got {(repr(public_url(value)) if isinstance(value, str) else repr(value))[:80]})"


def _explain_one(item: dict[str, Any]) -> str:
    dotted = ".".join(str(part) for part in item["loc"])
    if item["type"] == "missing":
        return f"{dotted!r} is missing"
    if item["type"] == "tuple_type" and isinstance(item["input"], Mapping):
        return f"{dotted}: write [[{dotted}]] in two brackets: there may be several"
    if item["type"] != "extra_forbidden":
        place = f"{dotted}: " if dotted else ""
        return f"{place}{_plain(item)}{_got(dotted, item['input'])}"
    if "key" in dotted.rsplit(".", 1)[-1]:
        return (
            f"unknown key {dotted!r}. If this is the endpoint's secret, take it out of the file: "
            "it is read only from the environment (see endpoint.api_key_env)"
        )
    if any(isinstance(part, int) for part in item["loc"]) and item["loc"][0] == "prices":
        return f"unknown key {dotted!r}; known: {', '.join(OwnPrice.model_fields)}"
    known = _known_keys()
    near = difflib.get_close_matches(dotted, known, n=1, cutoff=0.5) or [
        name for name in known if name.rsplit(".", 1)[-1] == dotted.rsplit(".", 1)[-1]
    ]
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown key {dotted!r}{hint}"
