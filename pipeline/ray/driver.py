"""`engine.kind=ray`: the source in shards, each a task of the cluster; what is done is merged into OUT as it goes on.

Ray places the tasks and starts one again where a worker or a node dies; the shard goes on where its ledger ends. A
driver that dies takes its tasks with it, and the same command continues.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from pipeline.engine.signals import watch_signals
from pipeline.engine.stages import Clock
from pipeline.engine.stats import STOPPING, RunStats, RunSummary
from pipeline.errors import BudgetReachedError, InterruptedRunError, OutInUseError, ResourceError, VisionBatchError
from pipeline.ray.actor import LimiterActor, WholeLimits
from pipeline.ray.beforehand import Beforehand, budget_of, check_supported, config_of_shards, limits_of, settle
from pipeline.ray.cluster import Cluster, connected
from pipeline.ray.ending import Whole, begin_whole
from pipeline.ray.plan import ShardsFolder
from pipeline.ray.task import ShardEnd, ShardWork, run_shard
from pipeline.run.job import Job
from pipeline.run.run import Say

T = TypeVar("T")
LOOK_S = 0.25
PUBLISH_S = 2.0
MERGE_S, MERGE_SHARE = 20.0, 10
"""Finished shards are merged this often, and for no more than one part in ten of the time."""
RETRIES = 20
"""Times that a shard is started again after a worker or a node died with it."""
FEWEST, EACH = 8, 4
"""Shards, unless a number is set: enough that the last ones do not leave most of the cluster idle."""
QUEUED = 8
"""Tasks that wait beyond those at work: an autoscaler sees them."""


async def run_on_cluster(
    job: Job, show: Callable[[RunStats], None], clock: Clock | None = None, say: Say | None = None
) -> RunSummary:
    """Ask for everything that OUT does not hold yet. Raises what `run_job` raises."""
    clock, say = clock or Clock(), say or _silent
    check_supported(job)
    async with connected(job.config.engine) as cluster:
        with ShardsFolder.held(job.out) as folder:
            found = await settle(job, clock, say)
            shards = job.config.engine.shards or max(FEWEST, EACH * cluster.tasks)
            whole = await in_thread(partial(begin_whole, found, folder, shards, clock, say))
            return await _Driver(found, whole, cluster, clock=clock, show=show, say=say).drive()


def _silent(_: str) -> None:
    """What is said to no user."""


async def in_thread(work: Callable[[], T]) -> T:
    """Blocking work, which is waited for also where the run is cancelled."""
    return await anyio.to_thread.run_sync(work)


class _Driver:
    """One run on a cluster: which shards are at work, and what becomes of those that ended."""

    def __init__(
        self,
        found: Beforehand,
        whole: Whole,
        cluster: Cluster,
        *,
        clock: Clock,
        show: Callable[[RunStats], None],
        say: Say,
    ) -> None:
        self._found, self._whole, self._cluster = found, whole, cluster
        self._clock, self._show, self._say = clock, show, say
        job = found.job
        self._waiting = deque(whole.folder.undone())
        self._at_work: dict[Any, int] = {}
        self._reason: VisionBatchError | None = None
        self._is_abandoned = False
        self._bounds = budget_of(job, whole.plan.spent_before)
        self._config = config_of_shards(job.config)
        limits = WholeLimits(limits_of(job.config), self._bounds, whole.folder.granted.absolute())
        ray = cluster.ray
        actor = ray.remote(LimiterActor).options(
            name=f"limits of {job.out.name} {whole.run_id}", num_cpus=0, max_restarts=-1, max_task_retries=-1
        )
        self._actor = actor.remote(limits)
        self._task = ray.remote(num_cpus=cluster.cpus, max_retries=RETRIES, scheduling_strategy="SPREAD")(run_shard)
        time_s = job.budget.max_time_s
        self._ends_at = None if time_s is None else time.time() + time_s
        self._merged_at, self._merge_s = clock.now(), 0.0

    async def drive(self) -> RunSummary:
        """Run all shards to their end, whatever that is, and bring what they answered into OUT."""
        self._say(
            f"{len(self._waiting):,} shards on {self._cluster.nodes:,} nodes of a Ray cluster, "
            f"{self._cluster.tasks:,} at a time"
        )
        try:
            async with anyio.create_task_group() as aside:
                aside.start_soon(watch_signals, self._interrupt)
                aside.start_soon(self._merge_on)
                aside.start_soon(self._publish_on)
                await self._work()
                aside.cancel_scope.cancel()
        except BaseExceptionGroup as group:  # the first of them is what went wrong
            raise group.exceptions[0] from None
        if not self._is_abandoned:
            await in_thread(partial(self._whole.join, partial=self._reason is not None))
        return await in_thread(partial(self._whole.end, self._reason, self._bounds))

    async def _work(self) -> None:
        while (self._waiting or self._at_work) and not self._is_abandoned:
            for ref in await in_thread(self._round):
                await self._ended(ref, self._at_work.pop(ref))
            await self._look()

    def _round(self) -> list[Any]:
        """Submit what the cluster has room for -> the tasks that have ended by now."""
        most = self._cluster.tasks + QUEUED
        while self._waiting and len(self._at_work) < most:
            work = self._work_of(self._waiting.popleft())
            name = f"shard {work.index} of {work.shards}: {work.out.name}"
            self._at_work[self._task.options(name=name).remote(work)] = work.index
        if not self._at_work:
            return []
        ended, _ = self._cluster.ray.wait(list(self._at_work), num_returns=len(self._at_work), timeout=LOOK_S)
        return list(ended)

    def _work_of(self, index: int) -> ShardWork:
        job, folder = self._found.job, self._whole.folder
        return ShardWork(
            index=index,
            shards=self._whole.plan.shards,
            sources=tuple(str(one) for one in job.sources),
            folder=os.getcwd(),  # noqa: PTH109 - as it is named, not as it is resolved
            out=job.out.absolute(),
            place=folder.shard(index).absolute(),
            answered=folder.keys.absolute(),
            config=self._config,
            emulated=job.emulated,
            bounds=self._bounds,
            endpoints=len(job.config.all_endpoints),
            ends_at=self._ends_at,
            on_answer=job.on_answer,
            limiter=self._actor,
            secrets=self._found.secrets,
        )

    async def _ended(self, ref: Any, index: int) -> None:  # noqa: ANN401 - of Ray
        exceptions = self._cluster.ray.exceptions
        try:
            end: ShardEnd = await in_thread(partial(self._cluster.ray.get, ref))
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, VisionBatchError):
                self._stop(error.cause)
            elif isinstance(error.cause, ModuleNotFoundError):
                self._stop(ResourceError(_lost(index, str(error.cause))))
            else:
                raise  # a bug, with its traceback
            return
        except exceptions.RayError as error:
            self._stop(ResourceError(_lost(index, str(error))))
            return
        for line in self._whole.add(end):
            self._say(line)
        if end.error is not None:
            self._stop(end.error)

    def _stop(self, reason: VisionBatchError, number: int = signal.SIGTERM) -> None:
        """No new shards. Those at work come to their end: a budget that is used up ends them without further words."""
        if self._reason is None or isinstance(self._reason, InterruptedRunError):
            self._reason = self._reason or reason
        self._waiting.clear()
        if not isinstance(reason, BudgetReachedError):
            self._actor.end.remote(int(number))

    def _interrupt(self, number: signal.Signals) -> None:
        if self._reason is not None:
            self._is_abandoned = True
            return
        self._say("stopping: requests in flight come home first; a second signal ends the run at once")
        words = f"interrupted by {number.name}. The same command goes on where it stopped"
        self._stop(InterruptedRunError(words, number), number)

    async def _look(self) -> None:
        """What the shards at work have done, as they last reported."""
        ray = self._cluster.ray
        try:
            live, _ = await in_thread(lambda: ray.get(self._actor.look.remote(), timeout=PUBLISH_S))
        except ray.exceptions.RayError:  # it comes back
            live = self._whole.live
        self._whole.live = live
        stats = self._whole.stats()
        stats.waiting = STOPPING if self._reason is not None else stats.waiting
        self._show(stats)

    # ---------------------------------------------------------------- aside

    async def _merge_on(self) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            waited_s = self._clock.now() - self._merged_at
            if self._whole.done and waited_s >= max(MERGE_S, MERGE_SHARE * self._merge_s):
                with anyio.CancelScope(shield=True):
                    began = self._clock.now()
                    await in_thread(self._join)
                    self._merged_at = self._clock.now()
                    self._merge_s = self._merged_at - began

    def _join(self) -> None:
        try:
            self._whole.join(partial=False)
        except OutInUseError:  # someone looks at OUT: later
            return

    async def _publish_on(self) -> None:
        while True:
            with anyio.CancelScope(shield=True):
                await in_thread(self._whole.publish)
            await self._clock.sleep(PUBLISH_S)


def _lost(index: int, error: str) -> str:
    """What Ray says of a shard that it gave up."""
    words = error.strip().splitlines()
    missing = next((line for line in reversed(words) if "No module named" in line), None)
    if missing is not None:
        return (
            f"a node of the Ray cluster cannot import what this command has ({missing.strip()}): install the same "
            'version of vision-batch on every node, with the extra: pip install "vision-batch[ray]"'
        )
    return f"shard {index} was lost, also when it was started again: {' '.join(words)[:300]}. The same command goes on"
