"""Whether a run may begin without confirmation: its expected cost against `budget.confirm_usd`. Sends nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import islice

from pipeline.catalogue.prices import Price, cost_usd
from pipeline.endpoints.pricing import price_for, prices_for
from pipeline.engine.progress import dollars
from pipeline.errors import InputError
from pipeline.images.probe import ImageSize
from pipeline.images.sampling import Sampling
from pipeline.images.sizes import single_images, sizes_of
from pipeline.records import Usage
from pipeline.run.job import Job
from pipeline.run.parameters import effective_request
from pipeline.sources import Source, has_stream
from pipeline.store.between_runs import count_missing
from pipeline.store.marks import Marks
from pipeline.tokens.analysed import READING
from pipeline.tokens.prompt import PromptShape, answer_tokens
from pipeline.tokens.ranges import Range

LOOKED_AT = 64
"""Images whose headers are read; more would delay the start of a run by more than some milliseconds."""
AMONG = 200_000
"""They are taken evenly from the first records; without this bound a source of millions is read twice."""
Skip = Callable[[Marks], int]
"""The number of records at the beginning of the source that OUT has finished with."""
_ONE = Range(1, 1, 1)


def confirmed(job: Job, source: Source, total: int | None, shape: PromptShape, skip: Skip) -> Job:
    """The job, with a budget where its cost cannot be predicted. `total` is the number of its images, where known.

    Raises InputError where the job is expected to cost more than `budget.confirm_usd`, has no budget, and neither
    `yes=True` nor a person at a terminal (`Job.confirm`) has agreed to it.
    """
    budget, prices = job.budget, _prices(job)
    has_budget = budget.max_cost_usd is not None or budget.max_cost_total_usd is not None
    if job.yes or job.emulated or has_budget or not prices:
        return job
    expected = expected_usd(job, source, total, shape, prices, above=budget.confirm_usd, skip=skip)
    if expected is None:
        return _bounded(job)
    if expected <= budget.confirm_usd:
        return job
    words = f"this run is expected to cost {dollars(expected)} and has no budget"
    if job.confirm is not None:
        if job.confirm(f"{words}. Go on?") is True:  # `input` returns "n", and a coroutine is true
            return job
        raise InputError(f"not confirmed; nothing was sent. {_WAYS}")
    raise InputError(f"{words}, which is more than budget.confirm_usd ({dollars(budget.confirm_usd)}). {_WAYS}")


_WAYS = "Set a budget with `budget.max_cost_usd=USD`, or agree beforehand with `yes=True`"


def _bounded(job: Job) -> Job:
    """The job with `budget.confirm_usd` as its budget, since its cost cannot be predicted."""
    if job.config.request.max_tokens is None:
        raise InputError(
            f"the cost of this run can neither be predicted nor bounded. Set `request.max_tokens`. {_WAYS}"
        )
    return replace(job, implied_budget_usd=job.budget.confirm_usd)


def expected_usd(
    job: Job,
    source: Source,
    total: int | None,
    shape: PromptShape,
    prices: Sequence[Price],
    *,
    above: Decimal,
    skip: Skip = lambda _: 0,
) -> Decimal | None:
    """About what the job costs, for all that it has still to ask; None where that cannot be predicted.

    That is so for standard input, for whole PDFs, and for addresses whose size is not known here. What OUT already
    holds is counted only where all images of the source cost more than `above` together.
    """
    if total is None or has_stream(job.sources) or source.has_documents:
        return None
    each = _each_usd(job, source, total, shape, prices)
    most = job.budget.max_requests
    if each is None or each * total <= above:
        return None if each is None else each * total
    records = islice(job.selected(source.records()), job.limit)
    rows = count_missing(job.out, records, total, config=job.config, policy=job.rerun, skip=skip)
    return each * (rows if most is None else min(rows, most)) / shape.prompts


def _each_usd(job: Job, source: Source, total: int, shape: PromptShape, prices: Sequence[Price]) -> Decimal | None:
    """What all prompts of one image cost, by expectation, at the dearest endpoint; None where nothing is known."""
    if not total:
        return Decimal(0)
    within = min(total, AMONG)
    records = list(islice(job.selected(source.records()), 0, within, -(-within // LOOKED_AT)))
    alone = single_images(records)
    found = sizes_of(alone, Sampling.of(job.config.images))
    sizes = [one for one in found if isinstance(one, ImageSize)]
    if None in found or not sizes:
        return None
    asked = effective_request(job.config, shape.rule)
    answer = answer_tokens(
        _ONE,
        stated=None,
        max_tokens=asked.request.max_tokens,
        choices=shape.prompts * asked.request.choices,
        allowance=asked.allowance,
    ).expected
    each = shape.prompts * len(alone) / len(records)
    tokens = [
        round(each * one.frames * shape.image_tokens(one.width, one.height).expected) + shape.text.expected
        for one in sizes
    ]
    pages = [round(each * one.frames) for one in sizes]
    usages = [
        Usage(prompt_tokens=count, completion_tokens=answer, pages=of) for count, of in zip(tokens, pages, strict=True)
    ]
    costs = [[cost_usd(usage, price) or Decimal(0) for usage in usages] for price in prices]
    more = [(shape.prompts - 1) * (price.usd_per_request + price.usd_per_image) for price in prices]
    more = [extra + _reading_usd(job, shape, sizes, images=len(alone) / len(records)) for extra in more]
    return max(sum(each, Decimal(0)) / len(sizes) + extra for each, extra in zip(costs, more, strict=True))


def _reading_usd(job: Job, shape: PromptShape, sizes: Sequence[ImageSize], *, images: float) -> Decimal:
    """Of another model that reads the images of a record before each prompt, by expectation."""
    price = prices_for(job.config, job.config.all_endpoints[0], emulated=job.emulated).other
    read = [tokens for one in sizes if (tokens := shape.read_tokens(one.width, one.height, one.frames)) is not None]
    if price is None or not read:
        return Decimal(0)
    frames = sum(one.frames for one in sizes) / len(sizes)
    usage = Usage(
        prompt_tokens=round(images * sum(tokens.expected for tokens in read) / len(read)),
        completion_tokens=round(images * frames * shape.prompts * READING.expected),
    )
    return cost_usd(usage, price) or Decimal(0)


def _prices(job: Job) -> list[Price]:
    """Of the endpoints whose price is known."""
    found = [price_for(job.config, one, emulated=job.emulated) for one in job.config.all_endpoints]
    return [price for price in found if price is not None]
