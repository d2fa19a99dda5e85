"""The files beside ledger and parts that a merge carries along: summaries of runs, sources, and people's reviews."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from pipeline import files
from pipeline.store import outdir
from pipeline.store.reviews import REVIEWS_NAME


def carry_files(sources: Sequence[Path], out: Path) -> None:
    """Copy what each source has, and OUT does not have, or has older. Raises OSError."""
    for source in sources:
        for folder, pattern in ((outdir.RUNS_NAME, "[!.]*.json"), (REVIEWS_NAME, "[!.]*.parquet")):
            _carry(source / folder, out / folder, pattern)
    _join_sources(sources, out)


def _carry(source: Path, folder: Path, pattern: str) -> None:
    if not source.is_dir() or source.is_symlink():
        return
    outdir.check_folder(folder)
    for file in sorted(source.glob(pattern)):
        there, found = folder / file.name, file.lstat()
        if files.is_odd(file) or (there.is_file() and there.stat().st_mtime_ns >= found.st_mtime_ns):
            continue
        folder.mkdir(exist_ok=True)
        with file.open("rb") as opened:
            files.copy(opened, there)
        os.utime(there, ns=(found.st_atime_ns, found.st_mtime_ns))


def _join_sources(sources: Sequence[Path], out: Path) -> None:
    """Where the images of the rows are: each place once, with all runs that read it."""
    joined: dict[bytes, dict[str, Any]] = {}
    for entry in (entry for one in (out, *sources) for entry in _entries(one)):
        name = orjson.dumps({**entry, "runs": None}, option=orjson.OPT_SORT_KEYS)
        runs = joined.get(name, entry)["runs"]
        joined[name] = {**entry, "runs": list(dict.fromkeys([*runs, *entry["runs"]]))}
    if joined:
        text = orjson.dumps({"sources": [*joined.values()]}, option=orjson.OPT_INDENT_2)
        outdir.write_atomic(out / outdir.SOURCES_NAME, text)


def _entries(out: Path) -> list[dict[str, Any]]:
    with suppress(OSError, ValueError, TypeError, KeyError):
        return [{"runs": [], **one} for one in orjson.loads(files.read(out / outdir.SOURCES_NAME))["sources"]]
    return []
