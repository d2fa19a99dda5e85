"""The composition root: builds the edges from a `RunConfig` and hands their functions to the engine."""

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, nullcontext, suppress
from dataclasses import replace

import anyio

from pipeline.config.environment import Variable
from pipeline.config.keys import destination, find_key
from pipeline.endpoints.adapter import adapter_of, traits_of
from pipeline.endpoints.pricing import price_for
from pipeline.engine.engine import Engine
from pipeline.engine.hooks import Hook
from pipeline.engine.progress import dollars
from pipeline.engine.stages import Clock, Endpoint, EngineConfig, Stages
from pipeline.engine.stats import RunStats, RunSummary
from pipeline.errors import (
    BudgetReachedError,
    DamagedLedgerError,
    InputError,
    InterruptedRunError,
    ResourceError,
    VisionBatchError,
)
from pipeline.http.image_hosts import ImageHosts
from pipeline.http.session import open_session
from pipeline.pdf.process import PROCESSES
from pipeline.redaction.addresses import public_url
from pipeline.run.budgets import RunBudgets, used_up
from pipeline.run.consent import confirmed
from pipeline.run.dear import say_dear
from pipeline.run.endpoints import endpoints_of, targets_of
from pipeline.run.images import MEGABYTE
from pipeline.run.job import (
    Job,
    check_prompt,
    dear_choice,
    endpoint_name,
    engine_config,
    exceeds,
    has_several_images,
    image_hosts,
    missing_of,
    new_run_id,
    open_job_source,
)
from pipeline.run.labels import corrected, label_notes
from pipeline.run.low_water import LowWater
from pipeline.run.model import with_model
from pipeline.run.only import check_only, unmatched_of_stream, watched
from pipeline.run.passed import say_passed, say_reading
from pipeline.run.prepare import Fetcher, Preparer
from pipeline.run.rows_of_out import configurations, corrections_replaced, listed_failures, rows_before
from pipeline.run.sharding import say_shard
from pipeline.run.summaries import summarise, totals_of
from pipeline.sources import Source, passed_over
from pipeline.sources.origins import origins
from pipeline.store.accounting import Totals
from pipeline.store.dataset import Dataset
from pipeline.store.events import as_json
from pipeline.store.opening import LEDGER_NAME, check_out, last_config
from pipeline.store.suspects import Suspects

Say = Callable[[str], None]
"""Shows a line to the user."""


async def run_job(
    job: Job, show: Callable[[RunStats], None], clock: Clock | None = None, say: Say | None = None
) -> RunSummary:
    """Ask for everything that OUT does not hold yet. `say` shows what the user should know before.

    Raises InputError before anything is sent. Whatever stops the run later is raised once everything that
    was paid for is kept, and carries the summary.
    """
    clock = Clock() if clock is None else clock
    exceeds(job.max_failed, 0, 0)
    check_out(job.out)
    adapter_of(job.config)
    keys = [find_key(one) for one in job.config.all_endpoints]
    source, total = _read_once(job, say or _silent)
    say_beforehand(job, keys, source, total, say or _silent)
    async with AsyncExitStack() as stack:
        targets = targets_of(job.config, [None if key is None else key.value for key in keys])
        sessions = [await stack.enter_async_context(open_session(target.endpoint)) for target in targets]
        job = replace(job, config=await with_model(job.config, targets[0]), redactor=targets[0].redactor)
        prepare = Preparer.build(job.config, clock.utc().date())
        endpoints = endpoints_of(job, targets, sessions, prepare, say or _silent)
        check_prompt(prepare.prompt_shape())
        job = confirmed(job, source, total, prepare.prompt_shape(), lambda marks: LowWater.of(source, job, marks).skip)
        say_cost(job, source, prepare, say)
        run = _Run(job, clock, _stats(source, total, len(prepare.prompts)))
        with run.dataset(has_several=has_several_images(job.config, source)) as dataset:
            suspects, is_bounded = stack.enter_context(Suspects(job.out)), job.implied_budget_usd is not None
            prepare = prepare.of_run(suspects, takes_several=dataset.takes_several, is_bounded=is_bounded)
            images = await stack.enter_async_context(image_hosts(job.config))
            stages = run.stages(source, dataset, endpoints, images, show, prepare=prepare)
            stages = stages if say is None else replace(stages, say=say)
            if (hook := run.hook(dataset)) is not None:
                stages = replace(stages, after=stack.enter_context(hook), reword=prepare.reworded)
            numbers = _numbers(job, dataset)
            say_prompt(job, None if numbers.has_answers or total == 0 else say)
            stack.callback(say_dear, dataset, say if run.is_priced else None)
            summary = await run.drive(Engine(stages, numbers, clock, run.stats), dataset, stack)
        if say is not None and run.unmatched is not None and (words := run.unmatched.words()) is not None:
            say(f"note: {words}")
        return summary


