"""What the text of a flag or of `--set section.key=value` means: JSON, else TOML, else text."""

import json
import tomllib
import typing
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from pipeline.config.run_config import RunConfig


def written_value(key: str, text: str) -> object:
    """The value of a dotted key. A key that takes text is given the text as it stands, but for quotes around it.

    `null` is None where the key may be empty, and where it takes no text.
    """
    value = _parsed(text)
    if not _takes_text(key):
        return text if isinstance(value, date | datetime | time) else value
    if isinstance(value, str) or (value is None and _may_be_empty(key)):
        return value
    return text


def flag_value(key: str, text: str) -> object:
    """The value of a dotted key as its own flag has it: text stands as it is, quotes included."""
    return text if _takes_text(key) else written_value(key, text)


def _parsed(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        pass
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _takes_text(key: str) -> bool:
    kinds = _kinds(_annotation(key))
    return bool(kinds) and kinds <= {str, Path, Decimal, type(None)}


def _may_be_empty(key: str) -> bool:
    return type(None) in _kinds(_annotation(key))


def _annotation(key: str) -> Any:  # noqa: ANN401 - types are values here
    """The type of a dotted key; None where there is no such key."""
    found: Any = RunConfig
    for part in key.split("."):
        if isinstance(found, type) and issubclass(found, BaseModel):
            field = found.model_fields.get(part)
            found = None if field is None else field.annotation
        elif get_origin(found) is dict:
            found = get_args(found)[1]
        else:
            return None
    return found


def _kinds(annotation: Any) -> frozenset[object]:  # noqa: ANN401 - as above
    """The types that a union, or a type alone, stands for."""
    if get_origin(annotation) is typing.Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in {UnionType, typing.Union}:
        return frozenset().union(*map(_kinds, get_args(annotation)))
    return frozenset({annotation})
