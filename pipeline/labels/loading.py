"""Loads the schema that `request.labels` names: a JSON Schema file, or a pydantic model in a Python module."""

import importlib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.labels.schema import LabelSchema

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
SETTING = "`request.labels`"


def schema_text(value: object, folder: Path = Path()) -> str:
    """The schema as JSON on one line, its properties in their order. It is checked.

    `value` is the path of a file (from `folder` on), `package.module:Model`, JSON text, a mapping, or a pydantic model.
    Raises InputError that says where the schema is wrong.
    """
    where, found = _loaded(value, folder)
    if not isinstance(found, Mapping):
        raise InputError(f"{SETTING}: {where} is no JSON object; a JSON Schema is one")
    text = _written(found, where)
    LabelSchema.of(text, where)
    return text


def _loaded(value: object, folder: Path) -> tuple[str, object]:
    """What messages call the schema, and the schema."""
    if isinstance(value, Mapping):
        return "the schema", value
    if not isinstance(value, str | Path):
        return _of_model(value, getattr(value, "__name__", type(value).__name__))
    text = str(value)
    if text.lstrip().startswith("{"):
        return "the schema", _parsed(text, "the schema")
    path = folder / text
    if _REFERENCE.fullmatch(text) and not path.exists():
        return _of_model(_imported(text), text)
    try:
        return str(path), _parsed(path.read_text(encoding="utf-8-sig"), str(path))
    except UnicodeDecodeError:
        raise InputError(f"{SETTING}: {path} is not UTF-8") from None
    except OSError as error:
        way_out = "name a JSON Schema file, or a pydantic model as package.module:Model"
        raise InputError(f"{SETTING}: {path}: {error.strerror or error}; {way_out}") from None


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text, parse_constant=_no_json)
    except json.JSONDecodeError as error:
        raise InputError(f"{SETTING}: {where}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{SETTING}: {where}: not valid JSON: {error}") from None


def _no_json(word: str) -> object:
    raise ValueError(f"{word} is no JSON")


def _imported(reference: str) -> object:
    """What stands in a module. Modules of the working directory count, behind all others, and for this import alone."""
    module, _, names = reference.partition(":")
    before = list(sys.path)
    sys.path.append(str(Path.cwd()))
    try:
        found: object = importlib.import_module(module)
    except Exception as error:
        raise InputError(f"{SETTING}: {module} cannot be imported ({type(error).__name__}: {error})") from error
    finally:
        sys.path[:] = before
    for name in names.split("."):
        if not hasattr(found, name):
            raise InputError(f"{SETTING}: {module} has no {names!r}")
        found = getattr(found, name)
    return found


def _of_model(model: object, where: str) -> tuple[str, object]:
    """The schema of a pydantic model; a mapping is a schema already."""
    if isinstance(model, Mapping):
        return where, model
    make = getattr(model, "model_json_schema", None)
    if not callable(make):
        raise InputError(f"{SETTING}: {where} is neither a pydantic model nor a JSON Schema (a dictionary)")
    try:
        return where, make()
    except Exception as error:
        raise InputError(
            f"{SETTING}: no JSON Schema can be made of {where} ({type(error).__name__}: {error})"
        ) from error


def _written(schema: Mapping[str, Any], where: str) -> str:
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{SETTING}: {where} holds characters that are no valid Unicode text") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{SETTING}: {where} is not possible in JSON: {error}") from None
    return text
