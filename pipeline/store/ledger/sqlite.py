"""The ledger in one SQLite file."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pipeline.store.ledger.database import ROWS_A_BATCH, Database, Do
from pipeline.store.ledger.protocol import BillRow, CommittedRow, Leader, StoredRecord, UnsealedRecord, UnsealedRow
from pipeline.store.ledger.schema import dedup_entry, footer_name, hash_of, request24, signed24

_BYTES_A_BATCH = 4 << 20
_MOST = 2**63 - 1
"""What SQLite's integers hold. A sum that passes it stays there, and stops no run."""

_LAST = b"\xff" * 16
"""Follows every key with the same beginning."""

_FIND_ENTRIES = "SELECT entry FROM dedup WHERE entry BETWEEN ? AND ? LIMIT 64"  # more only without deduplication
_FIND_LEADER = "SELECT key16, state, run FROM record WHERE key16 BETWEEN ? AND ? AND request = ?"
_UPSERT_RECORD = (
    "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key16) DO UPDATE SET state = excluded.state,"
    " run = excluded.run, stamp = excluded.stamp, request = excluded.request"
)
_ADD_TOTAL = (
    "INSERT INTO total (scope, name, value) VALUES (?, ?, ?) ON CONFLICT (scope, name)"  # noqa: S608 - our number
    f" DO UPDATE SET value = max(-{_MOST}, min({_MOST}, value + excluded.value))"
)
_COUNT_PARTS = "INSERT INTO total SELECT 'part', part, count(*) FROM record GROUP BY part"
_SET_META = "INSERT OR REPLACE INTO meta VALUES (?, ?)"
_UNSEALED_KEYS = "SELECT key16, seq FROM answer WHERE leader IS NULL ORDER BY seq"
UNSEALED_RECORDS = (
    "SELECT seq, answer.key16, row, leader, stamp FROM answer LEFT JOIN record ON record.key16 = answer.key16"
    " WHERE seq > ? ORDER BY seq LIMIT ?"
)
_FOLLOWERS = (
    "SELECT coalesce(record.part, -1), seq, row, leader FROM answer LEFT JOIN record ON record.key16 = leader"
    " WHERE answer.part = ? AND leader IS NOT NULL AND (coalesce(record.part, -1), seq) > (?, ?)"
    " ORDER BY coalesce(record.part, -1), seq LIMIT ?"
)
_COUNTS_WITH = (
    "SELECT name, sum(value) FROM run JOIN total ON scope = 'run ' || run_id WHERE config_hash = ? GROUP BY name"
)
_STORED_STATES = (
    "SELECT DISTINCT CASE WHEN typeof(key16) = 'blob' AND length(key16) = 16 THEN state ELSE -1 END FROM record"
)


