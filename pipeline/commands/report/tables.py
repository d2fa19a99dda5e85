"""The tables of a report: outcomes, models, sizes, failures, labels and runs."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from pipeline import files
from pipeline.commands.report.drawing import how_long, moment, number
from pipeline.commands.report.sums import RowSums, Sums, Values, top
from pipeline.engine.progress import by_outcome, dollars, short
from pipeline.errors import ErrorKind
from pipeline.estimates.histogram import CLASSES_MP
from pipeline.pages.charts import Part, stacked, width_of
from pipeline.records import EMULATOR, Status
from pipeline.store.outdir import EARLIER, RUNS_NAME

MOST_FLAGS: Final = 12
MOST_LABELS: Final = 40
MOST_VALUES: Final = 8
MOST_RUNS: Final = 40
_THOUSAND: Final = 1_000
_FILLS: Final[dict[str, str]] = {ErrorKind.REFUSED: "refused", ErrorKind.LABELS_INVALID: "invalid"}


@dataclass(frozen=True, slots=True)
class Row:
    """The sums of one model or size."""

    name: str
    rows: int
    prompt_tokens: str
    completion_tokens: str
    cached: float | None
    """Share of the prompt tokens."""
    cost: str
    cost_per_thousand: str
    cost_width: float
    billed: str
    """Prompt tokens of an answer that took one request, in the mean; so `predicted`."""
    predicted: str
    billed_width: float
    predicted_width: float
    ratio: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A name, how many, and a bar."""

    name: str
    count: int
    width: float
    fill: str = "1"


