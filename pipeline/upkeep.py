"""What is done to an output directory between runs: a new ledger from the parts, when the old one is lost."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import layout
from pipeline.dataset import LEDGER_NAME, Dataset, last_config
from pipeline.edges import outdir, parquet
from pipeline.edges.ledger import CONFIG_META, History, KeptRow, SqliteLedger
from pipeline.errors import ErrorKind, InputError, ResourceError
from pipeline.layout import DATA_NAME
from pipeline.policy.asking import Asking
from pipeline.policy.ratios import count_billed
from pipeline.policy.rows import SHAREABLE, has_no_text, nano_usd, state_code
from pipeline.records import Status, record_key

SUFFIXES = ("", "-wal", "-shm", "-journal")
COUNTED = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "total_tokens")
COLUMNS = (
    "id", "prompt_name", "status", "error_kind", "request_sha256", "duplicate_of", "run_id", "config_hash", "attempts",
    "cost_usd", "predicted_prompt_tokens", "model", *COUNTED,
)  # fmt: skip
BATCH = 10_000
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildReport:
    """What a rebuilt ledger holds."""

    parts: int
    records: int
    set_aside: str | None
    """Where the old ledger lies now."""
    older_rows: int = 0
    """Rows that were taken out because their record was answered again in another row."""
    unreadable: tuple[str, ...] = ()
    """Where the parts lie that could not be read."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def rebuild(
    out: Path,
    *,
    now: Callable[[], datetime],
    drop_unreadable: bool = False,
    failpoint: Callable[[str], None] = lambda _: None,
) -> RebuildReport:
    """Make a new ledger from the parts alone: what is in them is not asked again.

    A ledger that can still be opened tells what no part does (runs, money spent without a row); one that is whole seals
    what waits in it first. Otherwise answers that were not sealed yet are lost with the old ledger, which is moved
    aside, not deleted, once the new one is whole. Where a record stands in two rows, the one answered last stays. With
    `drop_unreadable` a part that cannot be read is moved aside into OUT. `failpoint` is told each step once it is done.
    Raises InputError where there are no parts, OutInUseError where a run holds OUT, ResourceError where a part
    cannot be read.
    """
    data, path = out / DATA_NAME, out / LEDGER_NAME
    history = _history(out) if _is_ledger(path) else None
    with _held(path):
        layout.put_back(out)
        bad = _unreadable(out, drop=drop_unreadable)
        layout.clear(out)
        parquet.remove_unfinished(data)
        unreadable = tuple(str(parquet.set_aside(data, number, out)) for number in bad)
        numbers = parquet.part_numbers(data)
        new = path.with_name(f"{path.name}.new")
        _remove(new)
        with SqliteLedger(new, failpoint) as ledger:
            older_rows = _keep_last(ledger, data, numbers, failpoint)
            _declare(ledger, out, data / parquet.part_name(numbers[0]), now(), history)
            runs = _run_numbers(ledger, data) if history is None else history.numbers()
            for number in numbers:
                _take_over(ledger, data, number, runs, has_history=history is not None)
            _forget_gaps(ledger, numbers)
            records = sum(ledger.states().values())
    set_aside = _set_aside(path, now())
    failpoint("set-aside")
    new.rename(path)
    (out / outdir.STATUS_NAME).unlink(missing_ok=True)  # it tells of the old one
    parquet.sync_folder(out)
    return RebuildReport(
        parts=len(numbers), records=records, set_aside=set_aside, older_rows=older_rows, unreadable=unreadable
    )


