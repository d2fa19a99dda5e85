"""What the summary of a run says about the rows of OUT, also those of earlier runs; nothing of a ledger that fails."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pipeline.engine.stats import RunStats
from pipeline.errors import ErrorKind, InputError, ResourceError
from pipeline.files import disk_errors
from pipeline.records import Status, is_unanswered
from pipeline.store.dataset import Dataset
from pipeline.store.failures import write_failures
from pipeline.store.outdir import differences
from pipeline.store.reviewed import replaced_corrections

State = tuple[Status, ErrorKind | None]


def rows_before(dataset: Dataset, stats: RunStats) -> Counter[State]:
    """Rows of earlier runs that hold no answer, or a refusal, by state."""
    with suppress(ResourceError):
        return not_of_run(dataset.states(), stats)
    return Counter()


def not_of_run(states: Mapping[State, int], stats: RunStats) -> Counter[State]:
    """Of the rows of OUT, whose `states` are given, those that hold no answer, or a refusal, less those of the run."""
    others = Counter(states) - stats.by_state
    return Counter(
        {
            (status, kind): rows
            for (status, kind), rows in others.items()
            if status is Status.REFUSED or is_unanswered(status, kind)
        }
    )


def by_kind(states: Counter[State]) -> dict[str, dict[str, int]]:
    """Rows by status and kind, the most frequent first."""
    found: dict[str, dict[str, int]] = {}
    for (status, kind), rows in sorted(states.items(), key=lambda item: (-item[1], item[0][1] or "")):
        found.setdefault(status, {})[kind or "no kind"] = rows
    return found


def configurations(dataset: Dataset, config_hash: str) -> dict[str, Any]:
    """OUT's own configuration, and the rows of each where the run has another, as fields of the summary."""
    with suppress(ResourceError):
        own = dataset.own_config_hash
        if own == config_hash:
            return {"own_config_hash": own}
        found = {one.config_hash: one for one in dataset.configurations()}
        changes = differences(found[own].identity, found[config_hash].identity) if config_hash in found else []
        return {
            "own_config_hash": own,
            "by_config": {one: each.rows for one, each in found.items()},
            "changes": changes,
        }
    return {}


def corrections_replaced(dataset: Dataset, run_id: str) -> int:
    """Corrected captions whose answers this run has replaced, as far as they are sealed."""
    with suppress(InputError, ResourceError):
        return replaced_corrections(dataset.out, run_id)
    return 0


def listed_failures(dataset: Dataset) -> str | None:
    """Lists the rows that are not `ok` in a file, as far as they are sealed -> its path."""
    with suppress(InputError, ResourceError):
        has_any = any(rows for (status, _), rows in dataset.states().items() if status is not Status.OK)
        with disk_errors(dataset.out):
            path = write_failures(dataset.out, has_any=has_any)
        return None if path is None else str(path)
    return None