class SqliteLedger:
    """A `Ledger` in one SQLite file; the protocol documents the methods."""

    def __init__(
        self, path: Path, failpoint: Callable[[str], None] = lambda _: None, *, check_all: bool = False
    ) -> None:
        """Open or create; see `Database`."""
        self.database = Database(path, failpoint, check_all=check_all)
        self._run, self._run_id = 0, ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        return self.database.path

    @property
    def run(self) -> int:
        return self._run

    def close(self) -> None:
        self.database.close()

    def begin_run(self, run_id: str, config_hash: str, rerun: str) -> str:
        if self.resume_run(config_hash, rerun):
            return self._run_id
        last = self.database.one("SELECT max(number) FROM run")
        self._run, self._run_id = ((last and last[0]) or 0) + 1, run_id
        with self.database.transaction() as do:
            do("INSERT INTO run VALUES (?, ?, ?, ?, 'begun')", [(self._run, run_id, config_hash, rerun)])
        return run_id

    def resume_run(self, config_hash: str, rerun: str) -> bool:
        """Continue the last run, where it did not end and is the same. Returns whether it was."""
        last = self.database.one(
            "SELECT number, run_id, config_hash, rerun, state FROM run ORDER BY number DESC LIMIT 1"
        )
        if last is None or last[2:] != (config_hash, rerun, "begun"):
            return False
        self._run, self._run_id = int(last[0]), str(last[1])
        return True

    def end_run(self) -> None:
        with self.database.transaction() as do:
            do("UPDATE run SET state = 'ended' WHERE number = ?", [(self._run,)])

    def run_numbers(self) -> dict[str, int]:
        return dict(self.database.all("SELECT run_id, number FROM run"))

    def runs_with(self, config_hash: str) -> set[int]:
        return {number for (number,) in self.database.all("SELECT number FROM run WHERE config_hash = ?", config_hash)}

    def find(self, keys: Sequence[bytes]) -> dict[bytes, StoredRecord]:
        found = self.database.by_key("key16, state, run, stamp", list(keys))
        return {
            key: StoredRecord(key, state, run, None if stamp is None else stamp & 0xFFFFFF)
            for key, state, run, stamp in found
        }

    def parts_of(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        return dict(self.database.by_key("key16, part", list(keys)))

    def leaders(self, request_sha256: str) -> Iterator[Leader]:
        # 32 bits find the candidates, 24 more show that the present answer is to this very request. Before the row
        # of a follower is sealed, the whole hashes are compared.
        start = bytes.fromhex(request_sha256[:8])
        entries = self.database.all(_FIND_ENTRIES, start, start + _LAST)
        wanted = request24(request_sha256)
        found = (self.database.one(_FIND_LEADER, entry[4:], entry[4:] + _LAST, wanted) for (entry,) in entries)
        return (Leader(*leader) for leader in found if leader is not None)

    def settled_prefixes(self, states: Collection[int]) -> Iterator[bytes]:
        marks = ", ".join("?" * len(states))
        sql = f"SELECT substr(key16, 1, 8) FROM record WHERE state IN ({marks}) ORDER BY key16"  # noqa: S608 - marks
        for found in self.database.chunks(sql, tuple(states)):
            yield b"".join(prefix for (prefix,) in found)

    def stored_states(self) -> set[int]:
        return {state for (state,) in self.database.all(_STORED_STATES)}

    def commit(
        self,
        rows: Sequence[CommittedRow],
        *,
        new_parts: Sequence[int],
        counts: Mapping[str, int],
        bills: Sequence[BillRow] = (),
        meta: Mapping[str, bytes] | None = None,
        of_run: str | None = None,
    ) -> int:
        run_id = self._run_id if of_run is None else of_run
        run = self._run if of_run is None else self.run_numbers().get(of_run, 0)
        with self.database.transaction() as do:
            parts, states, new = _placed(self.database, rows, new_parts)
            do(
                "INSERT INTO answer (key16, part, row, leader) VALUES (?, ?, ?, ?)",
                [(row.key, part, row.row, row.leader) for row, part in zip(rows, parts, strict=True)],
            )
            add_records(do, rows, parts, [run] * len(rows))
            do(
                "INSERT INTO attempt (key16, run_id, at, bill) VALUES (?, ?, ?, ?)",
                [(bill.key, run_id, bill.at, bill.bill) for bill in bills],
            )
            do("DELETE FROM attempt WHERE key16 = ?", [(row.key,) for row in rows])
            self._add_totals(do, run_id, counts, states)
            do(_SET_META, list((meta or {}).items()))
        return new

    def set_stamps(self, stamps: Sequence[tuple[bytes, int | None]]) -> None:
        with self.database.transaction() as do:
            values = [(None if stamp is None else signed24(stamp), key) for key, stamp in stamps]
            do("UPDATE record SET stamp = ? WHERE key16 = ?", values)

    def restore(self, part: int, rows: Sequence[CommittedRow], counts: Mapping[str, int], runs: Sequence[int]) -> None:
        """Take over records that `part` holds already, each as answered by one of `runs`."""
        with self.database.transaction() as do:
            add_records(do, rows, [part] * len(rows), runs)
            self._add_totals(do, self._run_id, counts, Counter(row.state for row in rows))
            do(_ADD_TOTAL, [("part", str(part), len(rows))])
            do(_SET_META, [("parts", str(part + 1).encode())])

    @staticmethod
    def _add_totals(do: Do, run_id: str, counts: Mapping[str, int], states: Mapping[int, int]) -> None:
        for scope, added in (("all", counts), (f"run {run_id}", counts), ("state", states)):
            do(_ADD_TOTAL, _amounts(scope, added))

    def next_part(self) -> int | None:
        found = self.database.one("SELECT part FROM answer ORDER BY part LIMIT 1")
        return None if found is None else int(found[0])

    def unsealed(self) -> Iterator[UnsealedRecord]:
        seq = -1
        while found := self.database.all(UNSEALED_RECORDS, seq, ROWS_A_BATCH):
            seq = found[-1][0]
            yield from (UnsealedRecord(*row[1:]) for row in found)

    def unsealed_batches(self, part: int) -> Iterator[list[UnsealedRow]]:
        sql = "SELECT seq, row, leader FROM answer WHERE part = ? AND seq > ? ORDER BY seq LIMIT ?"
        seq = -1
        while found := self.database.up_to(_BYTES_A_BATCH, 1, sql, part, seq, ROWS_A_BATCH):
            seq = found[-1][0]
            yield [UnsealedRow(*row) for row in found]

    def unsealed_followers(self, part: int) -> Iterator[list[UnsealedRow]]:
        place = (-2, -1)
        while found := self.database.up_to(_BYTES_A_BATCH, 2, _FOLLOWERS, part, *place, ROWS_A_BATCH):
            place = found[-1][:2]
            yield [UnsealedRow(*row[1:]) for row in found]

    def unsealed_seqs(self, part: int) -> dict[bytes, int]:
        return dict(self.database.all("SELECT key16, seq FROM answer WHERE part = ? ORDER BY seq", part))

    def unsealed_rows(self, keys: Collection[bytes]) -> Iterator[tuple[bytes, bytes]]:
        last = {key: seq for key, seq in self.database.all(_UNSEALED_KEYS) if key in keys}
        for key, seq in last.items():
            for (row,) in self.database.all("SELECT row FROM answer WHERE seq = ?", seq):
                yield key, row

    def unsealed_parts(self) -> set[int]:
        return {part for (part,) in self.database.all("SELECT DISTINCT part FROM answer")}

    def mark_sealed(
        self, part: int, upto_seq: int, *, rows: int, forgotten: Sequence[bytes] = (), footer: bytes = b""
    ) -> None:
        states = Counter(state for _, state in self.database.by_key("key16, state", list(forgotten)))
        with self.database.transaction() as do:
            do("DELETE FROM answer WHERE part = ? AND seq <= ?", [(part, upto_seq)])
            do("DELETE FROM record WHERE key16 = ?", [(key,) for key in forgotten])
            do(_ADD_TOTAL, [("state", str(state), -count) for state, count in states.items()])
            do("INSERT OR REPLACE INTO total VALUES ('part', ?, ?)", [(str(part), rows)])
            parts = max(part + 1, int(self.meta("parts") or b"0"))
            do(_SET_META, [("parts", str(parts).encode())])
            do(_SET_META, [(footer_name(part), footer)] if footer else [])

    def part_rows(self) -> dict[int, int]:
        found = self.database.all("SELECT name, value FROM total WHERE scope = 'part'")
        return {int(name): rows for name, rows in found}

    def relocate(self, places: Iterable[tuple[bytes, int]], meta: Mapping[str, bytes]) -> None:
        with self.database.transaction() as do, self.database.staged(places, do):
            # In the order of the keys every page is written once, and not once a record.
            in_order = self.database.execute("SELECT part, key16, part FROM place ORDER BY key16")
            do("UPDATE record SET part = ? WHERE key16 = ? AND part <> ?", in_order)
            do("UPDATE answer SET part = (SELECT part FROM record WHERE record.key16 = answer.key16)", [()])
            do("DELETE FROM total WHERE scope = 'part'", [()])
            do(_COUNT_PARTS, [()])
            do(_SET_META, list(meta.items()))

    def bills(self) -> Iterator[BillRow]:
        return (BillRow(*found) for found in self.database.all("SELECT key16, at, bill FROM attempt ORDER BY seq"))

    def counts(self, run_id: str | None = None) -> dict[str, int]:
        scope = "all" if run_id is None else f"run {run_id}"
        return dict(self.database.all("SELECT name, value FROM total WHERE scope = ?", scope))

    def counts_with(self, config_hash: str) -> dict[str, int]:
        return dict(self.database.all(_COUNTS_WITH, config_hash))

    def rows_by_config(self) -> dict[str, int]:
        hashes = dict(self.database.all("SELECT number, config_hash FROM run"))
        if len(set(hashes.values())) == 1:  # no need to look at every record
            return dict.fromkeys(hashes.values(), sum(self.states().values()))
        rows: Counter[str] = Counter()
        for number, records in self.database.all("SELECT run, count(*) FROM record GROUP BY run"):
            rows[hashes.get(number, "")] += records
        return dict(rows)

    def states(self) -> dict[int, int]:
        found = self.database.all("SELECT name, value FROM total WHERE scope = 'state' AND value <> 0")
        return {int(name): value for name, value in found}

    def meta(self, name: str) -> bytes | None:
        found = self.database.one("SELECT value FROM meta WHERE name = ?", name)
        return None if found is None else bytes(found[0])

    def meta_names(self, prefix: str) -> list[str]:
        return [name for (name,) in self.database.all("SELECT name FROM meta WHERE instr(name, ?) = 1", prefix)]

    def note_events(self, kind: str, events: Mapping[str, bytes]) -> None:
        with self.database.transaction() as do:
            _replace_events(do, self._run_id, kind, events)

    def events(self, kind: str) -> list[bytes]:
        return [detail for (detail,) in self.database.all("SELECT detail FROM event WHERE kind = ? ORDER BY seq", kind)]

    def forget_meta(self, names: Sequence[str]) -> None:
        with self.database.transaction() as do:
            do("DELETE FROM meta WHERE name = ?", [(name,) for name in names])

    def set_meta(self, values: Mapping[str, bytes]) -> None:
        with self.database.transaction() as do:
            do(_SET_META, list(values.items()))


def _placed(
    database: Database, rows: Sequence[CommittedRow], new_parts: Sequence[int]
) -> tuple[list[int], Counter[int], int]:
    """The part of each row, the change of the number of records in each state, and the number of new records."""
    found = database.by_key("key16, part, state", [row.key for row in rows])
    records: dict[bytes, tuple[int, int]] = {key: (part, state) for key, part, state in found}
    parts: list[int] = []
    states: Counter[int] = Counter()
    new = 0
    for row in rows:
        if row.key in records:
            part, state = records[row.key]
            states[state] -= 1
        else:
            part = new_parts[new]
            new += 1
        states[row.state] += 1
        records[row.key] = (part, row.state)
        parts.append(part)
    return parts, states, new


def add_records(do: Do, rows: Sequence[CommittedRow], parts: Sequence[int], runs: Sequence[int]) -> None:
    """Store the records of these rows, each in its part and as answered by its run."""
    placed = zip(rows, parts, runs, strict=True)
    do(_UPSERT_RECORD, [_record(row, part, run) for row, part, run in placed])
    do(
        "INSERT OR IGNORE INTO dedup VALUES (?)",
        [
            (dedup_entry(request, row.key),)
            for row in rows
            if row.shareable and (request := hash_of(row.request_sha256))
        ],
    )


def _replace_events(do: Do, run_id: str, kind: str, events: Mapping[str, bytes]) -> None:
    do("DELETE FROM event WHERE run_id = ? AND kind = ? AND at = ?", [(run_id, kind, at) for at in events])
    values = [(run_id, at, kind, detail) for at, detail in events.items()]
    do("INSERT INTO event (run_id, at, kind, detail) VALUES (?, ?, ?, ?)", values)


def _record(row: CommittedRow, part: int, run: int) -> tuple[object, ...]:
    request = hash_of(row.request_sha256)
    stamp = None if row.stamp is None else signed24(row.stamp)
    return (row.key, part, row.state, run, stamp, request24(request) if request else None)


def _amounts(scope: str, added: Mapping[Any, int]) -> list[tuple[str, str, int]]:
    """What is added to the totals of a scope, by name."""
    return [(scope, str(name), max(-_MOST, min(_MOST, value))) for name, value in added.items() if value]
