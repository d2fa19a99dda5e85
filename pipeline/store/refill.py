"""Fills a ledger from the parts: what is a record, in which part, and by which run it was answered."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ErrorKind
from pipeline.records import Status, record_key
from pipeline.store import parquet, part_repair
from pipeline.store.accounting import count_row
from pipeline.store.dedup import SHAREABLE
from pipeline.store.ledger import transfer
from pipeline.store.ledger.protocol import CommittedRow
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.states import state_code

_COUNTED = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "total_tokens")
_COLUMNS = (
    "id", "prompt_name", "status", "error_kind", "request_sha256", "duplicate_of", "run_id", "config_hash", "attempts",
    "cost_usd", "predicted_prompt_tokens", "model", *_COUNTED,
)  # fmt: skip
_BATCH = 10_000
_NEVER = datetime.min.replace(tzinfo=UTC)


def take_over(
    ledger: SqliteLedger,
    data: Path,
    number: int,
    runs: Mapping[str, int],
    counts: Counter[str],
    *,
    has_history: bool,
) -> None:
    """The records of one part; `counts` is added what their rows come to."""
    ledger.restore(number, [], {}, [])
    with pq.ParquetFile(data / parquet.part_name(number)) as file:
        for batch in file.iter_batches(_BATCH, columns=list(_COLUMNS)):
            of_batch: Counter[str] = Counter()
            rows = list(_restored(batch, of_batch))
            counts += of_batch
            # The history's sums are complete: they include replaced rows, and attempts without a row.
            ledger.restore(number, rows, {} if has_history else of_batch, _runs_of(batch, runs))


def _runs_of(batch: pa.RecordBatch, numbers: Mapping[str, int]) -> list[int]:
    by = zip(batch["run_id"].to_pylist(), batch["config_hash"].to_pylist(), strict=True)
    return [numbers.get(run_id, numbers.get(config_hash, 0)) for run_id, config_hash in by]


def _restored(batch: pa.RecordBatch, counts: Counter[str]) -> Iterator[CommittedRow]:
    for row in batch.to_pylist():
        status, kind = Status(row["status"]), row["error_kind"]
        count_row(counts, row)
        yield CommittedRow(
            record_key(row["id"], row["prompt_name"]),
            state_code(status, None if kind is None else ErrorKind(kind)),
            b"",
            request_sha256=row["request_sha256"],
            shareable=status in SHAREABLE and row["duplicate_of"] is None,
        )


def forget_gaps(ledger: SqliteLedger, numbers: list[int]) -> None:
    """Parts that are gone are not missed: their records are asked again."""
    if numbers != list(range(len(numbers))):
        ledger.set_meta({"lost_parts": orjson.dumps(sorted(set(range(numbers[-1])) - set(numbers)))})


def keep_last(ledger: SqliteLedger, data: Path, numbers: list[int], failpoint: Callable[[str], None]) -> int:
    """Of a record in two rows only the one answered last stays; how many rows went.

    Each part is replaced whole, while the row that stays is in another one or in the same: to end in the middle
    loses nothing, and to do it again finds what is left to do.
    """
    twice = set(transfer.repeated(ledger, parquet.places(data))) if numbers else set()
    last: dict[bytes, tuple[datetime, int, int]] = {}
    older: defaultdict[int, set[int]] = defaultdict(set)
    for number in numbers if twice else []:
        for key, row, answered_at in parquet.answered(data, number, twice):
            found = (answered_at or _NEVER, number, row)
            first, last[key] = sorted((last.get(key, found), found))
            if first != last[key]:
                older[first[1]].add(first[2])
    for number, rows in older.items():
        part_repair.drop_rows(data, number, rows)
        failpoint("older-dropped")
    return sum(map(len, older.values()))
