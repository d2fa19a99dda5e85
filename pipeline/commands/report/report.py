"""`report`: OUT -> one HTML file that needs nothing else."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pipeline import files
from pipeline.commands.report import tables
from pipeline.commands.report.cards import Card, cards_of
from pipeline.commands.report.collect import Collected, collect
from pipeline.commands.report.drawing import drawn, how_long, words_of
from pipeline.commands.report.pauses import pauses_of
from pipeline.commands.report.pictures import pictures
from pipeline.commands.report.sums import Sums
from pipeline.commands.report.timeline import quantile
from pipeline.commands.status import OutStatus, read_status
from pipeline.engine.progress import bytes_text, counted, dollars, short
from pipeline.errors import InputError, ResourceError
from pipeline.files import disk_errors
from pipeline.formatting import whole
from pipeline.pages.rendering import percent, render, resource
from pipeline.store.opening import check_ledger, last_config

NAME: Final = "report.html"
CARDS: Final = 240
MOST_CARDS: Final = 1_000
MOST_OPTIONS: Final = 40
"""Of a label with more values, such as a free text, none is a choice: the search finds them."""
_THOUSAND: Final = 1_000


@dataclass(frozen=True, slots=True)
class Figure:
    """One of the numbers at the top."""

    name: str
    value: str
    more: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was written."""

    path: Path
    bytes: int
    rows: int
    cards: int


def make_report(out: Path, output: Path | None, *, now: datetime, cards: int = CARDS) -> Report:
    """Write the report of `out` to `output`, by default into `out`, also while a run is at work there.

    Raises InputError where there is no output of a run, ResourceError where a part or the disk fails.
    """
    path = out / NAME if output is None else output
    check_ledger(out)
    status = read_status(out)
    check_place(path)
    found = collect(out, cards)
    rows = cards_of(found.sample, pictures(out, found.sample), found.reviewed)
    page = render(
        "report.html.j2",
        _values(out, status, found, rows, now),
        title=f"{_name(out)}: report",
        script=resource("gallery.js"),
    )
    data = page.encode("utf-8", "replace")
    with disk_errors(path.parent):
        files.write_atomic(path, data)
    return Report(path=path, bytes=len(data), rows=found.rows, cards=len(rows))


def lines(report: Report) -> list[str]:
    """What was written, for people."""
    shown = "all of them" if report.cards == report.rows else f"{report.cards:,} of them"
    rows = counted(report.rows, "row") + (f", {shown} in the gallery" if report.cards else "")
    return [f"{report.path}: {bytes_text(report.bytes)}; {rows}. Any browser opens it, without a network"]


