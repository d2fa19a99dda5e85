"""RunStats -> a bar on a terminal, a plain line every few seconds anywhere else."""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from time import monotonic
from typing import Never, Protocol, TextIO

from tqdm import tqdm

from pipeline.engine.stats import RunStats, RunSummary
from pipeline.formatting import printable, printable_lines
from pipeline.records import EMULATOR, Status

LINE_EVERY_S = 10.0


class Progress(Protocol):
    def show(self, stats: RunStats) -> None: ...
    def close(self) -> None: ...


class Quiet:
    """Shows nothing."""

    def show(self, stats: RunStats) -> None: ...
    def close(self) -> None: ...


class Bar:
    """A tqdm bar: images/s, tokens, dollars so far, failures and the time left. None before a run has begun."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: tqdm[Never] | None = None

    def show(self, stats: RunStats) -> None:
        if self._bar is None:
            unit = "img" if stats.prompts == 1 else stats.unit
            self._bar = tqdm(
                total=stats.total, initial=stats.skipped, file=self._stream, unit=unit, dynamic_ncols=True,
                smoothing=0, leave=True, mininterval=0,
                bar_format="{percentage:3.0f}% {bar} {n_fmt}/{total_fmt} "
                "[{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]",
            )  # fmt: skip
        bar = self._bar
        bar.total = stats.total
        bar.initial = stats.skipped  # what an earlier run kept says nothing about this one's speed
        bar.n = stats.done
        bar.set_postfix_str(printable(", ".join(_figures(stats))), refresh=False)
        bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class Lines:
    """One line every ten seconds, for logs."""

    def __init__(self, stream: TextIO, now: Callable[[], float] = monotonic) -> None:
        self._stream, self._now = stream, now
        self._began = self._last = now()

    def show(self, stats: RunStats) -> None:
        if self._now() - self._last >= LINE_EVERY_S:
            self._last = self._now()
            self._write(stats)

    def _write(self, stats: RunStats) -> None:
        rate = stats.asked / max(1e-9, self._now() - self._began)
        parts = [_count(stats), f"{rate:.1f} {stats.unit}s/s", *_figures(stats)]
        if stats.total is not None and rate > 0:
            parts.append(f"{timedelta(seconds=round((stats.total - stats.done) / rate))} left")
        print(printable("  ".join(parts)), file=self._stream, flush=True)

    def close(self) -> None: ...


class Surviving:
    """The bar on a terminal or in a log. A closed terminal, or a full disk behind it, ends no run."""

    def __init__(self, shown: Progress) -> None:
        self._shown: Progress = shown

    def show(self, stats: RunStats) -> None:
        try:
            self._shown.show(stats)
        except (OSError, ValueError):
            self._shown = Quiet()

    def close(self) -> None:
        with suppress(OSError, ValueError):
            self._shown.close()


def say(line: str) -> None:
    """One line on standard error, above a bar where there is one."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            tqdm.write(printable(line), file=sys.stderr)


def make_progress(stream: TextIO | None = None, *, quiet: bool = False) -> Progress:
    stream = sys.stderr if stream is None else stream
    if quiet or stream is None:  # closed
        return Quiet()
    return Surviving(Bar(stream) if stream.isatty() else Lines(stream))


def _count(stats: RunStats) -> str:
    if not stats.total:
        return f"{stats.done:,} {stats.unit}s"
    return f"{stats.done:,}/{stats.total:,} ({100 * stats.done / stats.total:.0f} %)"


def _figures(stats: RunStats) -> list[str]:
    cost = (
        "cost unknown" if stats.known_cost_usd is None else with_unknown(stats.known_cost_usd, stats.cost_unknown_usd)
    )
    tokens = stats.prompt_tokens + stats.completion_tokens
    billed = f"{short(tokens)} tok" if tokens or not stats.answered else "tokens unknown"
    figures = [f"{short(stats.pages)} pages" if stats.pages and not tokens else billed, cost]
    if stats.bad:
        figures.append(f"{stats.bad:,} failed")
    # What is waited for stands first: a narrow terminal cuts off the end.
    return [stats.waiting, *figures] if stats.waiting else figures


def counted(number: int, what: str) -> str:
    """`1 image`, `2,300 images`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def by_outcome(counts: Mapping[str, int]) -> str:
    """How many rows ended how, good ones first: `12 ok, 1 failed`."""
    return ", ".join(f"{counts[status]:,} {status}" for status in Status if counts.get(status))


def short(number: float) -> str:
    """1234567 -> 1.2M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.1f}{unit}"
    return f"{number:.0f}"


def bytes_text(number: float) -> str:
    """1234567 -> 1.2 MB."""
    text = short(number)
    return f"{text} B" if text[-1].isdigit() else f"{text[:-1]} {text[-1]}B"


def dollars(amount: Decimal | None) -> str:
    """Enough digits to tell two images apart: $0.0004, $12.34, $0.000012."""
    if amount is None:
        return "unknown"
    if amount >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.{max(4, min(9, 1 - amount.adjusted())) if amount else 4}f}"


def exact(amount: Decimal) -> str:
    """All digits: a budget just above it has room for it."""
    return f"${amount.normalize():,f}"


