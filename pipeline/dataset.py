"""An output directory as a whole: the ledger, the parts that it is projected into, and the files beside them.

All methods block and belong to one thread. The order of the steps is what the promise rests on: an answer
counts once its transaction is committed; a row leaves the ledger only after its part is renamed into place;
a part is merged by key, so that doing it again after a crash changes nothing.
"""

import errno
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Self

import orjson
import pyarrow as pa

from pipeline.config import RunConfig
from pipeline.edges import outdir, parquet
from pipeline.edges.ledger import HOLDER_NAME, BillRow, KeptRow, Ledger, SqliteLedger
from pipeline.errors import ErrorKind, InputError, ResourceError
from pipeline.policy.retry import TRANSIENT
from pipeline.policy.rows import (
    Bill,
    Totals,
    add_costs,
    count_bill,
    count_outcome,
    error_of,
    row_of,
    state_code,
    state_of,
)
from pipeline.records import BilledAttempt, ImageRecord, Outcome, Status, Usage, record_key

LEDGER_NAME = "ledger.sqlite"
DATA_NAME = "data"

# What may lie in a directory that still counts as empty.
_IGNORED = frozenset({HOLDER_NAME, ".DS_Store", ".gitignore", ".gitkeep", "lost+found"})
_ASK_AGAIN = tuple(state_code(Status.FAILED, kind) for kind in sorted(TRANSIENT))


