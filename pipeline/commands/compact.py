"""`vision-batch compact`: the parts of an output directory made even, and the ledger without its gaps.

A second set of parts is written beside `data/` and exchanged with it, so that a reader meets the one or the other.
Then the ledger is told, by the very code that repairs what a crash leaves (`pipeline.store.layout`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import pyarrow as pa

from pipeline.errors import InputError, ResourceError
from pipeline.store import between_runs, layout, parquet, swap
from pipeline.store.contents import columns_of
from pipeline.store.ledger.protocol import Ledger
from pipeline.store.ledger.transfer import vacuum
from pipeline.store.opening import LEDGER_NAME, last_config


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactReport:
    """What became of parts and ledger; bytes are those of their files."""

    records: int
    parts_before: int
    parts_after: int
    bytes_before: int
    bytes_after: int
    ledger_bytes_before: int
    ledger_bytes_after: int

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def compact(
    out: Path,
    *,
    rows_per_part: int | None = None,
    failpoint: Callable[[str], None] = lambda _: None,
    exchange: Callable[[Path, Path], bool] = swap.exchange,
) -> CompactReport:
    """Even parts of `rows_per_part` rows (default: what `OUT/config.toml` says), in the order of the old ones.

    Needs as much room again as the parts take, and the memory of two row groups. Parts that are even already stay
    as they are. `failpoint` is told each step once it is done; `exchange` is how directories change places.
    Raises InputError where there is no output directory, OutInUseError where a run holds it, ResourceError where
    the disk does not allow it or a part cannot be read; nothing is changed then.
    """
    if rows_per_part is not None and rows_per_part < 1:
        raise InputError(f"rows per part: {rows_per_part}; it takes 1 or more")
    data, ledger_file = out / layout.DATA_NAME, out / LEDGER_NAME
    ledger_bytes_before = _bytes(_ledger_files(ledger_file))
    with between_runs.held(out, failpoint) as ledger:
        limit = rows_per_part or last_config(out).output.rows_per_part
        before = parquet.rows_by_part(data)
        bytes_before = _bytes(_part_files(data))
        if not is_even(list(before.values()), limit):
            _replace(out, ledger, before, limit, failpoint=failpoint, exchange=exchange)
        after = parquet.rows_by_part(data)
        with suppress(ResourceError):  # no room for it: the ledger is whole without
            vacuum(ledger)
        failpoint("vacuumed")
    return CompactReport(
        records=sum(after.values()),
        parts_before=len(before),
        parts_after=len(after),
        bytes_before=bytes_before,
        bytes_after=_bytes(_part_files(data)),
        ledger_bytes_before=ledger_bytes_before,
        ledger_bytes_after=_bytes(_ledger_files(ledger_file)),
    )


def is_even(rows: Sequence[int], limit: int) -> bool:
    """Whether parts of so many rows are full, up to the last one."""
    return all(each == limit for each in rows[:-1]) and (0 < rows[-1] <= limit or rows == [0])


class Supply:
    """Tables, of which any number of rows can be taken at a time."""

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        self._tables = (table for table in tables if table.num_rows)
        self._rest: pa.Table | None = next(self._tables, None)

    @property
    def is_empty(self) -> bool:
        return self._rest is None

    def take(self, rows: int) -> Iterator[pa.Table]:
        """The next rows; fewer where there are no more."""
        while rows and self._rest is not None:
            taken = self._rest.slice(0, rows)
            rows -= taken.num_rows
            rest = self._rest.slice(taken.num_rows)
            self._rest = rest if rest.num_rows else next(self._tables, None)
            yield taken


def _replace(
    out: Path,
    ledger: Ledger,
    before: Mapping[int, int],
    limit: int,
    *,
    failpoint: Callable[[str], None],
    exchange: Callable[[Path, Path], bool],
) -> None:
    if (data := out / layout.DATA_NAME).is_symlink():
        raise InputError(f"{data} is a symbolic link, which cannot change places with a directory; nothing was changed")
    rows = sum(before.values())
    # No new part bears an old one's name: a reader who has listed the old ones and opens them late is told that they
    # are gone, and never reads a mixture.
    first = 0 if max(1, -(-rows // limit)) <= min(before) else max(before) + 1
    columns = columns_of(ledger)
    try:
        supply = Supply(parquet.batches(data, columns))
        _write(out / layout.NEW_NAME, supply, columns, first=first, limit=limit, failpoint=failpoint)
        layout.put_in_place(out, exchange, failpoint)
    except BaseException:
        with suppress(OSError):  # else the next start does it
            layout.put_back(out)
            layout.clear(out)
        raise
    layout.settle(out, ledger, failpoint)


def _write(
    new: Path, supply: Supply, columns: pa.Schema, *, first: int, limit: int, failpoint: Callable[[str], None]
) -> None:
    new.mkdir()
    for number in count(first):
        parquet.write_tables(new, number, supply.take(limit), columns, failpoint)
        if supply.is_empty:  # a dataset without rows is one empty part
            break
    layout.name_set(new)
    failpoint("new-written")


def _part_files(data: Path) -> Iterator[Path]:
    return (data / parquet.part_name(number) for number in parquet.part_numbers(data))


def _ledger_files(ledger: Path) -> Iterator[Path]:
    return (ledger.with_name(ledger.name + suffix) for suffix in ("", "-wal", "-journal"))


def _bytes(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.exists())
