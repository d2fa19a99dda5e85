"""JSON Lines: one object a line, read one by one or in whole blocks."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Final, NamedTuple

import orjson

from pipeline.config.nesting import DEEPEST, is_too_deep
from pipeline.config.sections import SourceConfig
from pipeline.sources.blocks import Block, OddError
from pipeline.sources.columns import ID_COLUMN, choose_columns
from pipeline.sources.extras import safe_size, to_json
from pipeline.sources.lines import opened, raw_lines
from pipeline.sources.manifest import ABSENT, BadRow, Row

BLOCK_BYTES: Final = 1 << 16


def read_jsonl(file: BinaryIO, name: str, config: SourceConfig, *, extras: bool) -> Iterator[Row | BadRow]:
    """The first object decides which column holds the image; an id may be missing where none was named."""
    columns, safe = None, safe_size(config)
    for number, line in enumerate(raw_lines(file, name), 1):
        if line.isspace() or not line:
            continue
        row = _object(line)
        if isinstance(row, str):
            yield BadRow(number, row)
            continue
        columns = columns or _columns(row, config, name)
        image = row.pop(columns.image, ABSENT)
        given = ABSENT if columns.id is None else row.pop(columns.id, ABSENT)
        if columns.id is not None and type(given) is int:  # the column `id` is text, and would join with no number
            row[columns.id] = given
        if image is ABSENT or (given is ABSENT and columns.needs_id):
            yield BadRow(number, f"no {columns.image if image is ABSENT else columns.id!r} in this object")
        else:
            yield number, image, given, to_json(row) if extras or len(line) > safe else None


def jsonl_blocks(path: str, name: str, config: SourceConfig, *, extras: bool) -> Iterator[Block]:
    """The rows of `read_jsonl`, many at once: a million take a third of the time.

    Raises OddError where a row has no image or no id like the first, or is none: said better row by row.
    """
    columns, safe, line = None, safe_size(config), 1
    with opened(path, name) as file:
        while data := file.read(BLOCK_BYTES):
            rest = b"" if data.endswith(b"\n") else file.readline(BLOCK_BYTES)
            lines = (data + rest).rstrip(b"\r\n").split(b"\n")
            if len(rest) == BLOCK_BYTES or max(map(len, lines)) > safe:
                raise OddError
            rows = _objects(lines)
            columns = columns or _columns(rows[0], config, name)
            yield _block(rows, columns, line, extras=extras)
            line += (data + rest).count(b"\n")


class _Columns(NamedTuple):
    """By the first object: of the image, of the id (None: there is none), and whether each row must have one."""

    image: str
    id: str | None
    needs_id: bool


def _columns(row: dict[str, Any], config: SourceConfig, name: str) -> _Columns:
    found = choose_columns(list(row), config, name)
    is_named = config.id_column is not None
    return _Columns(found.image, found.id if found.id or is_named else ID_COLUMN, is_named and found.id is not None)


def _objects(lines: list[bytes]) -> list[dict[str, Any]]:
    """What `_object` makes of each line; OddError where one is no row."""
    together = b",\n".join(lines)
    # Each line begins with its only brace, and there are no lists: what is valid as a whole, and has as many
    # values as lines, is valid line by line. (A line's end inside of a text would be an error.)
    flat = together.startswith(b"{") and together.count(b"{") == together.count(b"\n{") + 1 == len(lines)
    if flat and b"[" not in together and not _LONG_NUMBER.search(together):
        with suppress(orjson.JSONDecodeError):
            rows: list[dict[str, Any]] = orjson.loads(b"[" + together + b"]")
            if len(rows) == len(lines):
                return rows
    found = [_object(line) for line in lines]
    rows = [row for row in found if not isinstance(row, str)]
    if len(rows) < len(found):
        raise OddError
    return rows


def _block(rows: list[dict[str, Any]], columns: _Columns, line: int, *, extras: bool) -> Block:
    """Raises OddError where not all rows have a text for the image."""
    images = [row.pop(columns.image, None) for row in rows]
    if set(map(type, images)) != {str}:
        raise OddError
    return Block(line, images, _ids(rows, columns), [to_json(row) for row in rows] if extras else None)


def _ids(rows: list[dict[str, Any]], columns: _Columns) -> list[str] | None:
    """Taken out of the rows; None where none has one. Raises OddError where they are not of one kind."""
    if columns.id is None:
        return None
    given = [row.pop(columns.id, ABSENT) for row in rows]
    kinds = set(map(type, given))
    if kinds == {str}:
        return given
    if kinds == {type(ABSENT)} and not columns.needs_id:
        return None
    if kinds != {int}:
        raise OddError
    for row, number in zip(rows, given, strict=True):
        row[columns.id] = number  # the column `id` is text, and would join with no number
    return list(map(str, given))


_LONG_NUMBER = re.compile(rb"\d{19}")
"""orjson makes a fraction of a whole number beyond 64 bits."""


def _object(line: bytes) -> dict[str, Any] | str:
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
    if _LONG_NUMBER.search(line):
        with suppress(ValueError):  # of thousands of digits
            value = json.loads(line)
    return dict(value)
