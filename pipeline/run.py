"""The composition root: builds the edges from a `RunConfig` and hands their functions to the engine."""

import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from itertools import islice
from math import inf, nan
from pathlib import Path
from secrets import token_hex

import aiohttp

from pipeline.config import BudgetConfig, RunConfig, api_key
from pipeline.dataset import Dataset, check_out
from pipeline.edges import storage
from pipeline.edges.chat import ChatEndpoint
from pipeline.edges.outdir import public_url
from pipeline.edges.sources import Fingerprint, Source, open_sources
from pipeline.engine import Engine
from pipeline.errors import BudgetReachedError, InputError, ResourceError, VisionBatchError
from pipeline.policy.asking import Asking
from pipeline.policy.budget import Amounts, Budget
from pipeline.policy.costs import Price
from pipeline.policy.estimates import dearer_detail, out_of_reach
from pipeline.policy.rows import Totals, nano_usd
from pipeline.policy.tallies import Question, tokens_by_detail
from pipeline.progress import dollars
from pipeline.records import ImageFacts, ImageRecord, PreparedImage, PreparedRequest
from pipeline.stages import Clock, Endpoint, EngineConfig, Stages
from pipeline.stats import RunStats, RunSummary
from pipeline.steps import MEGABYTE, Fetcher, Preparer, endpoint_of, most_cost_usd, price_for, with_model
from pipeline.survey import first_sizes
from pipeline.wire import open_image_session, open_session

RUN, TOTAL = "run", "total"
"""The budget of one run, and that of all runs on an OUT."""
PROJECTED = 12
"""Images that a projection looks at."""
FETCHES = 64
"""Images that are fetched at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run as asked for: what to read, where to keep it, and how."""

    sources: Sequence[str]
    out: Path
    config: RunConfig
    emulated: bool = False
    """The endpoint is the emulator: rows say so instead of naming a port."""
    limit: int | None = None
    asking: Asking = field(default_factory=Asking)
    """Which records that have a row are asked again."""
    max_failed: str = "0"
    """Rows of this run that may end without a good answer before exit code 1: a number, or a percentage."""
    chosen: frozenset[int] | None = None
    """The positions of a sample in the source, from 0; None: all records."""

    def asked(self, records: Iterator[ImageRecord]) -> Iterator[ImageRecord]:
        """Those of the source that this run is about."""
        chosen = self.chosen
        if chosen is None:
            return records
        within = islice(records, max(chosen, default=-1) + 1)
        return (record for position, record in enumerate(within) if position in chosen)


def new_run_id(now: datetime) -> str:
    return f"{now:%Y%m%dT%H%M%SZ}-{token_hex(3)}"


def open_job_source(job: Job) -> tuple[Source, int | None]:
    """The source, after one quick pass over it in which everything that is wrong with it is found."""
    source = open_sources(job.sources, job.config.source, out=job.out)
    total = source.check()
    if job.chosen is not None:
        total = len(job.chosen)
    if job.limit is not None:
        total = job.limit if total is None else min(total, job.limit)
    return source, total


async def run_job(
    job: Job, show: Callable[[RunStats], None], clock: Clock | None = None, say: Callable[[str], None] | None = None
) -> RunSummary:
    """Ask for everything that OUT does not hold yet. `say` is told what the user should know before.

    Raises InputError before anything is sent. Whatever stops the run later is raised once everything that
    was paid for is kept, and carries the summary.
    """
    clock = Clock() if clock is None else clock
    exceeds(job.max_failed, 0, 0)
    check_out(job.out)
    keys = [api_key(one) for one in job.config.all_endpoints]
    source, total = open_job_source(job)
    async with AsyncExitStack() as sessions:
        chats = [
            ChatEndpoint(await sessions.enter_async_context(open_session(one)), one, key)
            for one, key in zip(job.config.all_endpoints, keys, strict=True)
        ]
        job = replace(job, config=await with_model(job.config, chats[0]))
        endpoints = endpoints_of(job, chats)
        prepare = Preparer.build(job.config, clock.utc().date())
        check_question(prepare.question())
        if say is not None and (line := dear_choice(job, source, prepare.question())) is not None:
            say(line)
        run = _Run(job, new_run_id(clock.utc()), clock, RunStats(total=total))
        with run.dataset() as dataset:
            images = await sessions.enter_async_context(fetch_session(job.config))
            stages = run.stages(source, dataset, endpoints, images, show, prepare=prepare)
            numbers = replace(engine_config(job), has_answers=dataset.has_answers())
            return await run.drive(Engine(stages, numbers, clock, run.stats), dataset, sessions)


