"""The JSON object in an answer's text: alone, in Markdown fences, or with words around it; or that it is cut off."""

import json
import re
from dataclasses import dataclass
from typing import Any

_FENCED = re.compile(r"```[\w-]*[ \t]*\r?\n(.*?)(?:\r?\n[ \t]*```|\Z)", re.DOTALL)
_MOST_TRIES = 1_000
"""Braces at which an object may begin. A text with more of them is no JSON with words around it."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What a text holds."""

    value: dict[str, Any] | None = None
    why: str = ""
    """Why there is no object, in words for the model."""
    is_cut: bool = False
    """Whether the text ends within an object."""


def extracted(text: str) -> Extracted:
    """The one JSON object in a text."""
    text = text.lstrip("\ufeff").strip()
    whole = _loaded(text)
    if isinstance(whole, dict):
        return Extracted(whole)
    if whole is not _NOTHING:
        return Extracted(why=f"a JSON object is expected, and the answer is of type {_KINDS.get(type(whole), 'null')}")
    fenced = [match[1] for match in _FENCED.finditer(text)]
    blocks = [value for block in fenced if isinstance(value := _loaded(block.strip()), dict)]
    if len(blocks) == 1:
        return Extracted(blocks[0])
    return _scanned(text)


def _scanned(text: str) -> Extracted:
    """The object between words; several that differ are none. What lies in a brace that is no object is none either."""
    found: list[dict[str, Any]] = []
    flaw, at = "", text.find("{")
    for _ in range(_MOST_TRIES):
        if at < 0:
            break
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            closed = _end_of(text, at)
            if closed is None and _BEGINS.match(text, at):
                return Extracted(why="the JSON is cut off", is_cut=True)
            if not flaw and closed is not None:
                flaw = _words(error)
            end = at + 1 if closed is None or _TEMPLATE.match(text, at) else closed
        else:
            found.append(value)
        at = text.find("{", end)
    if not found:
        return Extracted(why=f"the answer is no valid JSON{flaw}")
    if any(one != found[0] for one in found):
        return Extracted(why=f"one JSON object is expected, and the answer has {len(found)}")
    return Extracted(found[0])


_BEGINS = re.compile(r'\{\s*(?:"|\Z)')
"""An object, and no brace in prose."""
_TEMPLATE = re.compile(r"\{\s*\{")
"""Braces around an object, as templates have them."""


def _words(error: Exception) -> str:
    """Where the first object breaks, for the model."""
    if isinstance(error, json.JSONDecodeError):
        return f": {error.msg} (line {error.lineno}, column {error.colno})"
    return f": {error} is none" if isinstance(error, ValueError) else ""


def _end_of(text: str, at: int) -> int | None:
    """Behind the bracket that closes the one at `at`; None where it, or a text, stays open."""
    depth, is_text, is_escaped = 0, False, False
    for number, char in enumerate(text[at:], at):
        if is_text:
            is_text = is_escaped or char != '"'
            is_escaped = char == "\\" and not is_escaped
        elif char == '"':
            is_text = True
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
            if depth == 0:
                return number + 1
    return None


_NOTHING = object()
_KINDS = {list: "array", str: "string", int: "number", float: "number", bool: "boolean"}


def _no_json(word: str) -> object:
    raise ValueError(word)


_DECODER = json.JSONDecoder(parse_constant=_no_json, strict=False)
"""A text may hold a line break as it is: models write them, and they mean nothing else."""


def _loaded(text: str) -> object:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return _NOTHING
