"""The JSON object in an answer's text: alone, in Markdown fences, or with words around it; or that it is cut off."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_FENCED = re.compile(r"```[\w-]*[ \t]*\r?\n(.*?)(?:\r?\n[ \t]*```|\Z)", re.DOTALL)


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
        return Extracted(why=f"{_OTHER_TYPE} {_KINDS.get(type(whole), 'null')}")
    fenced = [_loaded(match[1].strip()) for match in _FENCED.finditer(text)]
    blocks = [value for value in fenced if isinstance(value, dict)]
    is_open = text.count("```") % 2 == 1
    if len(blocks) == 1 and not (is_open and fenced[-1] is _NOTHING):  # else it may be an example before the answer
        return Extracted(blocks[0])
    return _scanned(text)


def _scanned(text: str) -> Extracted:
    """The object between words, where all objects found are equal. Arrays and broken objects are skipped whole."""
    found: list[dict[str, Any]] = []
    first = why = ""
    for at, end in _spans(text):
        part = text[at:end]
        if end is None:
            if first.startswith(part) and (part == "{" or text[:at].rstrip().endswith(first)):
                break  # the model repeats its answer until it is cut off
            return Extracted(why="the JSON is cut off", is_cut=True)
        if part[0] == "[":
            if _BEGINS.match(part):
                why = why or f"{_OTHER_TYPE} array"
            continue
        try:
            found.append(_DECODER.decode(part))
            first = first or part
        except (ValueError, RecursionError) as error:
            why = why or _words(error, text, at)
    if not found:
        return Extracted(why=why or _INVALID)
    if any(one != found[0] for one in found):
        return Extracted(why=f"one JSON object is expected, and the answer has {len(found)}")
    return Extracted(found[0])


_INVALID = "the answer is no valid JSON"
_OTHER_TYPE = "a JSON object is expected, and the answer is of type"
_OPENING = re.compile(r"(?:\{\s*)*\{|\[")
"""Of several braces in a row the last one counts: templates double them."""
_BEGINS = re.compile(r'(?:\[\s*)?\{[{\s]*"|\{\Z')
"""An object, or an array of objects, and no bracket in prose."""
_MARK = re.compile(r'\\[\\"]|["{}\[\]]')
"""Brackets and quotes. A quote behind a backslash ends no text."""


def _spans(text: str) -> Iterator[tuple[int, int | None]]:
    """The beginning and the end of each outermost pair of brackets; the end is None where JSON stays open.

    A bracket in prose that stays open is left out. No two pairs overlap, so that decoding all of them is linear.
    """
    closings, end = _closings(text), 0
    while opening := _OPENING.search(text, end):
        at = opening.end() - 1
        closing = closings.get(at)
        if closing is not None or _BEGINS.match(text, opening.start()):
            yield at, closing
        end = closing or at + 1


def _closings(text: str) -> dict[int, int]:
    """The place behind the closing bracket, by the place of the opening one; none for a bracket that stays open.

    Prose may hold a single quote, so quotes before a bracket do not show whether it lies in a text of JSON. Each
    bracket is read as if it did not: only brackets that an even number of quotes separates from it can close it.
    """
    closings: dict[int, int] = {}
    opened: tuple[list[int], list[int]] = ([], [])
    quotes = 0
    for mark in _MARK.finditer(text):
        same = opened[quotes % 2]
        if mark[0] == '"':
            quotes += 1
        elif mark[0] in "{[":
            same.append(mark.start())
        elif mark[0] in "}]" and same:
            closings[same.pop()] = mark.end()
    return closings


def _words(error: Exception, text: str, at: int) -> str:
    """What is wrong with the object at `at`, for the model."""
    if isinstance(error, json.JSONDecodeError):
        flaw = json.JSONDecodeError(error.msg, text, at + error.pos)
        return f"{_INVALID}: {flaw.msg} (line {flaw.lineno}, column {flaw.colno})"
    return str(error) if isinstance(error, _NoJsonError) else ""


_NOTHING = object()
_KINDS = {list: "array", str: "string", int: "number", float: "number", bool: "boolean"}


class _NoJsonError(ValueError):
    """A word that Python's decoder reads and JSON does not have."""


def _no_json(word: str) -> object:
    raise _NoJsonError(f"{_INVALID}: {word} is none")


_DECODER = json.JSONDecoder(parse_constant=_no_json, strict=False)
"""A text may hold a line break as it is: models write them, and they mean nothing else."""


def _loaded(text: str) -> object:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return _NOTHING
