"""What a rebuild carries from an old ledger into a new one, and what `compact` does to the file."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.store.ledger.database import ROWS_A_BATCH
from pipeline.store.ledger.protocol import CONFIG_META, REHEARSAL_META, SHARD_META, SHARDS_META, UnsealedRecord
from pipeline.store.ledger.sqlite import UNSEALED_RECORDS, SqliteLedger

CARRIED = ("config_hash", "identity", "made_at", "lease", REHEARSAL_META, SHARD_META, SHARDS_META)
"""The stored values that a new ledger takes over, beside the identities of configurations."""

_ALL = -1
"""As SQLite has it: without a limit."""
RecordFacts = tuple[bytes, int | None, int | None]
"""(key, stamp, request) of a record."""


@dataclass(frozen=True, slots=True)
class History:
    """What the rows do not show: the runs, their totals, and what was open at a kill."""

    meta: dict[str, bytes]
    runs: list[tuple[Any, ...]]
    """(number, run_id, config_hash, rerun, state)."""
    totals: list[tuple[Any, ...]]
    attempts: list[tuple[Any, ...]]
    """Billed attempts of records that have no row yet."""
    events: list[tuple[Any, ...]] = field(default_factory=list)
    """(run_id, at, kind, detail)."""
    is_whole: bool = True
    """False for a damaged ledger: its totals have to be compared with the rows."""

    def numbers(self) -> dict[str, int]:
        """The number of each run by its id, and of the last run with each configuration by its hash."""
        return {config_hash: number for number, _, config_hash, *_ in self.runs} | {
            run_id: number for number, run_id, *_ in self.runs
        }


def history(ledger: SqliteLedger) -> History | None:
    """What a ledger made anew from the parts would lack; None where no run has begun on this one."""
    names = [*CARRIED, *ledger.meta_names(CONFIG_META)]
    meta = {name: value for name in names if (value := ledger.meta(name)) is not None}
    if "config_hash" not in meta:
        return None
    select = ledger.database.all
    return History(
        meta=meta,
        runs=select("SELECT number, run_id, config_hash, rerun, state FROM run"),
        totals=select("SELECT scope, name, value FROM total WHERE scope NOT IN ('state', 'part')"),
        attempts=select("SELECT key16, run_id, at, bill FROM attempt ORDER BY seq"),
        events=select("SELECT run_id, at, kind, detail FROM event ORDER BY seq"),
    )


def carry(ledger: SqliteLedger, past: History) -> None:
    """Store the history of another ledger in a new one."""
    with ledger.database.transaction() as do:
        do("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(past.meta.items()))
        do("INSERT INTO run VALUES (?, ?, ?, ?, ?)", past.runs)
        do("INSERT INTO total VALUES (?, ?, ?)", past.totals)
        do("INSERT INTO attempt (key16, run_id, at, bill) VALUES (?, ?, ?, ?)", past.attempts)
        do("INSERT INTO event (run_id, at, kind, detail) VALUES (?, ?, ?, ?)", past.events)


def unsealed_since(ledger: SqliteLedger, seq: int) -> list[tuple[int, UnsealedRecord]]:
    """The unsealed rows behind this one, oldest first, each with its own place in that order."""
    found = ledger.database.all(UNSEALED_RECORDS, seq, _ALL)
    return [(row[0], UnsealedRecord(*row[1:])) for row in found]


def records(ledger: SqliteLedger) -> Iterator[RecordFacts]:
    """The facts of every record."""
    key = b""
    sql = "SELECT key16, stamp, request FROM record WHERE key16 > ? LIMIT ?"
    while found := ledger.database.all(sql, key, ROWS_A_BATCH):
        key = found[-1][0]
        yield from found


def note_earlier(ledger: SqliteLedger, facts: Iterable[RecordFacts]) -> None:
    """Remember the records of another ledger, for `compare`."""
    with ledger.database.transaction() as do:
        ledger.database.execute(
            "CREATE TEMP TABLE IF NOT EXISTS earlier (key16 BLOB PRIMARY KEY, stamp, request) WITHOUT ROWID"
        )
        do("INSERT OR REPLACE INTO earlier VALUES (?, ?, ?)", facts)


def compare(ledger: SqliteLedger) -> list[bytes]:
    """Take over the stamps of the remembered records. Returns the keys that this ledger does not have."""
    note_earlier(ledger, [])
    with ledger.database.transaction() as do:
        do(
            "UPDATE record SET stamp = earlier.stamp FROM earlier"
            " WHERE earlier.key16 = record.key16 AND earlier.request IS record.request",
            [()],
        )
    sql = "SELECT key16 FROM earlier WHERE key16 NOT IN (SELECT key16 FROM record)"
    return [key for (key,) in ledger.database.all(sql)]


def repeated(ledger: SqliteLedger, places: Iterable[tuple[bytes, int]]) -> list[bytes]:
    """The keys that stand in `places` more than once."""
    with ledger.database.transaction() as do, ledger.database.staged(places, do):
        found = ledger.database.all("SELECT key16 FROM place GROUP BY key16 HAVING count(*) > 1")
        return [key for (key,) in found]


def vacuum(ledger: SqliteLedger) -> None:
    """Write the file anew without the space of deleted rows; for a moment it takes twice its size."""
    ledger.database.execute("VACUUM")
