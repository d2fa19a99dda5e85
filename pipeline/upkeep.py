"""What is done to an output directory between runs: a new ledger from the parts, when the old one is lost."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import RunConfig, load_config
from pipeline.dataset import DATA_NAME, LEDGER_NAME
from pipeline.edges import outdir, parquet
from pipeline.edges.ledger import KeptRow, SqliteLedger
from pipeline.errors import ErrorKind, InputError, ResourceError
from pipeline.policy.asking import Asking
from pipeline.policy.rows import SHAREABLE, nano_usd, state_code
from pipeline.records import Status, record_key

SUFFIXES = ("", "-wal", "-shm", "-journal")
COUNTED = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "total_tokens")
COLUMNS = (
    "id", "prompt_name", "status", "error_kind", "request_sha256", "duplicate_of", "run_id", "config_hash", "attempts",
    "cost_usd", "predicted_prompt_tokens", *COUNTED,
)  # fmt: skip
BATCH = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildReport:
    """What a rebuilt ledger holds."""

    parts: int
    records: int
    set_aside: str | None
    """Where the old ledger lies now."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def rebuild(out: Path, *, now: Callable[[], datetime]) -> RebuildReport:
    """Make a new ledger from the parts alone: what is in them is not asked again.

    Answers that were kept and not yet sealed are lost with the old ledger, which is moved aside, not deleted.
    Raises InputError where there are no parts, OutInUseError where a run holds OUT, ResourceError where a part
    cannot be read.
    """
    data, path = out / DATA_NAME, out / LEDGER_NAME
    numbers = parquet.part_numbers(data) if data.is_dir() else []
    if not numbers:
        raise InputError(f"{out}: no parts to rebuild a ledger from (there is no {data / parquet.part_name(0)})")
    for number in numbers:
        parquet.count_rows(data, number)  # a part that cannot be read is named before anything is changed
    set_aside = _set_aside(path, now())
    parquet.remove_unfinished(data)
    with SqliteLedger(path) as ledger:
        _declare(ledger, out, data / parquet.part_name(numbers[0]), now())
        for number in numbers:
            _take_over(ledger, data, number)
        _forget_gaps(ledger, numbers)
        records = sum(ledger.states().values())
    return RebuildReport(parts=len(numbers), records=records, set_aside=set_aside)


def _set_aside(path: Path, now: datetime) -> str | None:
    if not path.exists():
        return None
    with suppress(ResourceError):  # it is damaged: that is why we are here
        SqliteLedger(path).close()  # refuses while a run holds it, and folds its journal in where it is whole
    aside = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%S}")
    for suffix in SUFFIXES:
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(aside.with_name(aside.name + suffix))
    return str(aside)


def _declare(ledger: SqliteLedger, out: Path, first: Path, now: datetime) -> None:
    config_hash, identity = _question(out)
    schema: pa.Schema = pq.read_schema(first)
    ledger.begin_run(f"rebuilt-{now:%Y%m%dT%H%M%SZ}", config_hash, Asking().describe())
    ledger.set_meta(
        {
            "config_hash": config_hash.encode(),
            "identity": orjson.dumps(outdir.public(identity)),
            "schema": schema.serialize().to_pybytes(),
            "made_at": now.isoformat().encode(),
        }
    )
    ledger.end_run()


def _question(out: Path) -> tuple[str, dict[str, object]]:
    """What OUT was last asked, from its own `config.toml`."""
    path = out / outdir.CONFIG_NAME
    config = load_config(path, environ={}) if path.is_file() else RunConfig()
    return config.config_hash(), config.identity()


def _take_over(ledger: SqliteLedger, data: Path, number: int) -> None:
    with pq.ParquetFile(data / parquet.part_name(number)) as file:
        if not file.metadata.num_rows:
            ledger.restore(number, [], {})
        for batch in file.iter_batches(BATCH, columns=list(COLUMNS)):
            counts: Counter[str] = Counter()
            rows = list(_restored(batch, counts))
            if twice := ledger.known([row.key for row in rows]):
                raise ResourceError(
                    f"{data / parquet.part_name(number)}: {len(twice)} of its rows stand in an earlier part too. "
                    "Parts of another directory do not belong here: take them out and rebuild again"
                )
            ledger.restore(number, rows, counts)


def _restored(batch: pa.RecordBatch, counts: Counter[str]) -> Iterator[KeptRow]:
    for row in batch.to_pylist():
        status, kind = Status(row["status"]), row["error_kind"]
        for name in COUNTED:
            counts[name] += row[name] or 0
        cost_usd: Decimal | None = row["cost_usd"]
        counts["cost_nano_usd"] += nano_usd(cost_usd) or 0
        counts["requests"] += row["attempts"] or 0
        counts["predicted_prompt_tokens"] += row["predicted_prompt_tokens"] or 0
        counts["unpriced"] += cost_usd is None and status is not Status.FAILED
        counts["shared"] += row["duplicate_of"] is not None
        counts[status.value] += 1
        yield KeptRow(
            record_key(row["id"], row["prompt_name"]),
            state_code(status, None if kind is None else ErrorKind(kind)),
            b"",
            request_sha256=row["request_sha256"],
            shareable=status in SHAREABLE and row["duplicate_of"] is None,
        )


def _forget_gaps(ledger: SqliteLedger, numbers: list[int]) -> None:
    """Parts that are gone are not missed: their records are asked again."""
    if numbers != list(range(len(numbers))):
        ledger.set_meta({"lost_parts": orjson.dumps(sorted(set(range(numbers[-1])) - set(numbers)))})
