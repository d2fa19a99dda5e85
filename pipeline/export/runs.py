"""The runs of an output directory in the order in which they began, for exports of what is new."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from pipeline import files
from pipeline.errors import InputError
from pipeline.store.outdir import RUNS_NAME, STATUS_NAME


class Run(NamedTuple):
    """One run."""

    began_at: datetime
    run_id: str
    is_complete: bool


def runs_of(out: Path) -> list[Run]:
    """Those that have stopped at least once, and the one under way; the first first."""
    found: dict[str, Run] = {}
    for path in [*sorted((out / RUNS_NAME).glob("[!.]*.json")), out / STATUS_NAME]:
        with suppress(OSError, ValueError, KeyError, TypeError):
            run = _run(orjson.loads(files.read(path)))
            found.setdefault(run.run_id, run)
    return sorted(found.values())


def _run(summary: Mapping[str, Any]) -> Run:
    is_complete = summary.get("stopped") is None and summary.get("state", "done") == "done"
    return Run(datetime.fromisoformat(summary["began_at"]), str(summary["run_id"]), is_complete)


def until(out: Path, run_id: str) -> set[str]:
    """The names of this run and of all before it. Raises InputError where there is no such run."""
    runs = runs_of(out)
    at = next((at for at, run in enumerate(runs) if run.run_id == run_id), None)
    if at is None:
        last = ", ".join(run.run_id for run in runs[-3:]) or "there are none"
        raise InputError(f"`since=`: {out} has no run {run_id!r}; its last runs: {last}")
    return {run.run_id for run in runs[: at + 1]}


def newest_complete(out: Path) -> str | None:
    """The last run that is complete: one that stopped may go on under its own name."""
    return next((run.run_id for run in reversed(runs_of(out)) if run.is_complete), None)
