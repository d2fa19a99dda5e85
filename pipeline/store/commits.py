"""What one commit consists of: outcomes, billed attempts and followers as rows, bills and counts."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.errors import ResourceError
from pipeline.money import Bill
from pipeline.records import BilledAttempt, Follower, Outcome, record_key
from pipeline.store import unsaved
from pipeline.store.accounting import count_bill, count_follower, count_outcome
from pipeline.store.bills import OpenBills
from pipeline.store.columns import RowOrigin, error_of, of_schema, row_of
from pipeline.store.contents import decoding
from pipeline.store.dedup import SHAREABLE, Deduplication
from pipeline.store.ledger.protocol import BillRow, CommittedRow, Ledger
from pipeline.store.rows import encode_row
from pipeline.store.sealing import Sealer
from pipeline.store.selection import SETTLED
from pipeline.store.states import has_no_answer, state_code, state_of


class Committer:
    """Commits to the ledger; where that fails, saves to a file beside it."""

    def __init__(
        self,
        ledger: Ledger,
        sealer: Sealer,
        dedup: Deduplication,
        bills: OpenBills,
        *,
        origin: RowOrigin,
        is_plain: bool,
        step: Callable[[str], None],
    ) -> None:
        """`is_plain`: the run has the default policy, and so no record that has an answer is asked."""
        self._ledger, self._sealer, self._dedup, self._bills = ledger, sealer, dedup, bills
        self._origin, self._is_plain, self._step = origin, is_plain, step
        self._columns = of_schema(sealer.columns.names)
        self._failed: ResourceError | None = None
        self._unsaved: Path | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the ledger took nothing more from some commit on."""
        return self._failed is not None

    def row_of(self, outcome: Outcome) -> dict[str, object]:
        """The row of an outcome, without the bills of killed runs."""
        return row_of(outcome, self._origin, self._columns)

    def commit(
        self, outcomes: Sequence[Outcome], attempts: Sequence[BilledAttempt], followers: Sequence[Follower]
    ) -> None:
        """Commit everything in one transaction. Raises ResourceError where the ledger fails, then and ever after."""
        own = [(follower.key, follower.stamp) for follower in followers if follower.is_its_own]
        followers = [follower for follower in followers if not follower.is_its_own]
        snapshot = self._bills.snapshot()
        try:
            if self._failed is not None:
                raise self._failed
            with decoding(self._ledger):
                if own:
                    self._ledger.set_stamps(own)
                self._commit(outcomes, attempts, followers)
        except ResourceError as error:
            if self._failed is None:
                self._bills.restore(snapshot)
            self._failed = self._save(error, outcomes, attempts, followers)
            raise self._failed from error

    def _commit(
        self, outcomes: Sequence[Outcome], attempts: Sequence[BilledAttempt], followers: Sequence[Follower]
    ) -> None:
        counts: Counter[str] = Counter()
        outcomes = self._without_losses(outcomes, counts)
        self._dedup.before_commit([*map(self._key, outcomes), *map(self._key, followers)])
        bills = self._bills.add(attempts, counts)
        rows = self._rows(outcomes, followers, counts)
        if not self._is_plain and any(row.state not in SETTLED for row in rows):
            self._sealer.marks.forget_all()  # a row that the next run asks again may lie below one
        self._step("rows-built")
        self._sealer.commit(rows, counts=counts, bills=bills)
        self._step("committed")
        for row in rows:
            self._bills.close(row.key)

    def _rows(
        self, outcomes: Sequence[Outcome], followers: Sequence[Follower], counts: Counter[str]
    ) -> list[CommittedRow]:
        rows = [self._row(outcome, counts) for outcome in outcomes]
        for follower in followers:
            count_follower(counts, follower.status, follower.error_kind)
            rows.append(self._dedup.row(follower, self._origin, self._columns))
        return rows

    def _row(self, outcome: Outcome, counts: Counter[str]) -> CommittedRow:
        outcome = self._bills.included(outcome, counts)
        count_outcome(counts, outcome)
        return CommittedRow(
            self._key(outcome),
            state_code(outcome.status, error_of(outcome)[0]),
            encode_row(self.row_of(outcome)),
            stamp=outcome.stamp,
            request_sha256=outcome.request_sha256,
            shareable=outcome.status in SHAREABLE,
        )

    def _without_losses(self, outcomes: Sequence[Outcome], counts: Counter[str]) -> Sequence[Outcome]:
        """Without outcomes that have no text, where the record has an answer from before: that answer stays."""
        if self._is_plain:
            return outcomes
        without_text = {self._key(one): one for one in outcomes if has_no_answer(one.status, one.error_kind)}
        stored = self._ledger.find(list(without_text)).values() if without_text else ()
        answered = {row.key for row in stored if not has_no_answer(*state_of(row.state))}
        for key in answered:
            outcome = self._bills.included(without_text[key], counts)
            count_bill(counts, Bill(attempts=outcome.attempts, usage=outcome.usage, cost_usd=outcome.cost_usd))
        return [outcome for outcome in outcomes if self._key(outcome) not in answered] if answered else outcomes

    def _key(self, one: Outcome | Follower) -> bytes:
        return record_key(one.record.id, one.prompt_name)

    def _save(
        self,
        error: ResourceError,
        outcomes: Sequence[Outcome],
        attempts: Sequence[BilledAttempt],
        followers: Sequence[Follower],
    ) -> ResourceError:
        """Write what the ledger cannot take to a file beside it. Returns the error to raise, which names the file."""
        counts: Counter[str] = Counter()
        bills = self._bills.add(attempts, counts)
        batch = self._unsaved_batch(self._rows(outcomes, followers, counts), bills, counts)
        path = self._unsaved or unsaved.new_path(self._sealer.out, self._origin.run_id)
        try:
            unsaved.append(path, [batch])
        except OSError:
            return error
        if self._unsaved is not None:
            return error
        self._unsaved = path
        saved = type(error)(
            f"{error}. Answers that arrived since are in {path}: the next command that opens OUT takes them"
        )
        saved.answers_are_saved = True
        return saved

    def _unsaved_batch(
        self, rows: Sequence[CommittedRow], bills: Sequence[BillRow], counts: Counter[str]
    ) -> unsaved.UnsavedBatch:
        return unsaved.UnsavedBatch(
            self._origin.run_id,
            tuple(unsaved.UnsavedAnswer(row.row, row.leader, row.stamp) for row in rows),
            {name: count for name, count in counts.items() if count},
            tuple((bill.key, bill.at, bill.bill) for bill in bills),
        )
