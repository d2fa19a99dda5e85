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
    """The object between words; several that differ are none."""
    found: list[dict[str, Any]] = []
    decoder, at = json.JSONDecoder(parse_constant=_no_json), text.find("{")
    for _ in range(_MOST_TRIES):
        if at < 0:
            break
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            if _is_open(text, at):
                return Extracted(why="the JSON is cut off", is_cut=True) if not found else Extracted(found[-1])
            end = at + 1
        else:
            found.append(value)
        at = text.find("{", end)
    if not found:
        return Extracted(why="the answer is no valid JSON")
    if any(one != found[0] for one in found):
        return Extracted(why=f"one JSON object is expected, and the answer has {len(found)}")
    return Extracted(found[0])


def _is_open(text: str, at: int) -> bool:
    """Whether the object that begins here does not end: brackets are open, or a text is."""
    depth, is_text, is_escaped = 0, False, False
    if re.match(r'\{\s*(?:"|\Z)', text[at : at + 1_000]) is None:  # a brace in prose
        return False
    for char in text[at:]:
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
                return False
    return True


_NOTHING = object()
_KINDS = {list: "array", str: "string", int: "number", float: "number", bool: "boolean"}


def _loaded(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return _NOTHING


def _no_json(word: str) -> object:
    raise ValueError(word)
