"""What a set of images would take on one model: tokens, dollars and hours, with notes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pipeline.catalogue import DatedRule
from pipeline.catalogue.offers import sellers
from pipeline.catalogue.prices import Price
from pipeline.config.prices import way_to_price
from pipeline.endpoints.adapter import traits_of
from pipeline.endpoints.pricing import price_for
from pipeline.estimates.figures import ModelEstimate, Reading, RuleFact, cost_of, no_spread, seconds_at, traps
from pipeline.estimates.histogram import Counted
from pipeline.estimates.job import Candidate, EstimateJob
from pipeline.estimates.survey import Survey
from pipeline.redaction.addresses import public_url
from pipeline.run.parameters import EffectiveRequest
from pipeline.run.rendering import rendering_of
from pipeline.run.sharding import limits_shard
from pipeline.tokens import TokenRange, UnknownRule
from pipeline.tokens.analysed import READING
from pipeline.tokens.pages import BY_PAGE
from pipeline.tokens.prompt import PromptShape, Size, answer_tokens, out_of_reach
from pipeline.tokens.ranges import Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """The images that all models are estimated for."""

    survey: Survey
    readable: Range[int]
    typical: Size
    pixels: int
    """Of the images seen."""


def model_estimate(
    job: EstimateJob, candidate: Candidate, shape: PromptShape, counted: Counted, images: Population
) -> ModelEstimate:
    """What the images would take on one model."""
    asked, family, seen = candidate.asked(shape.rule), candidate.family(), images.survey
    records = _times(images.readable, 1 / seen.images_a_record)
    tokens_in = _with_fewer_texts(counted.input_tokens(seen.images), shape, images.readable, records)
    tokens_out = answer_tokens(
        records,
        stated=0 if shape.rule is BY_PAGE else job.output_tokens,
        max_tokens=asked.request.max_tokens,
        choices=shape.prompts * asked.request.choices,
        allowance=asked.allowance,
    )
    requests, (online, batch) = _times(records, shape.prompts), candidate.prices()
    reading = _reading(candidate, counted, seen.images, _times(images.readable, shape.prompts))
    costs = [_cost(requests, (tokens_in, tokens_out), one, reading, images.readable) for one in (online, batch)]
    time = _time(candidate, asked, requests, tokens_in, tokens_out)
    read, text = seen.known - seen.unreadable, shape.text
    by_detail = {detail: total / read for detail, total in counted.by_detail.items()}
    return ModelEstimate(
        name=candidate.name, model=candidate.model, where=candidate.where, family=family.name if family else None,
        token_rule=shape.rule.name, rules=tuple(map(_fact, candidate.rules(job.today))), detail=shape.detail,
        text_tokens=_range(text),
        typical_sent=shape.sent(*images.typical), typical_tokens=_range(shape.image_tokens(*images.typical)),
        prompts=shape.prompts, mean_tokens=counted.image_tokens(read, text, shape.prompts), input_tokens=tokens_in,
        raw_input_tokens=round(counted.raw_tokens * seen.images / seen.known),
        sent_pixels=counted.sent_pixels / images.pixels, tokens_by_detail=by_detail,
        output_tokens=tokens_out, output_basis="assumed" if job.output_tokens is None else "stated",
        reading=reading, price=online, cost_usd=costs[0], batch_price=batch, batch_cost_usd=costs[1],
        batch_hours=family.batch.hours if family and family.batch and batch else None,
        seconds=time[0] if time else None, limited_by=time[1] if time else None,
        pages=images.readable if shape.rule is BY_PAGE else None,
        reasoning_allowance=asked.allowance, reasoning_effort=asked.request.reasoning_effort,
        notes=(
            *asked.notes,
            *([] if reading is None else [str(reading)]),
            *_notes(job, candidate, shape, counted, seen, by_detail=by_detail, has_price=online is not None),
        ),
    )  # fmt: skip


def _reading(candidate: Candidate, counted: Counted, population: int, images: Range[int]) -> Reading | None:
    """Of another model that reads the images first; `images` counts each as often as it is read."""
    found = candidate.reader()
    if found is None or counted.read is None:
        return None
    (model, price), tokens_in = found, counted.read.input_tokens(population)
    high = None if images.high is None else images.high * READING.upper
    tokens_out = Range(images.expected * READING.expected, images.low * READING.lower, high)
    return Reading(
        model=model,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        price=price,
        cost_usd=cost_of(images, tokens_in, tokens_out, price),
    )


def _cost(
    requests: Range[int],
    tokens: tuple[Range[int], Range[int]],
    price: Price | None,
    reading: Reading | None,
    pages: Range[int],
) -> Range[Decimal] | None:
    """Of requests, tokens in and out, and pages. A price of an image or a request stands for the reading, too."""
    cost = cost_of(requests, *tokens, price, pages)
    if reading is None or (price is not None and (price.usd_per_image or price.usd_per_request)):
        return cost
    return reading.added_to(cost)


def _range(tokens: TokenRange) -> Range[int]:
    return Range(tokens.expected, tokens.lower, tokens.upper)


def _times(count: Range[int], factor: float) -> Range[int]:
    high = None if count.high is None else round(factor * count.high)
    return Range(round(factor * count.expected), round(factor * count.low), high)


def _with_fewer_texts(tokens: Range[int], shape: PromptShape, images: Range[int], records: Range[int]) -> Range[int]:
    """Tokens that were counted with a text for each image, with one for each record of several."""
    shared, text = images.expected - records.expected, shape.text
    high = None if tokens.high is None else tokens.high - shared * text.upper
    return Range(tokens.expected - shared * text.expected, tokens.low - shared * text.lower, high)


def _notes(
    job: EstimateJob,
    candidate: Candidate,
    shape: PromptShape,
    counted: Counted,
    seen: Survey,
    *,
    by_detail: Mapping[str, float],
    has_price: bool,
) -> tuple[str, ...]:
    unreached = out_of_reach(shape)
    return (
        *_too_long(job.output_tokens, candidate.config.request.max_tokens),
        *_rejected(counted.rejected, seen.known),
        *_not_extrapolated(counted, seen),
        *_undescribed(candidate, shape),
        *traps(shape, by_detail),
        *([unreached] if unreached else []),
        *_templates(candidate),
        *(
            [f"{seen.images_a_record:.3g} images a record, whose requests hold all of them"]
            * (seen.images_a_record > 1)
        ),
        *([f"{shape.prompts} prompts an image: all figures count all of them"] if shape.prompts > 1 else []),
        *_several(candidate.config.images.frames),
        *_other_endpoints(candidate),
        *(f"{one.rule.name} is {one.evidence}: {one.note}" for one in candidate.rules(job.today) if one.note),
        *([] if has_price else [_no_price(candidate)]),
    )


def _other_endpoints(candidate: Candidate) -> Iterator[str]:
    """Where others of the configuration may cost something else."""
    config = candidate.config
    if candidate.anywhere or candidate.provider is not None:
        return
    alike: dict[str, object] = {}
    for one in config.all_endpoints:
        model = one.model or config.request.model
        alike[f"{model} at {public_url(one.base_url)}"] = model, price_for(config, one, emulated=False)
    first, *others = alike
    if differ := [name for name in others if alike[name] != alike[first]]:
        yield f"tokens and prices are those of {first} alone; it shares the requests with {', '.join(differ)}"


def _time(
    candidate: Candidate, asked: EffectiveRequest, images: Range[int], tokens_in: Range[int], tokens_out: Range[int]
) -> tuple[Range[float], str] | None:
    """At the limits of all endpoints together; where the provider counts what is asked for, `max_tokens` counts."""
    config, family = candidate.config, candidate.family()
    limits, most = config.limits, 0 if traits_of(config).bills_pages else asked.max_answer_tokens
    rpm = _together([one.rpm or limits.rpm for one in config.all_endpoints])
    tpm = _together([one.tpm or limits.tpm for one in config.all_endpoints])
    if (shard := limits_shard(config)) is not None:
        rpm, tpm = (None if whole is None else whole / shard.count for whole in (rpm, tpm))
    requested = family is None or family.counts_requested
    if limits.count_tokens != "auto":
        requested = limits.count_tokens == "requested"
    answers = tokens_out
    if requested and most is not None:
        answers = answer_tokens(images, stated=most, max_tokens=None, choices=1)
    high = None if tokens_in.high is None or answers.high is None else tokens_in.high + answers.high
    tokens = Range(tokens_in.expected + answers.expected, tokens_in.low + answers.low, high)
    return seconds_at(images, tokens, rpm=rpm, tpm=tpm)


def _together(each: Sequence[float | None]) -> float | None:
    known = [one for one in each if one is not None]
    return sum(known) if len(known) == len(each) else None


def _fact(dated: DatedRule) -> RuleFact:
    return RuleFact(
        name=dated.rule.name,
        evidence=dated.evidence,
        source=dated.source.title,
        url=dated.source.url,
        checked_on=dated.source.checked_on,
        valid_from=dated.valid_from,
        valid_to=dated.valid_to,
        note=dated.note,
    )


def _too_long(stated: int | None, max_tokens: int | None) -> list[str]:
    if stated is None or max_tokens is None or stated <= max_tokens:
        return []
    return [f"answers of {stated:,} tokens are cut off in a run at the {max_tokens:,} of `request.max_tokens`"]


def _several(frames: int) -> list[str]:
    if frames == 1:
        return []
    return [f"a video, an animation or a file of several pages counts with up to {frames:,} images (`images.frames`)"]


def _rejected(images: int, of: int) -> list[str]:
    if not images:
        return []
    some = f"{images:,} of {of:,} images are" if images > 1 else f"1 of {of:,} images is"
    return [f"{some} more than 200 times as long as wide, which this model rejects; they are counted all the same"]


def _not_extrapolated(counted: Counted, seen: Survey) -> list[str]:
    """A sample of images that are all alike has no range."""
    return [] if counted.expected.has_spread or seen.known == seen.images else [no_spread(seen.known, "images")]


def _undescribed(candidate: Candidate, shape: PromptShape) -> list[str]:
    if not isinstance(shape.rule, UnknownRule):
        return []
    called = f"{candidate.model!r}" if candidate.model else "this server's model"
    known = "the range covers the rules of known models; `request.model_family` names the one that fits"
    return [f"no token rule is known for {called}: {known}"]


def _templates(candidate: Candidate) -> list[str]:
    """A text that differs from record to record."""
    if not any(rendering_of(request) for request in candidate.config.requests):
        return []
    return ["prompts with columns of the record in them are counted as they are written; a sample measures them"]


def _no_price(candidate: Candidate) -> str:
    reader = candidate.reader()
    if reader is not None and reader[1] is None:
        return (
            f"{reader[0]} reads each image first, and no price of it is known: an entry of [[prices.models]] for it, "
            "or usd_per_image in that of the model that is asked, gives the price"
        )
    where = "" if candidate.anywhere else f" at {candidate.where}"
    sold = sellers(candidate.model) if candidate.anywhere else ()
    others = f"; it is sold as {' and '.join(sold)}" if sold else ""
    if traits_of(candidate.config).bills_pages:
        return f"no price of it is known{where}: an entry of [[prices.models]] with usd_per_page gives your own"
    return f"no price of it is known{where}{others}; {way_to_price(candidate.model)}"
