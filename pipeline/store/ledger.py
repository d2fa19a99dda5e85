"""The truth of an output directory: which records were asked, what was answered, what it cost.

SQLite in one file, held exclusively as long as it is open, which is also the lock against a second run.
Every method blocks; all are called from one thread. With `synchronous=FULL` a commit that returned
survives a power cut, as far as the disk keeps its word (sqlite.org, "PRAGMA synchronous").
"""

import contextlib
import json
import os
import re
import socket
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from pipeline import files
from pipeline.errors import DamagedLedgerError, InputError, OutInUseError, ResourceError, VisionBatchError
from pipeline.store import unsaved
from pipeline.store.salvage.database import unread_answers
from pipeline.store.salvage.wal import read_frames

HOLDER_NAME = ".lock-holder.json"
_APPLICATION_ID = 0x56426174
_KEYS_A_QUERY = 500
_ROWS_A_BATCH, _BYTES_A_BATCH = 1_000, 4 << 20
_LOCK_WAIT_S = 0.2
_CACHE_KIB = 16_384
_CHECKPOINT_PAGES = 4_000
_INCREMENTAL = 2
_CHECKED_BYTES = 16 << 20
"""Up to this size a ledger is checked whole whenever it is opened (0.2 s); a larger one after a crash only."""
SUFFIXES = ("", "-wal", "-shm", "-journal")

_NETWORK_TYPES = re.compile(r"nfs\d?|cifs|smb\w*|9p|afs|ceph|glusterfs|lustre|beegfs|gpfs|fuse\.\S+")


@dataclass(frozen=True, slots=True)
class KeptRow:
    """One answered record. `row` is stored as it is."""

    key: bytes
    state: int
    row: bytes
    stamp: int | None = None
    """24 bits that change with the source file's size or time; None where there is no file."""
    request_sha256: str | None = None
    shareable: bool = False
    """Whether records that make the same request may share this answer."""
    shares: bytes | None = None
    """The key of the record whose answer this row shares; it is filled in when the row is sealed."""


class Known(NamedTuple):
    """What the ledger knows of a record: its state, and the number of the run that answered it last."""

    key: bytes
    state: int
    run: int
    stamp: int | None


@dataclass(frozen=True, slots=True)
class Twin:
    """A record that was answered for the same request."""

    key: bytes
    state: int
    run: int


@dataclass(frozen=True, slots=True)
class BillRow:
    """One attempt that was billed and gave no answer; `bill` is stored as it is."""

    key: bytes
    at: str
    bill: bytes


CARRIED = ("config_hash", "identity", "made_at", "lease")
CONFIG_META = "config "
"""Before its hash, the name under which a configuration's identity stands in `meta`."""


@dataclass(frozen=True, slots=True)
class History:
    """What a ledger knows beyond the rows: which runs there were, what they came to, what was open at a kill."""

    meta: dict[str, bytes]
    runs: list[tuple[Any, ...]]
    """(number, run_id, config_hash, asking, state)."""
    totals: list[tuple[Any, ...]]
    attempts: list[tuple[Any, ...]]
    """Billed attempts of records that have no row yet."""
    is_whole: bool = True
    """Whether it is from a ledger that is: else its totals are to be compared with the rows."""

    def numbers(self) -> dict[str, int]:
        """The number of each run by its id, and of the last run with each configuration by its hash."""
        return {config_hash: number for number, _, config_hash, *_ in self.runs} | {
            run_id: number for number, run_id, *_ in self.runs
        }


