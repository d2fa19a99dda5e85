"""Which rows a run has to ask for: those that OUT lacks, and those that its `RerunPolicy` asks again."""

from collections.abc import Sequence
from itertools import compress

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

    def __init__(self, ledger: Ledger, policy: RerunPolicy, *, prompt_names: tuple[str, ...], config_hash: str) -> None:
        """After the run has begun, or is resumed."""
        self._ledger, self._policy, self._names = ledger, policy, prompt_names
        self.settled = SETTLED if policy == RerunPolicy() else frozenset[int]()
        self._comparable = ledger.runs_with(config_hash)
        self._records = sum(ledger.states().values())
        self._lookups = 0
        self._answered: KeySet | None = None

    def expect(self, records: int) -> None:
        """Announce lookups, so that one pass over all keys can begin with the first, if it pays."""
        self._lookups += records * len(self._names)

    def of(self, records: Sequence[ImageRecord]) -> list[tuple[str, ...]]:
        """For each record, the names of the prompts that the run asks it."""
        names = self._names
        keys = [record_key(record.id, name) for record in records for name in names]
        with decoding(self._ledger):
            is_settled = self._settled_by_prefix(keys)
        if all(is_settled):
            return [()] * len(records)
        known = self._ledger.find([key for key, settled in zip(keys, is_settled, strict=True) if not settled])
        with decoding(self._ledger):
            each = (record for record in records for _ in names)
            wanted = [
                not settled and ((row := known.get(key)) is None or self._is_asked_again(record, row))
                for record, key, settled in zip(each, keys, is_settled, strict=True)
            ]
        if len(names) == 1:
            return [names if is_wanted else () for is_wanted in wanted]
        starts = range(0, len(wanted), len(names))
        return [tuple(compress(names, wanted[start : start + len(names)])) for start in starts]

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
