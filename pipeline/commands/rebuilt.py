"""The report of a rebuild: what was saved, and what could not be."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.engine.progress import counted
from pipeline.formatting import printable
from pipeline.store.old_ledger import OldLedger
from pipeline.store.salvage.parts import NAMED, PartReport


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildReport:
    """What a rebuilt ledger holds, and what could not be saved."""

    parts: int
    records: int
    set_aside: str | None
    """Where the old ledger lies now."""
    older_rows: int = 0
    """Rows that were taken out because their record was answered again in another row."""
    unreadable: tuple[str, ...] = ()
    """Where the damaged parts lie now: those that were written anew as far as they could be read, and the others."""
    answers: int = 0
    """Answers of the old ledger, and of files beside it, that no part held: they are in `data/` now."""
    lost_rows: int | None = 0
    """Rows of damaged parts that could not be read; None where the number that a part held is unknown."""
    lost_row_groups: int = 0
    lost_ids: tuple[str, ...] = ()
    """Of these rows, as far as their ids could be read; 20 at most."""
    null_columns: tuple[str, ...] = ()
    """Columns that are null in rows of damaged parts, because they could not be read or were not there."""
    lost_records: int = 0
    """Records of the old ledger whose answers are gone: they are asked again."""
    lost_answers: int = 0
    """Answers of the old ledger that are damaged themselves."""
    bad_pages: int = 0
    """Pages of the old ledger that are damaged, as far as that can be seen."""
    bad_frames: int = 0
    """Frames of its write-ahead log whose checksum does not hold."""
    ledger_damage: str | None = None
    """What is wrong with the old ledger; None where nothing was."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def losses_of_parts(reports: Sequence[PartReport]) -> dict[str, Any]:
    """What could not be read of the parts, by the names of the report."""
    lost = [report.lost for report in reports]
    return {
        "lost_rows": None if None in lost else sum(rows or 0 for rows in lost),
        "lost_row_groups": sum(report.lost_groups for report in reports),
        "lost_ids": tuple(name for report in reports for name in report.lost_ids)[:NAMED],
        "null_columns": tuple({name: None for report in reports for name in (*report.null_columns, *report.absent)}),
    }


def losses_of_ledger(old: OldLedger) -> dict[str, Any]:
    """What could not be read of the old ledger, by the names of the report."""
    return {
        "ledger_damage": None if old.is_whole else old.why,
        "lost_answers": old.damage.entries,
        "bad_pages": old.damage.pages,
        "bad_frames": old.damage.frames,
    }


def words(report: PartReport) -> str:
    """What of a part cannot be read."""
    if report.lost is None:
        return "its footer cannot be read, and no row without it"
    if report.lost:
        return (
            f"{report.lost:,} of {report.lost + report.rows:,} rows cannot be read, in {report.lost_groups:,} of "
            f"{report.groups:,} row groups"
        )
    return f"of its rows the columns {', '.join(report.null_columns)} cannot be read"


def rebuild_lines(out: Path, report: RebuildReport) -> Iterator[str]:
    """The report in words: first what there is, then what was damaged, then what is lost."""
    aside = f"; the old ledger is {report.set_aside}" if report.set_aside else ""
    yield f"{out}: {counted(report.records, 'record')} of {counted(report.parts, 'part')} are in the new ledger{aside}"
    if report.answers:
        yield f"{counted(report.answers, 'answer')} that no part held are in data/ now"
    if report.older_rows:
        yield f"{report.older_rows:,} rows of records that were answered again later are taken out"
    if report.ledger_damage is not None:
        yield (
            f"the old ledger is damaged ({counted(report.bad_pages, 'page')}, {counted(report.bad_frames, 'frame')} of "
            "its log), and was read page by page"
        )
    for name in report.unreadable:
        yield f"damaged, and moved aside: {name}"
    if report.null_columns:
        yield f"columns without a value in some rows of these parts: {', '.join(map(printable, report.null_columns))}"
    yield from _lost(report)


def _lost(report: RebuildReport) -> Iterator[str]:
    named = f": {', '.join(map(printable, report.lost_ids))}" if report.lost_ids else ""
    if report.lost_rows is None:
        yield f"lost: the rows of parts without a readable footer; their number is unknown. They are asked again{named}"
    elif report.lost_rows:
        groups = counted(report.lost_row_groups, "row group")
        yield f"lost: {counted(report.lost_rows, 'row')} in {groups} of parts; they are asked again{named}"
    if report.lost_answers:
        yield f"lost: {counted(report.lost_answers, 'damaged record')} of the old ledger that cannot be read"
    if report.lost_records:
        yield f"lost: the answers of {counted(report.lost_records, 'record')} of the old ledger; they are asked again"