def endpoints_of(job: Job, chats: Sequence[ChatEndpoint]) -> list[Endpoint]:
    """What the engine asks. Raises InputError where a ceiling in dollars is set and nobody can say what one asks."""
    named = endpoint_names(job)
    endpoints = []
    for one, chat, name in zip(job.config.all_endpoints, chats, named, strict=True):
        price = price_for(job.config, one, emulated=job.emulated)
        check_budget(job.config, one.model or job.config.request.model or "", price)
        endpoints.append(endpoint_of(job.config, one, chat, name=name, price=price))
    return endpoints


def check_budget(config: RunConfig, model: str, price: Price | None) -> None:
    """A ceiling holds only where the most that a request can cost is known."""
    budget = config.budget
    if budget.max_cost_usd is None and budget.max_cost_total_usd is None:
        return
    if price is None:
        raise InputError(
            f"a ceiling in dollars (--max-cost) needs a price, and none is known for {model!r} there. "
            "Set a ceiling in tokens or requests instead: --set budget.max_tokens=N, --set budget.max_requests=N"
        )
    if config.request.max_tokens is None:
        raise InputError("a ceiling in dollars (--max-cost) needs a bound of the answer: set --max-tokens")


def check_question(question: Question) -> None:
    """Raises InputError where the images cannot be asked about as the user wants it."""
    unreached = out_of_reach(question)
    if unreached is not None:
        raise InputError(f"--max-image-tokens: {unreached}")


def dear_choice(job: Job, source: Source, question: Question) -> str | None:
    """One line where the `detail` of this job costs more than another that looks at as much, on its first images."""
    if "-" in job.sources or not question.rule.details:
        return None
    line = dearer_detail(question, tokens_by_detail(question, first_sizes(source.records())))
    return None if line is None else f"note: {line}"


