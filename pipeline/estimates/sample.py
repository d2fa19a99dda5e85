"""A sample that is paid for: some images of a source are asked, and their bills stand for all of them."""

import asyncio
import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from math import ceil
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from pipeline.config.keys import api_key
from pipeline.config.run_config import RunConfig
from pipeline.engine.stats import RunStats, RunSummary
from pipeline.errors import EndpointStoppedError, InputError
from pipeline.estimates.bills import COLUMNS, Bills, Population, Row, joined, money
from pipeline.estimates.estimate import PAGES_HINT, estimated
from pipeline.estimates.figures import Estimate, ModelEstimate, cost_of, no_spread
from pipeline.estimates.histogram import SizeHistogram
from pipeline.estimates.job import Candidate, EstimateJob, check_job
from pipeline.estimates.statistics import Interval, SampleFacts, stratified
from pipeline.estimates.survey import Show, SurveyJob, survey
from pipeline.run.job import Job
from pipeline.run.model import emulated
from pipeline.run.run import run_job
from pipeline.sources import has_stream, open_sources
from pipeline.store import parquet
from pipeline.store.layout import DATA_NAME
from pipeline.store.opening import check_out
from pipeline.tokens import UnknownRule
from pipeline.tokens.ranges import Range

FOLDER = "estimate-sample"
"""Where the answers of a sample without `out` are kept: what is paid for is not thrown away."""
LEAST = 2
_TWICE = "`sample=` reads its SOURCE twice, which standard input (-) does not allow"
_TOO_FEW = "`sample=N` asks two images at least"
_MILLION = 1_000_000
_HOUR_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How many images are asked, which ones, and where their answers are kept."""

    wanted: int
    seed: int = 0
    out: Path | None = None
    """None: a folder of `estimate-sample` for each model, prompt and shard."""
    yes: bool = False
    """Whether it may cost more than `budget.confirm_usd` unasked."""
    emulators: tuple[str, ...] = ()
    """For a rehearsal: the address of each model's own."""

    def folder(self, config: RunConfig) -> Path:
        if self.out is not None:
            return self.out
        name = re.sub(r"[^a-z0-9.]+", "-", (config.request.model or "model").lower()).strip("-.")
        shard = config.source.own_shard  # an OUT is for one
        own = "" if shard is None else f"-{shard.index}of{shard.count}"
        return Path(FOLDER) / f"{name}-{config.config_hash()[:8]}{own}"

    @staticmethod
    def asked(candidate: Candidate, emulator_url: str | None = None) -> RunConfig:
        """The configuration that is asked with: equal images are asked all, so that each has a bill of its own."""
        config = candidate.config
        changed: dict[str, object] = {"request": config.request.model_copy(update={"dedup": False})}
        if emulator_url is not None:
            config = emulated(config, emulator_url, candidate.rules_host)
        return config.model_copy(update=changed)


async def sample_job(
    job: EstimateJob,
    sample: Sample,
    show: Show,
    show_run: Callable[[RunStats], None],
    say: Callable[[str], None] | None = None,
) -> Estimate:
    """The estimate, with tokens and cost measured on a stratified sample of each model.

    The answers are kept; the same command asks nothing twice, and a run on the same OUT goes on from them.
    Raises InputError before anything is sent, and whatever stops a run.
    """
    check_sample(job, sample)
    histogram = SizeHistogram([candidate.prompt_shape(job.today) for candidate in job.candidates])
    config = job.candidates[0].config
    what = SurveyJob(sources=job.sources, config=config, limit=job.limit, keep_sizes=True)
    seen = await survey(what, histogram, show)
    estimate = estimated(job, histogram, seen)
    models = []
    urls = sample.emulators or (None,) * len(job.candidates)
    for candidate, shape, model, url in zip(job.candidates, histogram.shapes, estimate.models, urls, strict=True):
        population = Population.of(seen.sizes or array("q"), shape)
        strata = stratified(population.predicted, sample.wanted, _picker(sample.seed))
        chosen = [population.positions[list(one.chosen)] for one in strata]
        kept, out = await _ask(job, sample, candidate, chosen, show_run, say=say, emulator_url=url)
        exact = not isinstance(shape.rule, UnknownRule)
        bills = Bills(population, strata, kept.rows, exact=exact, images=estimate.readable.expected, mixed=kept.mixed)
        models.append(_measured(model, bills, candidate.config, readable=estimate.readable, seed=sample.seed, out=out))
    return replace(estimate, models=tuple(models))