def alike(*amounts: Decimal) -> tuple[str, ...]:
    """Amounts of one sentence, all digits of the finest: $0.0061625 beside $0.0100000."""
    digits = max(4, *(-int(amount.normalize().as_tuple().exponent) for amount in amounts))
    return tuple(f"${amount:,.{digits}f}" for amount in amounts)


def with_unknown(cost_usd: Decimal | None, unknown_usd: Decimal) -> str:
    """A cost, and the most that comes on top for requests whose bill is unknown."""
    if not unknown_usd:
        return dollars(cost_usd)
    unknown = f"up to {dollars(unknown_usd)} unknown"
    return f"{dollars(cost_usd)} and {unknown}" if cost_usd else unknown


def tokens_text(tokens: int | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,}"


def describe(summary: RunSummary) -> str:
    """A run's summary for people: what was asked, what came of it, what it cost and where it is."""
    lines = [_what_happened(summary)]
    if (summary.asked and summary.requests) or summary.cost_unknown_usd:
        lines.append(
            f"{_billed(summary)}; cost: {_cost(summary)}; "
            f"sent {bytes_text(summary.sent_bytes)} of {bytes_text(summary.source_bytes)}{_saved(summary)}"
        )
    lines.extend(f"  {name}: {kind}: {message}" for name, kind, message in summary.examples)
    more = sum(summary.by_error.values()) - len(summary.examples)
    if more > 0:
        lines.append(f"  ... and {more:,} more")
    lines += _configurations(summary)
    if summary.asked or summary.skipped:
        lines.append(f'results: {summary.out}/data  (pandas.read_parquet("{summary.out}/data"))')
    if summary.still:
        lines.append(_still(summary))
    return printable_lines(lines)


def _billed(summary: RunSummary) -> str:
    if summary.pages and not summary.prompt_tokens:
        return f"pages: {summary.pages:,}"
    return f"tokens: {tokens_text(summary.prompt_tokens)} in, {tokens_text(summary.completion_tokens)} out"


def _configurations(summary: RunSummary) -> list[str]:
    """Where a run has asked some rows with another configuration than that of OUT."""
    own, used = summary.own_config_hash, summary.config_hash
    if own is None or own == used:
        return []
    named = {own: " (that of OUT, with which the next run continues)", used: " (that of this run)"}
    rows = {own: 0, used: 0, **summary.by_config}
    each = (f"{printable(name)}{named.get(name, '')} {counted(count, 'row')}" for name, count in rows.items())
    return [f"configurations: {', '.join(each)}"]


def _still(summary: RunSummary) -> str:
    """Rows of earlier runs that were not asked again, and how to ask them."""
    named = []
    for status in Status:
        kinds = summary.still.get(status, {})
        if kinds:
            rows, why = sum(kinds.values()), ", ".join(f"{printable(kind)} {count:,}" for kind, count in kinds.items())
            named.append(f"{rows:,} {status} ({why})")
    ways = ["`retry_failed=True` asks rows without an answer again"] if summary.bad_before else []
    ways += ["`retry_status=refused` asks refused rows again"] if summary.still.get(Status.REFUSED) else []
    return f"still in {summary.out} from earlier runs: {', '.join(named)}; {', '.join(ways)}"


def _what_happened(summary: RunSummary) -> str:
    unit = "image" if summary.prompts == 1 else "row"
    if not summary.asked and not summary.stopped:
        if summary.left_out:
            return f"nothing to ask: {summary.skipped:,} are kept already{_left_out(summary)}"
        if not summary.skipped:
            return "nothing to ask: there are no images"
        all_of_them = f"the one {unit} is" if summary.skipped == 1 else f"all {summary.skipped:,} {unit}s are"
        return f"nothing to ask: {all_of_them} kept already"
    if not summary.asked:
        kept = f"; {summary.skipped:,} are kept from before" if summary.skipped else ""
        return f"no {unit} was answered in {summary.seconds:.1f} s{kept}"
    asked, rate = counted(summary.asked, unit), f"{summary.images_per_s:.1f} {unit}s/s"
    asked += f" ({summary.prompts} prompts an image)" if summary.prompts > 1 else ""
    text = f"{asked} in {summary.seconds:.1f} s ({rate}): {by_outcome(summary.by_status)}"
    text += f"; {summary.followers:,} share an answer" if summary.followers else ""
    return text + (f"; {summary.skipped:,} kept already" if summary.skipped else "") + _left_out(summary)


def _left_out(summary: RunSummary) -> str:
    return f"; {summary.left_out:,} are not selected" if summary.left_out else ""


def _saved(summary: RunSummary) -> str:
    if summary.tokens_saved <= 0:
        return ""
    worth = "" if summary.saved_usd is None else f" ({dollars(summary.saved_usd)})"
    return f", which saved {short(summary.tokens_saved)} tokens{worth}"


def _cost(summary: RunSummary) -> str:
    text = dollars(summary.cost_usd)
    if summary.cost_usd is None and summary.endpoint != EMULATOR:
        text += " (no price is known for this model at this endpoint)"
    if summary.cost_unknown_usd:
        unknown = f"up to {dollars(summary.cost_unknown_usd)} for requests whose bill is unknown"
        text = f"{text}, and {unknown}" if summary.cost_usd else unknown
    if summary.endpoint == EMULATOR:
        return f"{text} (rehearsed: nothing was billed)"
    if summary.cost_usd and summary.unpriced:
        text += f" and {summary.unpriced:,} answers whose cost is unknown"
    return text
