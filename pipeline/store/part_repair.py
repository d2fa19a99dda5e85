"""Repairs of single parts: a damaged one written anew, or one without some of its rows."""

import filecmp
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import files
from pipeline.store.parquet import part_name, part_numbers, readable, tables_in, write_tables
from pipeline.store.salvage import parts as salvage
from pipeline.store.salvage.parts import PartReport


def drop_rows(folder: Path, number: int, rows: Collection[int]) -> None:
    """Write one part anew without these rows, counted from 0."""
    path = folder / part_name(number)
    with readable(path):
        columns = pq.read_schema(path)
    write_tables(folder, number, _without_places(path, rows), columns)


def _without_places(path: Path, rows: Collection[int]) -> Iterator[pa.Table]:
    at = 0
    for table in tables_in(path, None):
        yield table.filter(pa.array([at + row not in rows for row in range(table.num_rows)]))
        at += table.num_rows


def schemas(folder: Path) -> list[pa.Schema]:
    """Of each part whose footer can be read."""
    found = []
    for number in part_numbers(folder) if folder.is_dir() else []:
        with suppress(*salvage.Unreadable):
            found.append(pq.read_schema(folder / part_name(number)))
    return found


def reports(folder: Path, columns: pa.Schema, footers: Mapping[int, bytes]) -> dict[int, PartReport]:
    """How much of each part can be read; `footers` are the ledger's copies."""
    return {
        number: salvage.report(folder / part_name(number), columns, footers.get(number))
        for number in part_numbers(folder)
    }


def rewrite(folder: Path, number: int, columns: pa.Schema, footer: bytes | None) -> None:
    """Write one part anew with the rows of it that can be read."""
    groups = salvage.groups(folder / part_name(number), columns, footer)
    write_tables(folder, number, (group.table for group in groups), columns)


def copy_aside(folder: Path, number: int, to: Path) -> Path:
    """Copy a damaged part into the folder `to`, under a dotted name that is free; where the copy lies."""
    source = folder / part_name(number)
    named = to / f".unreadable-{part_name(number)}"
    for again in count():
        path = named if not again else named.with_name(f"{named.name}.{again}")
        if not os.path.lexists(path):
            with source.open("rb") as file:
                files.copy(file, path)
            return path
        if not files.is_odd(path) and filecmp.cmp(path, source, shallow=False):  # by a rebuild that was cut off
            return path
    raise AssertionError