class _Run:
    """One run under way: what its summary is made of."""

    def __init__(self, job: Job, run_id: str, clock: Clock, stats: RunStats) -> None:
        self.job, self.run_id, self.clock, self.stats = job, run_id, clock, stats
        self.began_at, self.began = clock.utc(), clock.now()
        one, *others = job.config.all_endpoints
        self.price = None if others else price_for(job.config, one, emulated=job.emulated)

    def dataset(self) -> Dataset:
        job = self.job
        opened = Dataset.open(
            job.out,
            config=job.config,
            run_id=self.run_id,
            now=self.clock.utc,
            asking=job.asking,
            endpoint=endpoint_name(job),
        )
        self.run_id = opened.run_id
        return opened

    def stages(
        self,
        source: Source,
        dataset: Dataset,
        endpoints: Sequence[Endpoint],
        images: aiohttp.ClientSession,
        show: Callable[[RunStats], None],
        *,
        prepare: Preparer,
    ) -> Stages:
        config = self.job.config
        self.stats.saves = prepare.saved
        if len(endpoints) == 1:  # several may count text differently
            endpoints = [replace(endpoints[0], ask=prepare.learning(endpoints[0].ask))]
        water = LowWater.of(source, self.job, dataset)
        self.stats.read = self.stats.skipped = water.skip
        return Stages(
            records=islice(self.job.asked(source.records()), water.skip, self.job.limit),
            missing=dataset.missing,
            fetch=Fetcher(images, int(config.images.max_file_mb * MEGABYTE)),
            prepare=prepare,
            endpoints=endpoints,
            twin=dataset.twin,
            keep=dataset.keep,
            seal=dataset.seal,
            lease=dataset.lease,
            budgets=budgets_of(config.budget, dataset),
            show=show,
            publish=lambda stats: self.publish(dataset, water, stats),
        )

    def publish(self, dataset: Dataset, water: "LowWater", stats: RunStats) -> None:
        water.rise(dataset, stats)
        dataset.write_status(self.status("running", dataset))

    async def drive(self, engine: Engine, dataset: Dataset, sessions: AsyncExitStack) -> RunSummary:
        """Run it to its end, whatever that is, and write down what it came to."""
        stopped: VisionBatchError | None = None
        try:
            await engine.run()
        except BudgetReachedError as error:
            stopped = BudgetReachedError(self.budget_words(str(error), dataset))
        except VisionBatchError as error:
            stopped = error
        await sessions.aclose()  # idle connections hold file handles, and those may be what there are none left of
        await self.clock.sleep(0)  # in which they are let go
        if isinstance(stopped, ResourceError):
            with suppress(ResourceError):
                dataset.seal()
        summary = self.summary(stopped)
        with suppress(ResourceError) if stopped else nullcontext():  # the first error is the one to tell
            dataset.write_status(self.status("stopped" if stopped else "done", dataset))
            dataset.write_run({**summary.as_dict(), "totals": dataset.run_totals().as_dict()})
            if stopped is None:
                dataset.end_run()
        if stopped is not None:
            stopped.summary = summary
            raise stopped
        return summary

    def budget_words(self, which: str, dataset: Dataset) -> str:
        """Which ceiling was reached, how much is left undone, and what that would cost."""
        budget, stats, totals = self.job.config.budget, self.stats, dataset.run_totals()
        of, _, which = which.rpartition(" ")
        is_total = of == TOTAL
        spent = dataset.totals().spent_usd if is_total else totals.spent_usd
        ceiling = budget.max_cost_total_usd if is_total else budget.max_cost_usd
        reached = {
            "nano_usd": f"the budget has no room for another request: {dollars(spent)} of {dollars(ceiling)} are spent",
            "tokens": f"budget.max_tokens has no room for another request: {totals.tokens:,} tokens are spent",
            "requests": f"budget.max_requests is used up: {totals.requests:,} requests",
            "time": f"the time is up (--max-time, {budget.max_time_s or 0:.0f} s)",
        }[which]
        if totals.cost_unknown_usd:
            reached += f" ({dollars(totals.cost_unknown_usd)} of it for requests whose bill is unknown)"
        words = [reached, *left_words(stats, totals)]
        return "; ".join(words) + ". The same command goes on with a higher ceiling"

    def status(self, state: str, dataset: Dataset) -> dict[str, object]:
        """`status.json`: this command so far, the whole of OUT, and who is at work."""
        return {
            "state": state,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "updated_at": self.clock.utc().isoformat(),
            "in_flight": self.stats.in_flight,
            "waiting": self.stats.waiting,
            **dataset.overview(),
            **self.summary(None).as_dict(),
        }

    def summary(self, stopped: VisionBatchError | None) -> RunSummary:
        stats, job = self.stats, self.job
        too_many = exceeds(job.max_failed, stats.bad, stats.asked)
        return RunSummary(
            run_id=self.run_id,
            out=str(job.out),
            exit_code=stopped.exit_code if stopped else int(too_many),
            stopped=str(stopped) if stopped else None,
            model=job.config.request.model,
            endpoint=endpoint_name(job),
            config_hash=job.config.config_hash(),
            began_at=self.began_at,
            seconds=self.clock.now() - self.began,
            images=stats.total,
            skipped=stats.skipped,
            asked=stats.asked,
            shared=stats.shared,
            requests=stats.requests,
            by_status={status.value: count for status, count in stats.by_status.items()},
            by_error=dict(stats.by_error),
            prompt_tokens=stats.prompt_tokens,
            completion_tokens=stats.completion_tokens,
            cost_usd=stats.known_cost_usd,
            cost_unknown_usd=stats.cost_unknown_usd,
            unpriced=stats.unpriced,
            rate_limited=stats.rate_limited,
            by_endpoint=dict(stats.by_endpoint),
            source_bytes=stats.source_bytes,
            sent_bytes=stats.sent_bytes,
            tokens_saved=stats.tokens_saved,
            saved_usd=None if self.price is None else self.price.input_usd_per_mtok * stats.tokens_saved / 1_000_000,
            examples=list(stats.examples),
        )


