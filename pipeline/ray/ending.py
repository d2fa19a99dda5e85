"""A run on a cluster as a whole: what its shards have done, OUT with what is merged, and the summary."""

import hashlib
import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import orjson

from pipeline import files
from pipeline.endpoints.adapter import traits_of
from pipeline.engine.progress import dollars
from pipeline.engine.stages import Clock
from pipeline.engine.stats import RunStats, RunSummary
from pipeline.errors import BudgetReachedError, ResourceError, VisionBatchError
from pipeline.files import disk_errors
from pipeline.limits.budget import Amounts
from pipeline.money import usd
from pipeline.ray.beforehand import Beforehand, spent_by
from pipeline.ray.plan import Plan, ShardsFolder
from pipeline.ray.progress import saved_usd, summed
from pipeline.ray.task import ShardEnd
from pipeline.records import Status
from pipeline.run.job import endpoint_name, new_run_id
from pipeline.run.rows_of_out import State, not_of_run
from pipeline.run.run import Say
from pipeline.run.summaries import summarise, totals_of
from pipeline.store import between_runs, outdir
from pipeline.store.answered import answered_keys
from pipeline.store.beforehand import missing_records
from pipeline.store.dataset import Dataset
from pipeline.store.failures import write_failures
from pipeline.store.overview import added_overviews, states_of

OVERVIEW = ("records", "errors", "totals", "models", "rehearsal")


def begin_whole(found: Beforehand, folder: ShardsFolder, shards: int, clock: Clock, say: Say) -> "Whole":
    """Make OUT or open it, and begin its plan, or go on with the one that is there."""
    job, began_at = found.job, clock.utc()
    plan = Plan(
        config_hash=job.config.config_hash(),
        rerun=job.rerun.describe(),
        sources=hashlib.blake2b("\0".join(map(str, job.sources)).encode(errors="surrogateescape")).hexdigest()[:32],
        shards=shards,
        spent_before=Amounts(0, 0, 0),
    )
    if folder.plan is not None and not folder.plan.continues(plan) and (joined := folder.absorb()):
        say(f"joined what {joined:,} shards of another run on a cluster had answered")
    with Dataset.open(
        job.out,
        config=job.config,
        run_id=new_run_id(began_at),
        now=clock.utc,
        policy=job.rerun,
        endpoint=endpoint_name(job),
        redactor=job.redactor,
        has_several=found.has_several,
        given=traits_of(job.config).columns,
    ) as dataset:
        run_id, spent = dataset.run_id, spent_by(dataset.totals())
        dataset.end_run()  # the runs that ask are those of the shards
    if folder.plan is None:
        folder.begin(replace(plan, spent_before=spent), answered_keys(job.out, job.config, job.rerun))
        if missing_record(found) is None:
            folder.mark_done()
    elif folder.plan.shards != shards and job.config.engine.shards is not None:
        say(f"note: goes on with {folder.plan.shards:,} shards, as it was begun")
    return Whole(found, folder, run_id, began_at, clock)


def missing_record(found: Beforehand) -> object | None:
    """The first record that is to be asked; a night without new ones starts no shard."""
    job = found.job
    records = missing_records(job.out, found.source.records(), config=job.config, policy=job.rerun)
    return next(records, None)


