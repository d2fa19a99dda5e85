"""`read`, `scan`, `reviews`, `status`, `report`, `merge`, `rebuild` and `compact`: what a run leaves in OUT."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.api.places import PathLike, is_address, local, named, readable
from pipeline.commands.compact import CompactReport
from pipeline.commands.compact import compact as compact_out
from pipeline.commands.merge import merge as merge_outs
from pipeline.commands.merged import MergeReport
from pipeline.commands.rebuild import rebuild as rebuild_ledger
from pipeline.commands.rebuilt import RebuildReport
from pipeline.commands.report.report import CARDS, MOST_CARDS, NAME, make_report
from pipeline.commands.status import OutStatus, read_status
from pipeline.errors import InputError
from pipeline.store import reading
from pipeline.store.opening import check_ledger
from pipeline.store.reviews import reviews_frame

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def status(out: PathLike, *, verify: bool = False) -> OutStatus:
    """What `out` holds and whether a run is at work on it; also while one is.

    While none is, the parts are compared with the ledger by their footers; `verify` reads every part to its end.

    Raises:
        InputError: `out` holds no output of a run.
        OutInUseError: another process holds the ledger and does not let it be read.
        ResourceError, DamagedLedgerError: the ledger cannot be read.
    """
    place = readable(out)
    check_ledger(place)
    return replace(read_status(place, verify=verify), out=named(out))


def merge(outs: Sequence[PathLike], *, out: PathLike, on_config_change: str = "refuse") -> MergeReport:
    """Joins output directories, such as the shards of an array, into `out`, which is new or grows.

    Of a record that stands in two of them, an answer counts more than a row without one, and then the row that was
    answered later. A call that was interrupted is continued by the same call; one that is repeated adds only what is
    new. `on_config_change="keep"` joins answers to different settings; the column `config_hash` says which is which.

    Raises:
        InputError: one of `outs` holds no output of a run, they do not fit together, or `out` is one of them.
        OutInUseError: a run or another merge is at work on one of them.
        ResourceError, DamagedLedgerError: a part or a ledger cannot be read, or the disk fails.
    """
    named = [outs] if isinstance(outs, str | Path) else outs
    places = [readable(one) for one in named]
    return merge_outs(places, local(out, "merge"), now=datetime.now(UTC), on_config_change=on_config_change)


def report(out: PathLike, output: PathLike | None = None, *, cards: int = CARDS) -> Path:
    """Writes one HTML file about `out`, which needs no network: outcomes, cost, pace, failures and a gallery.

    `output` is its name (default: `report.html` in `out`, or here where `out` is in a bucket), and what is returned;
    `cards` is how many rows it shows with their images. A run may be at work on `out`.

    Raises:
        InputError: `out` holds no output of a run, or no HTML file can have the name `output`.
        OutInUseError: a run has only just begun on `out`.
        ResourceError, DamagedLedgerError: a part or the ledger cannot be read, or the disk fails.
    """
    if not 0 <= cards <= MOST_CARDS:
        raise InputError(f"`cards={cards}`: a report shows 0 to {MOST_CARDS:,} rows")
    place = None if output is None else Path(output)
    if place is None and is_address(out):
        place = Path(NAME)
    return make_report(readable(out), place, now=datetime.now(UTC), cards=cards).path


def rebuild(out: PathLike, *, drop_unreadable: bool = False) -> RebuildReport:
    """A new ledger for `out` from its parts alone, where the old one is lost or damaged.

    With `drop_unreadable` a part that cannot be read is moved aside, and its records are asked again.

    Raises:
        InputError: `out` holds no output of a run, or its parts are not of a run.
        OutInUseError: a run is at work on `out`.
        ResourceError, DamagedLedgerError: a part or the old ledger cannot be read, or the disk fails.
    """
    return rebuild_ledger(local(out, "rebuild"), now=lambda: datetime.now(UTC), drop_unreadable=drop_unreadable)


def compact(out: PathLike, *, rows_per_part: int | None = None) -> CompactReport:
    """Rewrites the rows as parts of `rows_per_part` rows (default: `output.rows_per_part`), the ledger without gaps.

    Raises:
        InputError: `out` holds no output of a run.
        OutInUseError: a run is at work on `out`.
        ResourceError, DamagedLedgerError: a part or the ledger cannot be read, or the disk fails.
    """
    return compact_out(local(out, "compact"), rows_per_part=rows_per_part)


def read(out: PathLike, columns: Sequence[str] | None = None, where: str | None = None) -> "pd.DataFrame":
    """The rows of an output directory: money as float, the manifest's columns beside those of vision-batch.

    `columns` names the columns to read (default: all); `where` is an SQL condition over them, for example
    `"status = 'ok' AND cost_usd > 0.01"`. `pandas.read_parquet(f"{out}/data")` gives the same rows as they are stored.
    Labels are columns of their own: `labels.mood`, which `columns` and `where` may name.
    A manifest column with the name of another column is shown as `record.<name>`. A new output directory has no rows.

    Raises:
        InputError: `out` holds no output of a run, a column is unknown, or the condition cannot be read.
        ResourceError: a part is damaged.
    """
    return reading.read(readable(out), columns, where)


def scan(out: PathLike, columns: Sequence[str] | None = None, where: str | None = None) -> Iterator["pa.RecordBatch"]:
    """The rows of an output directory as they are stored, in batches of pyarrow: for more rows than fit in memory.

    `columns` and `where` as in `read`; labels are one struct, `labels`.

    Raises:
        InputError: `out` holds no output of a run, a column is unknown, or the condition cannot be read.
        ResourceError: a part is damaged.
    """
    return reading.scan(readable(out), columns, where)


def reviews(out: PathLike) -> "pd.DataFrame":
    """What people said of answers in `vision-batch view`: a row for each row of `out` that has a mark or a correction.

    The columns are `id`, `prompt_name`, `answered_at` (of the answer that was reviewed), `mark` (`good`, `bad` or
    null), `caption` (corrected, or null), `reviewed_at`, and `applies`: false once the row has another answer.

    Raises:
        InputError: `out` holds no output of a run.
        ResourceError: a part, or a file of reviews, is damaged.
    """
    return reviews_frame(readable(out))
