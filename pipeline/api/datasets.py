"""`read`, `status`, `rebuild` and `compact`: what a run leaves in its output directory."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.api.running import PathLike
from pipeline.commands.compact import CompactReport
from pipeline.commands.compact import compact as compact_out
from pipeline.commands.rebuild import rebuild as rebuild_ledger
from pipeline.commands.rebuilt import RebuildReport
from pipeline.commands.status import OutStatus, read_status
from pipeline.errors import InputError
from pipeline.store import parquet
from pipeline.store.dataset import check_ledger

if TYPE_CHECKING:
    import pandas as pd


def status(out: PathLike, *, verify: bool = False) -> OutStatus:
    """What `out` holds and whether a run is at work on it; also while one is.

    While none is, the parts are compared with the ledger by their footers; `verify` reads every part to its end.

    Raises:
        InputError: `out` holds no output of a run.
        OutInUseError: another process holds the ledger and does not let it be read.
        ResourceError, DamagedLedgerError: the ledger cannot be read.
    """
    check_ledger(Path(out))
    return read_status(Path(out), verify=verify)


def rebuild(out: PathLike, *, drop_unreadable: bool = False) -> RebuildReport:
    """A new ledger for `out` from its parts alone, where the old one is lost or damaged.

    With `drop_unreadable` a part that cannot be read is moved aside, and its records are asked again.

    Raises:
        InputError: `out` holds no output of a run, or its parts are not of a run.
        OutInUseError: a run is at work on `out`.
        ResourceError, DamagedLedgerError: a part or the old ledger cannot be read, or the disk fails.
    """
    return rebuild_ledger(Path(out), now=lambda: datetime.now(UTC), drop_unreadable=drop_unreadable)


def compact(out: PathLike, *, rows_per_part: int | None = None) -> CompactReport:
    """Rewrites the rows as parts of `rows_per_part` rows (default: `output.rows_per_part`), the ledger without gaps.

    Raises:
        InputError: `out` holds no output of a run.
        OutInUseError: a run is at work on `out`.
        ResourceError, DamagedLedgerError: a part or the ledger cannot be read, or the disk fails.
    """
    return compact_out(Path(out), rows_per_part=rows_per_part)


def read(out: PathLike) -> "pd.DataFrame":
    """The rows of an output directory: money as float, the manifest's columns beside ours.

    `pandas.read_parquet(f"{out}/data")` gives the same rows as they are stored. A manifest column that
    bears the name of one of ours is shown as `record.<name>`. Where nothing is answered yet there are no rows.

    Raises:
        InputError: `out` holds no output of a run.
    """
    import pandas as pd  # noqa: PLC0415 - a tenth of a second, which a run does not need

    folder = Path(out) / "data"
    if not folder.is_dir():
        raise InputError(f"{out}: no vision-batch output here (there is no {folder})")
    has_parts = any(folder.glob("*.parquet"))
    frame = pd.read_parquet(folder) if has_parts else parquet.schema().empty_table().to_pandas()
    frame["cost_usd"] = frame["cost_usd"].map(_as_float, na_action="ignore").astype("float64")
    extra = pd.DataFrame([json.loads(text) if isinstance(text, str) else {} for text in frame.pop("record")])
    extra.index = frame.index
    renamed = extra.rename(columns={name: f"record.{name}" for name in extra.columns if name in frame.columns})
    return frame.join(renamed)


def _as_float(amount: Decimal) -> float:
    return float(amount)
