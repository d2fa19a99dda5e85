"""`report`, `merge`, `rebuild` and `compact`: what is made of one OUT or several."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pipeline.api.paths import PathLike
from pipeline.api.places import is_address, local, readable
from pipeline.commands.compact import CompactReport
from pipeline.commands.compact import compact as compact_out
from pipeline.commands.merge import merge as merge_outs
from pipeline.commands.merged import MergeReport
from pipeline.commands.rebuild import rebuild as rebuild_ledger
from pipeline.commands.rebuilt import RebuildReport
from pipeline.commands.report.report import CARDS, MOST_CARDS, NAME, make_report
from pipeline.errors import InputError


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