def check_place(path: Path) -> None:
    """Raise InputError, before anything is read, where no file can be written here."""
    if path.suffix.lower() not in {".html", ".htm"}:
        raise InputError(f"`output={path}`: a report is HTML: give it a name that ends in .html")
    if path.is_dir():
        raise InputError(f"`output={path}`: this is a folder")
    if not path.parent.is_dir():
        raise InputError(f"`output={path}`: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ResourceError(f"`output={path}`: writing there is not permitted")


def _name(out: Path) -> str:
    return whole(out.resolve().name) or "OUT"


def _values(out: Path, status: OutStatus, found: Collected, cards: Sequence[Card], now: datetime) -> dict[str, object]:
    pauses = pauses_of(out)
    chart = found.timeline.chart(pauses)
    return {
        "name": _name(out),
        "made_at": f"{now.day} {now:%B %Y, %H:%M} UTC",
        "notices": list(_notices(status, found)),
        "figures": list(_figures(status, found)),
        "rows": found.rows,
        "shared": found.sums.all.shared,
        "outcomes": tables.outcomes(found.sums),
        "flags": tables.flags(found.sums),
        "models": tables.by_model(found.sums),
        "sizes": tables.by_size(found.sums),
        "priced": found.sums.all.priced,
        "times": None if chart is None else drawn(chart),
        "pauses": [words_of(pause) for pause in pauses],
        "failures": tables.failures(found.sums),
        "labels": tables.labels(found.sums),
        "cards": cards,
        "said": dict(found.said),
        "filters": _filters(cards),
        "runs": tables.runs(out),
        "asked": list(_asked(out)),
    }


def _asked(out: Path) -> Iterator[tuple[str, str]]:
    try:
        yield from tables.asked_of(last_config(out))
    except InputError:  # it was edited, and says nothing that can be relied on
        return


def _notices(status: OutStatus, found: Collected) -> Iterator[tuple[str, str]]:
    """(kind, text) of what a reader must see first."""
    if status.state == "running":
        waits = f" ({status.waiting})" if status.waiting else ""
        yield "info", f"A run is at work on this dataset{waits}: the figures are those of its parts so far."
    if status.is_rehearsal:
        yield "info", "A rehearsal: these answers are the local emulator's, and nothing was paid."
    unsealed = sum(status.records.values()) - found.rows
    if unsealed > 0 and not status.damage:
        yield "info", f"Not in data/ yet, and not in this report: {counted(unsealed, 'committed row')}."
    for warning in status.warnings:
        yield "", f"{warning[:1].upper()}{warning[1:]}."
    for damage in status.damage:
        yield "bad", f"Damage in data/: {damage}"


def _figures(status: OutStatus, found: Collected) -> Iterator[Figure]:
    sums, rows = found.sums.all, found.rows
    statuses = {name: one.rows for name, one in found.sums.by("status").items()}
    good = statuses.get("ok", 0)
    yield Figure("Rows", f"{rows:,}", _of(good, rows, "ok"))
    bad = statuses.get("failed", 0) + statuses.get("invalid", 0)
    yield Figure("Failed or invalid", f"{bad:,}", _of(bad, rows, "of all rows"))
    is_whole = status.state != "running" and sum(status.records.values()) == rows
    yield _cost(status, sums, is_whole=is_whole)
    if sums.billed:
        cached = f"{percent(sums.cached_tokens / sums.prompt_tokens)} of the rows' cached" if sums.cached_tokens else ""
        yield _tokens("Tokens in", status.prompt_tokens, sums.prompt_tokens, cached, is_whole=is_whole)
        reasoning = f"{short(sums.reasoning_tokens)} of them reasoning" if sums.reasoning_tokens else ""
        yield _tokens("Tokens out", status.completion_tokens, sums.completion_tokens, reasoning, is_whole=is_whole)
    elif status.pages:
        yield Figure("Pages billed", f"{status.pages:,}")
    if sums.single_predicted:
        ratio = sums.single_billed / sums.single_predicted
        shown = "as predicted" if round(ratio, 3) == 1 else f"{ratio:.3f}"
        yield Figure("Billed of predicted", shown, f"prompt tokens of {sums.singles:,} answers")
    if (median := quantile(found.timeline.latencies, 0.5)) is not None:
        p95 = quantile(found.timeline.latencies, 0.95)
        yield Figure("Median latency", f"{median:.2g} s", f"95% within {p95:.2g} s")
    if (chart := found.timeline.chart()) is not None:
        seconds = sum(one.ended - one.began for one in chart.sessions)
        seconds, rate = tables.at_work(Path(status.out), rows) or (seconds, found.timeline.rows / seconds)
        yield Figure("At work", how_long(seconds), f"{rate:,.1f} rows a second")


def _of(part: int, rows: int, what: str) -> str:
    return f"{percent(part / rows)} {what}" if rows else ""


def _cost(status: OutStatus, sums: Sums, *, is_whole: bool) -> Figure:
    """Of all runs, with answers that were replaced since. `is_whole`: all rows are in `sums`."""
    if status.cost_usd is None:
        return Figure("Cost", "unknown", "no price is known")
    more = []
    if status.cost_unknown_usd:
        more.append(f"up to {dollars(status.cost_unknown_usd)} more unknown")
    elif sums.priced:
        more.append(f"{dollars(round(_THOUSAND * sums.cost_usd / sums.priced, 6))} for 1,000 answers")
    before = status.cost_usd - sums.cost_usd
    if is_whole and sums.priced and before > 0:
        more.append(f"{dollars(before)} of it for answers that were replaced")
    return Figure("Cost", dollars(status.cost_usd), "; ".join(more))


def _tokens(name: str, billed: int | None, in_rows: int, more: str, *, is_whole: bool) -> Figure:
    """Of all runs, as the cost is."""
    replaced = (billed or 0) - in_rows if is_whole else 0
    said = [more, *([f"{short(replaced)} of them for answers that were replaced"] if replaced > 0 else [])]
    return Figure(name, short(max(billed or 0, in_rows)), "; ".join(filter(None, said)))


def _filters(cards: Sequence[Card]) -> dict[str, Any]:
    """What the gallery can be filtered by: only what tells some of its rows apart."""
    labels: dict[str, set[str]] = {}
    for name, value in (label for card in cards for label in card.labels):
        labels.setdefault(name, set()).add(value)
    few = {name: sorted(found) for name, found in labels.items() if len(found) <= MOST_OPTIONS}
    values: dict[str, list[str]] = {
        "status": sorted({card.status for card in cards}),
        "flag": sorted({flag for card in cards for flag in card.flags}),
        "review": sorted({word for card in cards for word in card.review}),
        "label": [f"{name}: {value}" for name, found in few.items() for value in found],
        "prompt": sorted({card.prompt_name for card in cards}),
    }
    least = {"flag": 1, "label": 1, "review": 1}
    return {name: found for name, found in values.items() if len(found) >= least.get(name, 2)}