def _is_ledger(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0  # to open one of no bytes would make it one


def _history(out: Path) -> History | None:
    """What the old ledger still tells; what waits in one that is whole is sealed first."""
    try:
        with SqliteLedger(out / LEDGER_NAME) as ledger:
            history = ledger.history()
    except ResourceError:
        return None
    if history is not None:
        with suppress(ResourceError), Dataset.between_runs(out):
            pass
    return history


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Refuse while a run holds OUT, and hold it ourselves. A damaged ledger cannot be held: that is why we are here."""
    with ExitStack() as held:
        if _is_ledger(path):
            with suppress(ResourceError):
                held.enter_context(SqliteLedger(path))
        yield


def _unreadable(out: Path, *, drop: bool) -> list[int]:
    """The parts that cannot be read; without `drop` the first one is the error. Nothing is changed here."""
    data = out / DATA_NAME
    numbers = parquet.part_numbers(data) if data.is_dir() else []
    if not numbers:
        raise InputError(f"{out}: no parts to rebuild a ledger from (there is no {data / parquet.part_name(0)})")
    bad = []
    for number in numbers:
        try:
            parquet.check_part(data, number)
        except ResourceError:
            if not drop:
                raise
            bad.append(number)
    if bad == numbers:
        raise ResourceError(f"{data}: none of the parts can be read; nothing was changed. Put them back from a copy")
    return bad


def _keep_last(ledger: SqliteLedger, data: Path, numbers: list[int], failpoint: Callable[[str], None]) -> int:
    """Of a record in two rows only the one answered last stays; how many rows went.

    Each part is replaced whole, while the row that stays is in another one or in the same: to end in the middle
    loses nothing, and to do it again finds what is left to do.
    """
    twice = set(ledger.repeated(parquet.places(data)))
    last: dict[bytes, tuple[datetime, int, int]] = {}
    older: defaultdict[int, set[int]] = defaultdict(set)
    for number in numbers if twice else []:
        for key, row, answered_at in parquet.answered(data, number, twice):
            found = (answered_at or _NEVER, number, row)
            first, last[key] = sorted((last.get(key, found), found))
            if first != last[key]:
                older[first[1]].add(first[2])
    for number, rows in older.items():
        parquet.drop_rows(data, number, rows)
        failpoint("older-dropped")
    return sum(map(len, older.values()))


def _set_aside(path: Path, now: datetime) -> str | None:
    if not path.exists():
        return None
    aside = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%S}")
    for suffix in SUFFIXES:
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(aside.with_name(aside.name + suffix))
    return str(aside)


def _remove(ledger: Path) -> None:
    for suffix in SUFFIXES:
        ledger.with_name(ledger.name + suffix).unlink(missing_ok=True)


def _declare(ledger: SqliteLedger, out: Path, first: Path, now: datetime, history: History | None) -> None:
    schema: pa.Schema = pq.read_schema(first)
    ledger.set_meta({"schema": schema.serialize().to_pybytes(), "layout": layout.set_name(out / DATA_NAME)})
    if history is not None:
        ledger.carry(history)
        return
    config = last_config(out)
    config_hash = _config_hash(data_hashes(first.parent), config.config_hash())
    identity = orjson.dumps(outdir.public(config.identity()))
    told = {CONFIG_META + name: orjson.dumps(one) for name, one in outdir.read_configurations(out).items()}
    told[CONFIG_META + config_hash] = identity
    others = dict.fromkeys(each for each in data_hashes(first.parent, every=True) if each != config_hash)
    for number, each in enumerate([*others, config_hash]):
        ledger.begin_run(f"rebuilt-{now:%Y%m%dT%H%M%SZ}-{number}", each, Asking().describe())
        ledger.end_run()
    ledger.set_meta(
        {"config_hash": config_hash.encode(), "identity": identity, "made_at": now.isoformat().encode(), **told}
    )


def data_hashes(data: Path, *, every: bool = False) -> list[str]:
    """The configurations that the rows of the last part, or of all, were asked with, in the order of the rows."""
    numbers = parquet.part_numbers(data)
    hashes: list[str] = []
    for number in numbers if every else numbers[-1:]:
        part = pq.read_table(data / parquet.part_name(number), columns=["config_hash"])["config_hash"]
        hashes += (part.unique() if every else part).to_pylist()
    return hashes


def _run_numbers(ledger: SqliteLedger, data: Path) -> dict[str, int]:
    """The run that stands for all rows of a configuration, by its hash."""
    return {each: max(ledger.runs_with(each), default=0) for each in set(data_hashes(data, every=True))}


def _config_hash(of_rows: list[str], of_config: str) -> str:
    """`config.toml` leaves out what may be a secret, and then has another hash: the rows know better."""
    return of_config if not of_rows or of_config in of_rows else of_rows[-1]


def _take_over(ledger: SqliteLedger, data: Path, number: int, runs: Mapping[str, int], *, has_history: bool) -> None:
    with pq.ParquetFile(data / parquet.part_name(number)) as file:
        if not file.metadata.num_rows:
            ledger.restore(number, [], {})
        for batch in file.iter_batches(BATCH, columns=list(COLUMNS)):
            counts: Counter[str] = Counter()
            rows = list(_restored(batch, counts))
            # History knows the sums better: of rows that were answered again, and of what has no row.
            ledger.restore(number, rows, {} if has_history else counts, _runs_of(batch, runs))


def _runs_of(batch: pa.RecordBatch, numbers: Mapping[str, int]) -> list[int]:
    by = zip(batch["run_id"].to_pylist(), batch["config_hash"].to_pylist(), strict=True)
    return [numbers.get(run_id, numbers.get(config_hash, 0)) for run_id, config_hash in by]


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
        if status is not Status.FAILED and row["attempts"] == 1:
            billed, predicted = row["prompt_tokens"], row["predicted_prompt_tokens"]
            count_billed(counts, row["model"], billed=billed, predicted=predicted)
        counts["shared"] += row["duplicate_of"] is not None
        counts[status.value] += 1
        counts["without_text"] += has_no_text(status, kind)
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