class Dataset:
    """OUT, open for one run: made by `Dataset.open`, closed by `close()` or as a context manager."""

    def __init__(
        self,
        out: Path,
        ledger: Ledger,
        *,
        config: RunConfig,
        endpoint: str,
        run_id: str,
        failpoint: Callable[[str], None],
    ) -> None:
        self.out = out
        self.run_id = run_id
        self._ledger = ledger
        self._config = config
        self._failpoint = failpoint
        self._data = out / DATA_NAME
        self._prompt_name = config.request.prompt_name
        self._endpoint = outdir.public_url(endpoint)
        self._config_hash = config.config_hash()
        self._columns: pa.Schema = pa.schema([])
        self._tail, self._tail_rows = 0, 0
        self._bills_before: dict[bytes, Bill] = {}
        self._bills_now: dict[bytes, Bill] = {}
        self._is_open = True

    @classmethod
    def open(
        cls,
        out: Path,
        *,
        config: RunConfig,
        run_id: str,
        now: Callable[[], datetime],
        endpoint: str | None = None,
        failpoint: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """Make OUT (and its parents) or open it, hold it, and put right what a crash left.

        `endpoint` is what rows call it, where that is not its address.
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
        dataset = cls(out, ledger, config=config, endpoint=endpoint, run_id=run_id, failpoint=failpoint)
        try:
            with _disk(out):
                dataset._declare(now)
                dataset._repair()
                dataset._describe()
        except BaseException:
            ledger.close()
            raise
        return dataset

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.close(seal=not isinstance(error, ResourceError))

    def missing(self, records: Sequence[ImageRecord]) -> list[bool]:
        """For each record, whether it is to be asked: never answered, or failed for a transient reason."""
        keys = [record_key(record.id, self._prompt_name) for record in records]
        kept = self._ledger.kept(keys, again=_ASK_AGAIN)
        return [key not in kept for key in keys]

    def keep(self, outcomes: Sequence[Outcome], attempts: Sequence[BilledAttempt] = ()) -> None:
        """Commit outcomes, and billed attempts of records still under way, in one transaction.

        When this returns they are kept. An outcome's `usage`, `cost_usd` and `attempts` include the attempts
        of it that were committed here before; those of a run that was killed are added to its row.
        """
        counts: Counter[str] = Counter()
        bills = [self._bill_row(attempt, counts) for attempt in attempts]
        rows = [self._kept_row(outcome, counts) for outcome in outcomes]
        parts = self._parts_for_new(len(rows))
        self._failpoint("rows-built")
        new = self._ledger.commit(rows, new_parts=parts, run_id=self.run_id, counts=counts, bills=bills)
        self._failpoint("committed")
        for row in rows:
            self._bills_before.pop(row.key, None)
            self._bills_now.pop(row.key, None)
        for part in parts[:new]:
            self._tail, self._tail_rows = part, self._tail_rows + 1 if part == self._tail else 1

    def seal(self) -> int:
        """Bring all that is kept into `data/`, part by part; the number of rows."""
        sealed = 0
        while rows := self.seal_part():
            sealed += rows
        return sealed

    def seal_part(self) -> int:
        """Bring what waits for one part into it; the number of rows, 0 when nothing waits any more."""
        part = self._ledger.next_part()
        if part is None:
            return 0
        with _disk(self.out):
            return self._merge(part)

    def close(self, *, seal: bool = True) -> None:
        """Seal, and let go of OUT. Without `seal` what is kept waits in the ledger for the next run."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            if seal:
                self.seal()
        finally:
            self._ledger.close()

    def totals(self) -> Totals:
        """Of all runs on this OUT, killed ones included."""
        return Totals.of(self._ledger.counts())

    def run_totals(self) -> Totals:
        """Of this run, its resumes included."""
        return Totals.of(self._ledger.counts(self.run_id))

    def states(self) -> dict[tuple[Status, ErrorKind | None], int]:
        """How many records have which status and kind of error now."""
        return {state_of(code): records for code, records in self._ledger.states().items()}

    def write_status(self, status: Mapping[str, object]) -> None:
        """Replace `status.json`."""
        with _disk(self.out):
            outdir.write_status(self.out, status)

    def write_run(self, summary: Mapping[str, object]) -> None:
        """Replace `runs/<run_id>.json`."""
        with _disk(self.out):
            outdir.write_run(self.out, self.run_id, summary)

    def _declare(self, now: Callable[[], datetime]) -> None:
        """Write into a new ledger whose answers it holds; of an old one, check it."""
        if self._ledger.meta("config_hash") is None:
            n = self._config.request.extra.get("n")
            columns = parquet.schema(n=n if isinstance(n, int) else 1)
            self._ledger.set_meta(
                {
                    "config_hash": self._config_hash.encode(),
                    "identity": orjson.dumps(outdir.public(self._config.identity())),
                    "schema": columns.serialize().to_pybytes(),
                    "made_at": now().isoformat().encode(),
                }
            )
            self._failpoint("declared")
        elif self._ledger.meta("config_hash") != self._config_hash.encode():
            before = orjson.loads(self._ledger.meta("identity") or b"{}")
            raise InputError(_refusal(self.out, before, outdir.public(self._config.identity())))
        self._columns = pa.ipc.read_schema(pa.py_buffer(self._ledger.meta("schema")))

    def _repair(self) -> None:
        """Finish what a crash interrupted: the first part, a half-written file, a part renamed and not marked."""
        self._data.mkdir(exist_ok=True)
        parquet.remove_unfinished(self._data)
        outdir.remove_unfinished(self.out)
        parts = int(self._ledger.meta("parts") or b"0")
        present = set(parquet.part_numbers(self._data))
        if lost := [number for number in range(parts) if number not in present]:
            raise ResourceError(
                f"{self._data / parquet.part_name(lost[0])} is gone, and the answers in it ({len(lost)} of "
                f"{parts} parts). Put it back, or `vision-batch rebuild {self.out}` to ask for them again"
            )
        if not present:
            parquet.write_part(self._data, 0, parquet.empty(self._columns), self._failpoint)
        if not parts:
            self._ledger.set_meta({"parts": b"1"})
            self._failpoint("first-part-marked")
        for bill in self._ledger.bills():
            _add(self._bills_before, bill.key, _bill_of(bill.bill))
        self.seal()
        self._tail = max(parquet.part_numbers(self._data))
        self._tail_rows = parquet.count_rows(self._data, self._tail)

    def _describe(self) -> None:
        outdir.write_config(self.out, self._config.model_dump(mode="json"))
        request = self._config.request
        columns = {field.name: str(field.type) for field in self._columns}
        outdir.write_card(self.out, prompts={request.prompt_name: request.prompt}, model=request.model, columns=columns)
        self._failpoint("described")

    def _bill_row(self, attempt: BilledAttempt, counts: Counter[str]) -> BillRow:
        bill = Bill(usage=attempt.usage, cost_usd=attempt.cost_usd)
        key = record_key(attempt.record.id, self._prompt_name)
        count_bill(counts, bill)
        _add(self._bills_now, key, bill)
        return BillRow(key, attempt.at.isoformat(), json.dumps(asdict(bill), default=str).encode())

    def _kept_row(self, outcome: Outcome, counts: Counter[str]) -> KeptRow:
        key = record_key(outcome.record.id, self._prompt_name)
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
        count_outcome(counts, outcome)
        row = row_of(
            outcome,
            prompt_name=self._prompt_name,
            endpoint=self._endpoint,
            run_id=self.run_id,
            config_hash=self._config_hash,
        )
        return KeptRow(
            key,
            state_code(outcome.status, error_of(outcome)[0]),
            parquet.encode_row(row),
            size=outcome.facts.source_bytes if outcome.facts else None,
        )

    def _parts_for_new(self, rows: int) -> list[int]:
        """Where new rows go: into the tail part while it has room, then into the next ones.

        This is committed with the rows: after a crash the same ones go to the same part.
        """
        limit = self._config.output.rows_per_part
        room = max(0, limit - self._tail_rows)
        return [self._tail if row < room else self._tail + 1 + (row - room) // limit for row in range(rows)]

    def _merge(self, part: int) -> int:
        """Write one part anew with what waits for it; only this one part is in memory."""
        upto_seq, tables = 0, []
        for batch in self._ledger.pending(part):
            upto_seq = batch[-1][0]
            tables.append(parquet.table_of((row for _, row in batch), self._columns))
        new = pa.concat_tables(tables)
        table = parquet.merge(parquet.read_part(self._data, part, self._columns), new)
        parquet.write_part(self._data, part, table, self._failpoint)
        self._ledger.mark_sealed(part, upto_seq)
        self._failpoint("marked")
        return int(new.num_rows)


def _add(bills: dict[bytes, Bill], key: bytes, bill: Bill) -> None:
    bills[key] = bills[key] + bill if key in bills else bill


def _bill_of(stored: bytes) -> Bill:
    bill = json.loads(stored)
    cost_usd = None if bill["cost_usd"] is None else Decimal(bill["cost_usd"])
    return Bill(attempts=bill["attempts"], usage=Usage(**bill["usage"]), cost_usd=cost_usd)


def check_out(out: Path) -> None:
    """Refuse a path that is no directory of ours and not empty, before anything in it is touched."""
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out} is a file; the output is a directory: name another one")
    names = {entry.name for entry in out.iterdir()} - _IGNORED
    if not names or LEDGER_NAME in names:
        return
    if any((out / DATA_NAME).glob("part-*.parquet")) and (out / outdir.CONFIG_NAME).exists():
        raise ResourceError(
            f"{out / LEDGER_NAME} is gone. The answers in {DATA_NAME}/ are whole: "
            f"`vision-batch rebuild {out}` makes a new ledger from them"
        )
    raise InputError(
        f"{out} is not empty and was not made by vision-batch (it holds {min(names)!r}). "
        "Name a new or empty directory; nothing in this one was touched"
    )


def _refusal(out: Path, before: Mapping[str, object], now: Mapping[str, object]) -> str:
    lines = outdir.differences(before, now) or ["(a value that is not shown, because it may be a secret)"]
    return "\n".join(
        [
            f"{out} belongs to another configuration; its answers and new ones would not be comparable:",
            *(f"  {line}" for line in lines),
            "Use another OUT, or the same settings as before; nothing was sent or changed",
        ]
    )


@contextmanager
def _disk(out: Path) -> Iterator[None]:
    """What the operating system refuses becomes one line and exit code 5."""
    try:
        yield
    except OSError as error:
        where = error.filename or out
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            hint = "What is kept stays kept: free some space and run the same command"
        else:
            hint = "Check that this path can be written; what is kept stays kept"
        raise ResourceError(f"{where}: {error.strerror or error}. {hint}") from error
