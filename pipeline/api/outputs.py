"""`read`, `scan`, `reviews` and `status`: what OUT holds."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.api.paths import PathLike
from pipeline.api.places import named, readable
from pipeline.commands.status import OutStatus, read_status
from pipeline.store import reading
from pipeline.store.opening import check_ledger
from pipeline.store.reviewed import read_reviewed
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


def read(
    out: PathLike, columns: Sequence[str] | None = None, where: str | None = None, *, reviews: bool = False
) -> "pd.DataFrame":
    """The rows of an output directory: money as float, the manifest's columns beside those of vision-batch.

    `columns` names the columns to read (default: all); `where` is an SQL condition over them, for example
    `"status = 'ok' AND cost_usd > 0.01"`. `pandas.read_parquet(f"{out}/data")` gives the same rows as they are stored.
    Labels are columns of their own: `labels.mood`, which `columns` and `where` may name.
    A manifest column with the name of another column is shown as `record.<name>`. A new output directory has no rows.
    With `reviews` the captions that people corrected in `vision-batch view` take the place of the answers', and a
    column `mark` says `good` or `bad`; `where` sees the answers as they came.

    Raises:
        InputError: `out` holds no output of a run, a column is unknown, or the condition cannot be read.
        ResourceError: a part is damaged.
    """
    if reviews:
        return read_reviewed(readable(out), columns, where)
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
