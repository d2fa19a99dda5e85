"""What is done to an output directory between runs: a new ledger, when the old one or a part is lost or damaged.

Nothing is thrown away. The old ledger is copied aside first, and so is every part that is written anew; a new ledger
is made from the parts and from what can be read of the old one; then it takes the old one's place. `.rebuild` lies in
OUT until all of that is done: runs refuse as long as it is there, and the same command goes on with it.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import orjson
import pyarrow as pa

from pipeline import files
from pipeline.commands.rebuilt import RebuildReport, losses_of_ledger, losses_of_parts, words
from pipeline.config.run_config import RunConfig
from pipeline.errors import InputError, ResourceError
from pipeline.records import EMULATOR, record_key
from pipeline.store import between_runs, layout, old_ledger, outdir, parquet, part_repair, schemas, unsaved
from pipeline.store.layout import DATA_NAME
from pipeline.store.ledger import transfer
from pipeline.store.ledger.header import check_held_format, check_plain
from pipeline.store.ledger.protocol import CONFIG_META, NO, REHEARSAL_META, SHARD_META, YES
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.ledger.transfer import History, RecordFacts
from pipeline.store.old_ledger import OldLedger
from pipeline.store.opening import LEDGER_NAME, check_merged, check_names, last_config, shard_meta
from pipeline.store.refill import forget_gaps, keep_last, take_over
from pipeline.store.rerun import RerunPolicy
from pipeline.store.salvage.parts import PartReport
from pipeline.store.salvage.workplace import ANSWERS_NAME, NEW_NAME, OLD_NAME, Work, held, ledger_files, workplace
from pipeline.store.unsaved import UnsavedAnswer

BATCH = 10_000


def rebuild(
    out: Path,
    *,
    now: Callable[[], datetime],
    drop_unreadable: bool = False,
    failpoint: Callable[[str], None] = lambda _: None,
) -> RebuildReport:
    """Make a new ledger from the parts and from what can be read of the old one. No answer in them is asked again.

    The old ledger is copied aside. Its unsealed answers go into `data/`. A damaged part is read as far as it is
    whole, and written anew; the damaged file is moved aside. Where that loses rows it takes `drop_unreadable`. Where a
    record stands in two rows, the one answered last stays. `failpoint` is called with each step that is done.
    Raises InputError where there is nothing to rebuild from, OutInUseError where a run holds OUT, ResourceError where
    the disk does not allow it, or where rows would be lost without `drop_unreadable`; nothing is changed then.
    """
    path = out / LEDGER_NAME
    with files.disk_errors(out):
        _check_place(out)
        with held(path) as ledger_file:
            check_held_format(path, ledger_file)
            with workplace(out, now(), ledger_file) as work:
                report = _Rebuild(out, work, now(), failpoint).run(drop_unreadable=drop_unreadable)
        failpoint("rebuilt")
    with between_runs.repaired(out, _config(out)) as (ledger, taken):
        records = sum(ledger.states().values())
    return replace(report, records=records, answers=taken.answers, lost_answers=report.lost_answers + taken.unreadable)


def _check_place(out: Path) -> None:
    check_names(out)
    check_merged(out)
    check_plain(out / LEDGER_NAME)
    data = out / DATA_NAME
    has_parts = any(folder.is_dir() and parquet.part_numbers(folder) for folder in (data, out / layout.OLD_NAME))
    if not has_parts and not any(map(_has_bytes, ledger_files(out / LEDGER_NAME))) and not unsaved.paths(out):
        raise InputError(f"{out}: no parts to rebuild a ledger from (there is no {data / parquet.part_name(0)})")
    if not os.access(out, os.W_OK):
        raise PermissionError(errno.EACCES, "Permission denied", str(out))


def _has_bytes(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


class _Rebuild:
    """One rebuild under way."""

    def __init__(self, out: Path, work: Work, now: datetime, failpoint: Callable[[str], None]) -> None:
        self.out, self.work, self.now, self.step = out, work, now, failpoint
        self.data, self.path = out / DATA_NAME, out / LEDGER_NAME
        self.answers = work.folder / ANSWERS_NAME
        self.saved: set[bytes] = set()
        self._buffer: list[UnsavedAnswer] = []

    def run(self, *, drop_unreadable: bool) -> RebuildReport:
        self.step("aside")
        new = self.work.folder / NEW_NAME / LEDGER_NAME
        with SqliteLedger(new, self.step) as ledger:
            old = self._read_old(ledger)
            layout.put_back(self.out)
            columns = self._columns(old)
            reports = self._survey(columns, old)
            if not drop_unreadable:
                _refuse_losses(self.out, reports)
            self.work.is_changed = True
            layout.clear(self.out)
            if self.data.is_dir():
                parquet.remove_unfinished(self.data)
            aside = [self._mend(number, report, columns, old) for number, report in reports.items()]
            numbers = parquet.part_numbers(self.data) if self.data.is_dir() else []
            older_rows = keep_last(ledger, self.data, numbers, self.step)
            self._fill(ledger, numbers, columns, old.history)
            lost = set(transfer.compare(ledger)) - self.saved
            records = sum(ledger.states().values())
        self._put_in_place(new)
        return RebuildReport(
            parts=len(numbers),
            records=records,
            set_aside=str(self.work.aside) if self.work.aside.exists() else None,
            older_rows=older_rows,
            unreadable=tuple(str(path) for path in aside if path is not None),
            lost_records=len(lost),
            **losses_of_parts(list(reports.values())),
            **losses_of_ledger(old),
        )

    def _read_old(self, ledger: SqliteLedger) -> OldLedger:
        known: list[RecordFacts] = []

        def note(record: RecordFacts) -> None:
            known.append(record)
            if len(known) == BATCH:
                transfer.note_earlier(ledger, known)
                known.clear()

        scratch = self.work.folder / OLD_NAME
        old = old_ledger.read(self.work.aside, scratch, self._keep, note)
        transfer.note_earlier(ledger, known)
        self._write_answers()
        return old

    def _keep(self, answer: UnsavedAnswer) -> None:
        row = orjson.loads(answer.row)
        self.saved.add(record_key(row["id"], row["prompt_name"]))
        self._buffer.append(answer)
        if len(self._buffer) >= BATCH:
            self._write_answers()

    def _write_answers(self) -> None:
        if self._buffer:
            unsaved.append(self.work.folder / ANSWERS_NAME, unsaved.by_run(self._buffer, {}))
            self._buffer.clear()

    def _columns(self, old: OldLedger) -> pa.Schema:
        """What OUT was made with; where that is lost, the present columns."""
        stored = schemas.stored_schema(old.columns)
        if stored is not None:
            return stored
        there = part_repair.schemas(self.data)
        named = {name for one in there for name in one.names}
        labels = next((one.field("labels").type for one in there if "labels" in one.names), None)
        choices = 2 if "captions" in named else 1
        return schemas.schema(choices=choices, labels=labels, has_several="images" in named, given=named)

    def _survey(self, columns: pa.Schema, old: OldLedger) -> dict[int, PartReport]:
        """How much of each part can be read. Nothing is changed here."""
        return part_repair.reports(self.data, columns, old.footers) if self.data.is_dir() else {}

    def _mend(self, number: int, report: PartReport, columns: pa.Schema, old: OldLedger) -> Path | None:
        """Write a damaged part anew as far as it can be read; where the damaged one lies then."""
        if report.is_whole:
            return None
        aside = part_repair.copy_aside(self.data, number, self.out)
        if report.rows or not report.loses:
            part_repair.rewrite(self.data, number, columns, old.footers.get(number))
        else:
            (self.data / parquet.part_name(number)).unlink()
        parquet.sync_folder(self.data)
        self.step("part-mended")
        return aside

    def _fill(self, ledger: SqliteLedger, numbers: list[int], columns: pa.Schema, history: History | None) -> None:
        """Everything that the new ledger is to hold."""
        ledger.set_meta(
            {
                "schema": columns.serialize().to_pybytes(),
                "layout": layout.set_name(self.data),
                **(layout.footers(self.data) if numbers else {}),
            }
        )
        declared = _declared(self.out, numbers, history, self.now)
        if history is None:
            runs = self._begin_runs(ledger, numbers, declared["config_hash"].decode())
        else:
            runs = history.numbers()
        counts: Counter[str] = Counter()
        for number in numbers:
            take_over(ledger, self.data, number, runs, counts, has_history=history is not None)
        if history is None:
            ledger.set_meta(declared)
        else:
            totals = history.totals if history.is_whole else old_ledger.agreed(history.totals, counts)
            bills = [bill for bill in history.attempts if history.is_whole or not self._has_row(ledger, bill[0])]
            transfer.carry(ledger, replace(history, meta=declared | history.meta, totals=totals, attempts=bills))
        if numbers:
            forget_gaps(ledger, numbers)
        if history is None or not history.totals:
            self._count_answers()

    def _begin_runs(self, ledger: SqliteLedger, numbers: list[int], config_hash: str) -> dict[str, int]:
        """A run for each configuration that has rows, that of `config_hash` last: its number, by the hash."""
        others = dict.fromkeys(each for each in data_hashes(self.data, numbers) if each != config_hash)
        runs: dict[str, int] = {}
        for at, each in enumerate([*others, config_hash]):
            ledger.begin_run(f"rebuilt-{self.now:%Y%m%dT%H%M%SZ}-{at}", each, RerunPolicy().describe())
            runs[each] = ledger.run
            ledger.end_run()
        return runs

    def _has_row(self, ledger: SqliteLedger, key: bytes) -> bool:
        return key in self.saved or bool(ledger.parts_of([key]))

    def _count_answers(self) -> None:
        """Without totals of the old ledger: what the unsealed answers add is counted from their rows."""
        answers, counted = self.answers, self.answers.with_name(f"counted-{ANSWERS_NAME}")
        if answers.exists():
            counted.unlink(missing_ok=True)
            unsaved.append(counted, (replace(batch, counts=None) for batch in unsaved.read(answers)))
            counted.rename(answers)

    def _put_in_place(self, new: Path) -> None:
        if self.answers.exists():
            self.answers.rename(self.out / f"{unsaved.PREFIX}rebuild-{self.work.aside.name}.jsonl")
        for file in unsaved.paths(self.work.folder / OLD_NAME):  # of a commit that a crash cut short
            file.rename(self.out / f"{unsaved.PREFIX}log-{self.work.aside.name}.jsonl")
        for file in ledger_files(self.path)[1:]:  # the log of the old one is none of the new one
            file.unlink(missing_ok=True)
        self.step("set-aside")
        new.rename(self.path)
        (self.out / outdir.STATUS_NAME).unlink(missing_ok=True)  # it describes the old one
        parquet.sync_folder(self.out)


def _refuse_losses(out: Path, reports: Mapping[int, PartReport]) -> None:
    """Raises ResourceError where a part holds what cannot be read: the user may have a copy of it."""
    bad = {number: report for number, report in reports.items() if report.loses}
    if not bad:
        return
    number, report = next(iter(bad.items()))
    path = out / DATA_NAME / parquet.part_name(number)
    others = f" (and {len(bad) - 1} more parts)" if len(bad) > 1 else ""
    raise ResourceError(
        f"{path}: {words(report)}{others}. Nothing was changed. Put it back from a copy, or let `vision-batch rebuild "
        f"{out} --drop-unreadable` move it aside and take the rows that can be read: the others are asked again"
    )


def _config(out: Path) -> RunConfig:
    """What OUT was last asked; the defaults where its file cannot be read."""
    try:
        return last_config(out)
    except InputError:
        return RunConfig()


def _declared(out: Path, numbers: list[int], history: History | None, now: datetime) -> dict[str, bytes]:
    """The configuration of OUT, from its files; that of an old ledger is preferred."""
    config, recorded = _config(out), outdir.read_configurations(out)
    # The first is OUT's own; the rows of the last part may all have been asked again with another.
    config_hash = next(iter(recorded), "") or _config_hash(
        data_hashes(out / DATA_NAME, numbers[-1:]), config.config_hash()
    )
    identity = orjson.dumps(outdir.public(config.identity()))
    named = {CONFIG_META + name: orjson.dumps(one) for name, one in recorded.items()} | _rehearsal(out, numbers)
    if history is not None and {"config_hash", "identity", "made_at"} <= history.meta.keys():
        return named
    named[CONFIG_META + config_hash] = identity
    made = {"made_at": now.isoformat().encode(), SHARD_META: shard_meta(config)}
    return {"config_hash": config_hash.encode(), "identity": identity, **made, **named}


def _rehearsal(out: Path, numbers: list[int]) -> dict[str, bytes]:
    """Whether the answers are the emulator's, by the first row that tells: no OUT has both."""
    rows = (row for number in numbers for row in parquet.read_columns(out / DATA_NAME, number, ["endpoint"]))
    endpoint = next((row["endpoint"] for row in rows if row["endpoint"]), None)
    return {} if endpoint is None else {REHEARSAL_META: YES if endpoint == EMULATOR else NO}


def data_hashes(data: Path, numbers: list[int]) -> list[str]:
    """The configurations that the rows of these parts were asked with, in the order of the rows."""
    rows = (row for number in numbers for row in parquet.read_columns(data, number, ["config_hash"]))
    return [row["config_hash"] for row in rows if row["config_hash"]]


def _config_hash(of_rows: list[str], of_config: str) -> str:
    """`config.toml` leaves out what may be a secret, and then has another hash: that of the rows is right."""
    return of_config if not of_rows or of_config in of_rows else of_rows[-1]
