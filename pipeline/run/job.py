"""One run as requested, and what follows from it before anything is opened: names, numbers, budgets."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import islice
from math import inf, nan
from pathlib import Path
from secrets import token_hex

from pipeline.catalogue.prices import Price
from pipeline.config.limits import BudgetConfig
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import LABELS_PROMPT
from pipeline.config.shards import SourceShard
from pipeline.endpoints.adapter import traits_of
from pipeline.engine.hooks import OnAnswer
from pipeline.engine.leases import Leases
from pipeline.engine.stages import EngineConfig
from pipeline.errors import InputError
from pipeline.http.image_hosts import ImageHosts
from pipeline.images.sizes import first_sizes
from pipeline.records import EMULATOR, ImageRecord, record_key
from pipeline.redaction.addresses import public_url
from pipeline.redaction.redactor import NOTHING_SECRET, Redactor, shown_variable
from pipeline.run.documents import check_documents
from pipeline.run.images import MEGABYTE
from pipeline.run.rendering import check_records, names_sidecar
from pipeline.run.sharding import shared_budget
from pipeline.sources import Source, SourceLike, has_stream, open_sources
from pipeline.sources.base import NoRecordsError
from pipeline.store.dataset import Dataset
from pipeline.store.keyset import KeySet
from pipeline.store.rerun import RerunPolicy
from pipeline.tokens.prompt import PromptShape, dearer_detail, out_of_reach, tokens_by_detail

Missing = Callable[[Sequence[ImageRecord]], Sequence[tuple[str, ...]]]
FETCHES = 64
"""Images that are fetched at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run as requested: what to read, where the rows go, and how."""

    sources: Sequence[SourceLike]
    out: Path
    config: RunConfig
    emulated: bool = False
    """The endpoint is the emulator: rows say so instead of naming a port."""
    limit: int | None = None
    rerun: RerunPolicy = field(default_factory=RerunPolicy)
    """Which records that have a row are asked again."""
    max_failed: str = "0"
    """Rows of this run that may end without a good answer before exit code 1: a number, or a percentage."""
    fail_on_any: bool = False
    """Exit code 1 while any row of OUT has no answer, also one of an earlier run."""
    redactor: Redactor = NOTHING_SECRET
    """Masks the keys, once they are read."""
    chosen: frozenset[int] | None = None
    """The positions of a sample in the source, from 0; None: all records."""
    yes: bool = False
    """Whether it may cost more than `budget.confirm_usd` without confirmation."""
    confirm: Callable[[str], bool] | None = None
    """Asks a person for that confirmation; None where no person can answer."""
    on_answer: OnAnswer | None = None
    """The hook that is called with every answer before its row is written."""
    open_dataset: Callable[..., Dataset] | None = None
    """Opens OUT in another way than `Dataset.open`, to carry it elsewhere too."""
    address: str | None = None
    """What OUT is called where that is not its path: an address in a bucket."""
    implied_budget_usd: Decimal | None = None
    """The budget of a run whose cost cannot be predicted, where the user sets none."""
    within: Path | None = None
    """The output directory that `out` lies in, as one shard of it on a cluster."""
    answered: KeySet | None = None
    """The keys of rows that it has, and that are not asked again."""
    leases: Leases | None = None
    """Where limits and budgets are given out that all shards have together."""

    @property
    def name(self) -> str:
        """What OUT is called."""
        return self.address or str(self.out)

    @property
    def budget(self) -> BudgetConfig:
        """What the run may spend: its shard's share, or an implied budget."""
        budget = shared_budget(self.config)
        if self.implied_budget_usd is None:
            return budget
        return budget.model_copy(update={"max_cost_usd": self.implied_budget_usd})

    @property
    def has_default_prompt(self) -> bool:
        """Whether the prompt is the built-in one."""
        request = self.config.request
        is_own = "prompt" not in request.model_fields_set or request.prompt == LABELS_PROMPT
        return is_own and not self.config.prompts and request.task == "caption"

    def selected(self, records: Iterator[ImageRecord]) -> Iterator[ImageRecord]:
        """The records of the source that belong to this run."""
        chosen = self.chosen
        if chosen is None:
            return records
        within = islice(records, max(chosen, default=-1) + 1)
        return (record for position, record in enumerate(within) if position in chosen)


def new_run_id(now: datetime, shard: SourceShard | None = None) -> str:
    """Shards of an array that begin in the same second have ids of their own."""
    own = "" if shard is None else f"{shard.index}of{shard.count}-"
    return f"{now:%Y%m%dT%H%M%SZ}-{own}{token_hex(3)}"


def has_several_images(config: RunConfig, source: Source) -> bool:
    """Whether a new OUT has the column `images`: records of several images, or several frames of a file."""
    return source.has_several or config.source.several_images or config.images.frames > 1


