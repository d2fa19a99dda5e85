"""What a merge writes into the ledger of the joined output directory, beside the rows of one part at a time.

All of it may be done again: a run, a total or an entry that is there already stays as it is.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.store.ledger.database import ROWS_A_BATCH, Do
from pipeline.store.ledger.protocol import CONFIG_META
from pipeline.store.ledger.schema import footer_name
from pipeline.store.ledger.sqlite import SqliteLedger

_MOST = 2**63 - 1
_PART_META = "merged "
"""The prefix of the names under which `meta` holds the parts that were taken, by the digest of their footers."""


class RecordRow(NamedTuple):
    """A record as a ledger stores it, without its part."""

    state: int
    run: int
    stamp: int | None
    request: int | None


def records_of(ledger: SqliteLedger, keys: Sequence[bytes]) -> dict[bytes, RecordRow]:
    """The records with these keys."""
    found = ledger.database.by_key("key16, state, run, stamp, request", list(keys))
    return {key: RecordRow(*rest) for key, *rest in found}


def places_of(ledger: SqliteLedger, keys: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
    """(part, state) of those of these records that are there."""
    return {key: (part, state) for key, part, state in ledger.database.by_key("key16, part, state", list(keys))}


def last_run(ledger: SqliteLedger) -> str | None:
    """The id of the run that began last."""
    found = ledger.database.one("SELECT run_id FROM run ORDER BY number DESC LIMIT 1")
    return None if found is None else str(found[0])


def taken_parts(ledger: SqliteLedger) -> set[str]:
    """The digests of the parts that were taken."""
    return {name.removeprefix(_PART_META) for name in ledger.meta_names(_PART_META)}


def join_history(do: Do, ledger: SqliteLedger, source: SqliteLedger) -> dict[int, int]:
    """Take over the runs of a source, what they came to, their pauses, open bills, and what each configuration asked.

    Returns the number of each of its runs here. What a run came to only grows: the larger number is the newer one.
    """
    there = source.database.all("SELECT number, run_id, config_hash, rerun FROM run ORDER BY number")
    do(
        "INSERT OR IGNORE INTO run (run_id, config_hash, rerun, state) VALUES (?, ?, ?, 'ended')",
        [(run_id, config_hash, rerun) for _, run_id, config_hash, rerun in there],
    )
    totals = source.database.all("SELECT scope, name, value FROM total WHERE substr(scope, 1, 4) = 'run '")
    do(
        "INSERT INTO total VALUES (?, ?, ?) ON CONFLICT (scope, name) DO UPDATE SET value = max(value, excluded.value)",
        totals,
    )
    do(
        "INSERT INTO attempt (key16, run_id, at, bill) SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS"
        " (SELECT 1 FROM attempt WHERE key16 = ?1 AND run_id = ?2 AND at = ?3)",
        source.database.all("SELECT key16, run_id, at, bill FROM attempt ORDER BY seq"),
    )
    events = source.database.all("SELECT run_id, at, kind, detail FROM event ORDER BY seq")
    do("DELETE FROM event WHERE run_id = ? AND at = ? AND kind = ?", [event[:3] for event in events])
    do("INSERT INTO event (run_id, at, kind, detail) VALUES (?, ?, ?, ?)", events)
    names = source.meta_names(CONFIG_META)
    do("INSERT OR IGNORE INTO meta VALUES (?, ?)", [(name, source.meta(name)) for name in names])
    numbers = ledger.run_numbers()
    return {number: numbers[run_id] for number, run_id, *_ in there}


def join_dedup(do: Do, source: SqliteLedger) -> None:
    """Take over the entries by which later requests find an answer; one without its answer finds none."""
    do("INSERT OR IGNORE INTO dedup VALUES (?)", _dedup_entries(source))


def _dedup_entries(source: SqliteLedger) -> Iterator[tuple[bytes]]:
    last = b""
    sql = "SELECT entry FROM dedup WHERE entry > ? ORDER BY entry LIMIT ?"
    while found := source.database.all(sql, last, ROWS_A_BATCH):
        last = found[-1][0]
        yield from found


def add_records(do: Do, part: int, records: Iterable[tuple[bytes, RecordRow]]) -> None:
    """Store records that were not there, in `part`."""
    do("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)", ((key, part, *record) for key, record in records))


def replace_records(do: Do, rows: Sequence[tuple[bytes, int, bytes, RecordRow]]) -> None:
    """(key, part, row, record) of records that are there: each takes this row, unsealed, and stays in its part."""
    do("INSERT INTO answer (key16, part, row) VALUES (?, ?, ?)", [(key, part, row) for key, part, row, _ in rows])
    do(
        "UPDATE record SET state = ?, run = ?, stamp = ?, request = ? WHERE key16 = ?",
        [(*record, key) for key, _, _, record in rows],
    )


def end_part(do: Do, part: int, rows: int, *, footer: bytes, states: Mapping[int, int], taken: Iterable[str]) -> None:
    """Note a part with this number of rows (none: there is no such part), and which parts of sources are taken now."""
    do(
        "INSERT INTO total VALUES ('state', ?, ?)"
        " ON CONFLICT (scope, name) DO UPDATE SET value = value + excluded.value",
        [(str(state), count) for state, count in states.items() if count],
    )
    metas: list[tuple[str, bytes]] = [(f"{_PART_META}{digest}", b"") for digest in taken]
    if rows:
        do("INSERT OR REPLACE INTO total VALUES ('part', ?, ?)", [(str(part), rows)])
        metas += [("parts", str(part + 1).encode()), (footer_name(part), footer)]
    do("INSERT OR REPLACE INTO meta VALUES (?, ?)", metas)


def settle_history(ledger: SqliteLedger) -> None:
    """The totals of all runs from those of each, and no open bill of a record that has its row."""
    sums: Counter[str] = Counter()
    for name, value in ledger.database.all("SELECT name, value FROM total WHERE substr(scope, 1, 4) = 'run '"):
        sums[name] = max(-_MOST, min(_MOST, sums[name] + value))
    with ledger.database.transaction() as do:
        do("DELETE FROM total WHERE scope = 'all'", [()])
        do("INSERT INTO total VALUES ('all', ?, ?)", list[tuple[Any, ...]](sums.items()))
        do("DELETE FROM attempt WHERE key16 IN (SELECT key16 FROM record)", [()])
