"""Sealing: brings committed rows from the ledger into the parts of `data/`.

A row leaves the ledger only after its part is renamed into place. A part is merged by key, so that the same merge
after a crash changes nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from pipeline.files import disk_errors
from pipeline.records import record_key
from pipeline.store import parquet
from pipeline.store.columns import with_leader
from pipeline.store.contents import decoding
from pipeline.store.layout import DATA_NAME
from pipeline.store.ledger.protocol import BillRow, CommittedRow, Ledger, UnsealedRow
from pipeline.store.marks import Marks
from pipeline.store.rows import encode_row, tables_of

PART_BYTES = 256 << 20
"""A part of this size takes no new rows, however few it has: a seal writes a part anew, which delays commits."""


class Sealer:
    """The parts of one OUT, and which rows go into which part."""

    def __init__(
        self,
        out: Path,
        ledger: Ledger,
        columns: pa.Schema,
        *,
        rows_per_part: int,
        step: Callable[[str], None],
        marks: Marks | None = None,
    ) -> None:
        """`step` is called with the name of each step that is done."""
        self.out, self.columns = out, columns
        self.marks = Marks(ledger) if marks is None else marks
        self.data = out / DATA_NAME
        self._ledger = ledger
        self._rows_per_part = rows_per_part
        self._step = step
        self.fills_parts = True
        """Whether new rows go into the last part while it has room; else a part that is sealed takes no more."""
        self._tail = self._tail_rows = self._tail_bytes = 0

    def find_tail(self) -> None:
        """Read from the parts where new rows go."""
        self._tail = max(parquet.part_numbers(self.data))
        if not self.fills_parts:
            self._tail, self._tail_rows, self._tail_bytes = self._tail + 1, 0, 0
            return
        self._tail_rows, self._tail_bytes = parquet.size_of(self.data, self._tail)

    def commit(
        self,
        rows: Sequence[CommittedRow],
        *,
        counts: Mapping[str, int],
        bills: Sequence[BillRow] = (),
        meta: Mapping[str, bytes] | None = None,
        of_run: str | None = None,
    ) -> None:
        """Commit rows, the new ones of them into the tail part or the parts behind it."""
        sizes = [len(row.row) for row in rows]
        parts = self._parts_for_new(sizes)
        new = self._ledger.commit(rows, new_parts=parts, counts=counts, bills=bills, meta=meta, of_run=of_run)
        for part, size in zip(parts[:new], sizes, strict=False):
            if part != self._tail:
                self._tail, self._tail_rows, self._tail_bytes = part, 0, 0
            self._tail_rows, self._tail_bytes = self._tail_rows + 1, self._tail_bytes + size

    def _parts_for_new(self, sizes: Sequence[int]) -> list[int]:
        """The part of each new row: the tail part while it has space, then the next ones.

        It is committed with the rows: after a crash the same rows go to the same part.
        """
        part, rows, filled_bytes = self._tail, self._tail_rows, self._tail_bytes
        parts = []
        for size in sizes:
            if rows >= self._rows_per_part or filled_bytes >= PART_BYTES:
                part, rows, filled_bytes = part + 1, 0, 0
            rows, filled_bytes = rows + 1, filled_bytes + size
            parts.append(part)
        return parts

    def seal(self) -> int:
        """Seal all rows, part by part. Returns their number."""
        sealed = 0
        while rows := self.seal_part():
            sealed += rows
        if sealed and not self.fills_parts:
            self.find_tail()
        return sealed

    def seal_part(self) -> int:
        """Seal the rows of one part. Returns their number; 0 when all rows are sealed."""
        part = self._ledger.next_part()
        if part is None:
            return 0
        with disk_errors(self.out), decoding(self._ledger):
            return self._merge(part)

    def _merge(self, part: int) -> int:
        """Write one part anew with its unsealed rows, row group by row group. Returns their number."""
        seqs = self._ledger.unsealed_seqs(part)
        forgotten: dict[bytes, Mapping[str, Any]] = {}
        before = parquet.rows_without(self.data, part, self.columns, seqs)
        new = tables_of(self._complete_rows(part, set(seqs.values()), forgotten), self.columns)
        tables = chain(before, new, self._own_answers(part, forgotten))
        rows = parquet.write_tables(self.data, part, tables, self.columns, self._step)
        footer = parquet.footer(self.data, part)
        if forgotten:
            self.marks.forget_all()
        self._ledger.mark_sealed(part, max(seqs.values()), rows=rows, forgotten=list(forgotten), footer=footer)
        self._step("marked")
        return len(seqs)

    def _complete_rows(
        self, part: int, last: Collection[int], forgotten: dict[bytes, Mapping[str, Any]]
    ) -> Iterator[bytes]:
        """The last unsealed row of each record of this part, the rows of followers with their leader's answer.

        Where the leader has another answer by now, the follower is `forgotten`: the next run asks it, unless its
        record has an answer of its own.
        """
        for batch in self._ledger.unsealed_batches(part):
            yield from (row.row for row in batch if row.leader is None and row.seq in last)
        for batch in self._ledger.unsealed_followers(part):
            yield from self._followers([row for row in batch if row.seq in last], forgotten)

    def _followers(self, rows: Sequence[UnsealedRow], forgotten: dict[bytes, Mapping[str, Any]]) -> Iterator[bytes]:
        followers: defaultdict[bytes, list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            followers[row.leader or b""].append(orjson.loads(row.row))
        for key, leader in self.rows_of(set(followers)) if followers else ():
            for follower in followers.pop(key, ()):  # a part that holds a key twice is damaged, and reported as such
                if follower["request_sha256"] == leader["request_sha256"]:
                    yield encode_row(with_leader(follower, leader))
                else:
                    forgotten[_key(follower)] = follower
        forgotten |= {_key(follower): follower for orphans in followers.values() for follower in orphans}

    def _own_answers(self, part: int, forgotten: dict[bytes, Mapping[str, Any]]) -> Iterator[pa.Table]:
        """The rows that `forgotten` followers have in this part already, where they answer the same request.

        A follower that finds itself answered is not forgotten. This happens where the ledger was damaged: a record
        is asked again because its key was lost, and finds its own answer under the lost key.
        """
        if not forgotten:
            return
        for row in parquet.rows_of(self.data, part, self.columns, set(forgotten)):
            follower = forgotten.get(_key(row))
            if follower is not None and all(row[name] == follower[name] for name in ("request_sha256", "status")):
                del forgotten[_key(row)]
                yield pa.Table.from_pylist([dict(row)], schema=self.columns)

    def rows_of(self, keys: set[bytes]) -> Iterator[tuple[bytes, Mapping[str, object]]]:
        """The rows of these records that have an answer of their own, one at a time, from the ledger or from a part."""
        found = set()
        for key, unsealed in self._ledger.unsealed_rows(keys):
            found.add(key)
            yield key, orjson.loads(unsealed)
        parts = self._ledger.parts_of(list(keys - found))
        for part in sorted(set(parts.values())):
            wanted = {key for key, where in parts.items() if where == part}
            for row in parquet.rows_of(self.data, part, self.columns, wanted):
                yield _key(row), row


def _key(row: Mapping[str, Any]) -> bytes:
    return record_key(str(row["id"]), str(row["prompt_name"]))
