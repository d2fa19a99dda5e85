"""CSV and TSV."""

import csv
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO, Protocol

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.sources.base import nothing_in
from pipeline.sources.columns import Columns, choose_columns
from pipeline.sources.extras import safe_size, to_json
from pipeline.sources.lines import LINE_LIMIT, raw_lines, separators, text_lines, up_to_text
from pipeline.sources.manifest import ABSENT, BadRow, Row


class _CsvReader(Protocol):
    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...
    def __next__(self) -> list[str]: ...


def read_csv(file: BinaryIO, name: str, config: SourceConfig, *, extras: bool) -> Iterator[Row | BadRow]:
    """Separated by commas, or by what the header line has more of: semicolons or tabs."""
    return _read(file, name, config, ",;\t", extras=extras)


def read_tsv(file: BinaryIO, name: str, config: SourceConfig, *, extras: bool) -> Iterator[Row | BadRow]:
    """Separated by tabs; quotes mean what they mean in CSV."""
    return _read(file, name, config, "\t", extras=extras)


def _read(file: BinaryIO, name: str, config: SourceConfig, delimiters: str, *, extras: bool) -> Iterator[Row | BadRow]:
    flaws: list[str] = []
    lines = text_lines(raw_lines(file, name), flaws)
    leading = up_to_text(lines)
    if not leading:
        raise nothing_in(f"{name}: the file is empty")
    delimiter, spaced = separators(leading[-1], delimiters)
    csv.field_size_limit(LINE_LIMIT)
    reader = csv.reader(chain(leading, lines), delimiter=delimiter, strict=True, skipinitialspace=spaced)
    header = _header(reader, flaws, name)
    columns, safe = choose_columns(header, config, name), safe_size(config, header)
    return _rows(reader, header, columns, flaws, most=-1 if extras else safe)


def _header(reader: _CsvReader, flaws: list[str], name: str) -> list[str]:
    try:
        cells = next(row for row in reader if row)
    except csv.Error as error:
        raise InputError(f"{name}:1: the header cannot be read: {error}") from None
    if flaws:
        raise InputError(f"{name}:1: {flaws[0]}")
    names = [cell.strip() or f"Unnamed: {index}" for index, cell in enumerate(cells)]
    twice = next((column for column, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{name}: the column {twice!r} stands twice in the header; rename one")
    return names


def _rows(
    reader: _CsvReader, header: list[str], columns: Columns, flaws: list[str], *, most: int
) -> Iterator[Row | BadRow]:
    """Rows of more than `most` characters come with their other columns."""
    width = len(header)
    image_at = header.index(columns.image)
    id_at = None if columns.id is None else header.index(columns.id)
    others = [(column, at) for at, column in enumerate(header) if at not in {image_at, id_at}]
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _broken(line, reader.line_num, error)
            flaws.clear()
            continue
        if flaws:
            yield BadRow(line, flaws[0])
            flaws.clear()
        elif len(row) == width:
            given = ABSENT if id_at is None else row[id_at]
            has_extras = others and sum(map(len, row)) > most
            extras = to_json({column: row[at] for column, at in others}) if has_extras else None
            yield line, row[image_at], given, extras
        elif row:
            yield BadRow(line, f"{len(row)} fields, where the header has {width}")


def _broken(line: int, last_line: int, error: csv.Error) -> BadRow:
    text = str(error)
    if "unexpected end" in text or "field limit" in text:
        # Everything from the quote on was taken for one cell, so there is no next row to go on with.
        what = "a quoted field that begins here never closes (or the file breaks off)"
        return BadRow(line, what, skippable=line == last_line)
    return BadRow(line, f"not valid CSV: {text}")
