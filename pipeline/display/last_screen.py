"""What a run says at its end."""

from pipeline.engine.progress import by_outcome, bytes_text, counted, dollars, short, tokens_text
from pipeline.engine.stats import RunSummary
from pipeline.formatting import printable, printable_lines
from pipeline.records import EMULATOR, Status

MOST_KINDS = 8
"""Kinds of error that the last screen shows; the list of failures has all."""


def describe(summary: RunSummary) -> str:
    """A run's summary for people: what was asked, what came of it, what it cost and where it is."""
    lines = [_what_happened(summary)]
    if (summary.asked and summary.requests) or summary.cost_unknown_usd:
        lines.append(
            f"{_billed(summary)}; cost: {_cost(summary)}; "
            f"sent {bytes_text(summary.sent_bytes)} of {bytes_text(summary.source_bytes)}{_saved(summary)}"
        )
    lines += _by_kind(summary)
    lines += _configurations(summary)
    if summary.replaced_corrections:
        replaced = counted(summary.replaced_corrections, "corrected caption")
        lines.append(f"note: {replaced} in {summary.out}/reviews not applied: this run has replaced the answer")
    if summary.failures is not None:
        lines.append(f"not ok: {summary.failures} lists all of them")
    if summary.asked or summary.skipped:
        lines.append(f'results: {summary.out}/data  (pandas.read_parquet("{summary.out}/data"))')
    if summary.still:
        lines.append(_still(summary))
    return printable_lines(lines)


def _by_kind(summary: RunSummary) -> list[str]:
    """What went wrong, the most frequent first, each kind with one example."""
    examples = {kind: (name, message) for name, kind, message in summary.examples}
    kinds = sorted(summary.by_error.items(), key=lambda item: -item[1])
    lines = []
    for kind, rows in kinds[:MOST_KINDS]:
        name, message = examples.get(kind, ("", ""))
        lines.append(f"  {rows:,} {kind}" + (f": {name}: {message}" if name else ""))
    more = sum(rows for _, rows in kinds[MOST_KINDS:])
    return [*lines, *([f"  ... and {more:,} more"] if more else [])]


def _billed(summary: RunSummary) -> str:
    if summary.pages and not summary.prompt_tokens:
        return f"pages: {summary.pages:,}"
    return f"tokens: {tokens_text(summary.prompt_tokens)} in, {tokens_text(summary.completion_tokens)} out"


def _configurations(summary: RunSummary) -> list[str]:
    """Where a run has asked some rows with another configuration than that of OUT."""
    own, used = summary.own_config_hash, summary.config_hash
    if own is None or own == used:
        return []
    changed = f" ({printable('; '.join(summary.changes))})" if summary.changes else ""
    named = {own: "with the settings of OUT (as the next run)", used: f"with those of this run{changed}"}
    rows = {own: 0, used: 0, **summary.by_config}
    others = {name: f"with others ({printable(name)})" for name in rows}
    each = (f"{counted(count, 'row')} {(others | named)[name]}" for name, count in rows.items())
    return [f"settings: {', '.join(each)}"]


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
    asked, rate = _of_all(summary, unit), f"{summary.images_per_s:.1f} {unit}s/s"
    asked += f" ({summary.prompts} prompts an image)" if summary.prompts > 1 else ""
    text = f"{asked} in {summary.seconds:.1f} s ({rate}): {by_outcome(summary.by_status)}"
    text += f"; {summary.followers:,} share an answer" if summary.followers else ""
    return text + (f"; {summary.skipped:,} kept already" if summary.skipped else "") + _left_out(summary)


def _of_all(summary: RunSummary, unit: str) -> str:
    """`52 images`, and of a run that was stopped `8 of 60 images`."""
    rows = None if summary.images is None else summary.images * summary.prompts - summary.skipped - summary.left_out
    if summary.stopped is None or rows is None or rows <= summary.asked:
        return counted(summary.asked, unit)
    return f"{summary.asked:,} of {counted(rows, unit)}"


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
        text += " (no price is known for this model at this endpoint: `prices.models` gives yours)"
    if summary.cost_unknown_usd:
        unknown = f"up to {dollars(summary.cost_unknown_usd)} for requests whose bill is unknown"
        text = f"{text}, and {unknown}" if summary.cost_usd else unknown
    if summary.endpoint == EMULATOR:
        return f"{text} (rehearsed: nothing was billed)"
    if summary.cost_usd and summary.unpriced:
        text += f" and {summary.unpriced:,} answers whose cost is unknown"
    return text
