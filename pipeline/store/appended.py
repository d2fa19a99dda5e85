"""Rows that people add beside a run: folders of small Parquet files in OUT, which no run reads or writes.

A writer has a file of its own, which is replaced with each row: so any number of them may be at work.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import files
from pipeline.errors import ResourceError
from pipeline.store.outdir import check_folder

ROWS_A_FILE: Final = 1_000
"""A writer begins another file after this number of rows: to replace one takes milliseconds."""


class AppendedRows:
    """Adds rows to one folder."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        """Nothing is written yet."""
        self._folder, self._schema = folder, schema
        self._path = folder
        self._rows: list[Mapping[str, object]] = []

    def append(self, row: Mapping[str, object], at: datetime) -> None:
        """Save a row. It is on the disk when this returns. Raises ResourceError where it cannot be written."""
        with files.disk_errors(self._folder):
            rows = [*(self._rows if len(self._rows) < ROWS_A_FILE else ()), row]
            path = self._path if len(rows) > 1 else self._new_path(at)
            table = pa.Table.from_pylist([dict(one) for one in rows], schema=self._schema)
            with files.replaced(path) as file:
                pq.write_table(table, file, compression="zstd")
            self._path, self._rows = path, rows

    def _new_path(self, at: datetime) -> Path:
        check_folder(self._folder)
        self._folder.mkdir(exist_ok=True)
        return self._folder / f"{self._folder.name}-{at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}.parquet"


def files_in(folder: Path) -> list[Path]:
    """The complete files of a folder, in the order in which they were begun."""
    return sorted(folder.glob("[!.]*.parquet")) if folder.is_dir() else []


def rows_in(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """The rows of one file. Raises ResourceError where it cannot be read as such rows."""
    try:
        rows: list[dict[str, Any]] = (
            pq.read_table(path, partitioning=None).select(schema.names).cast(schema).to_pylist()
        )
    except (pa.ArrowException, KeyError, OSError, ValueError) as error:
        raise ResourceError(
            f"{path}: these {path.parent.name} cannot be read ({error}). Put the file back from a copy, or move it away"
        ) from error
    return rows