def _read_once(job: Job, say: Say) -> tuple[Source, int | None]:
    say_reading(job, say)
    source, total = open_job_source(job)
    check_only(job, source)
    return source, total


def _numbers(job: Job, dataset: Dataset) -> EngineConfig:
    has_rows = any(dataset.states().values())
    return replace(engine_config(job), has_answers=dataset.has_answers(), has_rows=has_rows)


def _stats(source: Source, records: int | None, prompts: int) -> RunStats:
    total = None if records is None else records * prompts
    return RunStats(total=total, prompts=prompts, passed_over=passed_over(source))


def _silent(_: str) -> None:
    """What is said to no user."""


def say_beforehand(job: Job, keys: Sequence[Variable | None], source: Source, total: int | None, say: Say) -> None:
    """Where requests go and with which key, for a new OUT or a new address there; what the sources pass over."""
    if not job.emulated and total != 0 and _has_new_destination(job):
        each = zip(job.config.all_endpoints, keys, strict=True)
        say(f"asks {'; '.join(destination(one, key) for one, key in each)}")
    say_passed(job, source, total, say)
    say_shard(job.config, source, total, say)


def _has_new_destination(job: Job) -> bool:
    if not (job.out / LEDGER_NAME).exists():
        return True
    with suppress(InputError):
        before = {public_url(one.base_url) for one in last_config(job.out).all_endpoints}
        return any(public_url(one.base_url) not in before for one in job.config.all_endpoints)
    return True


def say_prompt(job: Job, say: Say | None) -> None:
    """What is asked, where the user did not write it, and how labels are asked for; before the first answer of OUT."""
    if say is None:
        return
    if job.has_default_prompt:
        say(f"prompt: {job.config.request.prompt}")
    if (prompts := len(job.config.prompt_names)) > 1:
        say(f"{prompts} prompts an image: the numbers below count rows, one for each image and prompt")
    for line in label_notes(job.config):
        say(f"note: {line}")


def say_cost(job: Job, source: Source, prepare: Preparer, say: Say | None) -> None:
    """The budget of a run that has none of its own, and a `detail` that costs more than another."""
    if say is None:
        return
    for note in prepare.effective.notes:
        say(f"note: {note}")
    if job.implied_budget_usd is not None:
        say(
            f"note: what this run costs cannot be predicted: it stops at {dollars(job.implied_budget_usd)} "
            "(budget.confirm_usd). `budget.max_cost_usd=USD` sets another budget, `yes=True` none"
        )
    if (line := dear_choice(job, source, prepare.prompt_shape())) is not None:
        say(line)


