"""Which records one run asks: its `RerunPolicy`, applied to the rows that OUT had when the run began."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.errors import ErrorKind
from pipeline.limits.decision import TRANSIENT
from pipeline.records import Status, record_key
from pipeline.store import reading
from pipeline.store.columns import KEY_NAMES
from pipeline.store.filters import to_arrow
from pipeline.store.keyset import KeySet
from pipeline.store.layout import DATA_NAME
from pipeline.store.ledger.protocol import Ledger, StoredRecord
from pipeline.store.rerun import Match, RerunPolicy, worded
from pipeline.store.rows import tables_of
from pipeline.store.states import state_code, state_of

STATES = {state_code(status, kind): (status, kind) for status in Status for kind in (None, *ErrorKind)}
SETTLED = frozenset(
    code for code, (status, kind) in STATES.items() if not (status is Status.FAILED and kind in TRANSIENT)
)
"""States that the default policy never asks again."""
_WORST = Match(by_this_run=False, by_this_config=False, has_changed=True)


class Selection:
    """The records of one OUT that one run may ask. Memory: 8 bytes for each row that `only` or `retry_where` names."""

    def __init__(self, ledger: Ledger, policy: RerunPolicy, *, prompt_names: Sequence[str], config_hash: str) -> None:
        """After the run has begun, or is resumed. `look` follows before it is used."""
        self._ledger, self._policy = ledger, policy
        self.is_exclusive = is_exclusive(ledger, policy, config_hash)
        """Whether another configuration than OUT's own is asked about the rows that are named, and nothing else."""
        self.asks_new = policy.takes_all_named or not self.is_exclusive
        """Whether records without a row are asked."""
        self._comparable = ledger.runs_with(config_hash)
        self._only, self._where = _only(policy, prompt_names), KeySet(())
        never = (
            _WORST
            if policy.retry_where is None
            else Match(by_this_run=False, by_this_config=False, has_changed=True, is_where=False)
        )
        wants = policy.wants
        self.settled = frozenset(
            code for code in SETTLED if not wants(*STATES[code], never, is_exclusive=self.is_exclusive)
        )
        """States that are never asked again, unless `retry_where` names the row."""

    def passed_over(self) -> frozenset[int]:
        """States that a run which begins now never asks, where its policy names rows by their state alone."""
        known = Match(by_this_run=False, by_this_config=True, has_changed=False)
        wants = self._policy.wants
        return frozenset(
            code for code, state in STATES.items() if not wants(*state, known, is_exclusive=self.is_exclusive)
        )

    def look(self, out: Path, columns: pa.Schema) -> None:
        """Find the rows for which `retry_where` is true, in the parts and in the ledger.

        Raises InputError for a condition that does not fit the columns.
        """
        if self._policy.retry_where is not None:
            with worded():
                self._where = KeySet.of(_keys_where(out, self._ledger, columns, self._policy.retry_where))

    def outside(self, keys: Sequence[bytes]) -> list[bool] | None:
        """For each key whether `only` leaves it out; None where it leaves out none."""
        return None if self._only is None else [not inside for inside in self._only.holds(keys)]

    def named(self, keys: Sequence[bytes]) -> list[bool] | None:
        """For each key whether `retry_where` names its row; None where it names none."""
        return self._where.holds(keys) if len(self._where) else None

    def asks_again(self, stored: StoredRecord, *, has_changed: bool = False, is_comparable: bool | None = None) -> bool:
        """Whether the run asks a record that has this row. `is_comparable`: its request is known to be the same."""
        if (stored.state in self.settled and not len(self._where)) or self._is_outside(stored.key):
            return False
        known = Match(
            by_this_run=stored.run == self._ledger.run,
            by_this_config=stored.run in self._comparable if is_comparable is None else is_comparable,
            has_changed=has_changed,
            is_where=self._is_named(stored.key),
        )
        return self._policy.wants(*state_of(stored.state), known, is_exclusive=self.is_exclusive)

    def is_renewed(self, key: bytes) -> bool:
        """Whether the user names this row one by one: then no answer of an earlier run takes its place."""
        if self._policy.retry_where is None and not self._policy.takes_all_named:
            return False
        return any(map(self.asks_again, self._ledger.find([key]).values()))

    def _is_outside(self, key: bytes) -> bool:
        return self._only is not None and not self._only.holds([key])[0]

    def _is_named(self, key: bytes) -> bool:
        return self._policy.retry_where is None or self._where.holds([key])[0]


def is_exclusive(ledger: Ledger, policy: RerunPolicy, config_hash: str) -> bool:
    """Whether a run asks the rows that its policy names with another configuration than OUT's own."""
    return policy.selects and ledger.meta("config_hash") not in {None, config_hash.encode()}


def _only(policy: RerunPolicy, prompt_names: Sequence[str]) -> KeySet | None:
    if policy.only is None:
        return None
    return KeySet.of(record_key(one, name) for one in policy.only for name in prompt_names)


def _keys_where(out: Path, ledger: Ledger, columns: pa.Schema, where: str) -> Iterator[bytes]:
    """The rows in the ledger are newer than those in the parts."""
    condition, newer = to_arrow(where, columns), set[bytes]()
    for table in tables_of((one.row for one in ledger.unsealed()), columns):
        newer.update(_keys(table))
        yield from _keys(table.filter(condition))
    if (out / DATA_NAME).is_dir():
        for batch in reading.scan(out, KEY_NAMES, where):
            yield from (key for key in _keys(batch) if key not in newer)


def _keys(rows: pa.Table | pa.RecordBatch) -> Iterator[bytes]:
    return map(record_key, rows["id"].to_pylist(), rows["prompt_name"].to_pylist())
