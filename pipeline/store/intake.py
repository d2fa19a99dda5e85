"""Takes in the answers that the ledger could not commit, from the files `OUT/.unsaved-*.jsonl`."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import orjson
import pyarrow as pa

from pipeline.errors import ErrorKind
from pipeline.records import Status, record_key
from pipeline.store import parquet, unsaved
from pipeline.store.accounting import count_row
from pipeline.store.dedup import SHAREABLE
from pipeline.store.layout import DATA_NAME
from pipeline.store.ledger.protocol import BillRow, CommittedRow, Ledger
from pipeline.store.rows import table_of
from pipeline.store.sealing import Sealer
from pipeline.store.states import has_no_answer, state_code, state_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = -(1 << 62)


@dataclass(slots=True)
class TakenIn:
    """What the files of unsaved answers held."""

    answers: int = 0
    """Taken: newer than any row of the record in OUT."""
    older: int = 0
    """Passed over: OUT has that row, a newer one, or an answer where this is none."""
    unreadable: int = 0
    """Answers that no part can hold, because they are damaged."""


class _Place(NamedTuple):
    is_last: bool
    answered_us: int
    line: int
    at: int
    state: int


def take_in(out: Path, ledger: Ledger, sealer: Sealer) -> TakenIn:
    """Commit the unsaved answers that are newer than the rows in `data/`, and delete the files.

    All rows have to be sealed before; each file is sealed after it is read. A file is taken line by line, and the
    ledger stores how far, so that a file which is met again after a crash is not counted twice.
    """
    taken = TakenIn()
    for path in unsaved.paths(out):
        name = f"taken {path.name}"
        newest = _newer_than_parts(_without_losses(_newest(path), ledger), out / DATA_NAME, ledger)
        done, before = int(ledger.meta(name) or b"0"), taken.unreadable
        for number, batch in enumerate(unsaved.read(path)):
            if number >= done:
                rows = _chosen(number, batch, newest, sealer.columns, taken)
                bills, counts = [BillRow(*bill) for bill in batch.bills], _counts(batch, rows)
                meta = {name: str(number + 1).encode()}
                sealer.commit(rows, counts=counts, bills=bills, of_run=batch.run_id, meta=meta)
        sealer.seal()
        sealer.find_tail()
        if taken.unreadable > before:
            path.rename(path.with_name(f".unreadable-{path.name.removeprefix('.')}"))
        else:
            path.unlink()
        ledger.forget_meta([name])
    return taken


def _chosen(
    number: int, batch: unsaved.UnsavedBatch, newest: dict[bytes, _Place], columns: pa.Schema, taken: TakenIn
) -> list[CommittedRow]:
    """The rows of one line that are committed."""
    rows = []
    for at, answer in enumerate(batch.answers):
        row = _row_of(answer)
        if row is None:
            taken.unreadable += 1
        elif (place := newest.get(row.key)) is not None and (place.line, place.at) == (number, at):
            rows.append(row)
        else:
            taken.older += 1
    good = _that_fit(rows, columns)
    taken.answers += len(good)
    taken.unreadable += len(rows) - len(good)
    return good


def _counts(batch: unsaved.UnsavedBatch, rows: Sequence[CommittedRow]) -> Counter[str]:
    counts = Counter(batch.counts or {})
    if batch.counts is None:
        for row in rows:
            count_row(counts, orjson.loads(row.row))
    return counts


def _row_of(answer: unsaved.UnsavedAnswer) -> CommittedRow | None:
    """The row as the ledger commits it; None where it is damaged."""
    try:
        row = orjson.loads(answer.row)
        status, kind = Status(row["status"]), row["error_kind"]
        return CommittedRow(
            record_key(row["id"], row["prompt_name"]),
            state_code(status, None if kind is None else ErrorKind(kind)),
            answer.row,
            stamp=answer.stamp,
            request_sha256=row["request_sha256"],
            shareable=status in SHAREABLE and answer.leader is None and row["duplicate_of"] is None,
            leader=answer.leader,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _newest(path: Path) -> dict[bytes, _Place]:
    """Where in the file the newest answer of each record stands."""
    newest: dict[bytes, _Place] = {}
    for line, batch in enumerate(unsaved.read(path)):
        for at, answer in enumerate(batch.answers):
            if (row := _row_of(answer)) is not None:
                place = _Place(answer.is_last, _answered_us(answer.row), line, at, row.state)
                newest[row.key] = max(place, newest.get(row.key, place))
    return newest


def _answered_us(row: bytes) -> int:
    try:
        answered_at = datetime.fromisoformat(orjson.loads(row)["answered_at"])
    except (ValueError, KeyError, TypeError):
        return _NEVER
    return _us(answered_at)


def _us(at: datetime | None) -> int:
    if at is None:
        return _NEVER
    since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _without_losses(newest: dict[bytes, _Place], ledger: Ledger) -> dict[bytes, _Place]:
    """Without rows that have no answer, where OUT has one: that one stays, as in every commit."""
    empty = [key for key, place in newest.items() if has_no_answer(*state_of(place.state))]
    stored = ledger.find(empty).values()
    answered = {row.key for row in stored if not has_no_answer(*state_of(row.state))}
    return {key: place for key, place in newest.items() if key not in answered}


def _newer_than_parts(newest: dict[bytes, _Place], data: Path, ledger: Ledger) -> dict[bytes, _Place]:
    by_part: defaultdict[int, set[bytes]] = defaultdict(set)
    for key, part in ledger.parts_of([key for key, place in newest.items() if not place.is_last]).items():
        by_part[part].add(key)
    for part, keys in by_part.items():
        for key, _, answered_at in parquet.answered(data, part, keys):
            if key in newest and newest[key].answered_us <= _us(answered_at):
                del newest[key]
    return newest


def _that_fit(rows: Sequence[CommittedRow], columns: pa.Schema) -> list[CommittedRow]:
    """The rows that a part can hold: any other would stop every seal."""
    try:
        table_of([row.row for row in rows], columns)
    except (pa.ArrowException, ValueError):
        if len(rows) == 1:
            return []
        half = len(rows) // 2
        return _that_fit(rows[:half], columns) + _that_fit(rows[half:], columns)
    return list(rows)
