"""Exports of an output directory: a registry of formats, one file a format.

To add a format, write its file and register it in `EXPORTERS`; docs/extending.md shows it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.errors import InputError
from pipeline.export.exporter import Exporter
from pipeline.export.jsonl import export_jsonl
from pipeline.files import disk_errors
from pipeline.store.reading import scan_flat

EXPORTERS: Mapping[str, Exporter] = {
    "jsonl": export_jsonl,
}
"""Each format by its name."""

__all__ = ["EXPORTERS", "Exporter", "export"]


def export(out: Path, to: str, dest: Path, *, columns: Sequence[str] | None = None, where: str | None = None) -> int:
    """Write the rows of an output directory to `dest` in the format `to`, labels as `labels.x`. Returns their number.

    `columns` and `where` as in `pipeline.read`. Raises InputError for an unknown format, column or condition, and where
    there is no output directory; ResourceError where a part cannot be read or the disk does not allow it.
    """
    exporter = EXPORTERS.get(to)
    if exporter is None:
        raise InputError(f"{to!r} is no export format; known: {', '.join(EXPORTERS)}")
    with disk_errors(dest):
        return exporter(scan_flat(out, columns, where)[1], dest)