async def run_sample(
    job: Job, sample: Sample, show: Show, show_run: Callable[[RunStats], None], say: Callable[[str], None] | None = None
) -> RunSummary:
    """A run on `sample.wanted` images of the job's source, drawn as for an estimate; a run on the rest goes on from it.

    Raises InputError before anything is sent, and whatever stops a run.
    """
    if has_stream(job.sources):
        raise InputError(_TWICE)
    if sample.wanted < LEAST:
        raise InputError(_TOO_FEW)
    check_out(job.out)
    candidate = Candidate(name=job.config.request.model or "", config=job.config)
    histogram = SizeHistogram([candidate.prompt_shape(datetime.now(UTC).date())])
    what = SurveyJob(sources=job.sources, config=job.config, limit=job.limit, keep_sizes=True, out=job.out)
    seen = await survey(what, histogram, show)
    if not seen.seen and seen.documents:
        raise InputError(f"`sample=` draws images, and there are only PDFs, which are sent whole. {PAGES_HINT}")
    population = Population.of(seen.sizes or array("q"), histogram.shapes[0])
    strata = stratified(population.predicted, sample.wanted, _picker(sample.seed))
    chosen = frozenset(at for one in strata for at in population.positions[list(one.chosen)].tolist())
    return await run_job(replace(job, chosen=chosen), show_run, say=say)


def check_sample(job: EstimateJob, sample: Sample) -> None:
    """Raises InputError where nothing could be asked, or what was paid for could not be kept apart."""
    check_job(job)
    if job.count is not None or job.probe is not None:
        raise InputError("`sample=` asks images of a SOURCE; it goes with neither `count=` nor `probe=`")
    if has_stream(job.sources):
        raise InputError(_TWICE)
    if sample.wanted < LEAST:
        raise InputError(_TOO_FEW)
    if sample.out is not None and len(job.candidates) > 1:
        raise InputError("`out=` keeps the answers of one model; without it each has a folder of its own")
    for candidate in job.candidates:
        if candidate.provider is not None:
            raise InputError(
                f"`sample=` asks the configured endpoint; {candidate.name!r} only names whose price counts: "
                "name a configuration (`config=`, or in `models=`) that says where it is asked"
            )
        if not sample.emulators:
            for one in candidate.config.all_endpoints:
                api_key(one)


def _picker(seed: int) -> Callable[[int, int], list[int]]:
    random = Random(seed)  # noqa: S311 - a sample that can be drawn again
    return lambda population, wanted: random.sample(range(population), wanted)


async def _ask(
    job: EstimateJob,
    sample: Sample,
    candidate: Candidate,
    chosen: Sequence[NDArray[np.int64]],
    show: Callable[[RunStats], None],
    *,
    say: Callable[[str], None] | None,
    emulator_url: str | None,
) -> tuple["Kept", Path]:
    """The rows of the images at these positions, stratum by stratum."""
    config = sample.asked(candidate, emulator_url)
    out = sample.folder(config)
    positions = [group.tolist() for group in chosen]
    wanted = frozenset(position for group in positions for position in group)
    run = Job(
        sources=job.sources, out=out, config=config, emulated=emulator_url is not None, chosen=wanted,
        max_failed="100%", yes=sample.yes,
    )  # fmt: skip
    await run_job(run, show, say=say)
    ids = await asyncio.to_thread(_ids, run)
    named = [[ids[position] for position in group] for group in positions]
    return await asyncio.to_thread(kept_of, out, named, config.prompt_names), out


