"""What a run on OUT would ask and what it would refuse, looked at beforehand: nothing in OUT is changed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.files import disk_errors
from pipeline.records import ImageRecord
from pipeline.redaction.redactor import NOTHING_SECRET
from pipeline.store.between_runs import as_a_run
from pipeline.store.contents import decoding
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.opening import (
    LEDGER_NAME,
    check_ledger,
    check_out,
    check_rehearsal,
    check_state,
    declare,
    identity_of,
    last_config,
)
from pipeline.store.rerun import RerunPolicy

_BATCH = 4096


class _UnchangedLedger(SqliteLedger):
    """A ledger whose checks store nothing."""

    def set_meta(self, values: Mapping[str, bytes]) -> None: ...


def has_rows(out: Path) -> bool:
    """Whether a run has been at work on OUT."""
    ledger_file = out / LEDGER_NAME
    return ledger_file.is_file() and ledger_file.stat().st_size > 0


def would_refuse(out: Path, config: RunConfig, policy: RerunPolicy, *, is_rehearsal: bool) -> None:
    """Raise what a run with this configuration would raise of OUT, before it sends anything."""
    check_out(out)
    if not has_rows(out):
        return
    check_ledger(out)
    with disk_errors(out), _UnchangedLedger(out / LEDGER_NAME) as ledger, decoding(ledger):
        check_state(out)
        check_rehearsal(out, ledger, is_rehearsal=is_rehearsal)
        identity = identity_of(config, NOTHING_SECRET)
        declare(out, ledger, config, identity, policy, now=lambda: datetime.now(UTC), step=lambda _: None)


def with_last_model(out: Path, config: RunConfig) -> RunConfig:
    """The configuration with the model of the last run, where it names none: the server was asked then."""
    if config.request.model is not None or not has_rows(out):
        return config
    model = last_config(out).request.model
    return config.model_copy(update={"request": config.request.model_copy(update={"model": model})})


def missing_records(
    out: Path, records: Iterable[ImageRecord], *, config: RunConfig, policy: RerunPolicy
) -> Iterator[tuple[ImageRecord, Sequence[str]]]:
    """Those of the records that a run on OUT would ask, if it began now, with the names of the prompts."""
    names = config.prompt_names
    if not has_rows(out):
        yield from ((record, names) for record in records)
        return
    with as_a_run(out, config, policy) as (_, missing):
        remaining = iter(records)
        while batch := list(islice(remaining, _BATCH)):
            yield from ((record, asked) for record, asked in zip(batch, missing.of(batch), strict=True) if asked)
