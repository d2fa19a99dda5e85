"""An output directory that no run holds: looked at, counted, or held for a command that changes it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.errors import InputError, OutInUseError, ResourceError
from pipeline.files import disk_errors
from pipeline.records import ImageRecord
from pipeline.store import layout
from pipeline.store.contents import columns_of, decoding
from pipeline.store.intake import TakenIn
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.marks import Marks
from pipeline.store.missing import Missing
from pipeline.store.opening import (
    JOINED_NAME,
    LEDGER_NAME,
    SHARDS_NAME,
    check_ledger,
    check_out,
    check_rebuilt,
    last_config,
)
from pipeline.store.overview import added_overviews, overview
from pipeline.store.recovery import repair
from pipeline.store.rerun import RerunPolicy
from pipeline.store.sealing import Sealer
from pipeline.store.selection import Selection

_BATCH = 4096


@contextmanager
def held(out: Path, failpoint: Callable[[str], None] = lambda _: None) -> Iterator[SqliteLedger]:
    """Hold an OUT, repaired and sealed, without beginning a run: its ledger, as long as it lasts.

    Raises InputError where there is no OUT, and what `Dataset.open` raises.
    """
    with repaired(out, last_config(out), failpoint) as (ledger, _):
        yield ledger


def check_there(out: Path) -> None:
    """Raises InputError where no run has made OUT, ResourceError where its ledger is gone."""
    if not (out / LEDGER_NAME).is_file():
        with suppress(InputError):
            check_out(out)
        raise InputError(f"{out}: no vision-batch output here (there is no {out / LEDGER_NAME})")


@contextmanager
def repaired(
    out: Path, config: RunConfig, failpoint: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[SqliteLedger, TakenIn]]:
    """The same, with what was taken in from files of unsaved answers."""
    check_there(out)
    check_ledger(out)
    with disk_errors(out), SqliteLedger(out / LEDGER_NAME, failpoint) as ledger:
        check_rebuilt(out)
        if ledger.meta("schema") is None:
            raise InputError(f"{out}: the run that made it ended before it began; run the same command again")
        with decoding(ledger):
            rows_per_part = config.output.rows_per_part
            sealer = Sealer(out, ledger, columns_of(ledger), rows_per_part=rows_per_part, step=failpoint)
            taken = repair(out, ledger, sealer, failpoint)
        yield ledger, taken


def look(out: Path) -> dict[str, object]:
    """The overview of an OUT, with what the shards of an interrupted run on a cluster hold; nothing is changed."""
    with disk_errors(out):
        found = look_alone(out)
        for shard in sorted((out / SHARDS_NAME).glob(f"[0-9]*/{LEDGER_NAME}")):
            if (shard.parent / JOINED_NAME).exists():
                continue
            with suppress(InputError, ResourceError):
                found = added_overviews(found, look_alone(shard.parent))
        return found


def look_alone(out: Path) -> dict[str, object]:
    """The same without such shards."""
    with SqliteLedger(out / LEDGER_NAME) as ledger, decoding(ledger):
        check_rebuilt(out)
        return overview(ledger)


def damages(out: Path, *, verify: bool = False) -> Iterator[str]:
    """What in `data/` is not as the ledger sealed it, by the footers, or with `verify` by all bytes and keys.

    While a run holds OUT only what `verify` finds without the ledger. Nothing in OUT is changed.
    Raises ResourceError where the ledger cannot be read.
    """
    try:
        with SqliteLedger(out / LEDGER_NAME) as ledger:
            yield from layout.damages(out, ledger)
            yield from layout.verify(out, ledger) if verify else ()
    except OutInUseError:
        yield from layout.verify(out, None) if verify else ()


def count_missing(
    out: Path,
    records: Iterable[ImageRecord],
    total: int,
    *,
    config: RunConfig,
    policy: RerunPolicy,
    skip: Callable[[Marks], int] = lambda _: 0,
) -> int:
    """How many rows of these `total` records a run on OUT would ask for, if it began now; nothing in OUT is changed.

    `skip` returns how many of the records, from the first, need no look.
    """
    ledger_file = out / LEDGER_NAME
    if not ledger_file.is_file() or not ledger_file.stat().st_size:
        return total * len(config.prompt_names)
    with as_a_run(out, config, policy) as (ledger, missing):
        done = skip(Marks(ledger))
        missing.expect(total - done)
        count, remaining = 0, islice(records, done, None)
        while batch := list(islice(remaining, _BATCH)):
            count += sum(map(len, missing.of(batch)))
    return count


@contextmanager
def as_a_run(out: Path, config: RunConfig, policy: RerunPolicy) -> Iterator[tuple[SqliteLedger, Missing]]:
    """The ledger of OUT, and what a run would ask that began now. Nothing in OUT is changed."""
    names, config_hash = config.prompt_names, config.config_hash()
    with disk_errors(out), SqliteLedger(out / LEDGER_NAME) as ledger, decoding(ledger):
        ledger.resume_run(config_hash, policy.describe())
        selection = Selection(ledger, policy, prompt_names=names, config_hash=config_hash)
        selection.look(out, columns_of(ledger))
        yield ledger, Missing(ledger, policy, selection, prompt_names=names)
