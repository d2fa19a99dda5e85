"""The report of a merge, in values and in words."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

from pipeline.engine.progress import counted, dollars
from pipeline.money import usd_text

_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeReport:
    """What an output directory holds after a merge, and what the merge took."""

    out: str
    sources: int
    """Output directories that were joined."""
    records: int
    parts: int
    runs: int
    added: int
    """Rows that were not there before."""
    replaced: int
    """Rows that gave way to another row of their record, which counts more."""
    passed_over: int
    """Rows that were not taken, because their record has a row that counts as much or more."""
    cost_usd: Decimal
    """Of all runs, as far as their bills are known."""
    cost_unknown_usd: Decimal
    """The most that requests with an unknown bill can have cost."""
    shards: tuple[str, ...] = ()
    """The shards that were joined, now and before: `I/N`."""
    missing_shards: tuple[str, ...] = ()
    """Those of the same N that were not."""

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; money as text."""
        money = {name: usd_text(getattr(self, name)) for name in ("cost_usd", "cost_unknown_usd")}
        return asdict(self) | money


def merge_lines(report: MergeReport) -> Iterator[str]:
    """The report in words."""
    sources = "1 output directory" if report.sources == 1 else f"{report.sources:,} output directories"
    yield (
        f"{report.out}: {counted(report.records, 'record')} in {counted(report.parts, 'part')}, of "
        f"{counted(report.runs, 'run')}; {report.added:,} added from {sources}"
    )
    if report.replaced or report.passed_over:
        yield (
            f"{counted(report.replaced + report.passed_over, 'record')} stood twice: {report.replaced:,} rows were "
            f"replaced by a later one, {report.passed_over:,} stayed"
        )
    unknown = f", and up to {dollars(report.cost_unknown_usd)} unknown" if report.cost_unknown_usd else ""
    if report.cost_usd or unknown:
        yield f"cost of all runs: {dollars(report.cost_usd)}{unknown}"
    if report.missing_shards:
        named = ", ".join(report.missing_shards[:_NAMED]) + (", ..." if len(report.missing_shards) > _NAMED else "")
        yield f"not merged yet: {counted(len(report.missing_shards), 'shard')} ({named})"
    yield f'results: {Path(report.out) / "data"}  (pandas.read_parquet("{Path(report.out) / "data"}"))'
