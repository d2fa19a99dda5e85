"""What a set of images would cost on one model or several, before anything is paid: sizes x token rules x prices."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import ceil
from urllib.parse import urlsplit

from pipeline.catalogue import DatedRule, Family, rule_of
from pipeline.catalogue.offers import batch_price, host_among, price_at, providers, sellers
from pipeline.catalogue.prices import Price
from pipeline.config.loading import presets
from pipeline.config.run_config import RunConfig
from pipeline.endpoints.adapter import counts_every_model
from pipeline.endpoints.pricing import price_for
from pipeline.errors import InputError
from pipeline.estimates.figures import (
    Estimate,
    ModelEstimate,
    RuleFact,
    Unreadable,
    cost_of,
    no_spread,
    seconds_at,
    text_span,
    traps,
)
from pipeline.estimates.histogram import Counted, Moments, Tally
from pipeline.estimates.survey import Show, Survey, SurveyJob, flaw_of, survey
from pipeline.images.probe import ImageSize
from pipeline.run.model import family_for
from pipeline.sources import SourceLike, source_name
from pipeline.tokens import TokenRange, UnknownRule
from pipeline.tokens.prompt import Question, Size, answer_tokens, out_of_reach
from pipeline.tokens.spans import Span
from pipeline.tokens.text import message_tokens, most_message_tokens

DEFAULT_PRESETS = ("openai", "anthropic", "gemini")
"""Whose models are compared where none is named."""
LEAST_PROBE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One model to estimate for, and the configuration that it would be asked with."""

    name: str
    config: RunConfig
    provider: str | None = None
    """Whose price counts, as genai-prices names it; None: the configured endpoint's."""
    anywhere: bool = False
    """Nobody said where it is asked: it is priced where it is sold first."""

    @property
    def model(self) -> str:
        return self.config.all_endpoints[0].model or self.config.request.model or ""

    @property
    def host(self) -> str:
        """Of the endpoint; empty where nobody said."""
        return "" if self.anywhere or self.provider else urlsplit(self.config.all_endpoints[0].base_url).hostname or ""

    @property
    def rules_host(self) -> str:
        """Whose own rules count; empty where nobody said."""
        config = self.config
        if self.provider is None:
            return (config.catalogue.host or "") if self.anywhere else config.rules_host
        family = self.family()
        return host_among(self.provider, [host for rule in family.rules for host in rule.hosts] if family else ())

    @property
    def where(self) -> str:
        return self.provider or ("where it is sold first" if self.anywhere else self.host)

    def family(self) -> Family | None:
        return family_for(self.config)

    def rules(self, today: date) -> tuple[DatedRule, ...]:
        family = self.family()
        return family.rules_for(today, self.rules_host) if family else ()

    def question(self, today: date) -> Question:
        """What a run with this configuration would ask of each image."""
        request, family = self.config.request, self.family()
        text = text_span(
            message_tokens(request.system, request.prompt), most_message_tokens(request.system, request.prompt)
        )
        return Question(
            rule=rule_of(family, today, self.rules_host),
            detail=request.detail,
            text=TokenRange(text.expected, text.high or text.expected, text.low),
            max_side=self.config.images.max_side,
            max_image_tokens=self.config.images.max_image_tokens,
        )

    def prices(self) -> tuple[Price | None, Price | None]:
        """(online, by batch); None where it is unknown."""
        endpoint, family = self.config.all_endpoints[0], self.family()
        if self.provider is not None:
            online = price_at(self.model, self.provider)
            return online, batch_price(self.model, online, family, provider_id=self.provider)
        online = price_for(self.config, endpoint, emulated=self.anywhere)
        name = self.model.rsplit("/", 1)[-1].lower() if self.anywhere else self.model
        at = None if self.anywhere else endpoint.base_url
        return online, batch_price(name, online, family, provider_api_url=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateJob:
    """One estimate as asked for: a source, or a number of images with their sizes."""

    candidates: Sequence[Candidate]
    sources: Sequence[SourceLike] = ()
    count: int | None = None
    sizes: Sequence[Size] = ()
    """With `count`: images are spread evenly over them."""
    probe: int | None = None
    seed: int = 0
    limit: int | None = None
    output_tokens: int | None = None
    """Of one answer, as the user expects them."""
    today: date
    notes: tuple[str, ...] = ()


def is_configuration(name: str) -> bool:
    """Whether an entry of `models=` is a preset or a file (`mine.toml`, `./mine`), and no model (`openai/gpt-4o`)."""
    return name.endswith(".toml") or name.startswith(("./", "../", "/")) or name in presets()


def provider_and_model(name: str) -> tuple[str | None, str]:
    """`openrouter:openai/gpt-4o` -> its two parts; a colon after anything but a known provider is part of the name."""
    provider, colon, model = name.partition(":")
    return (provider, model) if colon and model and provider in providers() else (None, name)


def parse_size(text: str) -> Size:
    """`1600x1200` -> pixels. Raises InputError."""
    found = re.fullmatch(r"(\d{1,6})\s*[xX\N{MULTIPLICATION SIGN}*]\s*(\d{1,6})", text.strip())
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if min(size) < 1:
        raise InputError(f"`sizes=` {text!r}: write WIDTHxHEIGHT in pixels, for example 1600x1200")
    return size


def check_job(job: EstimateJob) -> None:
    """Raises InputError where the parts of a command do not fit each other."""
    if job.count is None and not job.sources:
        raise InputError("name a SOURCE, or say how many images of which size: `count=10000` `sizes=1600x1200`")
    if job.count is not None and job.sources:
        raise InputError("`count=` takes the place of a SOURCE; name one of them")
    if (job.count is None) != (not job.sizes):
        raise InputError("`count=` and `sizes=` belong together: `count=10000` `sizes=1600x1200`")
    if job.probe is not None and (job.probe < LEAST_PROBE or job.count is not None):
        raise InputError("`probe=N` looks at N images of a SOURCE, and at two at least")


async def estimate_job(job: EstimateJob, show: Show) -> Estimate:
    """Look at the images' sizes, and apply each model's rule and price.

    Raises InputError for a command or a source that is wrong, and where no image can be read.
    """
    check_job(job)
    tally = Tally([candidate.question(job.today) for candidate in job.candidates])
    seen = _imagined(job, tally) if job.count is not None else await _surveyed(job, tally, show)
    return estimated(job, tally, seen)


def estimated(job: EstimateJob, tally: Tally, seen: Survey) -> Estimate:
    """What was seen, on each model. Raises InputError where no image can be read."""
    sizes = tally.distribution()
    if sizes is None:
        name, kind, message = (*seen.examples, *seen.unknown_examples)[0]
        raise InputError(
            f"none of {seen.seen:,} images has a size that would be sent; the first, {name}: {kind}: {message}"
        )
    readable = readable_images(tally.images, seen)
    for counted in tally.counted:
        counted.add_unreadable(seen.unreadable)
    models = [
        _modelled(
            job, candidate, question, counted, images=readable, seen=seen, typical=sizes.typical, pixels=sizes.pixels
        )
        for candidate, question, counted in zip(job.candidates, tally.questions, tally.counted, strict=True)
    ]
    return Estimate(
        source=", ".join(map(source_name, job.sources)) or _imagined_name(job),
        images=seen.images,
        seen=seen.seen,
        readable=readable,
        declared=seen.declared,
        unreadable=Unreadable(images=seen.unreadable, by_kind=dict(seen.by_kind), examples=tuple(seen.examples)),
        size_unknown=Unreadable(
            images=seen.unknown, by_kind=dict(seen.by_reason), examples=tuple(seen.unknown_examples)
        ),
        source_bytes=source_bytes(seen),
        seed=job.seed if seen.seen < seen.images else None,
        sizes=sizes,
        models=tuple(models),
        made_on=job.today,
        notes=job.notes,
    )


def readable_images(readable: int, seen: Survey) -> Span[int]:
    """Of all images, those that would be sent, from those that were seen."""
    moments = Moments()
    moments.add(1, readable)
    moments.add(0, seen.unreadable)
    expected, half = round(moments.scaled(seen.images)), round(moments.half_width(seen.images))
    low = max(readable, expected - half)
    return Span(expected, low, min(seen.images - seen.unreadable, expected + half))


def source_bytes(seen: Survey) -> Span[int] | None:
    """Of all files, from those that were seen; what cannot be read, and what only a manifest describes, has none."""
    measured = seen.file_bytes
    if not measured.count:
        return None
    moments = Moments(measured.count, measured.total, measured.squares)
    moments.add(0, seen.known - measured.count)
    expected, half = round(moments.scaled(seen.images)), ceil(moments.half_width(seen.images))
    return Span(expected, max(measured.total, expected - half), expected + half)


async def _surveyed(job: EstimateJob, tally: Tally, show: Show) -> Survey:
    config = job.candidates[0].config
    what = SurveyJob(sources=job.sources, config=config, limit=job.limit, probe=job.probe, seed=job.seed)
    return await survey(what, tally, show)


def _imagined(job: EstimateJob, tally: Tally) -> Survey:
    count = job.count or 0
    seen = Survey(images=count, seen=count)
    each, more = divmod(count, len(job.sizes))
    for number, size in enumerate(job.sizes):
        times = each + (number < more)
        flaw = flaw_of(ImageSize(*size, None), job.candidates[0].config.images)
        if times and flaw is not None:
            seen.reject(f"{size[0]} x {size[1]}", flaw, times)
        elif times:
            tally.add(size, times)
    return seen


def _imagined_name(job: EstimateJob) -> str:
    return "of " + ", ".join(f"{width} x {height}" for width, height in job.sizes)


def _modelled(
    job: EstimateJob,
    candidate: Candidate,
    question: Question,
    counted: Counted,
    *,
    images: Span[int],
    seen: Survey,
    typical: Size,
    pixels: int,
) -> ModelEstimate:
    request, family = candidate.config.request, candidate.family()
    tokens_in = counted.input_tokens(seen.images)
    tokens_out = answer_tokens(images, stated=job.output_tokens, max_tokens=request.max_tokens, choices=request.choices)
    online, batch = candidate.prices()
    time = _time(candidate, images, tokens_in, tokens_out)
    read = seen.known - seen.unreadable
    by_detail = {detail: total / read for detail, total in counted.by_detail.items()}
    image, text = question.image_tokens(*typical), question.text
    alike = None if counted.expected.has_spread or seen.known == seen.images else seen.known
    return ModelEstimate(
        name=candidate.name,
        model=candidate.model,
        where=candidate.where,
        family=family.name if family else None,
        token_rule=question.rule.name,
        rules=tuple(_fact(rule) for rule in candidate.rules(job.today)),
        detail=question.detail,
        text_tokens=Span(text.expected, text.lower, text.upper),
        typical_sent=question.sent(*typical),
        typical_tokens=Span(image.expected, image.lower, image.upper),
        mean_tokens=counted.image_tokens(read, text),
        input_tokens=tokens_in,
        raw_input_tokens=round(counted.raw_tokens * seen.images / seen.known),
        sent_pixels=counted.sent_pixels / pixels,
        tokens_by_detail=by_detail,
        output_tokens=tokens_out,
        output_basis="assumed" if job.output_tokens is None else "stated",
        price=online,
        cost_usd=cost_of(images, tokens_in, tokens_out, online),
        batch_price=batch,
        batch_cost_usd=cost_of(images, tokens_in, tokens_out, batch),
        batch_hours=family.batch.hours if family and family.batch and batch else None,
        seconds=time[0] if time else None,
        limited_by=time[1] if time else None,
        notes=(
            *_too_long(job.output_tokens, request.max_tokens),
            *_refused(counted.refused, seen.known),
            *_notes(candidate, question, by_detail, job.today, has_price=online is not None, alike=alike),
        ),
    )


def _time(
    candidate: Candidate, images: Span[int], tokens_in: Span[int], tokens_out: Span[int]
) -> tuple[Span[float], str] | None:
    """At the limits of all endpoints together; where the provider counts what is asked for, `max_tokens` counts."""
    config, family = candidate.config, candidate.family()
    request, limits = config.request, config.limits
    rpm = _together([one.rpm or limits.rpm for one in config.all_endpoints])
    tpm = _together([one.tpm or limits.tpm for one in config.all_endpoints])
    requested = family is None or family.counts_requested
    if limits.count_tokens != "auto":
        requested = limits.count_tokens == "requested"
    answers = tokens_out
    if requested and request.max_tokens is not None:
        answers = answer_tokens(images, stated=request.max_tokens * request.choices, max_tokens=None, choices=1)
    high = None if tokens_in.high is None or answers.high is None else tokens_in.high + answers.high
    tokens = Span(tokens_in.expected + answers.expected, tokens_in.low + answers.low, high)
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


def _refused(images: int, of: int) -> list[str]:
    if not images:
        return []
    some = f"{images:,} of {of:,} images are" if images > 1 else f"1 of {of:,} images is"
    return [f"{some} more than 200 times as long as wide, which this model refuses; they are counted all the same"]


def _notes(
    candidate: Candidate,
    question: Question,
    by_detail: Mapping[str, float],
    today: date,
    *,
    has_price: bool,
    alike: int | None,
) -> tuple[str, ...]:
    found = [] if alike is None else [no_spread(alike, "images")]
    if isinstance(question.rule, UnknownRule):
        called = f"{candidate.model!r}" if candidate.model else "this server's model"
        found.append(
            f"nobody has described {called}: the range is what the rules of known models would say; "
            "`request.model_family` says what it is"
        )
    found += traps(question, by_detail)
    unreached = out_of_reach(question)
    found += [unreached] if unreached else []
    found += [f"{one.rule.name} is {one.evidence}: {one.note}" for one in candidate.rules(today) if one.note]
    if not has_price and not counts_every_model(candidate.config, candidate.config.all_endpoints[0]):
        found.append(
            "another model reads the image first and is billed too: an entry of [[prices.models]] with usd_per_image "
            "(of that one) beside the tokens gives the price"
        )
    elif not has_price:
        where = "" if candidate.anywhere else f" at {candidate.where}"
        sold = sellers(candidate.model) if candidate.anywhere else ()
        others = f"; it is sold as {' and '.join(sold)}" if sold else ""
        found.append(f"no price of it is known{where}; [prices] in a configuration gives your own{others}")
    return tuple(found)
