"""What the driver of a run on a cluster settles before any shard begins: source, model, key, cost, limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.config.environment import Variable
from pipeline.config.keys import find_key
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import EndpointConfig
from pipeline.endpoints.pricing import prices_for
from pipeline.engine.stages import Clock
from pipeline.errors import InputError
from pipeline.limits.budget import Amounts
from pipeline.limits.cluster import EndpointLimits
from pipeline.money import nano_usd
from pipeline.run.consent import confirmed
from pipeline.run.endpoints import max_concurrency, targets_of
from pipeline.run.job import Job, check_budget, check_prompt, exceeds, has_several_images, open_job_source
from pipeline.run.low_water import LowWater
from pipeline.run.model import with_model
from pipeline.run.prepare import Preparer
from pipeline.run.run import Say, say_beforehand, say_cost, say_prompt
from pipeline.sources import Source, passed_over
from pipeline.store.accounting import Totals
from pipeline.store.beforehand import has_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Beforehand:
    """A run that may begin."""

    job: Job
    source: Source
    total: int | None
    """Records of the source, where known."""
    has_several: bool
    passed_over: Mapping[str, int]
    secrets: Mapping[str, str] = field(repr=False)
    """Keys of endpoints by their variables."""


def check_supported(job: Job) -> None:
    """Raises InputError for what a run on a cluster does not take; nothing is opened."""
    if any(not isinstance(one, str | Path) or str(one) == "-" for one in job.sources):
        raise InputError(
            "`engine.kind=ray` reads sources that every node sees: folders, files and addresses, not standard input or "
            "records in memory"
        )
    wrong = {
        "`source.shard`": job.config.source.shard is not None,
        "`limit=`": job.limit is not None,
        "`only=`": job.rerun.only is not None,
    }
    if name := next((name for name, is_set in wrong.items() if is_set), None):
        raise InputError(f"{name} and `engine.kind=ray` do not go together: the shards divide the whole source")
    exceeds(job.max_failed, 0, 0)


async def settle(job: Job, clock: Clock, say: Say) -> Beforehand:
    """Everything that a run on one machine checks before it sends. Raises InputError; OUT is not touched."""
    keys = [find_key(one) for one in job.config.all_endpoints]
    source, total = open_job_source(job)
    say_beforehand(job, keys, source, total, say)
    targets = targets_of(job.config, [None if key is None else key.value for key in keys])
    job = replace(job, config=await with_model(job.config, targets[0]), redactor=targets[0].redactor)
    for one in job.config.all_endpoints:
        prices = prices_for(job.config, one, emulated=job.emulated)
        check_budget(job.config, one.model or job.config.request.model or "", prices.asked)
    prepare = Preparer.build(job.config, clock.utc().date())
    check_prompt(prepare.prompt_shape())
    job = confirmed(job, source, total, prepare.prompt_shape(), lambda marks: LowWater.of(source, job, marks).skip)
    say_cost(job, source, prepare, say)
    if not has_rows(job.out):
        say_prompt(job, say)
    return _settled(job, source, total, keys)


def _settled(job: Job, source: Source, total: int | None, keys: Sequence[Variable | None]) -> Beforehand:
    named = zip(job.config.all_endpoints, keys, strict=True)
    return Beforehand(
        job=job,
        source=source,
        total=total,
        has_several=has_several_images(job.config, source),
        passed_over=passed_over(source),
        secrets={one.api_key_env: key.value for one, key in named if key is not None},
    )


def limits_of(config: RunConfig) -> tuple[EndpointLimits, ...]:
    """What is set for each endpoint, of all shards together."""
    limits, found = config.limits, []
    for one in config.all_endpoints:
        concurrency = limits.concurrency if one.concurrency is None else one.concurrency
        found.append(
            EndpointLimits(
                rpm=one.rpm or limits.rpm,
                tpm=one.tpm or limits.tpm,
                concurrency=None if concurrency == "auto" else min(concurrency, max_concurrency()),
            )
        )
    return tuple(found)


def budget_of(job: Job, before: Amounts) -> Amounts:
    """What all shards may spend together, where OUT had spent `before`; None: not bounded."""
    budget = job.budget
    run, total = nano_usd(budget.max_cost_usd), nano_usd(budget.max_cost_total_usd)
    left = None if total is None else max(0, total - (before.nano_usd or 0))
    usd = min((one for one in (run, left) if one is not None), default=None)
    return Amounts(usd, budget.max_tokens, budget.max_requests)


def spent_by(totals: Totals) -> Amounts:
    return Amounts(nano_usd(totals.spent_usd), totals.tokens, totals.requests)


def config_of_shards(config: RunConfig) -> RunConfig:
    """The configuration of each shard: its limits are given out, and its cores are those of its task."""
    endpoints = [_unlimited(one) for one in config.all_endpoints]
    return config.model_copy(
        update={
            "endpoint": endpoints[0],
            "endpoints": tuple(endpoints) if config.endpoints else (),
            "limits": config.limits.model_copy(update={"rpm": None, "tpm": None, "divide": False}),
            "images": config.images.model_copy(update={"threads": config.images.threads or config.engine.cpus}),
            "output": config.output.model_copy(update={"metrics": None}),
        }
    )


def _unlimited(one: EndpointConfig) -> EndpointConfig:
    """Without its rates; and its key is in the environment, wherever it was found."""
    return EndpointConfig(**{**one.model_dump(), "rpm": None, "tpm": None})