@dataclass(frozen=True, slots=True)
class LowWater:
    """How far a manifest needs no second look: a resume over a million rows does not look up a million keys."""

    name: str
    fingerprint: Fingerprint | None
    skip: int
    """Records from its beginning that an earlier run has done with."""

    @classmethod
    def of(cls, source: Source, job: Job, dataset: Dataset) -> "LowWater":
        passes_over = job.asking.passes_over_rows and job.chosen is None
        fingerprint = source.fingerprint() if passes_over else None
        named = f"{os.path.realpath(source.name)}\0{job.config.source!r}\0{job.config.request.prompt_name}"
        name = hashlib.blake2b(named.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
        mark = dataset.mark(name) if fingerprint is not None else {}
        known = bool(mark) and source.begins_with(Fingerprint(mark["size"], mark["digest"]))
        skip = int(mark["records"]) if known else 0
        return cls(name, fingerprint, skip if job.limit is None else min(skip, job.limit))

    def rise(self, dataset: Dataset, stats: RunStats) -> None:
        """Remember how far all records have rows by now."""
        if self.fingerprint is not None and stats.low_water > self.skip:
            dataset.set_mark(self.name, {**asdict(self.fingerprint), "records": int(stats.low_water)})


def exceeds(allowed: str, bad: int, asked: int) -> bool:
    """Whether `bad` of `asked` rows are more than `allowed`: a number, or a percentage like `2%`."""
    text = allowed.strip()
    try:
        most = float(text[:-1]) / 100 if text.endswith("%") else float(int(text))
    except (ValueError, OverflowError):
        most = nan
    if not 0 <= most < inf:
        raise InputError(f"--max-failed {allowed!r}: neither a number from 0 on nor a percentage such as 2%")
    return bad > (most * asked if text.endswith("%") else most)


def left_words(stats: RunStats, totals: Totals) -> list[str]:
    """What is left undone, and about what it would cost."""
    if stats.total is None:
        return []
    left, paid = stats.total - stats.done, totals.records - totals.shared
    words = f"{left:,} of {stats.total:,} images are left"
    if totals.cost_usd and paid:
        words += f", about {dollars(totals.cost_usd / paid * left)}"
    return [words]


def budgets_of(budget: BudgetConfig, dataset: Dataset) -> list[Budget]:
    """What this run, and all runs on OUT, may still spend."""
    budgets = []
    run_limit = Amounts(nano_usd(budget.max_cost_usd), budget.max_tokens, budget.max_requests)
    if run_limit != Amounts():
        totals = dataset.run_totals()
        budgets.append(Budget(run_limit, RUN, Amounts(nano_usd(totals.spent_usd), totals.tokens, totals.requests)))
    if budget.max_cost_total_usd is not None:
        spent = Amounts(nano_usd(dataset.totals().spent_usd))
        budgets.append(Budget(Amounts(nano_usd(budget.max_cost_total_usd)), TOTAL, spent))
    return budgets


def endpoint_name(job: Job) -> str:
    return endpoint_names(job)[0]


def endpoint_names(job: Job) -> list[str]:
    """What rows and messages call each endpoint: its address, and whose key, where two have one address."""
    if job.emulated:
        return ["emulator"]
    addresses = [public_url(one.base_url) for one in job.config.all_endpoints]
    return [
        f"{address} ({one.api_key_env})" if addresses.count(address) > 1 else address
        for address, one in zip(addresses, job.config.all_endpoints, strict=True)
    ]


def fetch_session(config: RunConfig) -> aiohttp.ClientSession:
    """For images that a manifest names by address: no key of any endpoint goes there."""
    return open_image_session(config.endpoint, FETCHES)


def engine_config(job: Job) -> EngineConfig:
    config = job.config
    limits, images = config.limits, config.images
    return EngineConfig(
        threads=images.threads or os.cpu_count() or 1,
        prepared_bytes=images.prepared_mb * MEGABYTE,
        dedup=config.request.dedup,
        max_failures=config.request.max_failures,
        max_wait_s=limits.max_wait_s,
        outage_s=limits.outage_s,
        first_contact_s=limits.first_contact_s,
        max_error_rate=limits.max_error_rate,
        straggler_s=limits.straggler_s,
        max_time_s=config.budget.max_time_s,
        reads_ahead="-" not in job.sources,
        seal_interval_s=config.output.seal_interval_s,
        grace_s=limits.grace_s,
    )


def projection(job: Job) -> Decimal | None:
    """About what a job costs where every answer is as long as it may be: its first local images, times all."""
    budget, config = job.config.budget, job.config
    has_ceiling = budget.max_cost_usd is not None or budget.max_cost_total_usd is not None
    price = price_for(config, config.all_endpoints[0], emulated=False)
    if has_ceiling or config.request.model is None or price is None or "-" in job.sources:
        return None
    source, total = open_job_source(job)
    prepare = Preparer.build(config, Clock().utc().date())
    local = (record for record in source.records() if not storage.is_url(record.location))
    requests = [prepare(record, None) for record in islice(local, PROJECTED)]
    most = [most_cost_usd(request, price) for request in requests if isinstance(request, PreparedRequest)]
    known = [cost for cost in most if cost is not None]
    return sum(known, Decimal(0)) / len(known) * total if known and total else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRequest:
    """The first request that a run would send."""

    requests: int | None
    """How many like it; None where nobody knows."""
    address: str
    image: str
    facts: ImageFacts | None = None
    body: str | None = None
    """Indented JSON without the base64; None, as `facts`, of an image that only a run fetches."""

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "requests": self.requests,
            "address": self.address,
            "image": self.image,
            "facts": None if self.facts is None else asdict(self.facts),
            "body": None if self.body is None else json.loads(self.body),
        }

    def __str__(self) -> str:
        count = "an unknown number of" if self.requests is None else f"{self.requests:,}"
        heading = f"{count} requests like this one to {self.address} (nothing is sent now):"
        facts = self.facts
        if facts is None:
            return f"{heading}\nthe first image is remote and is fetched only by a run: {self.image}"
        sizes = f"{facts.width} x {facts.height}, {facts.source_bytes:,} bytes -> "
        sizes += f"{facts.sent_width} x {facts.sent_height}, {facts.sent_bytes:,} bytes"
        return f"{heading}\n{self.image}: {sizes}\n{self.body}"


def first_request(job: Job) -> FirstRequest:
    """Prepare the first image that can be prepared. Sends and writes nothing."""
    source, total = open_job_source(job)
    prepare = Preparer.build(job.config, Clock().utc().date())
    address = f"{endpoint_name(job)}/chat/completions"
    for record in islice(source.records(), 100):
        if storage.is_url(record.location):
            return FirstRequest(requests=total, address=address, image=record.image)
        image = prepare.image(record, None)
        if isinstance(image, PreparedImage):
            return FirstRequest(
                requests=total, address=address, image=record.image, facts=image.facts,
                body=prepare.template.preview(image),
            )  # fmt: skip
    raise InputError("none of the first 100 images can be prepared; run without --dry-run to see why in the rows")
