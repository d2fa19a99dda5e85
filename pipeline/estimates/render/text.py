"""An `Estimate` as text for a terminal: its lines and tables, which the files and the page show too."""

import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from math import prod
from textwrap import wrap

from pipeline.engine.progress import bytes_text, counted, dollars
from pipeline.estimates.figures import Estimate, ModelEstimate, Unreadable
from pipeline.estimates.histogram import SizeClass
from pipeline.formatting import passed_words, printable, printable_lines
from pipeline.tokens import AUTO
from pipeline.tokens.ranges import N, Range

BAR = 24
"""Characters of the longest bar."""
FEW = 10
"""Fewer images need no distribution; of several models their rules and prices by name are enough."""
WIDTH = 100
"""Longer lines of words are broken, on a narrower terminal before."""
LEAST_WIDTH = 30
HEADINGS = ("model", "an image", "input tokens", "output tokens", "online", "by batch", "time")
UNKNOWN = "unknown"
_CENTS_BELOW, _DECIMAL_BELOW = 100, 100
_ALL = 0.99
_MILLENNIUM_S = 1000 * 365.25 * 86400


def terminal_columns() -> int | None:
    """How wide the terminal is that standard output goes to; None where it goes to a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def text(estimate: Estimate, columns: int | None = None) -> str:
    """Everything, for a terminal of this width in columns (None: any); without colours."""
    width = WIDTH if columns is None else max(LEAST_WIDTH, min(WIDTH, columns))
    table_lines = stacked(estimate)
    if columns is not None and max(map(len, table_lines)) > columns:
        table_lines = wrapped(listed(estimate), width)
    ends, *bars = sizes(estimate) or [""]
    parts = [wrapped(facts(estimate), width), [*wrapped([ends], width), *bars]]
    parts += [wrapped(assumptions(estimate), width), table_lines]
    is_short = estimate.images < FEW and len(estimate.models) > 1
    about = in_short if is_short else details
    parts += [
        [printable(model.name), *wrapped((f"  {line}" for line in about(model)), width)] for model in estimate.models
    ]
    notes = [f"note: {note}" for note in estimate.notes]
    if is_short:
        notes.append("sources, prices by batch and each `detail`: vision-batch models NAME, or `output=FILE.md`")
    parts.append(wrapped(notes, width))
    return "\n\n".join(printable_lines(lines) for lines in parts if lines)


def facts(estimate: Estimate) -> list[str]:
    """How many images there are, how many were looked at, and what is wrong with some."""
    where = "" if estimate.source.startswith("of ") else "in "
    passed = f"; passed over: {passed_words(estimate.passed_over)}" if estimate.passed_over else ""
    lines = [f"{counted(estimate.images, 'image')} {where}{printable(estimate.source)}{passed}"]
    if estimate.seen < estimate.images:
        drawn = f"looked at {estimate.seen:,} of them, drawn at random (seed {estimate.seed})"
        lines.append(f"{drawn}; ranges hold the 95 % interval that follows")
    lines += _listed_images(
        estimate.size_unknown, "gave no size for now and count as the others, so that ranges are wide"
    )
    if estimate.seen < estimate.images or estimate.size_unknown.images:
        lines.append(f"readable: {range_text(estimate.readable, lambda count: f'{count:,}')}")
    if estimate.declared:
        lines.append(f"{estimate.declared:,} sizes are the manifest's own (columns width and height)")
    if estimate.source_bytes:
        lines.append(f"{range_text(estimate.source_bytes, bytes_text)} of files")
    return lines + _listed_images(estimate.unreadable, "would not be sent")


def _listed_images(found: Unreadable, what: str) -> list[str]:
    """How many, why, and the first of them; nothing where there are none."""
    if not found.images:
        return []
    kinds = ", ".join(f"{count:,} {printable(kind)}" for kind, count in sorted(found.by_kind.items()))
    examples = [f"  {printable(name)}: {kind}: {printable(message)}" for name, kind, message in found.examples]
    return [f"{found.images:,} {what}: {kinds}", *examples]


def sizes(estimate: Estimate) -> list[str]:
    """The distribution, a line a class."""
    found = estimate.sizes
    if prod(found.smallest) == prod(found.largest):
        all_alike = f"sizes: all have {prod(found.typical) / 1_000_000:.2g} MP, for example {pixels(found.typical)}"
        return [] if estimate.source_bytes is None else [all_alike]
    ends = f"smallest {pixels(found.smallest)}, typical {pixels(found.typical)}, largest {pixels(found.largest)}"
    if sum(one.images for one in found.classes) < FEW:
        return [f"sizes: {ends}"]
    most = max(one.images for one in found.classes)
    rows = [(class_name(one), f"{one.images:,}", "#" * -(-BAR * one.images // most)) for one in found.classes]
    return [f"sizes: {ends}", *(f"  {line}" for line in aligned(rows))]


def assumptions(estimate: Estimate) -> list[str]:
    """What the figures rest on beside the sizes."""
    first, images = estimate.models[0], max(1, estimate.readable.expected)
    if first.pages is not None:
        return ["pages: an image is one; no tokens are billed", *_no_time(estimate)]
    each = first.output_tokens.expected // images
    basis = {
        "assumed": f"{each:,} tokens an answer are an assumption (`output_tokens=` states another)",
        "stated": f"{each:,} tokens an answer, as stated",
    }.get(first.output_basis, f"{each:,} tokens an answer, {first.output_basis}")
    if first.output_basis == "assumed":
        basis += "; ranges reach to `request.max_tokens`"
    reasoning = _reasoning_words(first)
    words = range_text(first.text_tokens, lambda count: f"{count:,}")
    each_text = "a request" if first.prompts == 1 else f"in {first.prompts} requests an image"
    lines = [f"text: {words} tokens {each_text}, estimated without a tokenizer", f"answers: {basis}{reasoning}"]
    return lines + _no_time(estimate)


def _no_time(estimate: Estimate) -> list[str]:
    if any(model.seconds or model.sample for model in estimate.models):
        return []
    limits = "no limit is stated (`limits.rpm=N`, `limits.tpm=N`)"
    return [f"time: unknown: {limits}, and only a sample measures the pace (`sample=N`)"]


def _reasoning_words(model: ModelEstimate) -> str:
    if model.reasoning_tokens or model.sample:
        return ""
    if not model.reasoning_allowance:
        return "; reasoning tokens are unknown without a sample, and part of the output"
    effort = f" at `request.reasoning_effort={model.reasoning_effort}`" if model.reasoning_effort else ""
    return (
        f"; up to {model.reasoning_allowance:,} tokens of reasoning{effort} come to an answer, "
        "and a quarter of them is assumed"
    )


def table(estimate: Estimate) -> list[tuple[str, ...]]:
    """The comparison, a row a model, its headings first; without the time where no limits are given."""
    rows = [HEADINGS, *(cells(model) for model in estimate.models)]
    return [row[: _columns_shown(estimate)] for row in rows]


def _columns_shown(estimate: Estimate) -> int:
    return len(HEADINGS) - (not any(model.seconds for model in estimate.models))


def cells(model: ModelEstimate) -> tuple[str, ...]:
    """One row, as `HEADINGS`: what to expect, and the range where it shows."""
    return printable(model.name), *(f"{one} ({ends})" if ends else one for one, ends in figures(model))


def figures(model: ModelEstimate) -> tuple[tuple[str, str], ...]:
    """What to expect, and its range, of each of `HEADINGS` but the first."""
    if model.pages is not None:
        tokens = (
            ("1 page", ""),
            figure(model.pages, lambda pages: f"{rounded(pages)} page{'s' * (pages != 1)}"),
            ("none", ""),
        )
    else:
        tokens = (
            figure(model.mean_tokens, lambda count: f"{count:,}"),
            figure(model.input_tokens, rounded),
            figure(model.output_tokens, rounded),
        )
    return (
        *tokens,
        figure(model.cost_usd, usd),
        figure(model.batch_cost_usd, usd),
        figure(model.seconds, duration),
    )


def figure(value: Range[N] | None, show: Callable[[N], str]) -> tuple[str, str]:
    if value is None:
        return UNKNOWN, ""
    expected, low = show(value.expected), show(value.low)
    high = "no bound" if value.high is None else show(value.high)
    return expected, "" if low == high == expected else f"{low} to {high}"


def stacked(estimate: Estimate) -> list[str]:
    """The same for a terminal: each model's ranges stand below what to expect."""
    rows: list[tuple[str, ...]] = [HEADINGS]
    for model in estimate.models:
        shown = figures(model)
        rows.append((printable(model.name), *(expected for expected, _ in shown)))
        if any(ends for _, ends in shown):
            rows.append(("", *(ends.replace(" to ", "-") for _, ends in shown)))
    rows = [row[: _columns_shown(estimate)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([name.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]).rstrip() for name, *rest in rows]


def listed(estimate: Estimate) -> list[str]:
    """The same for a terminal too narrow for a table: a line a figure."""
    names, *rows = table(estimate)
    found = []
    for model, *figures_of_it in rows:
        found += [f"{model}:", *(f"  {name}: {figure}" for name, figure in zip(names[1:], figures_of_it, strict=True))]
    return found


def details(model: ModelEstimate) -> list[str]:
    """Rule, price, size and traps of one model, a line each."""
    rules = [f"{one.name} ({one.evidence}; {one.source}, checked {one.checked_on})" for one in model.rules]
    lines = [f"{'or' if number else 'rule'}: {rule}" for number, rule in enumerate(rules or [model.token_rule])]
    lines.append(f"price: {UNKNOWN if model.price is None else f'{model.price} ({model.price.origin})'}")
    if model.batch_price is not None:
        within = f", within {model.batch_hours} h" if model.batch_hours else ""
        lines.append(f"batch: {model.batch_price} ({model.batch_price.origin}){within}")
    if model.detail != AUTO:
        lines.append(f"detail in force: {printable(model.detail)}")
    lines.append(_sent(model))
    if len(model.tokens_by_detail) > 1:
        lines.append(_by_detail(model.tokens_by_detail))
    if model.limited_by:
        lines.append(f"time: bound by {model.limited_by}")
    lines += sampled(model)
    return lines + [f"note: {note}" for note in model.notes]


def in_short(model: ModelEstimate) -> list[str]:
    """The same of one model among several: its rules and price by name."""
    rules = " or ".join(one.name for one in model.rules) or model.token_rule
    lines = [f"rule: {rules}", f"price: {UNKNOWN if model.price is None else model.price}"]
    if model.detail != AUTO:
        lines.append(f"detail in force: {printable(model.detail)}")
    if model.limited_by:
        lines.append(f"time: bound by {model.limited_by}")
    return [*lines, *sampled(model), *(f"note: {note}" for note in model.notes)]


def _by_detail(tokens: Mapping[str, float]) -> str:
    each = {detail: f"{count:,.0f}" for detail, count in tokens.items()}
    if len(set(each.values())) == 1:
        return f"detail makes no difference here: {' and '.join(each)} have {next(iter(each.values()))} tokens an image"
    return "detail, tokens an image: " + ", ".join(f"{detail} {count}" for detail, count in each.items())


def sampled(model: ModelEstimate) -> list[str]:
    """What a paid sample measured, a line each."""
    sample = model.sample
    if sample is None:
        return []
    reasoning = f"{range_text(model.reasoning_tokens, rounded)}, part of the output"
    if model.reasoning_tokens is None:
        reasoning = f"{UNKNOWN}: the endpoint does not report them"
    elif not model.reasoning_tokens.expected:
        reasoning = f"none in {sample.answered:,} answers"
    drawn = f"sample: {sample.answered:,} of {sample.asked:,} images (seed {sample.seed}) have their bill"
    drawn += "" if sample.spent_usd is None else f", {usd(sample.spent_usd)} together"
    kept = f"ranges are 95 % intervals; the answers are kept in {printable(sample.out)}"
    lines = [f"{drawn}; {kept}", f"reasoning tokens: {reasoning}"]
    if sample.images_per_s is not None and sample.hours is not None:
        pace = range_text(sample.images_per_s, lambda rate: f"{rate:,.2f}")
        lines.append(
            f"pace: {pace} images a second; {range_text(sample.hours, lambda hours: duration(3600 * hours))} for all"
        )
    if sample.no_pace is not None:
        own = "" if sample.usd_per_hour is None else "; what your own machines cost is unknown"
        lines.append(f"pace: {UNKNOWN}: {sample.no_pace}{own}")
    if sample.own_usd is not None:
        lines.append(f"own machines: {money(sample.own_usd)} at {dollars(sample.usd_per_hour)} an hour")
    if sample.own_usd_per_image is not None and sample.own_usd_per_mtok is not None:
        lines.append(
            f"an API is cheaper below ${sample.own_usd_per_image:.3g} an image, "
            f"which is ${sample.own_usd_per_mtok:.3g} a million tokens (in and out alike)"
        )
    return lines


def _sent(model: ModelEstimate) -> str:
    """What pre-sizing does to pixels and tokens."""
    if model.sent_pixels > _ALL:
        return "images are sent at the size that they have"
    share = f"{model.sent_pixels:.0%}" if model.sent_pixels >= 1 - _ALL else f"{model.sent_pixels:.1%}"
    saved, saves = model.raw_input_tokens - model.input_tokens.expected, ""
    if saved > 0:
        saves = f", which saves {rounded(saved)} of {rounded(model.raw_input_tokens)} tokens"
        saves += "" if model.price is None else f", {usd(saved * model.price.input_usd_per_mtok / 1_000_000)}"
    return f"a typical image is sent as {pixels(model.typical_sent)}; in all {share} of the pixels{saves}"


def wrapped(lines: Iterable[str], width: int = WIDTH) -> list[str]:
    """Lines of words, none wider than a terminal but where one word is; what goes on is indented."""
    broken = []
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        broken += wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return broken


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text, as wide as their widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def range_text(value: Range[N] | None, show: Callable[[N], str]) -> str:
    """`expected (low to high)`; the range only where it shows."""
    expected, ends = figure(value, show)
    return f"{expected} ({ends})" if ends else expected


def money(value: Range[Decimal] | None) -> str:
    return range_text(value, usd)


def usd(amount: Decimal) -> str:
    """As many digits as an estimate deserves: $6,963, $12.34, $0.0285, $0.00064."""
    if amount >= _CENTS_BELOW:
        return f"${amount:,.0f}"
    if amount >= 1 or not amount:
        return f"${amount:.2f}"
    return f"${amount:.{max(4, 1 - amount.adjusted())}f}"


def rounded(number: float) -> str:
    """1234567 -> 1.2M, 230000000 -> 230M."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:,.{int(number < _DECIMAL_BELOW * limit)}f}{unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """Two units are enough: `3 h 12 min`."""
    if seconds > _MILLENNIUM_S:
        return "over 1,000 years"
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def class_name(one: SizeClass) -> str:
    if one.up_to_mp is None:
        return f"above {one.above_mp:g} MP"
    return f"{one.above_mp:g} to {one.up_to_mp:g} MP" if one.above_mp else f"up to {one.up_to_mp:g} MP"