class _Run:
    """One run under way: what its summary is made of."""

    def __init__(self, job: Job, clock: Clock, stats: RunStats) -> None:
        self.job, self.clock, self.stats = job, clock, stats
        self.began_at, self.began = clock.utc(), clock.now()
        self.run_id = new_run_id(self.began_at, job.config.source.own_shard)
        one, *others = job.config.all_endpoints
        self.price = None if others else price_for(job.config, one, emulated=job.emulated)
        self.is_priced = any(price_for(job.config, each, emulated=job.emulated) for each in job.config.all_endpoints)
        stats.is_priced, self.spent_before = self.is_priced, Totals()
        self.unmatched = unmatched_of_stream(job)

    def dataset(self, *, has_several: bool) -> Dataset:
        job = self.job
        opened = (job.open_dataset or Dataset.open)(
            job.out,
            config=job.config,
            run_id=self.run_id,
            now=self.clock.utc,
            policy=job.rerun,
            endpoint=endpoint_name(job),
            redactor=job.redactor,
            has_several=has_several,
            given=traits_of(job.config).columns,
        )
        self.run_id, self.spent_before = opened.run_id, opened.run_totals()
        return opened

    def stages(
        self,
        source: Source,
        dataset: Dataset,
        endpoints: Sequence[Endpoint],
        images: ImageHosts,
        show: Callable[[RunStats], None],
        *,
        prepare: Preparer,
    ) -> Stages:
        config = self.job.config
        dataset.note_origins(list(origins(source)))
        self.stats.saves = prepare.saved
        water = LowWater.of(source, self.job, dataset.marks)
        prompts = self.stats.prompts
        dataset.expect((self.stats.total or 0) // prompts - water.skip)
        self.stats.read, self.stats.skipped = water.skip, water.skip * prompts
        self.budgets = RunBudgets(self.job, dataset, self.began_at.date(), is_priced=self.is_priced)
        self.stats.granted_usd = self.budgets.granted_usd
        return Stages(
            records=water.records() if self.unmatched is None else watched(water.records(), self.unmatched),
            missing=missing_of(self.job, dataset),
            fetch=Fetcher(images, int(config.images.max_file_mb * MEGABYTE), prepare.passing(images)),
            prepare=prepare,
            undecoded=prepare.undecoded,
            stuck=prepare.images.stuck,
            endpoints=endpoints,
            follow=dataset.follow,
            correct=corrected,
            commit=dataset.commit,
            seal=dataset.seal,
            lease=self.budgets.lease,
            budgets=self.budgets.all,
            leases=self.job.leases,
            show=show,
            publish=lambda stats: self.publish(dataset, water, stats),
        )

    def hook(self, dataset: Dataset) -> Hook | None:
        """The user's hook, with what its replies may change."""
        on_answer, redact = self.job.on_answer, self.job.redactor.text
        if on_answer is None:
            return None
        return Hook(on_answer, row_of=dataset.row_of, misfit=dataset.misfit, redact=redact)

    def publish(self, dataset: Dataset, water: LowWater, stats: RunStats) -> None:
        water.rise(dataset.marks, stats.low_water)
        dataset.note_pauses(stats.pauses)
        dataset.write_status(self.status("running", dataset))

    async def drive(self, engine: Engine, dataset: Dataset, sessions: AsyncExitStack) -> RunSummary:
        """Run it to its end, whatever that is, and write down what it came to."""
        stopped: VisionBatchError | None = None
        cancelled: BaseException | None = None
        try:
            await engine.run()
        except anyio.get_cancelled_exc_class() as error:
            cancelled, stopped = error, InterruptedRunError("cancelled. The same call goes on where it stopped")
        except BudgetReachedError as error:
            is_late = error.what == "time" and self.stats.done == self.stats.total  # when all was done
            stopped = None if is_late else self.budgets.reached(error, self.stats)
        except VisionBatchError as error:
            stopped = error
        with anyio.CancelScope(shield=True):
            await sessions.aclose()  # idle connections hold file handles, and those may be what there are none left of
            await self.clock.sleep(0)  # in which they are let go
        PROCESSES.end_idle()
        with suppress(ResourceError):
            if isinstance(stopped, ResourceError) and not isinstance(stopped, DamagedLedgerError):
                dataset.seal()
            dataset.settle_lease()
            self.budgets.end(stopped)
        rest = configurations(dataset, self.job.config.config_hash())
        rest["replaced_corrections"] = corrections_replaced(dataset, self.run_id)
        summary = replace(self.summary(stopped, dataset), failures=listed_failures(dataset), **rest)
        with suppress(ResourceError) if stopped else nullcontext():  # the first error is the one that is raised
            dataset.write_status(self.status("stopped" if stopped else "done", dataset, stopped))
            dataset.write_run({**summary.as_dict(), "totals": dataset.run_totals().as_dict()})
            dataset.describe()
            if stopped is None:
                dataset.end_run()
        if cancelled is not None:
            raise cancelled
        if stopped is not None:
            stopped.summary = summary
            raise stopped
        return summary

    def status(self, state: str, dataset: Dataset, stopped: VisionBatchError | None = None) -> dict[str, object]:
        """`status.json`: this command so far, the whole of OUT, and who is at work."""
        return {
            "state": state,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "updated_at": self.clock.utc().isoformat(),
            "in_flight": self.stats.in_flight,
            "waiting": self.stats.waiting,
            "pauses": [as_json(pause) for pause in self.stats.pauses],
            "limit": self.job.limit,
            "is_selection": self.job.chosen is not None or self.job.rerun.selects,
            "used_up": used_up(stopped),
            **dataset.overview(),
            **self.summary(stopped, dataset).as_dict(),
        }

    def summary(self, stopped: VisionBatchError | None, dataset: Dataset) -> RunSummary:
        """What this command took is by the ledger; by what was counted here where that cannot be read."""
        stats, took = self.stats, totals_of(self.stats)
        with suppress(ResourceError):
            took = dataset.run_totals() - self.spent_before
        summary = summarise(
            self.job, stats, took, rows_before(dataset, stats), stopped, run_id=self.run_id, began_at=self.began_at,
            seconds=self.clock.now() - self.began, is_priced=self.is_priced,
        )  # fmt: skip
        price = self.price
        return replace(
            summary,
            skipped=stats.skipped - dataset.left_out,
            left_out=dataset.left_out,
            saved_usd=None if price is None else price.input_usd_per_mtok * stats.tokens_saved / 1_000_000,
        )