class Ledger(Protocol):
    """What a run asks of its ledger; on a cluster somebody else answers it."""

    @property
    def path(self) -> Path:
        """Where it lies, for messages."""

    def states_of_records(self) -> set[int]:
        """The states that records are in, from the records themselves; -1 where one has no key of 16 bytes."""

    def waiting(self) -> Iterator[tuple[bytes, bytes, bytes | None, int | None]]:
        """(key, row, shares, stamp) of all that waits to be sealed, oldest first."""

    def known(self, keys: Sequence[bytes]) -> dict[bytes, Known]:
        """Those of `keys` that have a row, whatever its status."""

    def settled_prefixes(self, states: Collection[int]) -> Iterator[bytes]:
        """The first 8 bytes of each key whose record is in one of these states, ascending, many at a time."""

    def twins(self, request_sha256: str) -> Iterator[Twin]:
        """Records whose answer is to exactly this request, those of earlier runs among them; 64 at most."""

    def begin_run(self, run_id: str, config_hash: str, asking: str) -> str:
        """The id of the run that goes on from here: the last one where it did not end and asked the same."""

    def end_run(self) -> None:
        """The run that was begun is complete: the next one is another."""

    @property
    def run(self) -> int:
        """The number of the run that was begun; 0 before that."""

    def run_numbers(self) -> dict[str, int]:
        """The number of each run by its id."""

    def runs_with(self, config_hash: str) -> set[int]:
        """The numbers of the runs that asked with this configuration."""

    def commit(
        self,
        rows: Sequence[KeptRow],
        *,
        new_parts: Sequence[int],
        counts: Mapping[str, int],
        bills: Sequence[BillRow] = (),
        meta: Mapping[str, bytes] | None = None,
        of_run: str | None = None,
    ) -> int:
        """Keep all of it or, where this raises, nothing; how many of the records are new.

        `meta` is stored with it. `of_run` names the run that it is counted for where that is not the one that was
        begun.

        `new_parts` says, in order, into which part each new record will be sealed, as many as there are rows;
        one that was answered before stays in its part. `counts` are added to the run's and to all totals.
        Bills of a record end with its row, which holds them.
        """

    def next_part(self) -> int | None:
        """A part that has rows waiting to be sealed into it."""

    def pending(self, part: int) -> Iterator[list[tuple[int, bytes, bytes | None]]]:
        """(seq, row, key of the record that it shares the answer of) waiting for `part`, oldest first.

        In batches that bound what is in memory, in rows and in bytes.
        """

    def waiting_seqs(self, part: int) -> dict[bytes, int]:
        """The records that wait for `part`, each with the seq of its last row, which holds."""

    def mark_sealed(
        self, part: int, upto_seq: int, *, rows: int, forgotten: Sequence[bytes] = (), footer: bytes = b""
    ) -> None:
        """The rows that waited for `part`, up to this one, are in it: the ledger lets go of them.

        `rows` is how many the part has now, `footer` a copy of its last bytes. The records `forgotten` are as if they
        had never been asked.
        """

    def part_rows(self) -> dict[int, int]:
        """How many rows each part had when it was sealed; parts of no rows may be left out."""

    def waiting_parts(self) -> set[int]:
        """The parts that have rows waiting to be sealed into them."""

    def parts_of(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Into which part each of these records goes."""

    def waiting_rows(self, keys: Collection[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """(key, row) of those of these records that are not sealed yet, and do not share an answer themselves."""

    def relocate(self, places: Iterable[tuple[bytes, int]], meta: Mapping[str, bytes]) -> None:
        """Say anew which part each of these (key, part) is in, and `meta` with it; where this raises, nothing."""

    def bills(self) -> Iterator[BillRow]:
        """Billed attempts of records that have no row yet."""

    def counts(self, run_id: str | None = None) -> dict[str, int]:
        """The totals of one run, or of all."""

    def counts_with(self, config_hash: str) -> dict[str, int]:
        """The totals of all runs that asked with this configuration."""

    def rows_by_config(self) -> dict[str, int]:
        """How many records were answered last with each configuration, by its hash; those of unknown runs under ""."""

    def states(self) -> dict[int, int]:
        """How many records are in each state now."""

    def meta(self, name: str) -> bytes | None: ...

    def meta_names(self, prefix: str) -> list[str]: ...

    def forget_meta(self, names: Sequence[str]) -> None: ...

    def set_meta(self, values: Mapping[str, bytes]) -> None: ...

    def close(self) -> None: ...


_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE run (number INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, config_hash TEXT NOT NULL,
    asking TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE record (key16 BLOB PRIMARY KEY, part INTEGER NOT NULL, state INTEGER NOT NULL, run INTEGER NOT NULL,
    stamp INTEGER, request INTEGER) WITHOUT ROWID;
CREATE TABLE dedup (hash8 INTEGER PRIMARY KEY, key16 BLOB NOT NULL);
CREATE TABLE answer (seq INTEGER PRIMARY KEY, key16 BLOB NOT NULL, part INTEGER NOT NULL, row BLOB NOT NULL,
    shares BLOB);
CREATE INDEX answer_part ON answer (part);
CREATE TABLE attempt (seq INTEGER PRIMARY KEY, key16 BLOB NOT NULL, run_id TEXT NOT NULL, at TEXT NOT NULL,
    bill BLOB NOT NULL);
CREATE INDEX attempt_key ON attempt (key16);
CREATE TABLE batch (id TEXT PRIMARY KEY, run_id TEXT NOT NULL, state TEXT NOT NULL, detail BLOB) WITHOUT ROWID;
CREATE TABLE event (seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL, at TEXT NOT NULL, kind TEXT NOT NULL,
    detail BLOB);
CREATE TABLE total (scope TEXT, name TEXT, value INTEGER NOT NULL, PRIMARY KEY (scope, name)) WITHOUT ROWID;
"""


def _create_tables(connection: sqlite3.Connection) -> None:
    # Not executescript, which would commit.
    for statement in _TABLES.split(";"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")


def _narrow_keys(connection: sqlite3.Connection) -> None:
    """From 76 bytes a record to 51: ten million of them stay under half a gigabyte.

    `dedup.entry` is the beginning of the request's hash and that of the key of who asked it, four bytes each.
    """
    connection.create_function(
        "entry", 2, lambda hash8, key: hash8.to_bytes(8, signed=True)[:4] + key[:4], deterministic=True
    )
    connection.create_function(
        "narrow", 1, lambda wide: None if wide is None else _signed24(wide & 0xFFFFFF), deterministic=True
    )
    for statement in (
        "CREATE TABLE narrow (entry BLOB PRIMARY KEY) WITHOUT ROWID",
        "INSERT INTO narrow SELECT entry(hash8, key16) FROM dedup",
        "DROP TABLE dedup",
        "ALTER TABLE narrow RENAME TO dedup",
        "UPDATE record SET stamp = narrow(stamp), request = narrow(request)",
    ):
        connection.execute(statement)


_COUNT_PARTS = "INSERT INTO total SELECT 'part', part, count(*) FROM record GROUP BY part"


def _count_parts(connection: sqlite3.Connection) -> None:
    """The rows of each part stand among the totals. A part that answers wait for is counted when it is sealed."""
    connection.execute(_COUNT_PARTS)


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_create_tables, _narrow_keys, _count_parts)
"""Each brings a ledger one version further, in a transaction of its own; none is ever changed."""

_MOST = 2**63 - 1
"""What SQLite's integers hold: a sum that passes it stays there, and ends no run."""

_NEWER_VERSIONS = 16
"""Versions further than this are no newer program's but damage."""
_TABLE_NAMES = frozenset(re.findall(r"CREATE TABLE (\w+)", _TABLES))


def footer_name(part: int) -> str:
    """Under which name `meta` holds the copy of a part's footer."""
    return f"footer {part}"


_LAST = b"\xff" * 16
"""Behind every key that begins alike."""

_FIND_ENTRIES = "SELECT entry FROM dedup WHERE entry BETWEEN ? AND ? LIMIT 64"  # more only without sharing
_FIND_ASKED = "SELECT key16, state, run FROM record WHERE key16 BETWEEN ? AND ? AND request = ?"

_UPSERT_RECORD = (
    "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key16) DO UPDATE SET state = excluded.state,"
    " run = excluded.run, stamp = excluded.stamp, request = excluded.request"
)
_ADD_TOTAL = (
    "INSERT INTO total (scope, name, value) VALUES (?, ?, ?) ON CONFLICT (scope, name)"  # noqa: S608 - our number
    f" DO UPDATE SET value = max(-{_MOST}, min({_MOST}, value + excluded.value))"
)


class SqliteLedger:
    """A `Ledger` in one SQLite file. `network_type` names the network file system that it lies on, if any."""

    def __init__(
        self, path: Path, failpoint: Callable[[str], None] = lambda _: None, *, check_all: bool = False
    ) -> None:
        """Open or create, lock, check and migrate. `check_all` looks at every page, however many there are.

        Raises OutInUseError where another run holds it, InputError where it is none of ours, of a newer version, or
        a link, DamagedLedgerError where it is damaged, ResourceError where the disk does not let us.
        """
        self._path = path
        self._is_damaged = False
        self._named: tuple[int, int] | None = None
        self.network_type = network_type(path.parent)
        self._failpoint = failpoint
        self._holder = path.with_name(HOLDER_NAME)
        self._run, self._run_id = 0, ""
        is_whole_check = _check_files(path) or check_all
        with _our_errors(path):
            self._connection = sqlite3.connect(
                path, timeout=_LOCK_WAIT_S, isolation_level=None, check_same_thread=False
            )
        try:
            with _our_errors(path):
                self._take_lock()
                self._named = files.note_open(path)
                self._check_ours()
                if is_whole_check:
                    self._check_pages()
                self._configure()
                self._migrate()
            self._name_holder()
        except BaseException:
            self._let_go()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """See `Ledger`."""
        return self._path

    def states_of_records(self) -> set[int]:
        """See `Ledger`."""
        sql = (
            "SELECT DISTINCT CASE WHEN typeof(key16) = 'blob' AND length(key16) = 16 THEN state ELSE -1 END FROM record"
        )
        return {state for (state,) in self._all(sql)}

    def known(self, keys: Sequence[bytes]) -> dict[bytes, Known]:
        """See `Ledger`."""
        found = self._select_by_key("key16, state, run, stamp", keys)
        return {
            key: Known(key, state, run, None if stamp is None else stamp & 0xFFFFFF) for key, state, run, stamp in found
        }

    def twins(self, request_sha256: str) -> Iterator[Twin]:
        """See `Ledger`."""
        # 32 bits find who may have asked it, 24 more tell that the present answer is to this very request; before
        # it is shared for good, when its row is sealed, the whole hashes are compared.
        start = bytes.fromhex(request_sha256[:8])
        entries = self._all(_FIND_ENTRIES, start, start + _LAST)
        wanted = _request24(request_sha256)
        found = (self._one(_FIND_ASKED, entry[4:], entry[4:] + _LAST, wanted) for (entry,) in entries)
        return (Twin(*asked) for asked in found if asked is not None)

    def settled_prefixes(self, states: Collection[int]) -> Iterator[bytes]:
        """See `Ledger`."""
        marks = ", ".join("?" * len(states))
        with self._errors():
            cursor = self._connection.execute(
                f"SELECT substr(key16, 1, 8) FROM record WHERE state IN ({marks}) ORDER BY key16",  # noqa: S608 - marks
                tuple(states),
            )
            while found := cursor.fetchmany(_ROWS_A_BATCH):
                yield b"".join(prefix for (prefix,) in found)

    def begin_run(self, run_id: str, config_hash: str, asking: str) -> str:
        """See `Ledger`."""
        if self.resume_run(config_hash, asking):
            return self._run_id
        last = self._one("SELECT max(number) FROM run")
        self._run, self._run_id = ((last and last[0]) or 0) + 1, run_id
        with self._transaction() as do:
            do("INSERT INTO run VALUES (?, ?, ?, ?, 'begun')", [(self._run, run_id, config_hash, asking)])
        return run_id

    def resume_run(self, config_hash: str, asking: str) -> bool:
        """Go on with the last run, where it did not end and asked the same."""
        last = self._one("SELECT number, run_id, config_hash, asking, state FROM run ORDER BY number DESC LIMIT 1")
        if last is None or last[2:] != (config_hash, asking, "begun"):
            return False
        self._run, self._run_id = int(last[0]), str(last[1])
        return True

    def end_run(self) -> None:
        """See `Ledger`."""
        with self._transaction() as do:
            do("UPDATE run SET state = 'ended' WHERE number = ?", [(self._run,)])

    def run_numbers(self) -> dict[str, int]:
        """See `Ledger`."""
        return dict(self._all("SELECT run_id, number FROM run"))

    def runs_with(self, config_hash: str) -> set[int]:
        """See `Ledger`."""
        return {number for (number,) in self._all("SELECT number FROM run WHERE config_hash = ?", config_hash)}

    @property
    def run(self) -> int:
        """See `Ledger`."""
        return self._run

    def commit(
        self,
        rows: Sequence[KeptRow],
        *,
        new_parts: Sequence[int],
        counts: Mapping[str, int],
        bills: Sequence[BillRow] = (),
        meta: Mapping[str, bytes] | None = None,
        of_run: str | None = None,
    ) -> int:
        """See `Ledger`."""
        run_id = self._run_id if of_run is None else of_run
        run = self._run if of_run is None else self.run_numbers().get(of_run, 0)
        with self._transaction() as do:
            parts, states, new = self._placed(rows, new_parts)
            do(
                "INSERT INTO answer (key16, part, row, shares) VALUES (?, ?, ?, ?)",
                [(row.key, part, row.row, row.shares) for row, part in zip(rows, parts, strict=True)],
            )
            do(_UPSERT_RECORD, [self._record(row, part, run) for row, part in zip(rows, parts, strict=True)])
            do(
                "INSERT OR IGNORE INTO dedup VALUES (?)",
                [(_entry(row.request_sha256, row.key),) for row in rows if row.shareable and row.request_sha256],
            )
            do(
                "INSERT INTO attempt (key16, run_id, at, bill) VALUES (?, ?, ?, ?)",
                [(bill.key, run_id, bill.at, bill.bill) for bill in bills],
            )
            do("DELETE FROM attempt WHERE key16 = ?", [(row.key,) for row in rows])
            for scope, added in (("all", counts), (f"run {run_id}", counts), ("state", states)):
                do(_ADD_TOTAL, _amounts(scope, added))
            do("INSERT OR REPLACE INTO meta VALUES (?, ?)", list((meta or {}).items()))
        return new

    def restore(
        self, part: int, rows: Sequence[KeptRow], counts: Mapping[str, int], runs: Sequence[int] | None = None
    ) -> None:
        """Take over records that are sealed in `part` already, as answered by `runs`, or by the one that was begun."""
        by = [self._run] * len(rows) if runs is None else runs
        with self._transaction() as do:
            do(_UPSERT_RECORD, [self._record(row, part, run) for row, run in zip(rows, by, strict=True)])
            do(
                "INSERT OR IGNORE INTO dedup VALUES (?)",
                [(_entry(row.request_sha256, row.key),) for row in rows if row.shareable and row.request_sha256],
            )
            states = Counter(row.state for row in rows)
            for scope, added in (("all", counts), (f"run {self._run_id}", counts), ("state", states)):
                do(_ADD_TOTAL, _amounts(scope, added))
            do(_ADD_TOTAL, [("part", str(part), len(rows))])
            parts = str(part + 1).encode()
            do("INSERT OR REPLACE INTO meta VALUES ('parts', ?)", [(parts,)])

    def _placed(self, rows: Sequence[KeptRow], new_parts: Sequence[int]) -> tuple[list[int], Counter[int], int]:
        """The part of each row, by how much the number of records in each state changes, and how many are new."""
        found = self._select_by_key("key16, part, state", [row.key for row in rows])
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

    def _record(self, row: KeptRow, part: int, run: int | None = None) -> tuple[object, ...]:
        request = _request24(row.request_sha256) if row.request_sha256 else None
        stamp = None if row.stamp is None else _signed24(row.stamp)
        return (row.key, part, row.state, self._run if run is None else run, stamp, request)

    def parts_of(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """See `Ledger`."""
        return dict(self._select_by_key("key16, part", keys))

    def waiting_rows(self, keys: Collection[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """See `Ledger`."""
        found = self._all("SELECT key16, seq FROM answer WHERE shares IS NULL ORDER BY seq")
        last = {key: seq for key, seq in found if key in keys}
        for key, seq in last.items():
            for (row,) in self._all("SELECT row FROM answer WHERE seq = ?", seq):
                yield key, row

    def relocate(self, places: Iterable[tuple[bytes, int]], meta: Mapping[str, bytes]) -> None:
        """See `Ledger`."""
        with self._transaction() as do, self._staged(places, do):
            # In the order of the keys every page is written once, and not once a record.
            in_order = self._connection.execute("SELECT part, key16, part FROM place ORDER BY key16")
            do("UPDATE record SET part = ? WHERE key16 = ? AND part <> ?", in_order)
            do("UPDATE answer SET part = (SELECT part FROM record WHERE record.key16 = answer.key16)", [()])
            do("DELETE FROM total WHERE scope = 'part'", [()])
            do(_COUNT_PARTS, [()])
            do("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(meta.items()))

    def repeated(self, places: Iterable[tuple[bytes, int]]) -> list[bytes]:
        """The keys that stand in `places` more than once."""
        with self._transaction() as do, self._staged(places, do):
            return [key for (key,) in self._all("SELECT key16 FROM place GROUP BY key16 HAVING count(*) > 1")]

    @contextmanager
    def _staged(
        self, places: Iterable[tuple[bytes, int]], do: Callable[[str, Iterable[tuple[object, ...]]], object]
    ) -> Iterator[None]:
        """(key, part) in a temporary table `place`, which SQLite keeps in a file of its own."""
        self._connection.execute("CREATE TEMP TABLE place (key16 BLOB NOT NULL, part INTEGER NOT NULL)")
        do("INSERT INTO place VALUES (?, ?)", places)
        yield
        self._connection.execute("DROP TABLE place")

    def vacuum(self) -> None:
        """Write the file anew without the room that deleted rows have left; for a moment it takes twice its size."""
        with self._errors():
            self._connection.execute("VACUUM")

    def next_part(self) -> int | None:
        """See `Ledger`."""
        found = self._one("SELECT part FROM answer ORDER BY part LIMIT 1")
        return None if found is None else int(found[0])

    def pending(self, part: int) -> Iterator[list[tuple[int, bytes, bytes | None]]]:
        """See `Ledger`."""
        sql = "SELECT seq, row, shares FROM answer WHERE part = ? AND seq > ? ORDER BY seq LIMIT ?"
        seq = -1
        while found := self._some(sql, part, seq, _ROWS_A_BATCH):
            seq = found[-1][0]
            yield found

    def _some(self, sql: str, *values: object) -> list[tuple[int, bytes, bytes | None]]:
        """The first of these rows, up to `_BYTES_A_BATCH` and one row more."""
        found: list[tuple[int, bytes, bytes | None]] = []
        size = 0
        with _our_errors(self.path), contextlib.closing(self._connection.execute(sql, values)) as cursor:
            for seq, row, shares in cursor:
                found.append((seq, row, shares))
                size += len(row)
                if size >= _BYTES_A_BATCH:
                    break
        return found

    def waiting_seqs(self, part: int) -> dict[bytes, int]:
        """See `Ledger`."""
        return dict(self._all("SELECT key16, seq FROM answer WHERE part = ? ORDER BY seq", part))

    def waiting_parts(self) -> set[int]:
        """See `Ledger`."""
        return {part for (part,) in self._all("SELECT DISTINCT part FROM answer")}

    def part_rows(self) -> dict[int, int]:
        """See `Ledger`."""
        return {int(name): rows for name, rows in self._all("SELECT name, value FROM total WHERE scope = 'part'")}

    def mark_sealed(
        self, part: int, upto_seq: int, *, rows: int, forgotten: Sequence[bytes] = (), footer: bytes = b""
    ) -> None:
        """See `Ledger`."""
        states = Counter(state for _, state in self._select_by_key("key16, state", forgotten))
        with self._transaction() as do:
            do("DELETE FROM answer WHERE part = ? AND seq <= ?", [(part, upto_seq)])
            do("DELETE FROM record WHERE key16 = ?", [(key,) for key in forgotten])
            do(_ADD_TOTAL, [("state", str(state), -count) for state, count in states.items()])
            do("INSERT OR REPLACE INTO total VALUES ('part', ?, ?)", [(str(part), rows)])
            parts = max(part + 1, int(self.meta("parts") or b"0"))
            do("INSERT OR REPLACE INTO meta VALUES ('parts', ?)", [(str(parts).encode(),)])
            if footer:
                do("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(footer_name(part), footer)])

    def bills(self) -> Iterator[BillRow]:
        """See `Ledger`."""
        for key, at, bill in self._all("SELECT key16, at, bill FROM attempt ORDER BY seq"):
            yield BillRow(key, at, bill)

    def counts(self, run_id: str | None = None) -> dict[str, int]:
        """See `Ledger`."""
        scope = "all" if run_id is None else f"run {run_id}"
        return dict(self._all("SELECT name, value FROM total WHERE scope = ?", scope))

    def counts_with(self, config_hash: str) -> dict[str, int]:
        """See `Ledger`."""
        sql = (
            "SELECT name, sum(value) FROM run JOIN total ON scope = 'run ' || run_id WHERE config_hash = ?"
            " GROUP BY name"
        )
        return dict(self._all(sql, config_hash))

    def rows_by_config(self) -> dict[str, int]:
        """See `Ledger`."""
        hashes = dict(self._all("SELECT number, config_hash FROM run"))
        if len(set(hashes.values())) == 1:  # no need to look at every record
            return dict.fromkeys(hashes.values(), sum(self.states().values()))
        rows: Counter[str] = Counter()
        for number, records in self._all("SELECT run, count(*) FROM record GROUP BY run"):
            rows[hashes.get(number, "")] += records
        return dict(rows)

    def history(self) -> History | None:
        """What a ledger made anew from the parts would lack; None where no run has begun on this one."""
        names = [*CARRIED, *self.meta_names(CONFIG_META)]
        kept = {name: value for name in names if (value := self.meta(name)) is not None}
        if "config_hash" not in kept:
            return None
        return History(
            meta=kept,
            runs=self._all("SELECT number, run_id, config_hash, asking, state FROM run"),
            totals=self._all("SELECT scope, name, value FROM total WHERE scope NOT IN ('state', 'part')"),
            attempts=self._all("SELECT key16, run_id, at, bill FROM attempt ORDER BY seq"),
        )

    def waiting(self) -> Iterator[tuple[bytes, bytes, bytes | None, int | None]]:
        """See `Ledger`."""
        sql = (
            "SELECT seq, answer.key16, row, shares, stamp FROM answer LEFT JOIN record ON record.key16 = answer.key16"
            " WHERE seq > ? ORDER BY seq LIMIT ?"
        )
        seq = -1
        while found := self._all(sql, seq, _ROWS_A_BATCH):
            seq = found[-1][0]
            yield from (row[1:] for row in found)

    def records(self) -> Iterator[tuple[bytes, int | None, int | None]]:
        """(key, stamp, request) of every record."""
        key = b""
        while found := self._all(
            "SELECT key16, stamp, request FROM record WHERE key16 > ? LIMIT ?", key, _ROWS_A_BATCH
        ):
            key = found[-1][0]
            yield from found

    def note_earlier(self, records: Iterable[tuple[bytes, int | None, int | None]]) -> None:
        """For `compare`: (key, stamp, request) of records that another ledger holds."""
        with self._transaction() as do:
            self._connection.execute(
                "CREATE TEMP TABLE IF NOT EXISTS earlier (key16 BLOB PRIMARY KEY, stamp, request) WITHOUT ROWID"
            )
            do("INSERT OR REPLACE INTO earlier VALUES (?, ?, ?)", records)

    def compare(self) -> list[bytes]:
        """Take over the stamps of records that were noted; the keys of those that are not in this ledger."""
        self.note_earlier([])
        with self._transaction() as do:
            do(
                "UPDATE record SET stamp = earlier.stamp FROM earlier"
                " WHERE earlier.key16 = record.key16 AND earlier.request IS record.request",
                [()],
            )
        return [key for (key,) in self._all("SELECT key16 FROM earlier WHERE key16 NOT IN (SELECT key16 FROM record)")]

    def carry(self, history: History) -> None:
        """Take over the history of another ledger, into one that is new."""
        with self._transaction() as do:
            do("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(history.meta.items()))
            do("INSERT INTO run VALUES (?, ?, ?, ?, ?)", history.runs)
            do("INSERT INTO total VALUES (?, ?, ?)", history.totals)
            do("INSERT INTO attempt (key16, run_id, at, bill) VALUES (?, ?, ?, ?)", history.attempts)

    def states(self) -> dict[int, int]:
        """See `Ledger`."""
        found = self._all("SELECT name, value FROM total WHERE scope = 'state' AND value <> 0")
        return {int(name): value for name, value in found}

    def meta(self, name: str) -> bytes | None:
        """See `Ledger`."""
        found = self._one("SELECT value FROM meta WHERE name = ?", name)
        return None if found is None else bytes(found[0])

    def meta_names(self, prefix: str) -> list[str]:
        """See `Ledger`."""
        return [name for (name,) in self._all("SELECT name FROM meta WHERE instr(name, ?) = 1", prefix)]

    def forget_meta(self, names: Sequence[str]) -> None:
        """See `Ledger`."""
        with self._transaction() as do:
            do("DELETE FROM meta WHERE name = ?", [(name,) for name in names])

    def set_meta(self, values: Mapping[str, bytes]) -> None:
        """See `Ledger`."""
        with self._transaction() as do:
            do("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))

    def close(self) -> None:
        """Fold the journal into the file, give back what sealed answers took, and let go of the lock.

        What is kept is kept without it.
        """
        with contextlib.suppress(OSError):
            self._holder.unlink(missing_ok=True)
        try:
            with contextlib.suppress(sqlite3.Error, ResourceError):
                if not self._is_damaged and self._pragma(
                    "freelist_count"
                ):  # pages of a damaged one stay where they are
                    # `execute` would end after one page: the statement has no columns to fetch.
                    self._connection.executescript("PRAGMA incremental_vacuum")
        finally:
            with _our_errors(self.path):
                self._let_go()

    def _let_go(self) -> None:
        try:
            self._connection.close()
        finally:
            if self._named is not None:
                files.note_closed(self._named)

    def _check_pages(self) -> None:
        """Raises DamagedLedgerError where the pages do not make a database."""
        found = self._one("PRAGMA integrity_check(1)")
        if found is None or found[0] != "ok":
            raise _damaged(self.path, "nothing" if found is None else str(found[0]).replace("\n", " "))

    def _take_lock(self) -> None:
        run = self._connection.execute
        if self._pragma("auto_vacuum") != _INCREMENTAL:  # to set it again would write to a file that has it
            run("PRAGMA auto_vacuum = INCREMENTAL")  # takes hold in a file that is still empty, and after a VACUUM
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("BEGIN EXCLUSIVE")
        run("COMMIT")

    def _check_ours(self) -> None:
        version = self._pragma("user_version")
        foreign = self._pragma("application_id") != _APPLICATION_ID
        if (foreign or version > len(MIGRATIONS) + _NEWER_VERSIONS) and self._tables() == _TABLE_NAMES:
            raise _damaged(self.path, "its header is not ours, and its tables are")
        if foreign and (version or self._one("SELECT 1 FROM sqlite_master")):
            raise InputError(f"{self.path}: this SQLite file was not made by vision-batch; use another OUT")
        if version > len(MIGRATIONS):
            raise InputError(
                f"{self.path}: made by a newer vision-batch (ledger version {version}, this one knows "
                f"{len(MIGRATIONS)}). Upgrade vision-batch, or use another OUT"
            )

    def _tables(self) -> frozenset[str]:
        return frozenset(name for (name,) in self._all("SELECT name FROM sqlite_master WHERE type = 'table'"))

    def _configure(self) -> None:
        run = self._connection.execute
        # A write-ahead log wants a file system of this machine's own (sqlite.org, "Write-Ahead Logging").
        run(f"PRAGMA journal_mode = {'TRUNCATE' if self.network_type else 'WAL'}")
        run("PRAGMA synchronous = FULL")
        run(f"PRAGMA cache_size = -{_CACHE_KIB}")
        run(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")

    def _migrate(self) -> None:
        version = self._pragma("user_version")
        for number, migration in enumerate(MIGRATIONS[version:], start=version + 1):
            with self._transaction():
                migration(self._connection)
                self._connection.execute(f"PRAGMA user_version = {number}")

    def _name_holder(self) -> None:
        # Beside the ledger, because nobody else can read a database that is held exclusively.
        held_by = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
        try:
            files.write_atomic(self._holder, held_by.encode(), durable=False)
        except OSError as error:
            raise ResourceError(f"{self._holder}: {error.strerror or error}") from error

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with _our_errors(self.path):
                yield
        except DamagedLedgerError:
            self._is_damaged = True
            raise

    @contextmanager
    def _transaction(self) -> Iterator[Callable[[str, Iterable[tuple[object, ...]]], object]]:
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.executemany
                self._failpoint("before-commit")
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def _select_by_key(self, columns: str, keys: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(keys), _KEYS_A_QUERY):
            some = keys[start : start + _KEYS_A_QUERY]
            marks = ", ".join("?" * len(some))
            # Column names are this module's own, never input.
            yield from self._all(f"SELECT {columns} FROM record WHERE key16 IN ({marks})", *some)  # noqa: S608

    def _pragma(self, name: str) -> int:
        found = self._one(f"PRAGMA {name}")
        return 0 if found is None else int(found[0])

    def _one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        return next(iter(self._all(sql, *values)), None)

    def _all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._errors():
            return self._connection.execute(sql, values).fetchall()


def _amounts(scope: str, added: Mapping[Any, int]) -> list[tuple[str, str, int]]:
    """What is added to the totals of a scope, by name."""
    return [(scope, str(name), max(-_MOST, min(_MOST, value))) for name, value in added.items() if value]


def _entry(request_sha256: str, key: bytes) -> bytes:
    return bytes.fromhex(request_sha256[:8]) + key[:4]


def _request24(request_sha256: str) -> int:
    """The last 24 bits, which no `_entry` holds."""
    return _signed24(int(request_sha256[-6:], 16))


def _signed24(value: int) -> int:
    """The same 24 bits as SQLite stores in three bytes: with a sign."""
    return (value ^ 0x800000) - 0x800000


@contextmanager
def _our_errors(path: Path) -> Iterator[None]:
    """The one place where SQLite's errors become ours; what is left is a bug, and stays what it is."""
    try:
        yield
    except sqlite3.Error as error:
        ours = _explained(error, path)
        if ours is None:
            raise
        raise ours from error


def _explained(error: sqlite3.Error, path: Path) -> VisionBatchError | None:  # noqa: PLR0911 - a table of codes
    is_ours = error.sqlite_errorname == "SQLITE_CONSTRAINT_NOTNULL" if hasattr(error, "sqlite_errorname") else False
    if is_ours or isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return None
    # Extended codes hold the primary one in their lowest byte (sqlite.org, "Result and Error Codes").
    match getattr(error, "sqlite_errorcode", -1) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return in_use(path)
        case sqlite3.SQLITE_FULL:
            return ResourceError(
                f"{path}: the disk is full. What is kept stays kept: free some space and run the same command"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return ResourceError(f"{path}: cannot be written ({error}). Check its owner and permissions")
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_NOLFS | sqlite3.SQLITE_PROTOCOL:
            return ResourceError(
                f"{path}: the disk does not take or give data ({error}; full, over quota, or failing?). "
                "What is kept stays kept: put that right and run the same command"
            )
        case sqlite3.SQLITE_MISUSE:
            return None
        case _:  # all statements are our own: what cannot be done with them is for what stands in the file
            return _damaged(path, error)


def _damaged(path: Path, why: object) -> DamagedLedgerError:
    return DamagedLedgerError(damaged_words(path, why))


def damaged_words(path: Path, why: object) -> str:
    """What a user is told of a ledger that cannot be read, and the way out."""
    return (
        f"{path}: the ledger is damaged ({why}). `vision-batch rebuild {path.parent}` makes a new one from the answers "
        "in data/ and from all that can still be read of it"
    )


def check_plain(path: Path) -> None:
    """Raises InputError where a file of this ledger is a link: SQLite would write to what that leads to."""
    for suffix in SUFFIXES:
        if files.is_odd(one := path.with_name(path.name + suffix)):
            raise InputError(
                f"{one} is a link or no plain file; a ledger is neither: move it away, or name another OUT"
            )


def in_use(path: Path) -> OutInUseError:
    return OutInUseError(
        f"{path.parent} is in use by another run ({_holder_of(path)}). Wait for it or stop it; this one changed nothing"
    )


def _check_files(path: Path) -> bool:
    """Look at the files of a ledger before SQLite does, which would drop what it cannot read of the log.

    Answers behind the last commit of the log that can be read are put by. Whether all pages should be checked.
    Raises InputError where one is a link, DamagedLedgerError where commits of the log cannot be read.
    """
    check_plain(path)
    log = path.with_name(f"{path.name}-wal")
    try:
        with files.held(path) as held:
            if held is None:
                return False
            size = held.seek(0, os.SEEK_END)
            if not log.exists() or not log.stat().st_size:
                return size <= _CHECKED_BYTES
            frames = read_frames(log.read_bytes())
            if frames.is_damaged:
                raise _damaged(path, f"its write-ahead log from frame {frames.first_bad + 1} on")
            if frames.has_tail:
                _put_by(path)
            return True
    except (BlockingIOError, PermissionError):
        return False  # SQLite says it in its own words
    except OSError as error:
        raise ResourceError(f"{error.filename or path}: {error.strerror or error}") from error


def _put_by(path: Path) -> None:
    """Frames of a commit that a crash cut short hold answers, which SQLite would drop."""
    answers = [unsaved.UnsavedAnswer(answer.row, answer.shares) for answer in unread_answers(path)]
    if answers:
        unsaved.append(unsaved.new_path(path.parent, "log"), unsaved.by_run(answers, None))


def _holder_of(path: Path) -> str:
    try:
        held_by = json.loads(files.read(path.with_name(HOLDER_NAME)))
        return f"host {held_by['host']}, pid {held_by['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it does not say which"


def network_type(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The network file system that `folder` lies on (`nfs4`, `cifs`, `fuse.sshfs`), None where it is local.

    Linux tells in `mounts` (proc(5)); elsewhere every folder counts as local.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    here = folder.resolve()
    found: tuple[int, int, str] = (-1, -1, "")
    for order, line in enumerate(lines):
        _, escaped, kind, *_options = line.split(" ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), escaped))
        if here.is_relative_to(point):
            # The deepest mount holds the folder, and of two on one point the later one.
            found = max(found, (len(point.parts), order, kind))
    return found[2] if _NETWORK_TYPES.fullmatch(found[2]) else None
