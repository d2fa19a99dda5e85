"""Which records a run has to ask: those without a row, and those that its `RerunPolicy` asks again."""

from collections.abc import Sequence

from pipeline.errors import ErrorKind
from pipeline.files import record_stamp
from pipeline.limits.decision import TRANSIENT
from pipeline.records import ImageRecord, Status, record_key
from pipeline.store.contents import decoding
from pipeline.store.keyset import KeySet
from pipeline.store.ledger.protocol import Ledger, StoredRecord
from pipeline.store.rerun import RerunPolicy
from pipeline.store.states import state_code, state_of

_FEW_KEYS, _WORTH_A_PASS = 10_000, 1 / 16
"""One pass over all keys pays from this number of lookups on, and from this share of all records.

To look a key up takes about three times as long as to pass over one.
"""

SETTLED = frozenset(
    state_code(status, kind)
    for status in Status
    for kind in (None, *ErrorKind)
    if not (status is Status.FAILED and kind in TRANSIENT)
)
"""States that the default policy never asks again."""


class Missing:
    """The records of one OUT that one run asks."""

    def __init__(self, ledger: Ledger, policy: RerunPolicy, *, prompt_name: str, config_hash: str) -> None:
        """After the run has begun, or is resumed."""
        self._ledger, self._policy, self._prompt_name = ledger, policy, prompt_name
        self.settled = SETTLED if policy == RerunPolicy() else frozenset[int]()
        self._comparable = ledger.runs_with(config_hash)
        self._records = sum(ledger.states().values())
        self._lookups = 0
        self._answered: KeySet | None = None

    def expect(self, records: int) -> None:
        """Announce lookups, so that one pass over all keys can begin with the first, if it pays."""
        self._lookups += records

    def of(self, records: Sequence[ImageRecord]) -> list[bool]:
        """For each record, whether the run asks it."""
        keys = [record_key(record.id, self._prompt_name) for record in records]
        with decoding(self._ledger):
            is_settled = self._settled_by_prefix(keys)
        if all(is_settled):
            return [False] * len(keys)
        known = self._ledger.find([key for key, settled in zip(keys, is_settled, strict=True) if not settled])
        with decoding(self._ledger):
            return [
                not settled and ((row := known.get(key)) is None or self._is_asked_again(record, row))
                for record, key, settled in zip(records, keys, is_settled, strict=True)
            ]

    def _settled_by_prefix(self, keys: Sequence[bytes]) -> list[bool]:
        """The records that need no lookup in the ledger: none, until one pass over all its keys pays."""
        self._lookups += len(keys)
        if self._answered is None:
            if not self.settled or self._lookups < max(_FEW_KEYS, self._records * _WORTH_A_PASS):
                return [False] * len(keys)
            self._answered = KeySet(self._ledger.settled_prefixes(self.settled))
        return self._answered.holds(keys)

    def _is_asked_again(self, record: ImageRecord, stored: StoredRecord) -> bool:
        if stored.state in self.settled:
            return False
        status, kind = state_of(stored.state)
        changed = self._policy.refresh_changed and stored.stamp != record_stamp(record)
        return self._policy.wants(
            status,
            kind,
            by_this_run=stored.run == self._ledger.run,
            by_this_config=stored.run in self._comparable,
            has_changed=changed,
        )
