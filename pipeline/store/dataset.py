"""An output directory as a whole: the ledger, the parts that it is projected into, and the files beside them.

All methods block and belong to one thread. The order of the steps is what the promise rests on: an answer
counts once its transaction is committed; a row leaves the ledger only after its part is renamed into place;
a part is merged by key, so that doing it again after a crash changes nothing.
"""

import errno
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import Any, Self

import orjson
import pyarrow as pa

from pipeline import files
from pipeline.config.loading import load_config
from pipeline.config.run_config import RunConfig
from pipeline.errors import DamagedLedgerError, ErrorKind, InputError, OutInUseError, ResourceError, VisionBatchError
from pipeline.files import disk_errors as _disk
from pipeline.files import record_stamp
from pipeline.formatting import whole
from pipeline.limits.budget import Amounts
from pipeline.limits.decision import TRANSIENT
from pipeline.money import Bill, add_costs, nano_usd
from pipeline.records import (
    BilledAttempt,
    ImageRecord,
    Outcome,
    PreparedRequest,
    Shared,
    Status,
    Usage,
    has_no_text,
    record_key,
)
from pipeline.redaction.addresses import public_url
from pipeline.redaction.redactor import NOTHING_SECRET, Redactor
from pipeline.store import layout, outdir, parquet, unsaved
from pipeline.store.columns import (
    SHAREABLE,
    Totals,
    count_bill,
    count_outcome,
    error_of,
    filled,
    row_of,
    shared_row,
    state_code,
    state_of,
)
from pipeline.store.intake import TakenIn, columns_of, take_in, what_is_wrong
from pipeline.store.keyset import KeySet
from pipeline.store.layout import DATA_NAME, check_rows, settle
from pipeline.store.ledger import (
    CONFIG_META,
    HOLDER_NAME,
    BillRow,
    KeptRow,
    Known,
    Ledger,
    SqliteLedger,
    Twin,
    damaged_words,
)
from pipeline.store.rerun import RerunPolicy
from pipeline.tokens.ratios import models_of

LEDGER_NAME = "ledger.sqlite"
REBUILD_NAME = ".rebuild"
"""Lies in OUT as long as a rebuild is at work, or one was cut off."""

# What may lie in a directory that still counts as empty.
_IGNORED = frozenset({HOLDER_NAME, ".DS_Store", ".gitignore", ".gitkeep", "lost+found"})

# To look a key up takes about three times as long as to pass over one.
_FEW_KEYS, _WORTH_A_PASS = 10_000, 1 / 16

_SETTLED = frozenset(
    state_code(status, kind)
    for status in Status
    for kind in (None, *ErrorKind)
    if not (status is Status.FAILED and kind in TRANSIENT)
)
"""States that a run which asks nothing again passes over."""
_BATCH = 4096

PART_BYTES = 256 << 20
"""A part of this much takes no new rows, however few they are: a seal writes a part anew, and commits wait for it."""


