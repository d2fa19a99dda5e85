"""What was billed and stands in no row yet: attempts of records under way, and the lease of a run."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from decimal import Decimal

import orjson

from pipeline.limits.budget import Amounts
from pipeline.money import Bill, add_costs, nano_usd
from pipeline.records import BilledAttempt, Outcome, Usage, record_key
from pipeline.store.accounting import Totals, count_bill
from pipeline.store.ledger.protocol import BillRow, Ledger

_UNKNOWN_COUNTS = {"nano_usd": "cost_unknown_nano_usd", "tokens": "tokens_unknown", "requests": "requests"}
"""The amounts of a lease, and the total that counts each where its bill stays unknown."""


class OpenBills:
    """Bills of records without a row, by key: those of runs that were killed, and those of this run."""

    def __init__(self) -> None:
        self._before: dict[bytes, Bill] = {}
        self._now: dict[bytes, Bill] = {}

    def load(self, ledger: Ledger) -> None:
        """Read the bills that killed runs left."""
        for row in ledger.bills():
            _add(self._before, row.key, _decoded(row.bill))

    def snapshot(self) -> dict[bytes, Bill]:
        """The bills of this run, for `restore`."""
        return dict(self._now)

    def restore(self, snapshot: dict[bytes, Bill]) -> None:
        """Undo what was added since the snapshot, because its commit failed."""
        self._now = snapshot

    def add(self, attempts: Sequence[BilledAttempt], counts: Counter[str]) -> list[BillRow]:
        """Count attempts without an answer; the rows of those that were billed."""
        counts["cost_unknown_nano_usd"] += sum(attempt.unknown_nano_usd for attempt in attempts)
        return [self._row(one, counts) for one in attempts if one.usage != Usage() or one.cost_usd]

    def _row(self, attempt: BilledAttempt, counts: Counter[str]) -> BillRow:
        bill = Bill(usage=attempt.usage, cost_usd=attempt.cost_usd)
        key = record_key(attempt.record.id, attempt.prompt_name)
        count_bill(counts, bill)
        _add(self._now, key, bill)
        return BillRow(key, attempt.at.isoformat(), json.dumps(asdict(bill), default=str).encode())

    def included(self, outcome: Outcome, counts: Counter[str]) -> Outcome:
        """The outcome with the bills of killed runs. Subtracts from `counts` the bills that are counted already."""
        key = record_key(outcome.record.id, outcome.prompt_name)
        if (before := self._before.get(key)) is not None:
            count_bill(counts, before, times=-1)
            outcome = replace(
                outcome,
                attempts=outcome.attempts + before.attempts,
                usage=outcome.usage + before.usage,
                cost_usd=add_costs(outcome.cost_usd, before.cost_usd),
            )
        if (now := self._now.get(key)) is not None:
            count_bill(counts, now, times=-1)
        return outcome

    def close(self, key: bytes) -> None:
        """Forget the bills of a record: its row includes them."""
        self._before.pop(key, None)
        self._now.pop(key, None)


def spent(ledger: Ledger) -> Amounts:
    """What all runs on this OUT have spent."""
    totals = Totals.of(ledger.counts())
    return Amounts(nano_usd(totals.spent_usd), totals.tokens, totals.requests)


def lease(ledger: Ledger, before: Amounts, amounts: Amounts) -> None:
    """Store the most that this process may spend, before it does. A kill makes the unsettled rest count as spent."""
    total = before + amounts
    bounded = {name: getattr(total, name) for name in _UNKNOWN_COUNTS if getattr(amounts, name) is not None}
    if bounded:
        ledger.set_meta({"lease": orjson.dumps(bounded)})


def settle_lease(ledger: Ledger, of_run: str | None = None) -> None:
    """Count as spent what a run leased, and no answer accounts for: it was killed, or its requests were cut off.

    `of_run` names the run, where none was begun.
    """
    leased = orjson.loads(ledger.meta("lease") or b"{}")
    if not leased:
        return
    now = spent(ledger)
    unknown = {_UNKNOWN_COUNTS[name]: most - (getattr(now, name) or 0) for name, most in leased.items()}
    counts = {name: amount for name, amount in unknown.items() if amount > 0}
    ledger.commit([], new_parts=[], counts=counts, meta={"lease": b"{}"}, of_run=of_run)


def _add(bills: dict[bytes, Bill], key: bytes, bill: Bill) -> None:
    bills[key] = bills[key] + bill if key in bills else bill


def _decoded(stored: bytes) -> Bill:
    bill = json.loads(stored)
    cost_usd = None if bill["cost_usd"] is None else Decimal(bill["cost_usd"])
    return Bill(attempts=bill["attempts"], usage=Usage(**bill["usage"]), cost_usd=cost_usd)
