"""JSON Lines: one object a line."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

import orjson

from pipeline.config.nesting import DEEPEST, is_too_deep
from pipeline.config.sections import SourceConfig
from pipeline.sources.columns import ID_COLUMN, choose_columns
from pipeline.sources.extras import safe_size, to_json
from pipeline.sources.lines import raw_lines
from pipeline.sources.manifest import ABSENT, BadRow, Row


def read_jsonl(file: BinaryIO, name: str, config: SourceConfig, *, extras: bool) -> Iterator[Row | BadRow]:
    """The first object decides which column holds the image; an id may be missing where none was named."""
    columns, safe = None, safe_size(config)
    for number, line in enumerate(raw_lines(file, name), 1):
        if line.isspace() or not line:
            continue
        row = object_in(line)
        if isinstance(row, str):
            yield BadRow(number, row)
            continue
        columns = columns or row_columns(row, config, name)
        image = row.pop(columns.image, ABSENT)
        given = ABSENT if columns.id is None else row.pop(columns.id, ABSENT)
        if columns.id is not None and type(given) is int:  # the column `id` is text, and would join with no number
            row[columns.id] = given
        if image is ABSENT or (given is ABSENT and columns.needs_id):
            yield BadRow(number, f"no {columns.image if image is ABSENT else columns.id!r} in this object")
        else:
            yield number, image, given, to_json(row) if extras or len(line) > safe else None


class RowColumns(NamedTuple):
    """By the first object: of the image, of the id (None: there is none), and whether each row must have one."""

    image: str
    id: str | None
    needs_id: bool


def row_columns(row: dict[str, Any], config: SourceConfig, name: str) -> RowColumns:
    found = choose_columns(list(row), config, name)
    is_named = config.id_column is not None
    return RowColumns(found.image, found.id if found.id or is_named else ID_COLUMN, is_named and found.id is not None)


LONG_NUMBER = re.compile(rb"\d{19}")
"""orjson makes a fraction of a whole number beyond 64 bits."""


def object_in(line: bytes) -> dict[str, Any] | str:
    """A row, or why it is none. Of a key that stands twice the last value counts, as for every parser of JSON."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            # Python's own writer leaves NaN, and lone surrogates for file names that are no UTF-8.
            value = json.loads(line)
        except (ValueError, RecursionError):
            cut = "" if line.endswith(b"\n") else " (the last line: the file may be cut short)"
            return f"not valid JSON: {error.msg} at column {error.colno}{cut}"
    if not isinstance(value, dict):
        return f"not a JSON object but {type(value).__name__}"
    may_be_deep = line.count(b"[") + line.count(b"{") > DEEPEST
    if may_be_deep and is_too_deep(value):
        return f"nested deeper than {DEEPEST} levels"
    if LONG_NUMBER.search(line):
        with suppress(ValueError):  # of thousands of digits
            value = json.loads(line)
    return dict(value)
