"""The composition root: builds the edges from a `RunConfig` and hands their functions to the engine."""

import hashlib
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from secrets import token_hex

import aiohttp

from pipeline.config import RunConfig, api_key
from pipeline.dataset import Dataset, check_out
from pipeline.edges import storage
from pipeline.edges.chat import ChatEndpoint
from pipeline.edges.sources import Fingerprint, Source, open_sources
from pipeline.engine import Engine
from pipeline.errors import InputError, ResourceError, VisionBatchError
from pipeline.policy.asking import Asking
from pipeline.records import PreparedImage
from pipeline.stages import Clock, EngineConfig, Stages
from pipeline.stats import RunStats, RunSummary
from pipeline.steps import MEGABYTE, Fetcher, Preparer, PricedChat, price_for, with_model
from pipeline.wire import open_session


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


def new_run_id(now: datetime) -> str:
    return f"{now:%Y%m%dT%H%M%SZ}-{token_hex(3)}"


def open_job_source(job: Job) -> tuple[Source, int | None]:
    """The source, after one quick pass over it in which everything that is wrong with it is found."""
    source = open_sources(job.sources, job.config.source, out=job.out)
    total = source.check()
    if job.limit is not None:
        total = job.limit if total is None else min(total, job.limit)
    return source, total


async def run_job(job: Job, show: Callable[[RunStats], None], clock: Clock | None = None) -> RunSummary:
    """Ask for everything that OUT does not hold yet.

    Raises InputError before anything is sent. Whatever stops the run later is raised once everything that
    was paid for is kept, and carries the summary.
    """
    clock = Clock() if clock is None else clock
    exceeds(job.max_failed, 0, 0)
    check_out(job.out)
    key = api_key(job.config.endpoint)
    source, total = open_job_source(job)
    async with open_session(job.config.endpoint, job.config.limits.concurrency) as session:
        chat = ChatEndpoint(session, job.config.endpoint, key)
        job = replace(job, config=await with_model(job.config, chat))
        run = _Run(job, new_run_id(clock.utc()), clock, RunStats(total=total))
        with run.dataset() as dataset:
            async with fetch_session(job.config) as images:
                stages = run.stages(source, dataset, chat, images, show)
                return await run.drive(Engine(stages, engine_config(job.config), clock, run.stats), dataset)


class _Run:
    """One run under way: what its summary is made of."""

    def __init__(self, job: Job, run_id: str, clock: Clock, stats: RunStats) -> None:
        self.job, self.run_id, self.clock, self.stats = job, run_id, clock, stats
        self.began_at, self.began = clock.utc(), clock.now()

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
        chat: ChatEndpoint,
        images: aiohttp.ClientSession,
        show: Callable[[RunStats], None],
    ) -> Stages:
        config = self.job.config
        water = LowWater.of(source, self.job, dataset)
        self.stats.read = self.stats.skipped = water.skip
        return Stages(
            records=islice(source.records(), water.skip, self.job.limit),
            missing=dataset.missing,
            fetch=Fetcher(images, int(config.images.max_file_mb * MEGABYTE)),
            prepare=Preparer.build(config),
            ask=PricedChat(chat, price_for(config, emulated=self.job.emulated)),
            twin=dataset.twin,
            keep=dataset.keep,
            seal=dataset.seal,
            show=show,
            publish=lambda stats: self.publish(dataset, water, stats),
        )

    def publish(self, dataset: Dataset, water: "LowWater", stats: RunStats) -> None:
        water.rise(dataset, stats)
        dataset.write_status(self.status("running", dataset))

    async def drive(self, engine: Engine, dataset: Dataset) -> RunSummary:
        stopped: VisionBatchError | None = None
        try:
            await engine.run()
        except VisionBatchError as error:
            stopped = error
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
            unpriced=stats.unpriced,
            source_bytes=stats.source_bytes,
            sent_bytes=stats.sent_bytes,
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
        fingerprint = source.fingerprint() if job.asking.passes_over_rows else None
        named = f"{os.path.realpath(source.name)}\0{job.config.source!r}"
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
        if text.endswith("%"):
            return bad > float(text[:-1]) / 100 * asked
        return bad > int(text)
    except ValueError:
        raise InputError(f"--max-failed {allowed!r}: neither a number nor a percentage such as 2%") from None


def endpoint_name(job: Job) -> str:
    return "emulator" if job.emulated else job.config.endpoint.base_url


def fetch_session(config: RunConfig) -> aiohttp.ClientSession:
    """For images that a manifest names by address: the same proxy and certificates, and no key."""
    return open_session(config.endpoint, config.limits.concurrency)


def engine_config(config: RunConfig) -> EngineConfig:
    limits, images = config.limits, config.images
    return EngineConfig(
        slots=limits.concurrency,
        threads=images.threads or os.cpu_count() or 1,
        prepared_bytes=images.prepared_mb * MEGABYTE,
        rpm=limits.rpm,
        dedup=config.request.dedup,
        max_failures=config.request.max_failures,
        max_wait_s=limits.max_wait_s,
        outage_s=limits.outage_s,
        first_contact_s=limits.first_contact_s,
        max_error_rate=limits.max_error_rate,
        seal_interval_s=config.output.seal_interval_s,
        grace_s=limits.grace_s,
    )


def first_request(job: Job) -> str:
    """The first request that a run would send, without the base64. Sends and writes nothing."""
    source, total = open_job_source(job)
    prepare = Preparer.build(job.config)
    for record in islice(source.records(), 100):
        if storage.is_url(record.location):
            return f"{_heading(job, total)}\nthe first image is remote and is fetched only by a run: {record.image}"
        image = prepare.image(record, None)
        if isinstance(image, PreparedImage):
            facts = image.facts
            sizes = f"{facts.width} x {facts.height}, {facts.source_bytes:,} bytes -> "
            sizes += f"{facts.sent_width} x {facts.sent_height}, {facts.sent_bytes:,} bytes"
            return f"{_heading(job, total)}\n{record.image}: {sizes}\n{prepare.template.preview(image)}"
    raise InputError("none of the first 100 images can be prepared; run without --dry-run to see why in the rows")


def _heading(job: Job, total: int | None) -> str:
    count = "an unknown number of" if total is None else f"{total:,}"
    return f"{count} requests like this one to {endpoint_name(job)}/chat/completions (nothing is sent now):"