class Dataset:
    """OUT, open for one run: made by `Dataset.open`, closed by `close()` or as a context manager."""

    def __init__(
        self,
        out: Path,
        ledger: Ledger,
        *,
        config: RunConfig,
        asking: RerunPolicy,
        endpoint: str,
        failpoint: Callable[[str], None],
        redactor: Redactor = NOTHING_SECRET,
    ) -> None:
        self.out = out
        self.run_id = ""
        self._asking = asking
        self._settled = frozenset() if asking != RerunPolicy() else _SETTLED
        self._comparable: set[int] = set()
        self._ledger = ledger
        self._config = config
        self._failpoint = failpoint
        self._redactor = redactor
        self._data = out / DATA_NAME
        self._prompt_name = config.request.prompt_name
        self._endpoint = public_url(endpoint)
        self._config_hash = config.config_hash()
        self._columns: pa.Schema = pa.schema([])
        self._tail = self._tail_rows = self._tail_bytes = 0
        self._bills_before: dict[bytes, Bill] = {}
        self._bills_now: dict[bytes, Bill] = {}
        self._is_open = True
        self._has_forgotten = False
        self._kept: KeySet | None = None
        self._looked_up = self._records_before = 0
        self._spent_before = Amounts()
        self._lent: set[bytes] = set()
        self._lent_before: set[bytes] = set()
        """Records whose answers were shared, in the two spans between seals up to now (where they may change)."""
        self.taken = TakenIn()
        """What waited in files beside the ledger when OUT was opened."""
        self._failed: ResourceError | None = None
        self._unsaved: Path | None = None
        self._replaced: dict[tuple[bytes, str], Mapping[str, object]] = {}
        """Their rows as they were when they were shared, by key and request."""

    @classmethod
    def open(
        cls,
        out: Path,
        *,
        config: RunConfig,
        run_id: str,
        now: Callable[[], datetime],
        asking: RerunPolicy | None = None,
        endpoint: str | None = None,
        failpoint: Callable[[str], None] = lambda _: None,
        redactor: Redactor = NOTHING_SECRET,
    ) -> Self:
        """Make OUT (and its parents) or open it, hold it, and put right what a crash left.

        `run_id` is the run's where it does not go on from one that was interrupted. `endpoint` is what rows
        call the endpoint, where that is not its address. `redactor` knows what no file may hold.
        `failpoint` is told each step once it is done; tests end the process there.
        Raises InputError where OUT is no directory, holds something else or belongs to another configuration,
        OutInUseError where another run holds it, ResourceError where the disk or the ledger does not allow it.
        """
        with _disk(out):
            check_out(out)
            out.mkdir(parents=True, exist_ok=True)
        failpoint("folder-made")
        ledger = SqliteLedger(out / LEDGER_NAME, failpoint)
        failpoint("ledger-made")
        endpoint = config.endpoint.base_url if endpoint is None else endpoint
        asking = RerunPolicy() if asking is None else asking
        dataset = cls(
            out, ledger, config=config, asking=asking, endpoint=endpoint, failpoint=failpoint, redactor=redactor
        )
        try:
            with _disk(out), _decoding(ledger):
                check_rebuilt(out)
                check_names(out)
                dataset._declare(now)
                dataset._begin(run_id)
                dataset._repair()
                dataset._describe()
        except BaseException:
            ledger.close()
            raise
        return dataset

    @staticmethod
    @contextmanager
    def between_runs(out: Path, failpoint: Callable[[str], None] = lambda _: None) -> Iterator[SqliteLedger]:
        """Hold an OUT that is there, put right and sealed, without beginning a run: the ledger as long as it lasts.

        Raises InputError where there is none, and what `open` raises.
        """
        with Dataset.put_right(out, last_config(out), failpoint) as (ledger, _):
            yield ledger

    @staticmethod
    @contextmanager
    def put_right(
        out: Path, config: RunConfig, failpoint: Callable[[str], None] = lambda _: None
    ) -> Iterator[tuple[SqliteLedger, TakenIn]]:
        """The same, and what was taken in from files beside the ledger."""
        if not (out / LEDGER_NAME).is_file():
            with suppress(InputError):
                check_out(out)
            raise InputError(f"{out}: no vision-batch output here (there is no {out / LEDGER_NAME})")
        check_ledger(out)
        with _disk(out), SqliteLedger(out / LEDGER_NAME, failpoint) as ledger:
            check_rebuilt(out)
            if ledger.meta("schema") is None:
                raise InputError(f"{out}: the run that made it ended before it began; run the same command again")
            dataset = Dataset(
                out, ledger, config=config, asking=RerunPolicy(), endpoint=config.endpoint.base_url, failpoint=failpoint
            )
            with _decoding(ledger):
                dataset._columns = columns_of(ledger)
                dataset._repair()
            yield ledger, dataset.taken

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.close(seal=not isinstance(error, ResourceError))

    def expect(self, records: int) -> None:
        """So many will be looked up: whether one pass over all keys is the cheaper way is known at once."""
        self._looked_up += records

    def missing(self, records: Sequence[ImageRecord]) -> list[bool]:
        """For each record, whether it is to be asked: never answered, or to be asked again as this run wants it."""
        keys = [record_key(record.id, self._prompt_name) for record in records]
        with _decoding(self._ledger):
            is_kept = self._kept_by_prefix(keys)
        if all(is_kept):
            return [False] * len(keys)
        known = self._ledger.known([key for key, kept in zip(keys, is_kept, strict=True) if not kept])
        settled = self._settled
        with _decoding(self._ledger):
            return [
                not kept
                and (
                    (row := known.get(key)) is None or (row.state not in settled and self._is_asked_again(record, row))
                )
                for record, key, kept in zip(records, keys, is_kept, strict=True)
            ]

    def _kept_by_prefix(self, keys: Sequence[bytes]) -> list[bool]:
        """Which of these records need no look at the ledger: known only once so many were looked up that one
        pass over all its keys is the cheaper way.
        """
        self._looked_up += len(keys)
        if self._kept is None:
            if not self._settled or self._looked_up < max(_FEW_KEYS, self._records_before * _WORTH_A_PASS):
                return [False] * len(keys)
            self._kept = KeySet(self._ledger.settled_prefixes(self._settled))
        return self._kept.holds(keys)

    def _is_asked_again(self, record: ImageRecord, known: Known) -> bool:
        status, kind = state_of(known.state)
        changed = self._asking.refresh_changed and known.stamp != record_stamp(record)
        return self._asking.wants(
            status,
            kind,
            by_this_run=known.run == self._ledger.run,
            by_this_config=known.run in self._comparable,
            has_changed=changed,
        )

    def twin(self, request: PreparedRequest) -> Shared | None:
        """The answer that this request would be a second payment for; None where it has to be asked."""
        own = record_key(request.record.id, self._prompt_name)
        twins = self._ledger.twins(request.request_sha256)
        with _decoding(self._ledger):
            twin = next((twin for twin in twins if twin.key != own and self._is_lent(twin)), None)
        if twin is None:
            return None
        status, kind = state_of(twin.state)
        if self._asking.refresh_changed:
            self._lent.add(twin.key)
        return Shared(
            record=request.record,
            image_facts=request.image_facts,
            request_sha256=request.request_sha256,
            key=twin.key,
            status=status,
            error_kind=kind,
        )

    def _is_lent(self, twin: Twin) -> bool:
        """Whether its answer may be another row's too: not one that this run asks again."""
        status, kind = state_of(twin.state)
        by_this_run = twin.run == self._ledger.run
        is_asked_again = self._asking.wants(
            status, kind, by_this_run=by_this_run, by_this_config=True, has_changed=False
        )
        return status in SHAREABLE and not is_asked_again

    def keep(
        self, outcomes: Sequence[Outcome], attempts: Sequence[BilledAttempt] = (), shared: Sequence[Shared] = ()
    ) -> None:
        """Commit outcomes, billed attempts of records still under way, and shared answers, in one transaction.

        When this returns they are kept. An outcome's `usage`, `cost_usd` and `attempts` include the attempts
        of it that were committed here before; those of a run that was killed are added to its row.
        Where the ledger fails, this and whatever comes later goes to a file beside it, which the next command takes
        in; ResourceError says so.
        """
        bills_now = dict(self._bills_now)
        try:
            if self._failed is not None:
                raise self._failed
            with _decoding(self._ledger):
                self._commit(outcomes, attempts, shared)
        except ResourceError as error:
            if self._failed is None:
                self._bills_now = bills_now
            self._failed = self._put_by(error, outcomes, attempts, shared)
            raise self._failed from error

    def _put_by(
        self,
        error: ResourceError,
        outcomes: Sequence[Outcome],
        attempts: Sequence[BilledAttempt],
        shared: Sequence[Shared],
    ) -> ResourceError:
        """Write what the ledger cannot take into a file beside it; the error to raise, which says where."""
        counts: Counter[str] = Counter()
        counts["cost_unknown_nano_usd"] += sum(attempt.unknown_nano_usd for attempt in attempts)
        bills = [
            self._bill_row(attempt, counts) for attempt in attempts if attempt.usage != Usage() or attempt.cost_usd
        ]
        rows = [self._kept_row(outcome, counts) for outcome in outcomes]
        rows += [self._shared_row(each, counts) for each in shared]
        batch = unsaved.UnsavedBatch(
            self.run_id,
            tuple(unsaved.UnsavedAnswer(row.row, row.shares, row.stamp) for row in rows),
            {name: count for name, count in counts.items() if count},
            tuple((bill.key, bill.at, bill.bill) for bill in bills),
        )
        path = self._unsaved or unsaved.new_path(self.out, self.run_id)
        try:
            unsaved.append(path, [batch])
        except OSError:
            return error
        if self._unsaved is not None:
            return error
        self._unsaved = path
        told = type(error)(
            f"{error}. Answers that came since are in {path}: the next command that opens OUT takes them"
        )
        told.is_put_by = True
        return told

    def _commit(self, outcomes: Sequence[Outcome], attempts: Sequence[BilledAttempt], shared: Sequence[Shared]) -> None:
        counts: Counter[str] = Counter()
        outcomes = self._without_losses(outcomes, counts)
        self._hold_on_to_replaced(outcomes)
        counts["cost_unknown_nano_usd"] += sum(attempt.unknown_nano_usd for attempt in attempts)
        billed = [attempt for attempt in attempts if attempt.usage != Usage() or attempt.cost_usd]
        bills = [self._bill_row(attempt, counts) for attempt in billed]
        rows = [self._kept_row(outcome, counts) for outcome in outcomes]
        rows += [self._shared_row(each, counts) for each in shared]
        if not self._settled and any(row.state not in _SETTLED for row in rows):
            self._forget_marks()  # a row that the next run asks again may lie below one
        self._failpoint("rows-built")
        self._commit_rows(rows, counts=counts, bills=bills)
        self._failpoint("committed")
        for row in rows:
            self._bills_before.pop(row.key, None)
            self._bills_now.pop(row.key, None)

    def _commit_rows(self, rows: Sequence[KeptRow], **more: Any) -> None:  # noqa: ANN401 - as `Ledger.commit` takes it
        sizes = [len(row.row) for row in rows]
        parts = self._parts_for_new(sizes)
        new = self._ledger.commit(rows, new_parts=parts, **more)
        for part, size in zip(parts[:new], sizes, strict=False):
            if part != self._tail:
                self._tail, self._tail_rows, self._tail_bytes = part, 0, 0
            self._tail_rows, self._tail_bytes = self._tail_rows + 1, self._tail_bytes + size

    def seal(self) -> int:
        """Bring all that is kept into `data/`, part by part; the number of rows."""
        sealed = 0
        while rows := self.seal_part():
            sealed += rows
        self._lent, self._lent_before = set(), self._lent
        return sealed

    def seal_part(self) -> int:
        """Bring what waits for one part into it; the number of rows, 0 when nothing waits any more."""
        part = self._ledger.next_part()
        if part is None:
            return 0
        with _disk(self.out), _decoding(self._ledger):
            return self._merge(part)

    def mark(self, name: str) -> dict[str, Any]:
        """What `set_mark` stored under this name; empty where there is none."""
        stored: dict[str, Any] = orjson.loads(self._ledger.meta(f"mark {name}") or b"{}")
        return stored

    def set_mark(self, name: str, mark: Mapping[str, object]) -> None:
        """Remember how far a source needs no second look. Not in a run that had to forget a record."""
        if not self._has_forgotten:
            self._ledger.set_meta({f"mark {name}": orjson.dumps(mark)})

    def lease(self, amounts: Amounts) -> None:
        """Before it is spent: this process may come to so much. What a kill leaves open counts as spent."""
        total = self._spent_before + amounts
        bounded = {name: getattr(total, name) for name in LEASED if getattr(amounts, name) is not None}
        if bounded:
            self._ledger.set_meta({"lease": orjson.dumps(bounded)})

    def settle_lease(self) -> None:
        """What a run may have spent, and no answer says (it was killed, or cut off), counts as spent."""
        leased = orjson.loads(self._ledger.meta("lease") or b"{}")
        spent = _spent(self._ledger)
        unknown = {LEASED[name]: most - (getattr(spent, name) or 0) for name, most in leased.items()}
        if leased:
            counts = {name: amount for name, amount in unknown.items() if amount > 0}
            self._ledger.commit([], new_parts=[], counts=counts)
            self._ledger.set_meta({"lease": b"{}"})

    def end_run(self) -> None:
        """Say that this run is complete: the next command begins another."""
        self._ledger.end_run()

    def close(self, *, seal: bool = True) -> None:
        """Seal, and let go of OUT. Without `seal` what is kept waits in the ledger for the next run."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            if seal:
                self.seal()
                self.settle_lease()
        finally:
            self._ledger.close()

    def totals(self) -> Totals:
        """Of all runs on this OUT, killed ones included."""
        return Totals.of(self._ledger.counts())

    def run_totals(self) -> Totals:
        """Of this run, its resumes included."""
        return Totals.of(self._ledger.counts(self.run_id))

    def has_answers(self) -> bool:
        """Whether runs with this configuration, this one included, have got good answers."""
        counts = self._ledger.counts_with(self._config_hash)
        return counts.get(Status.OK, 0) + counts.get(Status.TRUNCATED, 0) > counts.get("without_text", 0)

    def states(self) -> dict[tuple[Status, ErrorKind | None], int]:
        """How many records have which status and kind of error now."""
        return {state_of(code): records for code, records in self._ledger.states().items()}

    def overview(self) -> dict[str, object]:
        """The whole of OUT as plain values: `records` by status, `errors` by kind, `totals`, tokens by `models`."""
        return _overview(self._ledger)

    @staticmethod
    def look(out: Path) -> dict[str, object]:
        """The same of an OUT that no run holds; nothing in it is changed."""
        with _disk(out), SqliteLedger(out / LEDGER_NAME) as ledger, _decoding(ledger):
            check_rebuilt(out)
            return _overview(ledger)

    @staticmethod
    def damages(out: Path, *, verify: bool = False) -> Iterator[str]:
        """What in `data/` is not as the ledger sealed it, by the footers, or with `verify` by all bytes and keys.

        While a run holds OUT only what `verify` can tell without the ledger. Nothing in OUT is changed.
        Raises ResourceError where the ledger cannot be read.
        """
        try:
            with SqliteLedger(out / LEDGER_NAME) as ledger:
                yield from layout.damages(out, ledger)
                yield from layout.verify(out, ledger) if verify else ()
        except OutInUseError:
            yield from layout.verify(out, None) if verify else ()

    @staticmethod
    def left(
        out: Path,
        records: Iterable[ImageRecord],
        total: int,
        *,
        config: RunConfig,
        asking: RerunPolicy,
        skip: Callable[["Dataset"], int] = lambda _: 0,
    ) -> int:
        """How many of these `total` records a run on OUT would ask, if it began now; nothing in OUT is changed.

        `skip` says how many of them, from the first, need no look.
        """
        ledger_file = out / LEDGER_NAME
        if not ledger_file.is_file() or not ledger_file.stat().st_size:
            return total
        with _disk(out), SqliteLedger(ledger_file) as ledger, _decoding(ledger):
            dataset = Dataset(out, ledger, config=config, asking=asking, endpoint="", failpoint=lambda _: None)
            ledger.resume_run(dataset._config_hash, asking.describe())
            dataset._comparable = ledger.runs_with(dataset._config_hash)
            dataset._records_before = sum(ledger.states().values())
            done = skip(dataset)
            dataset.expect(total - done)
            left, all_of_them = 0, islice(records, done, None)
            while batch := list(islice(all_of_them, _BATCH)):
                left += sum(dataset.missing(batch))
        return left

    def write_status(self, status: Mapping[str, object]) -> None:
        """Replace `status.json`."""
        with _disk(self.out):
            outdir.write_status(self.out, status)

    def write_run(self, summary: Mapping[str, object]) -> None:
        """Replace `runs/<run_id>.json`."""
        with _disk(self.out):
            outdir.write_run(self.out, self.run_id, summary)

    def describe(self) -> None:
        """Replace `config.toml` and the card, which say how many rows each configuration has."""
        with _disk(self.out):
            self._describe()

    def _declare(self, now: Callable[[], datetime]) -> None:
        """Write into a new ledger whose answers it holds; of an old one, check it."""
        if self._ledger.meta("config_hash") is None:
            if _has_parts(self.out):
                raise ResourceError(
                    f"{self.out / LEDGER_NAME} holds nothing. The answers in {DATA_NAME}/ are whole: "
                    f"`vision-batch rebuild {self.out}` makes a new ledger from them"
                )
            n = self._config.request.extra.get("n")
            columns = parquet.schema(n=n if isinstance(n, int) else 1)
            self._ledger.set_meta(
                {
                    "config_hash": self._config_hash.encode(),
                    "identity": orjson.dumps(self._identity()),
                    "schema": columns.serialize().to_pybytes(),
                    "made_at": now().isoformat().encode(),
                }
            )
            self._failpoint("declared")
        elif self._ledger.meta("config_hash") != self._config_hash.encode():
            identity = self._identity()
            if self._asking.on_config_change == "refuse":
                before = orjson.loads(self._ledger.meta("identity") or b"{}")
                raise InputError(*_refusal(self.out, before, identity, sum(self._ledger.states().values())))
            before = (self._ledger.meta("config_hash") or b"").decode()
            self._ledger.set_meta(
                {
                    "config_hash": self._config_hash.encode(),
                    "identity": orjson.dumps(identity),
                    CONFIG_META + before: self._ledger.meta("identity") or b"{}",
                }
            )
        asked = orjson.dumps(self._identity())
        if self._ledger.meta(CONFIG_META + self._config_hash) != asked:
            self._ledger.set_meta({CONFIG_META + self._config_hash: asked})
        self._columns = columns_of(self._ledger)

    def _identity(self) -> dict[str, Any]:
        return self._redactor.settings(outdir.public(self._config.identity()))

    def _begin(self, run_id: str) -> None:
        self.run_id = self._ledger.begin_run(run_id, self._config_hash, self._asking.describe())
        self._comparable = self._ledger.runs_with(self._config_hash)
        self._records_before = sum(self._ledger.states().values())
        self.settle_lease()
        self._spent_before = _spent(self._ledger)

    def _repair(self) -> None:
        """Finish what a crash interrupted: the first part, a half-written file, a part renamed and not marked."""
        settle(self.out, self._ledger, self._failpoint)
        self._data.mkdir(exist_ok=True)
        parquet.remove_unfinished(self._data)
        outdir.remove_unfinished(self.out)
        parts = int(self._ledger.meta("parts") or b"0")
        present = set(parquet.part_numbers(self._data))
        present_or_given_up = present.union(orjson.loads(self._ledger.meta("lost_parts") or b"[]"))
        if lost := [number for number in range(parts) if number not in present_or_given_up]:
            raise ResourceError(
                f"{self._data / parquet.part_name(lost[0])} is gone, and the answers in it ({len(lost)} of "
                f"{parts} parts). Put it back, or `vision-batch rebuild {self.out}` to ask for them again"
            )
        if not present:
            parquet.write_part(self._data, 0, parquet.empty(self._columns), self._failpoint)
        if not parts:
            self._ledger.set_meta({"parts": b"1"})
            self._failpoint("first-part-marked")
        parquet.check_columns(self._data, self._columns)
        self.seal()
        check_rows(self.out, self._ledger)
        self._find_tail()
        if unsaved.paths(self.out):
            self.taken = take_in(self.out, self._ledger, self._columns, self._commit_rows, self._seal_taken)
        for bill in self._ledger.bills():
            _add(self._bills_before, bill.key, _bill_of(bill.bill))

    def _seal_taken(self) -> None:
        self.seal()
        self._find_tail()

    def _find_tail(self) -> None:
        self._tail = max(parquet.part_numbers(self._data))
        self._tail_rows, self._tail_bytes = parquet.size_of(self._data, self._tail)

    def _describe(self) -> None:
        configurations = self._configurations()
        outdir.write_config(self.out, self._redactor.settings(self._config.model_dump(mode="json")), configurations)
        columns = {field.name: str(field.type) for field in self._columns}
        outdir.write_card(self.out, configurations, columns=columns)
        self._failpoint("described")

    def _configurations(self) -> list[outdir.Configuration]:
        """Those that rows were asked with, the present one first."""
        rows = {self._config_hash: 0, **self._ledger.rows_by_config()}
        return [
            outdir.Configuration(name, count, orjson.loads(self._ledger.meta(CONFIG_META + name) or b"{}"))
            for name, count in rows.items()
            if count or name == self._config_hash
        ]

    def _bill_row(self, attempt: BilledAttempt, counts: Counter[str]) -> BillRow:
        bill = Bill(usage=attempt.usage, cost_usd=attempt.cost_usd)
        key = record_key(attempt.record.id, self._prompt_name)
        count_bill(counts, bill)
        _add(self._bills_now, key, bill)
        return BillRow(key, attempt.at.isoformat(), json.dumps(asdict(bill), default=str).encode())

    def _without_losses(self, outcomes: Sequence[Outcome], counts: Counter[str]) -> Sequence[Outcome]:
        """Without those that have no text where there is an answer from before: that one stays."""
        failed = (
            {} if self._settled else {self._key(one): one for one in outcomes if _is_lost(one.status, one.error_kind)}
        )
        known = self._ledger.known(list(failed)).values() if failed else ()
        answered = {row.key for row in known if not _is_lost(*state_of(row.state))}
        for key in answered:
            outcome = self._with_bills(failed[key], counts)
            count_bill(counts, Bill(attempts=outcome.attempts, usage=outcome.usage, cost_usd=outcome.cost_usd))
        return [outcome for outcome in outcomes if self._key(outcome) not in answered] if answered else outcomes

    def _key(self, outcome: Outcome) -> bytes:
        return record_key(outcome.record.id, self._prompt_name)

    def _with_bills(self, outcome: Outcome, counts: Counter[str]) -> Outcome:
        """With the attempts of runs that were killed; what was counted of it already is taken from the counts."""
        key = self._key(outcome)
        if (before := self._bills_before.get(key)) is not None:
            count_bill(counts, before, times=-1)
            outcome = replace(
                outcome,
                attempts=outcome.attempts + before.attempts,
                usage=outcome.usage + before.usage,
                cost_usd=add_costs(outcome.cost_usd, before.cost_usd),
            )
        if (now := self._bills_now.get(key)) is not None:
            count_bill(counts, now, times=-1)
        return outcome

    def _kept_row(self, outcome: Outcome, counts: Counter[str]) -> KeptRow:
        outcome = self._with_bills(outcome, counts)
        count_outcome(counts, outcome)
        return KeptRow(
            self._key(outcome),
            state_code(outcome.status, error_of(outcome)[0]),
            parquet.encode_row(row_of(outcome, **self._of_this_run(outcome.endpoint))),
            stamp=outcome.stamp,
            request_sha256=outcome.request_sha256,
            shareable=outcome.status in SHAREABLE,
        )

    def _hold_on_to_replaced(self, outcomes: Sequence[Outcome]) -> None:
        """A changed file is asked again, while others take the answer that it had: they get what they were promised."""
        keys = (
            {record_key(outcome.record.id, self._prompt_name) for outcome in outcomes}
            if self._lent or self._lent_before
            else set()
        )
        if lent := keys & (self._lent | self._lent_before):
            while self.seal_part():  # not `seal`, which forgets what was lent a while ago
                pass
            for key, row in self._asked_rows(lent):
                self._replaced[key, str(row["request_sha256"])] = row

    def _shared_row(self, shared: Shared, counts: Counter[str]) -> KeptRow:
        counts[shared.status.value] += 1
        counts["without_text"] += has_no_text(shared.status, shared.error_kind)
        counts["shared"] += 1
        row = shared_row(shared, **self._of_this_run())
        asked = self._replaced.get((shared.key, shared.request_sha256))
        return KeptRow(
            record_key(shared.record.id, self._prompt_name),
            state_code(shared.status, shared.error_kind),
            parquet.encode_row(row if asked is None else filled(row, asked)),
            stamp=shared.stamp,
            request_sha256=shared.request_sha256,
            shares=shared.key if asked is None else None,
        )

    def _of_this_run(self, endpoint: str | None = None) -> dict[str, str]:
        """What the rows of a run have in common, where one endpoint answers them."""
        return {
            "prompt_name": self._prompt_name,
            "endpoint": endpoint or self._endpoint,
            "run_id": self.run_id,
            "config_hash": self._config_hash,
        }

    def _parts_for_new(self, sizes: Sequence[int]) -> list[int]:
        """Where new rows of these sizes go: into the tail part while it has room, then into the next ones.

        This is committed with the rows: after a crash the same ones go to the same part.
        """
        limit = self._config.output.rows_per_part
        part, rows, filled_bytes = self._tail, self._tail_rows, self._tail_bytes
        parts = []
        for size in sizes:
            if rows >= limit or filled_bytes >= PART_BYTES:
                part, rows, filled_bytes = part + 1, 0, 0
            rows, filled_bytes = rows + 1, filled_bytes + size
            parts.append(part)
        return parts

    def _merge(self, part: int) -> int:
        """Write one part anew with what waits for it, row group by row group; how many records that are."""
        waiting = self._ledger.waiting_seqs(part)
        forgotten: list[bytes] = []
        before = parquet.rows_without(self._data, part, self._columns, waiting)
        new = parquet.tables_of(self._waiting_rows(part, set(waiting.values()), forgotten), self._columns)
        rows = parquet.write_tables(self._data, part, chain(before, new), self._columns, self._failpoint)
        footer = parquet.footer(self._data, part)
        if forgotten:
            self._forget_marks()
        self._ledger.mark_sealed(part, max(waiting.values()), rows=rows, forgotten=forgotten, footer=footer)
        self._failpoint("marked")
        return len(waiting)

    def _waiting_rows(self, part: int, last: Collection[int], forgotten: list[bytes]) -> Iterator[bytes]:
        """The last row of each record that waits for this part, as it is to be read, shared answers filled in.

        A record whose answer was asked anew in the meantime, and is another now, is `forgotten`: the next run asks it.
        """
        for batch in self._ledger.pending(part):
            sharing: defaultdict[bytes, list[dict[str, Any]]] = defaultdict(list)
            for seq, row, shares in batch:
                if seq in last and shares is None:
                    yield row
                elif seq in last and shares is not None:
                    sharing[shares].append(orjson.loads(row))
            for key, asked in self._asked_rows(set(sharing)) if sharing else ():
                for stub in sharing.pop(key, ()):  # a part that holds a key twice is damaged, and said to be
                    if stub["request_sha256"] == asked["request_sha256"]:
                        yield parquet.encode_row(filled(stub, asked))
                    else:
                        forgotten.append(record_key(stub["id"], stub["prompt_name"]))
            gone = (stub for stubs in sharing.values() for stub in stubs)
            forgotten += [record_key(stub["id"], stub["prompt_name"]) for stub in gone]

    def _forget_marks(self) -> None:
        """The next run looks at every record of its source, and this one says no more how far it came."""
        if not self._has_forgotten:
            self._has_forgotten = True
            self._ledger.set_meta(dict.fromkeys(self._ledger.meta_names("mark "), b"{}"))

    def _asked_rows(self, keys: set[bytes]) -> Iterator[tuple[bytes, Mapping[str, object]]]:
        """The rows of records whose answers are shared, one at a time, from the ledger or else from their parts."""
        found = set()
        for key, waiting in self._ledger.waiting_rows(keys):
            found.add(key)
            yield key, orjson.loads(waiting)
        parts = self._ledger.parts_of(list(keys - found))
        for part in sorted(set(parts.values())):
            wanted = {key for key, where in parts.items() if where == part}
            for row in parquet.rows_of(self._data, part, self._columns, wanted):
                yield record_key(str(row["id"]), str(row["prompt_name"])), row


def last_config(out: Path) -> RunConfig:
    """What OUT was last asked, from its own `config.toml`; the defaults where that is gone."""
    path = out / outdir.CONFIG_NAME
    if files.is_odd(path):
        raise InputError(f"{path} is a link or no plain file; move it away, and the next run writes it anew")
    return load_config(path, environ={}) if path.is_file() else RunConfig()


LEASED = {"nano_usd": "cost_unknown_nano_usd", "tokens": "tokens_unknown", "requests": "requests"}
"""What a lease bounds, and where it counts when nobody knows what became of it."""


def _spent(ledger: Ledger) -> Amounts:
    totals = Totals.of(ledger.counts())
    return Amounts(nano_usd(totals.spent_usd), totals.tokens, totals.requests)


def _overview(ledger: Ledger) -> dict[str, object]:
    records: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for code, count in ledger.states().items():
        status, kind = state_of(code)
        records[status] += count
        if kind is not None:
            errors[kind] += count
    counts = ledger.counts()
    return {
        "records": dict(records),
        "errors": dict(errors),
        "totals": Totals.of(counts).as_dict(),
        "models": models_of(counts),
    }


def _is_lost(status: Status, kind: ErrorKind | None) -> bool:
    """Whether there is nothing in a row of this state that another one could replace; an invalid one has its text."""
    return status is Status.FAILED or has_no_text(status, kind)


def _add(bills: dict[bytes, Bill], key: bytes, bill: Bill) -> None:
    bills[key] = bills[key] + bill if key in bills else bill


def _bill_of(stored: bytes) -> Bill:
    bill = json.loads(stored)
    cost_usd = None if bill["cost_usd"] is None else Decimal(bill["cost_usd"])
    return Bill(attempts=bill["attempts"], usage=Usage(**bill["usage"]), cost_usd=cost_usd)


def check_ledger(out: Path) -> None:
    """Raises InputError with the way out where the ledger of OUT is a file of no bytes."""
    path = out / LEDGER_NAME
    if not path.is_file() or path.stat().st_size:
        return
    if _has_parts(out):
        raise InputError(
            f"{path} is empty, and the answers in {DATA_NAME}/ are whole: "
            f"`vision-batch rebuild {out}` makes a new ledger from them"
        )
    raise InputError(f"{path} is empty: the run that made it ended before it began; run the same command again")


def check_names(out: Path) -> None:
    """Raises OSError where something else has a name that is ours, before anything is sent."""
    for name in (DATA_NAME, outdir.RUNS_NAME):
        outdir.check_folder(out / name, may_be_link=name == DATA_NAME)
    for name in (outdir.STATUS_NAME, outdir.CONFIG_NAME):
        if (out / name).is_dir() and not (out / name).is_symlink():
            raise IsADirectoryError(errno.EISDIR, "is a directory; move it away", str(out / name))


def check_rebuilt(out: Path) -> None:
    """Raises ResourceError where a rebuild was cut off: ledger and parts may not belong together."""
    if os.path.lexists(out / REBUILD_NAME):
        raise ResourceError(
            f"{out}: a rebuild was cut off. `vision-batch rebuild {out}` goes on with it; nothing is lost"
        )


def _has_parts(out: Path) -> bool:
    return any((out / DATA_NAME).glob("part-*.parquet")) and (out / outdir.CONFIG_NAME).exists()


def check_out(out: Path) -> None:
    """Refuse a path that is no directory of ours and not empty, before anything in it is touched."""
    if whole(str(out)) != str(out):
        raise InputError(f"{out}: the name of an output directory must be UTF-8, which Parquet's libraries require")
    if out.is_symlink() and not out.exists():
        raise InputError(f"{out} is a link to {out.readlink()}, which is not there; make it, or name another OUT")
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out} is a file; the output is a directory: name another one")
    names = {entry.name for entry in out.iterdir()} - _IGNORED
    is_there = LEDGER_NAME in names
    if not names or (is_there and (out / LEDGER_NAME).stat().st_size):
        return
    if _has_parts(out):
        raise ResourceError(
            f"{out / LEDGER_NAME} is {'empty' if is_there else 'gone'}. The answers in {DATA_NAME}/ are whole: "
            f"`vision-batch rebuild {out}` makes a new ledger from them"
        )
    if is_there:  # killed before there was anything in it
        return
    raise InputError(
        f"{out} is not empty and was not made by vision-batch (it holds {min(names)!r}). "
        "Name a new or empty directory; nothing in this one was touched"
    )


def _refusal(out: Path, before: Mapping[str, object], now: Mapping[str, object], rows: int) -> list[str]:
    """A line each."""
    lines = outdir.differences(before, now) or ["(a value that is not shown, because it may be a secret)"]
    way_out = (
        "Use another OUT, or the same settings as before. Or: `on_config_change=keep` (asks what OUT does not hold) "
        f"or refresh (asks all again, the {rows:,} rows here too). Nothing was sent or changed"
    )
    return [
        f"{out} belongs to another configuration; its answers and new ones would not be comparable:",
        *(f"  {line}" for line in lines),
        way_out,
    ]


@contextmanager
def _decoding(ledger: Ledger) -> Iterator[None]:
    """An error while values of the ledger are read is our bug, unless these are no values that a run writes."""
    try:
        yield
    except VisionBatchError:
        raise
    except Exception as error:
        if (why := what_is_wrong(ledger)) is not None:
            raise DamagedLedgerError(damaged_words(ledger.path, why)) from error
        raise
