"""An `Estimate` as one HTML page for people who decide: the figure, what it rests on, and the sources folded away."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import prod
from typing import Final

from pipeline.engine.progress import bytes_text, counted
from pipeline.estimates.figures import Estimate, ModelEstimate
from pipeline.estimates.render import files, text
from pipeline.estimates.render.files import Writers
from pipeline.estimates.render.wording import assumptions, without_references
from pipeline.pages.charts import width_of
from pipeline.pages.rendering import render
from pipeline.tokens.ranges import Range

_WIDEST: Final = 4
"""A range reaches this many times beyond the dearest figure at most: a longer one would leave no bar to see."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A cost and its range; places in percent."""

    name: str
    expected: str
    ends: str
    width: float
    low: float
    high: float
    fill: str


@dataclass(frozen=True, slots=True)
class ModelBars:
    """One model, online and, where both can be run, by batch."""

    model: str
    where: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Headline:
    """The figure that matters."""

    figure: str
    ends: str
    words: str


def as_html(estimate: Estimate) -> str:
    """Names and messages come from outside and are escaped."""
    chosen = _cheapest(estimate.models)
    made_on = estimate.made_on
    values = {
        "made_on": f"{made_on.day} {made_on:%B %Y}",
        "images": counted(estimate.images, "image"),
        "source": estimate.source,
        "headline": _headline(chosen, estimate.models),
        "figures": list(_figures(estimate, chosen)),
        "bars": _bars(estimate.models),
        "columns": text.table(estimate)[0],
        "rows": [(model.name, text.figures(model)) for model in estimate.models],
        "basis": [*_seen(estimate), *assumptions(estimate)],
        "sizes": _sizes(estimate),
        "ends": _ends(estimate),
        "left_out": _left_out(estimate),
        "models": [
            (model.name, [without_references(line) for line in text.details(model)]) for model in estimate.models
        ],
        "notes": [without_references(note) for note in estimate.notes],
    }
    return render("estimate.html.j2", values, title=f"Estimate: {counted(estimate.images, 'image')}")


WRITERS: Writers = {
    ".csv": files.as_csv,
    ".md": files.as_markdown,
    ".html": as_html,
    ".json": lambda estimate: files.as_json(estimate) + "\n",
}
"""What `--output` writes, by the end of the file's name."""


def _cheapest(models: Sequence[ModelEstimate]) -> ModelEstimate:
    """Of those with a price; else the first."""
    return min((model for model in models if model.cost_usd is not None), key=_cost, default=models[0])


def _cost(model: ModelEstimate) -> Decimal:
    return Decimal(0) if model.cost_usd is None else model.cost_usd.expected


def _headline(chosen: ModelEstimate, models: Sequence[ModelEstimate]) -> Headline:
    priced = sum(model.cost_usd is not None for model in models)
    among = f", the cheapest of {priced}" if priced > 1 else ""
    if chosen.cost_usd is None:
        tokens, ends = text.figures(chosen)[1]
        return Headline(
            f"{tokens} tokens in" if chosen.pages is None else tokens, ends, f"{chosen.name}; no price is known"
        )
    (expected, ends), (batch, batch_ends) = text.figures(chosen)[3:5]
    words = f"{chosen.name}{among}"
    if chosen.batch_cost_usd is not None:
        hours = f" within {chosen.batch_hours} hours" if chosen.batch_hours else ""
        words += f"; {batch}{f' ({batch_ends})' if batch_ends else ''} by batch{hours}"
    return Headline(expected, ends, words)