def _ids(job: Job) -> dict[int, str]:
    """Position -> id of the sampled records."""
    chosen, ids = job.chosen or frozenset(), {}
    for position, record in enumerate(open_sources(job.sources, job.config.source, out=job.out).records()):
        if position in chosen:
            ids[position] = record.id
            if len(ids) == len(chosen):
                break
    return ids


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows of a sample, stratum by stratum, None where there is none; and which runs have other rows, too."""

    rows: list[list[Row | None]]
    mixed: frozenset[str]


def kept_of(out: Path, strata: Sequence[Sequence[str]], prompt_names: Sequence[str]) -> Kept:
    """The rows of these ids, those of several prompts joined."""
    data, found, mixed = out / DATA_NAME, defaultdict[str, dict[str, Row]](dict), set[str]()
    wanted = frozenset(one for stratum in strata for one in stratum)
    for number in parquet.part_numbers(data):
        for row in parquet.read_columns(data, number, COLUMNS):
            if row["id"] in wanted and row["prompt_name"] in prompt_names:
                found[row["id"]][row["prompt_name"]] = row
            else:
                mixed.add(row["run_id"])
    rows = {record: joined([*each.values()]) for record, each in found.items() if len(each) == len(prompt_names)}
    return Kept([[rows.get(one) for one in stratum] for stratum in strata], frozenset(mixed))


def _measured(
    model: ModelEstimate, bills: Bills, config: RunConfig, *, readable: Range[int], seed: int, out: Path
) -> ModelEstimate:
    """The estimate of one model with what was measured in place of what was assumed."""
    if not bills.answered:
        raise EndpointStoppedError(
            f"none of the {bills.asked} sampled images of {model.name} was answered; their rows in {out} say why"
        )
    tokens_in, tokens_out = bills.tokens("prompt_tokens"), bills.tokens("completion_tokens")
    asked, answers = tokens_in or model.input_tokens, tokens_out or model.output_tokens
    cost_usd = bills.cost_usd(model.price.input_usd_per_mtok if model.price else None)
    facts = _facts(bills, config, readable.expected, asked.expected + answers.expected, seed=seed, out=out)
    return replace(
        model,
        input_tokens=asked,
        mean_tokens=model.mean_tokens if bills.exact else _mean(asked, model.text_tokens, readable.expected),
        raw_input_tokens=round(model.raw_input_tokens * asked.expected / max(1, model.input_tokens.expected)),
        output_tokens=answers,
        output_basis="measured" if tokens_out else model.output_basis,
        reasoning_tokens=_reasoning(bills.tokens("reasoning_tokens"), answers),
        cost_usd=cost_usd or facts.own_usd,
        batch_cost_usd=cost_of(readable, asked, answers, model.batch_price),
        sample=facts,
        notes=(*model.notes, *_notes(bills, tokens_in, tokens_out)),
    )


def _mean(asked: Range[int], text: Range[int], images: int) -> Range[int]:
    """Of an image alone, from what all prompts were billed, for a model whose rule is unknown."""
    low, high = text.high or text.expected, text.low
    most = None if asked.high is None else max(0, ceil(asked.high / images) - high)
    return Range(max(0, round(asked.expected / images) - text.expected), max(0, asked.low // images - low), most)


def _reasoning(found: Range[int] | None, answers: Range[int]) -> Range[int] | None:
    """Where none was seen their number is unknown, but they are part of the answers."""
    return found if found is None or found.expected else Range(0, 0, answers.high)


def _notes(bills: Bills, tokens_in: Range[int] | None, tokens_out: Range[int] | None) -> list[str]:
    said = []
    if bills.answered < bills.asked:
        missing = bills.asked - bills.answered
        said.append(f"{missing:,} of the sampled images have no bill of their own (yet); the others stand for them")
    names = {"prompt_tokens": "input tokens beside the prediction", "completion_tokens": "output tokens"}
    if not bills.exact:
        names["prompt_tokens"] = "input tokens"
    said += [no_spread(bills.answered, f"answers ({words})") for name, words in names.items() if bills.is_alike(name)]
    if tokens_in is None or tokens_out is None:
        said.append("the endpoint does not report all tokens: the others are estimated as without a sample")
    return said


def _facts(bills: Bills, config: RunConfig, images: int, tokens: int, *, seed: int, out: Path) -> SampleFacts:
    found, usd_per_hour = bills.pace(), config.prices.usd_per_hour
    pace = None if isinstance(found, str) else found
    hours = None if pace is None else pace.scaled(images / _HOUR_S)
    own = None if hours is None or usd_per_hour is None else hours.scaled(float(usd_per_hour))
    each = None if own is None else Decimal(str(own.expected / images))
    return SampleFacts(
        asked=bills.asked,
        answered=bills.answered,
        seed=seed,
        out=str(out),
        images_per_s=None if pace is None else _range_of(pace.inverse()),
        hours=None if hours is None else _range_of(hours),
        usd_per_hour=usd_per_hour,
        own_usd=None if own is None else money(own),
        spent_usd=bills.spent_usd(),
        no_pace=found if isinstance(found, str) else None,
        own_usd_per_image=each,
        own_usd_per_mtok=None if each is None or not tokens else each * images / tokens * _MILLION,
    )


def _range_of(found: Interval) -> Range[float]:
    return Range(found.expected, found.low, found.high)
