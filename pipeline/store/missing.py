"""Which rows a run has to ask for: those that OUT lacks, and those that its `Selection` asks again."""

from collections.abc import Sequence
from itertools import compress

from pipeline.files import record_stamp
from pipeline.records import ImageRecord, record_key
from pipeline.store.contents import decoding
from pipeline.store.keyset import KeySet
from pipeline.store.ledger.protocol import Ledger, StoredRecord
from pipeline.store.rerun import RerunPolicy
from pipeline.store.selection import Selection

_FEW_KEYS, _WORTH_A_PASS = 10_000, 1 / 16
"""One pass over all keys pays from this number of lookups on, and from this share of all records.

To look a key up takes about three times as long as to pass over one.
"""


class Missing:
    """The records of one OUT that one run asks."""

    def __init__(
        self, ledger: Ledger, policy: RerunPolicy, selection: Selection, *, prompt_names: tuple[str, ...]
    ) -> None:
        """After the run has begun, or is resumed."""
        self._ledger, self._selection, self._names = ledger, selection, prompt_names
        self._sees_changes = policy.refresh_changed
        self.left_out = 0
        """Rows that the run passes over, and that OUT may lack: the selection does not name them."""
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
            is_settled = self._passed_over(keys)
        if all(is_settled):
            return [()] * len(records)
        known = self._ledger.find([key for key, settled in zip(keys, is_settled, strict=True) if not settled])
        is_new = [not settled and key not in known for key, settled in zip(keys, is_settled, strict=True)]
        if not self._selection.asks_new:
            self.left_out += sum(is_new)
            is_new = [False] * len(keys)
        with decoding(self._ledger):
            each = (record for record in records for _ in names)
            wanted = [
                new or (key in known and self._is_asked_again(record, known[key]))
                for record, key, new in zip(each, keys, is_new, strict=True)
            ]
        if len(names) == 1:
            return [names if is_wanted else () for is_wanted in wanted]
        starts = range(0, len(wanted), len(names))
        return [tuple(compress(names, wanted[start : start + len(names)])) for start in starts]

    def _passed_over(self, keys: Sequence[bytes]) -> list[bool]:
        """The records that need no lookup in the ledger."""
        is_settled = self._settled_by_prefix(keys)
        if (named := self._selection.named(keys)) is not None:
            is_settled = [settled and not one for settled, one in zip(is_settled, named, strict=True)]
        if (outside := self._selection.outside(keys)) is not None:
            self.left_out += sum(outside)
            is_settled = [settled or one for settled, one in zip(is_settled, outside, strict=True)]
        return is_settled

    def _settled_by_prefix(self, keys: Sequence[bytes]) -> list[bool]:
        """None of them, until one pass over all keys of the ledger pays."""
        self._lookups += len(keys)
        if self._answered is None:
            if not self._selection.settled or self._lookups < max(_FEW_KEYS, self._records * _WORTH_A_PASS):
                return [False] * len(keys)
            self._answered = KeySet(self._ledger.settled_prefixes(self._selection.settled))
        return self._answered.holds(keys)

    def _is_asked_again(self, record: ImageRecord, stored: StoredRecord) -> bool:
        has_changed = self._sees_changes and stored.stamp != record_stamp(record)
        return self._selection.asks_again(stored, has_changed=has_changed)