@dataclass(slots=True)
class Whole:
    """One run on a cluster: its shards' ends, and OUT."""

    found: Beforehand
    folder: ShardsFolder
    run_id: str
    began_at: datetime
    clock: Clock
    began: float = field(init=False)
    done: dict[int, int] = field(default_factory=dict)
    """Shards that are done and not in OUT yet, and their rows."""
    live: Mapping[str, RunStats | None] = field(default_factory=dict)
    """By `I/N`, as the shards at work last reported."""
    _ends: dict[int, ShardEnd] = field(default_factory=dict)
    _notes: set[str] = field(default_factory=set)
    _overview: dict[str, Any] = field(init=False)
    _done_before: int = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock.now()
        self._overview = dict(between_runs.look_alone(self.folder.out))
        total, prompts = self.found.total, len(self.found.job.config.prompt_names)
        nothing = not self.folder.undone() and total is not None
        self._done_before = prompts * (total or 0) if nothing else sum(self.plan.merged.values())

    @property
    def plan(self) -> Plan:
        """Of the folder; begun."""
        if self.folder.plan is None:
            raise ResourceError(f"{self.folder.path}: the plan of this run is gone")
        return self.folder.plan

    def add(self, end: ShardEnd) -> Iterator[str]:
        """A shard has ended. Yields what the user should know, once each."""
        self._ends[end.index] = end
        if end.error is None:
            self.done[end.index] = end.stats.done
        for note in end.notes:
            if note not in self._notes:
                self._notes.add(note)
                yield note

    def stats(self) -> RunStats:
        """All shards together, up to now."""
        prompts, total = len(self.found.job.config.prompt_names), self.found.total
        whole = RunStats(
            total=None if total is None else total * prompts,
            prompts=prompts,
            skipped=self._done_before,
            passed_over=dict(self.found.passed_over),
        )
        ended = {f"{index}/{self.plan.shards}" for index in self._ends}
        live = (stats for name, stats in self.live.items() if stats is not None and name not in ended)
        return summed([*(end.stats for end in self._ends.values()), *live], whole)

    def join(self, *, partial: bool) -> None:
        """Merge the shards that are done, and with `partial` what the others have, which go on later."""
        rows = dict(self.done)
        if rows:
            self.folder.merge(rows)
            for index in rows:
                del self.done[index]
        if partial and (begun := self.folder.begun()):
            self.folder.merge(dict.fromkeys(begun, 0), partial=True)
        self._overview = dict(between_runs.look_alone(self.folder.out))

    def publish(self, state: str = "running") -> None:
        """`status.json`: the whole of OUT, the shards that are not merged yet included."""
        whole = self._overview
        for index in self.folder.begun() if state == "running" else ():
            with suppress(OSError, ValueError, KeyError, ArithmeticError):
                there = orjson.loads(files.read(self.folder.shard(index) / outdir.STATUS_NAME))
                whole = added_overviews(whole, {name: there[name] for name in OVERVIEW})
        stats = self.stats()
        status = {
            "state": state,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "updated_at": self.clock.utc().isoformat(),
            "in_flight": stats.in_flight,
            "waiting": stats.waiting,
            "pauses": [],
            "shards": {"done": self.plan.shards - len(self.folder.undone()) + len(self.done), "of": self.plan.shards}
            if self.folder.plan
            else None,
            **whole,
            **self.summary(None, stats, Counter()).as_dict(),
        }
        with disk_errors(self.folder.out):
            outdir.write_status(self.folder.out, status)

    def end(self, reason: VisionBatchError | None, bounds: Amounts) -> RunSummary:
        """The summary, at whatever end. Raises what stopped the run."""
        stats = self.stats()
        if isinstance(reason, BudgetReachedError):
            reason = BudgetReachedError(self._budget_words(reason, bounds, stats))
        before, failures = self._rows(stats)
        summary = replace(self.summary(reason, stats, before), failures=failures)
        with suppress(ResourceError) if reason else nullcontext():
            self.publish("stopped" if reason else "done")
        if reason is None:
            self.folder.finish()
            return summary
        reason.summary = summary
        raise reason

    def summary(self, reason: VisionBatchError | None, stats: RunStats, before: Counter[State]) -> RunSummary:
        """What this command has done, all shards together."""
        whole = summarise(
            self.found.job, stats, totals_of(stats), before, reason, run_id=self.run_id, began_at=self.began_at,
            seconds=self.clock.now() - self.began,
        )  # fmt: skip
        saved = (end.summary for end in self._ends.values())
        return replace(whole, saved_usd=saved_usd(one for one in saved if one is not None))

    def _rows(self, stats: RunStats) -> tuple[Counter[State], str | None]:
        """The rows of OUT that earlier runs left without an answer, and the file that lists all of them."""
        with suppress(ResourceError), between_runs.held(self.folder.out) as ledger:
            states = states_of(ledger)
            has_any = any(rows for (status, _), rows in states.items() if status is not Status.OK)
            failures = write_failures(self.folder.out, has_any=has_any)
            return not_of_run(states, stats), None if failures is None else str(failures)
        return Counter(), None

    def _budget_words(self, error: BudgetReachedError, bounds: Amounts, stats: RunStats) -> str:
        if error.what == "time" or "the time is up" in str(error):
            return f"the time is up (`budget.max_time_s`); {self._left(stats)}. The same command goes on"
        spent = spent_by_shards(self.folder)
        reached = "the budget has no room for another request"
        if bounds.nano_usd is not None:
            reached += f": {dollars(usd(spent.nano_usd or 0))} of {dollars(usd(bounds.nano_usd))} are spent"
        elif bounds.requests is not None:
            reached += f": {spent.requests or 0:,} of {bounds.requests:,} requests are sent"
        elif bounds.tokens is not None:
            reached += f": {spent.tokens or 0:,} of {bounds.tokens:,} tokens are spent"
        return f"{reached}; {self._left(stats)}. Run the command again with a larger budget"

    @staticmethod
    def _left(stats: RunStats) -> str:
        if stats.total is None:
            return "what remains is not known"
        return f"{stats.total - stats.done:,} of {stats.total:,} {stats.unit}s remain"


def spent_by_shards(folder: ShardsFolder) -> Amounts:
    """What all shards were given of the budget, and have spent once they ended."""
    with suppress(OSError, ValueError):
        granted = orjson.loads(files.read(folder.granted))["granted"].values()
        return sum((Amounts(**one) for one in granted), Amounts(0, 0, 0))
    return Amounts(0, 0, 0)