@dataclass(frozen=True, slots=True)
class FailureKind:
    """All rows of one kind of error."""

    kind: str
    count: int
    width: float
    fill: str
    cause: str
    way_out: str
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Label:
    """One field of the labels."""

    name: str
    bars: tuple[Bar, ...]
    words: str


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run, as its summary says."""

    began: str
    took: str
    what: str
    rate: str
    cost: str
    stopped: str


def outcomes(sums: RowSums) -> list[Part]:
    rows = sums.by("status")
    known = [status.value for status in Status]
    return stacked((name, rows[name].rows, name) for name in sorted(rows, key=known.index))


def by_model(sums: RowSums) -> list[Row]:
    return _rows({name or "not named": one for name, one in sums.by("model").items() if name or one.priced})


def by_size(sums: RowSums) -> list[Row]:
    found = sorted(((at, one) for at, one in sums.by("size_class").items() if at is not None), key=lambda one: one[0])
    return _rows({size_name(at): one for at, one in found})


def size_name(at: int) -> str:
    """Of a place among `CLASSES_MP`."""
    if at >= len(CLASSES_MP):
        return f"above {CLASSES_MP[-1]:g} MP"
    return f"{CLASSES_MP[at - 1]:g} to {CLASSES_MP[at]:g} MP" if at else f"up to {CLASSES_MP[0]:g} MP"


def _rows(found: Mapping[str, Sums]) -> list[Row]:
    dearest = max((_each(one) or 0.0 for one in found.values()), default=0.0)
    most = max((max(_mean(one)) for one in found.values()), default=0.0)
    return [_row(name, one, dearest, most) for name, one in found.items()]


def _row(name: str, sums: Sums, dearest: float, most: float) -> Row:
    each, (billed, predicted) = _each(sums), _mean(sums)
    return Row(
        name=name,
        rows=sums.rows,
        prompt_tokens=short(sums.prompt_tokens) if sums.billed else "unknown",
        completion_tokens=short(sums.completion_tokens) if sums.billed else "unknown",
        cached=sums.cached_tokens / sums.prompt_tokens if sums.cached_tokens and sums.prompt_tokens else None,
        cost=dollars(sums.cost_usd) if sums.priced else "unknown",
        cost_per_thousand="unknown" if each is None else dollars(Decimal(str(round(_THOUSAND * each, 6)))),
        cost_width=width_of(each or 0.0, dearest),
        billed=number(round(billed, 1)) if sums.singles else "",
        predicted=number(round(predicted, 1)) if sums.singles else "",
        billed_width=width_of(billed, most),
        predicted_width=width_of(predicted, most),
        ratio=f"{sums.single_billed / sums.single_predicted:.3f}" if sums.single_predicted else "",
    )


def _each(sums: Sums) -> float | None:
    """Dollars of a row that has a cost."""
    return float(sums.cost_usd) / sums.priced if sums.priced else None


def _mean(sums: Sums) -> tuple[float, float]:
    singles = max(1, sums.singles)
    return sums.single_billed / singles, sums.single_predicted / singles


def flags(sums: RowSums) -> list[Bar]:
    return _bars(sums.flags, MOST_FLAGS, "other flags")


def _bars(counts: Mapping[str, int], most: int, others: str) -> list[Bar]:
    found = list(top(counts, most))
    longest = max((count for _, count in found), default=0)
    return [Bar(name or others, count, width_of(count, longest), "1" if name else "shade") for name, count in found]


def failures(sums: RowSums) -> list[FailureKind]:
    """Rows with a kind of error, the most frequent first."""
    found = {kind: one.rows for kind, one in sums.by("error_kind").items() if kind is not None}
    most = max(found.values(), default=0)
    return [
        FailureKind(
            kind=kind,
            count=count,
            width=width_of(count, most),
            fill=_FILLS.get(kind, Status.FAILED.value),
            examples=tuple((one.id, one.message) for one in sums.examples.get(kind, {}).values()),
            **_about(kind),
        )
        for kind, count in found.items()
    ]


def _about(kind: str) -> dict[str, str]:
    with suppress(ValueError):
        known = ErrorKind(kind)
        return {"cause": known.cause, "way_out": known.way_out}
    return {"cause": "", "way_out": ""}


def labels(sums: RowSums) -> list[Label]:
    found = [_label(name, values) for name, values in sums.labels.items() if values.counts or values.numbers]
    return found[:MOST_LABELS]


def _label(name: str, values: Values) -> Label:
    if values.numbers:
        return _of_numbers(name, values)
    counts = Counter(values.counts)
    bars = _bars(counts, MOST_VALUES, "other values")
    words = f"{len(counts):,} different values" if len(counts) > MOST_VALUES else ""
    if values.others:
        words = f"more than {len(counts):,} different values"
    return Label(name, tuple(bars if not values.others else bars[:MOST_VALUES]), words)


def _of_numbers(name: str, values: Values) -> Label:
    """A bar for each number, or for each of a few ranges of them."""
    least, most = values.least or 0, values.most or 0
    mean = f"{values.numbers:,} values, {values.total / values.numbers:,.2f} in the mean"
    if values.others or not values.counts:
        return Label(name, (), f"{mean}, from {number(least)} to {number(most)}")
    step = max(1, -(-int(most - least + 1) // MOST_VALUES))
    counts: Counter[int] = Counter()
    for value, count in values.counts.items():
        counts[(int(value) - int(least)) // step] += count
    longest = max(counts.values())
    firsts = [int(least) + at * step for at in range(max(counts) + 1)]
    names = [f"{first:,}" if step == 1 else f"{first:,} to {first + step - 1:,}" for first in firsts]
    bars = (Bar(one, counts[at], width_of(counts[at], longest)) for at, one in enumerate(names))
    return Label(name, tuple(bars), mean)


def runs(out: Path) -> list[RunRow]:
    """The commands that have ended, the newest first: a run that was resumed has several."""
    newest = sorted(commands(out), key=lambda one: str(one["began_at"]), reverse=True)[:MOST_RUNS]
    rows = []
    for one in newest:
        with suppress(LookupError, TypeError, ValueError, ArithmeticError):  # a file that was edited
            rows.append(_run(one))
    return rows


def commands(out: Path) -> list[dict[str, Any]]:
    """The summary of each command that has ended."""
    runs = [summary for path in (out / RUNS_NAME).glob("*.json") if (summary := _summary(path)) is not None]
    earlier = [one for run in runs if isinstance(run.get(EARLIER), list) for one in run[EARLIER]]
    return [*runs, *(one for one in earlier if isinstance(one, dict) and "began_at" in one)]


def at_work(out: Path, rows: int) -> tuple[float, float] | None:
    """Seconds in which commands were at work, and rows a second; None where some have left no summary."""
    seconds, asked = 0.0, 0
    for one in commands(out):
        with suppress(LookupError, TypeError, ValueError):  # a file that was edited
            if one["asked"]:
                seconds, asked = seconds + float(one["seconds"]), asked + int(one["asked"])
    return (seconds, asked / seconds) if seconds and asked >= rows else None


def _summary(path: Path) -> dict[str, Any] | None:
    try:
        summary = json.loads(files.read(path))
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, dict) and "began_at" in summary else None


def _run(summary: Mapping[str, Any]) -> RunRow:
    seconds, cost = float(summary["seconds"]), summary["cost_usd"]
    rehearsed = " (rehearsed)" if summary.get("endpoint") == EMULATOR else ""
    return RunRow(
        began=moment(datetime.fromisoformat(summary["began_at"]).timestamp(), exact=True),
        took=how_long(seconds),
        what=by_outcome(summary["by_status"]) or "nothing to ask",
        rate=f"{number(summary['asked'] / seconds)}/s" if seconds and summary["asked"] else "",
        cost="unknown" if cost is None else dollars(Decimal(cost)) + rehearsed,
        stopped=str(summary["stopped"] or ""),
    )


def asked_of(config: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - a RunConfig
    """What the images were asked: (what, text)."""
    request = config.requests[0]
    if request.task != "caption":
        yield "Task", request.task
    if request.system:
        yield "System prompt", request.system
    for name, one in zip(config.prompt_names, config.requests, strict=False):
        yield f"Prompt {name}", one.prompt