def open_job_source(job: Job, *, has_out: bool = True) -> tuple[Source, int | None]:
    """The source, checked before anything is sent, and the number of its records, where known.

    OUT is no part of it; without one nothing is left out.
    Raises InputError for what is wrong with it, and where the template of a prompt does not fit a record.
    """
    reads_sidecars = names_sidecar(job.config)
    out = job.within or job.out if has_out else None
    source = open_sources(job.sources, job.config.source, out=out, reads_sidecars=reads_sidecars)
    try:
        total = source.check()
    except NoRecordsError as error:
        raise InputError(f"{error}; `allow_empty=True` where that is no mistake") from None
    check_documents(job.config, source)
    if job.chosen is not None:
        total = len(job.chosen)
    if job.limit is not None:
        total = job.limit if total is None else min(total, job.limit)
    if not has_stream(job.sources):
        check_records(job.config, lambda: islice(job.selected(source.records()), job.limit))
    return source, total


def check_budget(config: RunConfig, model: str, price: Price | None) -> None:
    """A budget holds only where the most that a request can cost is known."""
    budget = config.budget
    if budget.max_cost_usd is None and budget.max_cost_total_usd is None:
        return
    if price is None:
        instead = "`prices.models` gives yours; or set a budget of `budget.max_tokens=N` or `budget.max_requests=N`"
        if traits_of(config).bills_pages:
            instead = "[[prices.models]] with usd_per_page gives it; or bound requests: `budget.max_requests=N`"
        raise InputError(
            f"a budget in dollars (`budget.max_cost_usd`) needs a price, and none is known for {model!r} there. "
            f"{instead}"
        )
    if config.request.max_tokens is None:
        raise InputError(
            "a budget in dollars (`budget.max_cost_usd`) needs a bound of the answer: set `request.max_tokens`"
        )


def check_prompt(shape: PromptShape) -> None:
    """Raises InputError where no image can be sent as the settings demand."""
    unreached = out_of_reach(shape)
    if unreached is not None:
        raise InputError(f"`images.max_image_tokens`: {unreached}")


def dear_choice(job: Job, source: Source, shape: PromptShape) -> str | None:
    """One line where the `detail` of this job costs more than another that looks at as much, on its first images."""
    if has_stream(job.sources) or not shape.rule.details:
        return None
    line = dearer_detail(shape, tokens_by_detail(shape, first_sizes(source.records())))
    return None if line is None else f"note: {line}"


def exceeds(allowed: str, bad: int, asked: int) -> bool:
    """Whether `bad` of `asked` rows are more than `allowed`: a number, or a percentage like `2%`."""
    text = allowed.strip()
    try:
        most = float(text[:-1]) / 100 if text.endswith("%") else float(int(text))
    except (ValueError, OverflowError):
        most = nan
    if not 0 <= most < inf:
        raise InputError(f"`max_failed=` {allowed!r}: write a number of at least 0, or a percentage such as 2%")
    return bad > (most * asked if text.endswith("%") else most)


def missing_of(job: Job, dataset: Dataset) -> Missing:
    """Which prompts each record is asked: what neither OUT nor, on a cluster, the whole that it is a part of holds."""
    answered, names = job.answered, job.config.prompt_names
    if answered is None:
        return dataset.missing

    def missing(records: Sequence[ImageRecord]) -> list[tuple[str, ...]]:
        keys = [record_key(record.id, name) for record in records for name in names]
        held = iter(answered.holds(keys))
        there = [{name for name in names if next(held)} for _ in records]
        each = zip(dataset.missing(records), there, strict=True)
        return [tuple(name for name in asked if name not in known) for asked, known in each]

    return missing


def endpoint_name(job: Job) -> str:
    return endpoint_names(job)[0]


def endpoint_names(job: Job) -> list[str]:
    """What rows and messages call each endpoint: its address, and whose key, where two have one address."""
    if job.emulated:
        return [EMULATOR]
    addresses = [job.redactor.text(public_url(one.base_url)) for one in job.config.all_endpoints]
    return [
        f"{address} ({shown_variable(one.api_key_env)})" if addresses.count(address) > 1 else address
        for address, one in zip(addresses, job.config.all_endpoints, strict=True)
    ]


def image_hosts(config: RunConfig) -> ImageHosts:
    """For images that a manifest names by address: no key of any endpoint goes there."""
    return ImageHosts(config.endpoint, config.source, FETCHES)


def engine_config(job: Job) -> EngineConfig:
    config = job.config
    limits, images = config.limits, config.images
    return EngineConfig(
        threads=images.threads or os.cpu_count() or 1,
        prepared_bytes=images.prepared_mb * MEGABYTE,
        decode_timeout_s=images.decode_timeout_s,
        fetched_bytes=images.decode_mb * MEGABYTE,
        dedup=config.request.dedup,
        sees_changes=job.rerun.refresh_changed,
        max_failures=config.request.max_failures,
        max_wait_s=limits.max_wait_s,
        outage_s=limits.outage_s,
        first_contact_s=limits.first_contact_s,
        max_error_rate=limits.max_error_rate,
        straggler_s=limits.straggler_s,
        max_time_s=config.budget.max_time_s,
        reads_ahead=not has_stream(job.sources),
        seal_interval_s=config.output.seal_interval_s,
        grace_s=limits.grace_s,
    )