def _figures(estimate: Estimate, chosen: ModelEstimate) -> Iterator[tuple[str, str, str]]:
    """(name, value, what stands below it)"""
    readable, ends = text.figure(estimate.readable, lambda count: f"{count:,}")
    size = "" if estimate.source_bytes is None else f"{bytes_text(estimate.source_bytes.expected)} of files"
    yield "Images to ask about", readable, ends or size
    if chosen.pages is None:
        yield "Tokens in", *text.figure(chosen.input_tokens, _spelt)
        yield "Tokens out", *text.figure(chosen.output_tokens, _spelt)
    if (seconds := chosen.seconds or _measured(chosen)) is not None:
        yield "Time", *text.figure(seconds, text.duration)
    if chosen.cost_usd is not None and estimate.readable.expected:
        each_usd = 1000 * chosen.cost_usd.expected / estimate.readable.expected
        yield "For 1,000 images", text.usd(each_usd), f"on {chosen.name}"


def _spelt(number: float) -> str:
    """6700000000 -> 6.7 billion."""
    for limit, unit in ((1e9, "billion"), (1e6, "million")):
        if number >= limit:
            return f"{number / limit:,.{int(number < 100 * limit)}f} {unit}"
    return f"{number:,.0f}"


def _measured(model: ModelEstimate) -> Range[float] | None:
    """Seconds at the pace of a sample."""
    hours = None if model.sample is None else model.sample.hours
    if hours is None:
        return None
    return Range(3600 * hours.expected, 3600 * hours.low, None if hours.high is None else 3600 * hours.high)


def _bars(models: Sequence[ModelEstimate]) -> list[ModelBars]:
    """The cheapest first; models without a price have no bar."""
    costs = [cost for model in models for cost in (model.cost_usd, model.batch_cost_usd) if cost is not None]
    if not costs:
        return []
    dearest = max(cost.expected for cost in costs)
    top = float(min(max(cost.expected if cost.high is None else cost.high for cost in costs), _WIDEST * dearest))
    ordered = sorted((model for model in models if model.cost_usd is not None), key=_cost)
    return [ModelBars(model.name, model.where, tuple(_bars_of(model, top))) for model in ordered]


def _bars_of(model: ModelEstimate, top: float) -> Iterator[Bar]:
    for name, cost, fill in (("online", model.cost_usd, "1"), ("by batch", model.batch_cost_usd, "3")):
        if cost is not None:
            expected, ends = text.figure(cost, text.usd)
            high = top if cost.high is None else float(cost.high)
            low, end = width_of(float(cost.low), top), width_of(high, top)
            yield Bar(name, expected, ends, width_of(float(cost.expected), top), low, end, fill)


def _seen(estimate: Estimate) -> Iterator[str]:
    if estimate.seen < estimate.images:
        drawn = f"{estimate.seen:,} of {estimate.images:,} were looked at, drawn at random"
        yield f"Images: {drawn}; the ranges allow for the others to differ."
    if estimate.declared:
        yield f"Sizes: {estimate.declared:,} are those that the list of images states."
    if found := estimate.size_unknown.images:
        yield f"Sizes: {found:,} of the images gave none for now and count as the others do."


def _sizes(estimate: Estimate) -> list[tuple[str, int, float]]:
    classes = estimate.sizes.classes
    most = max(one.images for one in classes)
    return [(text.class_name(one), one.images, width_of(one.images, most)) for one in classes]


def _ends(estimate: Estimate) -> str:
    found = estimate.sizes
    if prod(found.smallest) == prod(found.largest):
        return f"All have {prod(found.typical) / 1_000_000:.2g} megapixels, for example {text.pixels(found.typical)}."
    ends = f"The smallest has {text.pixels(found.smallest)} pixels, the largest {text.pixels(found.largest)}"
    return f"{ends}; half of them have no more than {text.pixels(found.typical)}."


def _left_out(estimate: Estimate) -> tuple[str, list[str]] | None:
    """Images that would not be sent, and the first of them."""
    found = estimate.unreadable
    if not found.images:
        return None
    kinds = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in sorted(found.by_kind.items()))
    examples = [f"{name}: {without_references(message)}" for name, _, message in found.examples]
    return f"{counted(found.images, 'image')} would not be sent, and cost nothing: {kinds}", examples
