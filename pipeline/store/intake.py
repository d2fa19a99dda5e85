"""What lies beside a ledger and belongs into it, and whether what stands in one is what a run writes."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from pipeline.errors import ErrorKind, ResourceError
from pipeline.records import Status, record_key
from pipeline.store import parquet, unsaved
from pipeline.store.columns import SHAREABLE, count_row, state_code, state_of
from pipeline.store.layout import DATA_NAME
from pipeline.store.ledger import BillRow, KeptRow, Ledger
from pipeline.store.salvage.rows import is_answer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = -(1 << 62)
_JSON_META = ("identity", "lease", "lost_parts")


@dataclass(slots=True)
class TakenIn:
    """What was found beside the ledger."""

    answers: int = 0
    """Taken: newer than any row that OUT held of the record."""
    older: int = 0
    """Passed over: OUT holds that row, or a newer one."""
    unreadable: int = 0
    """Answers that no part can hold: what is in them is damaged."""


class _Place(NamedTuple):
    is_last: bool
    answered_us: int
    line: int
    at: int


def take_in(
    out: Path, ledger: Ledger, columns: pa.Schema, commit: Callable[..., None], seal: Callable[[], None]
) -> TakenIn:
    """Commit what `OUT/.unsaved-*.jsonl` holds, where it is newer than the rows in `data/`, and delete the files.

    Nothing may wait in the ledger to be sealed before; `seal` does it after each file. Each file is taken line by
    line, and the ledger remembers how far, so that one that is met again after a crash is not counted twice.
    """
    taken = TakenIn()
    for path in unsaved.paths(out):
        name = f"taken {path.name}"
        newest = _newer_than_parts(_newest(path), out / DATA_NAME, ledger)
        done, before = int(ledger.meta(name) or b"0"), taken.unreadable
        for number, batch in enumerate(unsaved.read(path)):
            if number >= done:
                rows = _chosen(number, batch, newest, columns, taken)
                bills, counts = [BillRow(*bill) for bill in batch.bills], _counts(batch, rows)
                meta = {name: str(number + 1).encode()}
                commit(rows, counts=counts, bills=bills, of_run=batch.run_id, meta=meta)
        seal()
        if taken.unreadable > before:
            path.rename(path.with_name(f".unreadable-{path.name.removeprefix('.')}"))
        else:
            path.unlink()
        ledger.forget_meta([name])
    return taken


def _chosen(
    number: int, batch: unsaved.UnsavedBatch, newest: dict[bytes, _Place], columns: pa.Schema, taken: TakenIn
) -> list[KeptRow]:
    """The rows of one line that are to be kept."""
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


def _counts(batch: unsaved.UnsavedBatch, rows: Sequence[KeptRow]) -> Counter[str]:
    counts = Counter(batch.counts or {})
    if batch.counts is None:
        for row in rows:
            count_row(counts, orjson.loads(row.row))
    return counts


def _row_of(answer: unsaved.UnsavedAnswer) -> KeptRow | None:
    """As the ledger takes it; None where it is no row of ours."""
    try:
        row = orjson.loads(answer.row)
        status, kind = Status(row["status"]), row["error_kind"]
        return KeptRow(
            record_key(row["id"], row["prompt_name"]),
            state_code(status, None if kind is None else ErrorKind(kind)),
            answer.row,
            stamp=answer.stamp,
            request_sha256=row["request_sha256"],
            shareable=status in SHAREABLE and answer.shares is None and row["duplicate_of"] is None,
            shares=answer.shares,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _newest(path: Path) -> dict[bytes, _Place]:
    """Where in the file the newest answer of each record stands."""
    newest: dict[bytes, _Place] = {}
    for line, batch in enumerate(unsaved.read(path)):
        for at, answer in enumerate(batch.answers):
            if (row := _row_of(answer)) is not None:
                place = _Place(answer.is_last, _answered_us(answer.row), line, at)
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


def _newer_than_parts(newest: dict[bytes, _Place], data: Path, ledger: Ledger) -> dict[bytes, _Place]:
    by_part: defaultdict[int, set[bytes]] = defaultdict(set)
    for key, part in ledger.parts_of([key for key, place in newest.items() if not place.is_last]).items():
        by_part[part].add(key)
    for part, keys in by_part.items():
        for key, _, answered_at in parquet.answered(data, part, keys):
            if key in newest and newest[key].answered_us <= _us(answered_at):
                del newest[key]
    return newest


def _that_fit(rows: Sequence[KeptRow], columns: pa.Schema) -> list[KeptRow]:
    """Those that a part can hold: one that cannot would stop every seal."""
    try:
        parquet.table_of([row.row for row in rows], columns)
    except (pa.ArrowException, ValueError):
        if len(rows) == 1:
            return []
        half = len(rows) // 2
        return _that_fit(rows[:half], columns) + _that_fit(rows[half:], columns)
    return list(rows)


def columns_of(ledger: Ledger) -> pa.Schema:
    """The columns that OUT was made with. Raises ValueError where they are none of ours."""
    columns = parquet.known_columns(ledger.meta("schema"))
    if columns is None:
        raise ValueError("the columns are none of ours")
    return columns


def what_is_wrong(ledger: Ledger) -> str | None:
    """What stands in the ledger and was written by no run; None where all of it can be read as it should.

    SQLite knows pages and records, and not what is in them.
    """
    for name, check in _CHECKS.items():
        try:
            for _ in check(ledger):
                pass
        except ResourceError:
            return f"{name} cannot be read"
        except Exception as error:  # noqa: BLE001 - whatever a value leads to that is not what it should be
            return f"{name}: {type(error).__name__}: {error}"
    return None


def _check_answers(ledger: Ledger) -> Iterator[object]:
    columns = columns_of(ledger)
    for key, row, _, _ in ledger.waiting():
        if not is_answer(key, row):
            raise ValueError("an answer is not that of its record")
        yield parquet.table_of([row], columns)


def _check_meta(ledger: Ledger) -> Iterator[object]:
    for name in (*_JSON_META, *ledger.meta_names("mark ")):
        yield orjson.loads(ledger.meta(name) or b"{}")
    yield int(ledger.meta("parts") or b"0")
    yield (ledger.meta("config_hash") or b"").decode()


_CHECKS: dict[str, Callable[[Ledger], Iterator[Any] | Collection[Any]]] = {
    "its columns": columns_of,
    "its settings": _check_meta,
    "its sums by state": lambda ledger: [state_of(code) for code in ledger.states()],
    "its totals": lambda ledger: [value + 0 for value in ledger.counts().values()],
    "its records": lambda ledger: [state_of(code) for code in ledger.states_of_records()],
    "its bills": lambda ledger: [orjson.loads(bill.bill)["attempts"] + 0 for bill in ledger.bills()],
    "its answers": _check_answers,
}
