"""Takes the rows of output directories into another one, part by part: each part is one transaction of its ledger.

Of a record that stands in two of them, an answer counts more than a row without one, and then the row that was
answered later. Its row is replaced in the part that holds it.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path

import pyarrow as pa

from pipeline.errors import ResourceError
from pipeline.records import is_unanswered, record_key
from pipeline.store import parquet
from pipeline.store.columns import KEY_NAMES
from pipeline.store.layout import DATA_NAME
from pipeline.store.ledger import joining
from pipeline.store.ledger.database import Do
from pipeline.store.ledger.joining import RecordRow
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.rows import encode_row
from pipeline.store.sealing import Sealer
from pipeline.store.states import state_of

_PARTS_REMEMBERED = 2
"""Parts whose times of answers are in memory, 150 bytes a row; without it each batch would read them again."""

Times = dict[bytes, datetime | None]
"""When records were answered."""


@dataclass(slots=True)
class Taken:
    """What a merge has done until now."""

    rows: int = 0
    """New here."""
    replaced: int = 0
    """Rows here that gave way to another one of their record."""
    passed_over: int = 0
    """Rows that were not taken: their record has one here that counts as much, or more."""


@dataclass(slots=True)
class _Part:
    """A part that is being written, and what goes into the ledger with it."""

    number: int
    do: Do
    runs: dict[int, int]
    """The number here of each run of the source."""
    path: Path
    """Of the part that is read."""
    taken: Taken = field(default_factory=Taken)
    states: Counter[int] = field(default_factory=Counter)
    times: Times = field(default_factory=dict)
    """Of the rows that this part took, which no file shows yet."""


class Joiner:
    """The rows of several sources on their way into one output directory, which no run holds."""

    def __init__(self, sealer: Sealer, ledger: SqliteLedger, step: Callable[[str], None]) -> None:
        self.taken = Taken()
        self._sealer, self._ledger, self._step = sealer, ledger, step
        self._data, self._columns = sealer.data, sealer.columns
        self._known = joining.taken_parts(ledger)
        self._times: dict[int, Times] = {}

    def join(self, out: Path, source: SqliteLedger) -> None:
        """Take what is new of one output directory, which `source` holds: its history, then part by part its rows."""
        numbers = parquet.part_numbers(out / DATA_NAME)
        digests = {number: _digest(out / DATA_NAME, number) for number in numbers}
        new = [number for number in numbers if digests[number] not in self._known]
        with self._ledger.database.transaction() as do:
            runs = joining.join_history(do, self._ledger, source)
            if new:
                joining.join_dedup(do, source)
        self._step("history-joined")
        for number in new:
            self._join_part(out / DATA_NAME / parquet.part_name(number), source, runs, digests[number])

    def _join_part(self, path: Path, source: SqliteLedger, runs: dict[int, int], digest: str) -> None:
        number = int(self._ledger.meta("parts") or b"0")
        with self._ledger.database.transaction() as do:
            part = _Part(number, do, runs, path)
            tables = self._new_rows(part, source)
            first = next(tables, None)
            footer = b""
            if first is not None:
                parquet.write_tables(self._data, number, chain([first], tables), self._columns, self._step)
                footer = parquet.footer(self._data, number)
            joining.end_part(do, number, part.taken.rows, footer=footer, states=part.states, taken=[digest])
        self._known.add(digest)
        self._step("part-taken")
        if part.taken.replaced:
            self._sealer.seal()
            self._times.clear()
        for name in ("rows", "replaced", "passed_over"):
            setattr(self.taken, name, getattr(self.taken, name) + getattr(part.taken, name))

    def _new_rows(self, part: _Part, source: SqliteLedger) -> Iterator[pa.Table]:
        """The rows of a part whose records are not here; the others replace theirs, or are passed over."""
        for table in parquet.tables_in(part.path, None):
            keys = [record_key(*names) for names in zip(*(table[name].to_pylist() for name in KEY_NAMES), strict=True)]
            times = table["answered_at"].to_pylist()
            records = self._records(part, source, keys)
            is_new = self._divide(part, table, keys, times, records)
            if any(is_new):
                taken = fitted(table if all(is_new) else table.filter(pa.array(is_new)), self._columns)
                part.taken.rows += taken.num_rows
                yield taken

    def _records(self, part: _Part, source: SqliteLedger, keys: list[bytes]) -> dict[bytes, RecordRow]:
        """What the source's ledger has of these records, with the runs as they are numbered here."""
        found = joining.records_of(source, keys)
        if len(found) < len(set(keys)):
            out = part.path.parent.parent
            raise ResourceError(
                f"{part.path}: it has rows that the ledger of {out} does not have. `vision-batch rebuild {out}` makes "
                "them agree; the same merge then goes on"
            )
        return {key: record._replace(run=part.runs.get(record.run, 0)) for key, record in found.items()}

    def _divide(
        self,
        part: _Part,
        table: pa.Table,
        keys: list[bytes],
        times: list[datetime | None],
        records: dict[bytes, RecordRow],
    ) -> list[bool]:
        """Which rows are new here. Of the others, those that count more replace the ones here."""
        here = joining.places_of(self._ledger, keys)
        new: list[tuple[bytes, RecordRow]] = []
        better: dict[bytes, tuple[bytes, int, bytes, RecordRow]] = {}
        is_new = []
        for at, key in enumerate(keys):
            record = records[key]
            is_new.append(key not in here)
            if is_new[-1]:
                here[key] = (part.number, record.state)
                part.states[record.state] += 1
                new.append((key, record))
            elif self._counts_more(part, key, record.state, times[at], here[key]):
                row = encode_row(fitted(table.slice(at, 1), self._columns).to_pylist()[0])
                number, state = here[key]
                better[key] = (key, number, row, record)
                part.states[state] -= 1
                part.states[record.state] += 1
                here[key] = (number, record.state)
                part.taken.replaced += 1
            else:
                part.taken.passed_over += 1
                continue
            part.times[key] = times[at]
        joining.add_records(part.do, part.number, new)
        joining.replace_records(part.do, list(better.values()))
        return is_new

    def _counts_more(
        self, part: _Part, key: bytes, state: int, answered_at: datetime | None, here: tuple[int, int]
    ) -> bool:
        """Whether a row of this state and time counts more than the one that is here, in (part, state)."""
        number, state_here = here
        then = part.times[key] if key in part.times else self._times_of(number).get(key)
        return _weight(state, answered_at) > _weight(state_here, then)

    def _times_of(self, number: int) -> Times:
        if number not in self._times:
            while len(self._times) >= _PARTS_REMEMBERED:
                del self._times[next(iter(self._times))]
            self._times[number] = dict(_times_in(self._data / parquet.part_name(number)))
        return self._times[number]


def _times_in(path: Path) -> Iterator[tuple[bytes, datetime | None]]:
    for table in parquet.tables_in(path, [*KEY_NAMES, "answered_at"]):
        columns = (table[name].to_pylist() for name in (*KEY_NAMES, "answered_at"))
        yield from ((record_key(record_id, prompt), at) for record_id, prompt, at in zip(*columns, strict=True))


def _weight(state: int, answered_at: datetime | None) -> tuple[bool, float]:
    """What a row counts: a refusal is an answer; failed, invalid and truncated before any text are none."""
    return not is_unanswered(*state_of(state)), 0.0 if answered_at is None else answered_at.timestamp()


def _digest(data: Path, number: int) -> str:
    """Names a part by its footer, which holds the least and the greatest value of each column."""
    return hashlib.blake2b(parquet.footer(data, number), digest_size=16).hexdigest()


def fitted(table: pa.Table, columns: pa.Schema) -> pa.Table:
    """The same rows with exactly these columns; null where there is none of the name."""
    names, rows = set(table.schema.names), table.num_rows
    arrays = [table[one.name].cast(one.type) if one.name in names else pa.nulls(rows, one.type) for one in columns]
    return pa.Table.from_arrays(arrays, schema=columns)
