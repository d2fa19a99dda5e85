"""An output directory as a whole: the ledger, the parts, and the files beside them.

All methods block and belong to one thread. The order of the steps is what the promise rests on: an answer counts once
its transaction is committed; a row leaves the ledger only after its part is renamed into place; a part is merged by
key, so that the same merge after a crash changes nothing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import orjson

from pipeline.config.run_config import RunConfig
from pipeline.errors import ErrorKind, ResourceError
from pipeline.files import disk_errors
from pipeline.limits.budget import Amounts
from pipeline.limits.pauses import Paused
from pipeline.locations import Origin
from pipeline.records import EMULATOR, BilledAttempt, Follower, ImageRecord, Outcome, PreparedRequest, Status
from pipeline.redaction.addresses import public_url
from pipeline.redaction.redactor import NOTHING_SECRET, Redactor
from pipeline.store import bills, events, outdir
from pipeline.store.accounting import Totals
from pipeline.store.columns import RowOrigin
from pipeline.store.commits import Committer
from pipeline.store.contents import columns_of, decoding
from pipeline.store.dedup import Deduplication
from pipeline.store.hooked import misfit
from pipeline.store.intake import TakenIn
from pipeline.store.ledger.protocol import CONFIG_META, Ledger
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.marks import Marks
from pipeline.store.missing import Missing
from pipeline.store.notes import Notes
from pipeline.store.opening import (
    LEDGER_NAME,
    check_out,
    check_rehearsal,
    check_state,
    declare,
    identity_of,
)
from pipeline.store.origins import write_origins
from pipeline.store.overview import overview, states_of
from pipeline.store.recovery import repair
from pipeline.store.rerun import RerunPolicy
from pipeline.store.sealing import Sealer
from pipeline.store.selection import Selection
from pipeline.tokens.ratios import models_of


class Dataset:
    """OUT, open for one run: made by `Dataset.open`, closed by `close()` or as a context manager."""

    def __init__(
        self,
        out: Path,
        ledger: Ledger,
        *,
        config: RunConfig,
        policy: RerunPolicy,
        origin: RowOrigin,
        failpoint: Callable[[str], None],
        redactor: Redactor,
    ) -> None:
        """The ledger holds the declared configuration, and the run of `origin` has begun in it."""
        self.out, self.run_id = out, origin.run_id
        self.taken = TakenIn()
        """What was taken in from files of unsaved answers when OUT was opened."""
        self._ledger, self._config = ledger, config
        self._failpoint, self._redactor = failpoint, redactor
        self._config_hash = origin.config_hash
        self._is_open = True
        self._noted: Sequence[Paused] = ()
        self._spent_before = Amounts()
        self.marks, self.notes = Marks(ledger), Notes(ledger)
        self._columns = columns_of(ledger)
        self._sealer = Sealer(
            out, ledger, self._columns, rows_per_part=config.output.rows_per_part, step=failpoint, marks=self.marks
        )
        names = config.prompt_names
        selection = self._selection = Selection(ledger, policy, prompt_names=names, config_hash=origin.config_hash)
        self._missing = Missing(ledger, policy, selection, prompt_names=names)
        self._dedup = Deduplication(
            ledger, selection, sealer=self._sealer, is_on=config.request.dedup, sees_changes=policy.refresh_changed
        )
        self._bills = bills.OpenBills()
        is_plain = policy == RerunPolicy()
        self._committer = Committer(
            ledger, self._sealer, self._dedup, self._bills, origin=origin, is_plain=is_plain, step=failpoint
        )

    @classmethod
    def open(
        cls,
        out: Path,
        *,
        config: RunConfig,
        run_id: str,
        now: Callable[[], datetime],
        policy: RerunPolicy | None = None,
        endpoint: str | None = None,
        failpoint: Callable[[str], None] = lambda _: None,
        redactor: Redactor = NOTHING_SECRET,
        has_several: bool = False,
        given: Collection[str] = (),
    ) -> Self:
        """Make OUT (and its parents) or open it, hold it, and repair what a crash left.

        `run_id` is used where the run continues no interrupted one; `endpoint` names the endpoint in rows, `given` the
        columns that its kind adds; `has_several`: of several images. `redactor` cleans files. `failpoint`: each step.
        Raises InputError where OUT is no directory, holds something else or belongs to another configuration,
        OutInUseError where another run holds it, ResourceError where the disk or the ledger does not allow it.
        """
        _make(out)
        failpoint("folder-made")
        ledger = SqliteLedger(out / LEDGER_NAME, failpoint)
        failpoint("ledger-made")
        policy = RerunPolicy() if policy is None else policy
        try:
            with disk_errors(out), decoding(ledger):
                _check(out, ledger, endpoint)
                identity = identity_of(config, redactor)
                declare(out, ledger, config, identity, policy, now=now, step=failpoint, new=(has_several, given))
                origin = _begin(ledger, config, policy, run_id, endpoint)
                dataset = cls(
                    out, ledger, config=config, policy=policy, origin=origin, failpoint=failpoint, redactor=redactor
                )
                dataset._recover()
        except BaseException:
            ledger.close()
            raise
        return dataset

    def _recover(self) -> None:
        self.taken = repair(self.out, self._ledger, self._sealer, self._failpoint)
        bills.settle_lease(self._ledger)  # it covers what was taken in just now
        self._spent_before = bills.spent(self._ledger)
        self._selection.look(self.out, self._columns)
        self._bills.load(self._ledger)
        self._describe()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.close(seal=not isinstance(error, ResourceError))

    @property
    def takes_several(self) -> bool:
        """Whether records may have several images."""
        return "images" in self._columns.names

    def expect(self, records: int) -> None:
        """Announce how many records `missing` will be asked about."""
        self._missing.expect(records)

    def missing(self, records: Sequence[ImageRecord]) -> list[tuple[str, ...]]:
        """For each record, the names of the prompts that this run asks it."""
        return self._missing.of(records)

    def follow(self, request: PreparedRequest) -> Follower | None:
        """The request as a follower of a record that was answered for the same one; None where it must be asked."""
        with decoding(self._ledger):
            return self._dedup.follow(request)

    def commit(
        self, outcomes: Sequence[Outcome], attempts: Sequence[BilledAttempt] = (), followers: Sequence[Follower] = ()
    ) -> None:
        """Commit outcomes, billed attempts of records still under way, and followers, in one transaction.

        When this returns they are committed. `usage`, `cost_usd` and `attempts` of an outcome include its attempts
        that were committed here before; those of a run that was killed are added to its row.
        Where the ledger fails, this and everything later goes to a file beside it, which the next command takes in;
        ResourceError says so.
        """
        self._committer.commit(outcomes, attempts, followers)

    def row_of(self, outcome: Outcome) -> dict[str, Any]:
        """The row of an outcome as a commit would write it; attempts of killed runs are not in it yet."""
        return self._committer.row_of(outcome)

    def misfit(self, changes: Mapping[str, object]) -> str | None:
        """Why a row cannot have these values of a hook; None where it can."""
        return misfit(changes, self._columns)

    def seal(self) -> int:
        """Bring all committed rows into `data/`, part by part. Returns the number of rows."""
        sealed = self._sealer.seal()
        self._dedup.after_seal()
        return sealed

    def seal_part(self) -> int:
        """Seal the rows of one part. Returns their number; 0 when all rows are sealed."""
        return self._sealer.seal_part()

    def lease(self, amounts: Amounts) -> None:
        """Store the most that this process may spend, before it does."""
        bills.lease(self._ledger, self._spent_before, amounts)

    def settle_lease(self) -> None:
        """Count as spent what was leased, and no answer accounts for; later, where answers wait beside the ledger."""
        if not self._committer.has_failed:
            bills.settle_lease(self._ledger)

    def end_run(self) -> None:
        """Mark this run as complete: the next command begins another."""
        self._ledger.end_run()

    def close(self, *, seal: bool = True) -> None:
        """Seal, and release OUT. Without `seal` committed rows stay in the ledger for the next run."""
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

    @property
    def left_out(self) -> int:
        """Records that `missing` was asked about, and that the run's selection leaves out."""
        return self._missing.left_out

    @property
    def own_config_hash(self) -> str:
        """The configuration that OUT declares, with which a run without a selection continues."""
        return (self._ledger.meta("config_hash") or b"").decode()

    def has_answers(self) -> bool:
        """Whether runs with this configuration, this one included, have answers with text."""
        counts = self._ledger.counts_with(self._config_hash)
        return counts.get(Status.OK, 0) + counts.get(Status.TRUNCATED, 0) > counts.get("without_text", 0)

    def states(self) -> dict[tuple[Status, ErrorKind | None], int]:
        """The number of records with each status and kind of error."""
        return states_of(self._ledger)

    def overview(self) -> dict[str, object]:
        """The whole of OUT as plain values: `records` by status, `errors` by kind, `totals`, tokens by `models`."""
        return overview(self._ledger)

    def billed_by_model(self) -> dict[str, dict[str, int]]:
        """What was billed and what was predicted, by the model as served."""
        return models_of(self._ledger.counts())

    def write_status(self, status: Mapping[str, object]) -> None:
        """Replace `status.json`."""
        with disk_errors(self.out):
            outdir.write_status(self.out, status)

    def note_pauses(self, pauses: Sequence[Paused]) -> None:
        """Store the pauses of this run, where there are new ones."""
        if pauses and pauses != self._noted:
            events.note_pauses(self._ledger, pauses)
            self._noted = pauses

    def write_run(self, summary: Mapping[str, object]) -> None:
        """Replace `runs/<run_id>.json`."""
        with disk_errors(self.out):
            outdir.write_run(self.out, self.run_id, summary)

    def note_origins(self, found: Sequence[Origin]) -> None:
        """Add where the images of this run are to `sources.json`."""
        with disk_errors(self.out):
            write_origins(self.out, self.run_id, found, self._redactor)

    def describe(self) -> None:
        """Replace `config.toml` and the dataset card, which name the number of rows of each configuration."""
        with disk_errors(self.out):
            self._describe()

    def _describe(self) -> None:
        configurations = self.configurations()
        config: dict[str, Any] = self._redactor.settings(self._config.resolved())
        # After a run with another configuration for some rows, config.toml still loads as OUT's own.
        outdir.write_config(self.out, None if self._selection.is_exclusive else config, configurations)
        outdir.write_card(self.out, configurations, columns=self._columns.names)
        self._failpoint("described")

    def configurations(self) -> list[outdir.Configuration]:
        """OUT's own configuration, and the others that have rows, that of this run first."""
        rows = self._ledger.rows_by_config()
        names = dict.fromkeys((self.own_config_hash, self._config_hash, *rows))
        return [
            outdir.Configuration(name, rows.get(name, 0), orjson.loads(self._ledger.meta(CONFIG_META + name) or b"{}"))
            for name in names
            if rows.get(name) or name == self.own_config_hash
        ]


def _make(out: Path) -> None:
    with disk_errors(out):
        check_out(out)
        out.mkdir(parents=True, exist_ok=True)


def _check(out: Path, ledger: SqliteLedger, endpoint: str | None) -> None:
    check_state(out)
    check_rehearsal(out, ledger, is_rehearsal=endpoint == EMULATOR)


def _begin(
    ledger: SqliteLedger, config: RunConfig, policy: RerunPolicy, run_id: str, endpoint: str | None
) -> RowOrigin:
    """Begin the run, or continue an interrupted one: what its rows have in common."""
    config_hash = config.config_hash()
    return RowOrigin(
        endpoint=public_url(config.endpoint.base_url if endpoint is None else endpoint),
        run_id=ledger.begin_run(run_id, config_hash, policy.describe()),
        config_hash=config_hash,
    )
