"""`vision-batch merge`: several output directories as one that can be run again.

Everything is joined in a folder of its own (`pipeline.store.merge_place`), part by part, and takes the place of what
OUT holds at the end. A merge that was interrupted is continued by the same command; one that is repeated changes
nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from pipeline.commands.merged import MergeReport
from pipeline.config.run_config import RunConfig
from pipeline.errors import DamagedLedgerError, InputError, ResourceError, VisionBatchError
from pipeline.files import disk_errors
from pipeline.records import Status
from pipeline.store import between_runs, bills, outdir, parquet
from pipeline.store.accounting import Totals
from pipeline.store.contents import decoding
from pipeline.store.failures import write_failures
from pipeline.store.layout import DATA_NAME
from pipeline.store.ledger import joining
from pipeline.store.ledger.protocol import CONFIG_META, SHARDS_META
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.marks import Marks
from pipeline.store.merge_files import carry_files
from pipeline.store.merge_place import MergePlace, locked
from pipeline.store.merge_plan import Facts, Plan, plan_of
from pipeline.store.merge_rows import Joiner, Taken
from pipeline.store.opening import LEDGER_NAME, MERGE_NAME, check_out, last_config
from pipeline.store.overview import states_of
from pipeline.store.salvage import workplace
from pipeline.store.sealing import Sealer


def merge(
    outs: Sequence[Path],
    out: Path,
    *,
    now: datetime,
    on_config_change: str = "refuse",
    failpoint: Callable[[str], None] = lambda _: None,
) -> MergeReport:
    """Join output directories into `out`, which is new, empty, or the result of an earlier merge or run.

    What a killed run left in a source is sealed there first. `failpoint` is called with each step that is done.
    Raises InputError where the sources do not fit together, or `out` is one of them; OutInUseError where a run holds
    one of them; ResourceError where one is damaged, or the disk does not allow it.
    """
    if on_config_change not in {"refuse", "keep"}:
        raise InputError(f"`on_config_change=` {on_config_change!r}: of a merge it is refuse or keep")
    sources = _sources(outs, out)
    is_new = not out.exists()
    with disk_errors(out):
        if is_new or not (out / MERGE_NAME).exists():
            check_out(out)
        out.mkdir(parents=True, exist_ok=True)
        try:
            with locked(out):
                taken = _merge(sources, MergePlace(out, failpoint), now=now, keeps=on_config_change == "keep")
        except VisionBatchError:
            if is_new:
                with suppress(OSError):  # something was joined: the same command goes on with it
                    out.rmdir()
            raise
        with between_runs.held(out) as ledger:
            has_any = any(rows for (status, _), rows in states_of(ledger).items() if status is not Status.OK)
            write_failures(out, has_any=has_any)
            return _report(out, ledger, len(sources), taken)


def _sources(outs: Sequence[Path], out: Path) -> list[Path]:
    """Each source once. Raises InputError for one that `out` is, or lies in."""
    if not outs:
        raise InputError("name the output directories to join")
    there = out.resolve()
    for one in outs:
        if one.resolve() == there or one.resolve() in there.parents:
            raise InputError(f"{out}: it is one of the output directories to join, or lies in one; name another OUT")
    return list({one.resolve(): one for one in outs}.values())


def _merge(sources: Sequence[Path], place: MergePlace, *, now: datetime, keeps: bool) -> Taken:
    """Everything that may be interrupted: OUT is as it was before, or has all."""
    ledger_file = place.out / LEDGER_NAME
    if place.is_ready:
        with workplace.held(ledger_file):
            place.publish()
    if not place.is_begun:
        place.discard()
        check_out(place.out)
    plan = plan_of([_facts_of(one) for one in sources], _facts_here(place), place.out, keeps=keeps)
    with workplace.held(ledger_file) as held:
        place.begin(held)
        with _opened(place) as ledger:
            if ledger.meta("schema") is None:
                ledger.set_meta({**plan.declared, "made_at": now.isoformat().encode()})
            with decoding(ledger):
                taken = _join(sources, place, ledger, plan)
                configurations = _configurations(ledger)
        config = None if plan.has_dataset else _config_of(sources[0])
        carry_files(sources, place.out)
        outdir.write_config(place.out, config, configurations)
        outdir.write_card(place.out, configurations, columns=plan.columns.names)
        place.step("files-carried")
        place.publish()
    return taken


def _join(sources: Sequence[Path], place: MergePlace, ledger: SqliteLedger, plan: Plan) -> Taken:
    """The rows and the history of all sources, into the ledger and the parts of the place."""
    place.drop_strangers(int(ledger.meta("parts") or b"0"))
    sealer = Sealer(place.folder, ledger, plan.columns, rows_per_part=1, step=place.step)
    sealer.seal()
    joiner = Joiner(sealer, ledger, place.step)
    for one in sources:
        with between_runs.held(one) as source:
            joiner.join(one, source)
    joining.settle_history(ledger)
    Marks(ledger).forget_all()  # they are of each source alone
    before = orjson.loads(ledger.meta(SHARDS_META) or b"[]")
    ledger.set_meta(
        {"layout": place.name_set(), SHARDS_META: orjson.dumps(sorted({*before, *plan.shards}, key=_order))}
    )
    return joiner.taken


def _facts_of(out: Path) -> Facts:
    """Of a source, which is repaired and sealed by it, and holds no lease."""
    with between_runs.held(out) as ledger:
        bills.settle_lease(ledger, of_run=joining.last_run(ledger))
        return Facts.of(out, ledger)


def _facts_here(place: MergePlace) -> Facts | None:
    """Of OUT, with what an interrupted merge has joined; None where it is new."""
    if place.is_begun:
        with _opened(place) as ledger:
            return None if ledger.meta("schema") is None else Facts.of(place.out, ledger)
    return _facts_of(place.out) if (place.out / LEDGER_NAME).is_file() else None


def _opened(place: MergePlace) -> SqliteLedger:
    """The ledger of what is joined. Raises ResourceError where it is damaged."""
    try:
        return SqliteLedger(place.ledger, place.step)
    except DamagedLedgerError as error:
        raise ResourceError(
            f"{place.ledger}: what an interrupted merge left is damaged. Delete {place.folder} and merge again; the "
            "output directories themselves are as they were"
        ) from error


def _configurations(ledger: SqliteLedger) -> list[outdir.Configuration]:
    """Those that have rows, that of OUT first."""
    own, rows = (ledger.meta("config_hash") or b"").decode(), ledger.rows_by_config()
    return [
        outdir.Configuration(name, rows.get(name, 0), orjson.loads(ledger.meta(CONFIG_META + name) or b"{}"))
        for name in dict.fromkeys((own, *rows))
    ]


def _config_of(out: Path) -> dict[str, Any]:
    """The configuration of the last run on a shard, as one of the whole source."""
    config = RunConfig()
    with suppress(InputError):
        config = last_config(out)
    return config.model_copy(update={"source": config.source.model_copy(update={"shard": None})}).resolved()


def _report(out: Path, ledger: SqliteLedger, sources: int, taken: Taken) -> MergeReport:
    totals, shards = Totals.of(ledger.counts()), tuple(orjson.loads(ledger.meta(SHARDS_META) or b"[]"))
    return MergeReport(
        out=str(out),
        sources=sources,
        records=sum(ledger.states().values()),
        parts=len(parquet.part_numbers(out / DATA_NAME)),
        runs=len(ledger.run_numbers()),
        added=taken.rows,
        replaced=taken.replaced,
        passed_over=taken.passed_over,
        cost_usd=totals.cost_usd,
        cost_unknown_usd=totals.cost_unknown_usd,
        shards=shards,
        missing_shards=_missing(shards),
    )


def _missing(shards: Sequence[str]) -> tuple[str, ...]:
    """The shards of the array that are not among these; none where these are of several arrays."""
    counts = {int(one.partition("/")[2]) for one in shards}
    if len(counts) != 1:
        return ()
    (count,) = counts
    return tuple(name for index in range(count) if (name := f"{index}/{count}") not in shards)


def _order(shard: str) -> tuple[int, int]:
    index, _, count = shard.partition("/")
    return int(count), int(index)
