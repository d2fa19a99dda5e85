"""The run itself: all concurrency and all waiting are in this package.

    reader ──records──▶ workers: fetch · prepare · ask ──outcomes──▶ writer ──▶ ledger, parts

A *worker* takes one record through its whole life; a few more workers run than requests may be in flight, so that
prepared requests are ready when a permit is free. Every arrow is bounded: records and outcomes in items, prepared
requests in bytes. A *permit* (`scheduler`, `state`) lets one request be sent: by the concurrency limit and the rates of
an endpoint, and by the budget. It is held for one attempt only; a record that waits for another attempt holds its
worker and its bytes, never a permit. The *writer* alone commits. A *write credit* is taken before a request is sent
and given back when its answer is committed, so that no kill can cost more than the requests in flight and as many
answers.

Stopping means cancelling the workers. An attempt and the hand-over of its answer are shielded from that:
what was paid for comes home, and is committed.
"""

import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from math import inf

import anyio
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from pipeline.engine.completion import Completion
from pipeline.engine.in_flight import InFlightRequests
from pipeline.engine.pauses import PauseLog
from pipeline.engine.preparation import Preparation
from pipeline.engine.progress import counted
from pipeline.engine.reader import FIRST_BATCH, Reader, Task
from pipeline.engine.scheduler import Permit, Scheduler
from pipeline.engine.signals import watch_signals
from pipeline.engine.stages import Clock, EngineConfig, RequestState, Stages
from pipeline.engine.state import EndpointState
from pipeline.engine.stats import STOPPING, RunStats
from pipeline.engine.threads import Threads
from pipeline.engine.watch import Watch
from pipeline.engine.writer import Writer
from pipeline.errors import (
    CallbackError,
    EndpointStoppedError,
    InterruptedRunError,
    ResourceError,
    VisionBatchError,
)
from pipeline.limits.budget import Amounts
from pipeline.limits.decision import Action, Reaction, reaction
from pipeline.records import (
    Answer,
    Failure,
    Follower,
    Outcome,
    PreparedRequest,
)

AHEAD = 64
"""Requests at most that are ready beyond those in flight."""
PREPARERS = 8
"""Threads that prepare what needs no decoder, however few the cores: opening, reading and hashing a file wait for the
disk, or for the interpreter's lock. On two cores two of them send a fifth less small images; more than eight, no more.
"""


class Engine:
    """Runs the stages over all records. `await run()` once; `stop()` from the loop at any time."""

    def __init__(self, stages: Stages, config: EngineConfig, clock: Clock, stats: RunStats) -> None:
        self._stages, self._config, self._clock, self.stats = stages, config, clock, stats
        endpoints = [EndpointState(endpoint, config, clock, self._left) for endpoint in stages.endpoints]
        self._scheduler = Scheduler(endpoints, stages.budgets, self._lease, clock, stages.leases)
        self._reader = Reader(stages, stats, reads_ahead=config.reads_ahead)
        self._writer = Writer(stages, stats, self._scheduler.concurrency, self._ended, self._write_failed)
        self._preparation = Preparation(stages, config, clock, self._writer)
        self._completion = Completion(stages, config, self._writer, self.stop)
        self._pauses = PauseLog(clock)
        self._workers = self._at_work = 0
        self._is_read = self._is_interrupted = self._ends_at_once = False
        self._stopping: str | None = None
        self._reason: VisionBatchError | None = None
        self._working = anyio.CancelScope()
        self._in_flight = InFlightRequests(self._scheduler, self._writer, stats, clock)
        self._watch = Watch(self._scheduler, self._in_flight, config.max_time_s, clock, self.stop)

    async def run(self) -> RunStats:
        """Until every record is committed. Raises what stopped the run, once all that was paid for is committed."""
        with self._threads():
            async with anyio.create_task_group() as aside:
                aside.start_soon(self._every, self._config.show_s, self._show)
                aside.start_soon(self._every, self._config.publish_s, self._publish)
                aside.start_soon(self._every, self._config.show_s, self._watch.tick)
                aside.start_soon(self._every, self._config.show_s, self._preparation.replace_stuck)
                aside.start_soon(self._every, self._config.show_s, self._exchange)
                aside.start_soon(self._every, self._config.seal_interval_s, self._writer.seal)
                aside.start_soon(self._watch.time)
                aside.start_soon(watch_signals, self._interrupt)
                async with anyio.create_task_group() as committing:
                    committing.start_soon(self._commit_all)
                    try:
                        await self._work()
                    finally:
                        self._writer.close()
                aside.cancel_scope.cancel()
            self._report()
            await self._publish()
            if self._in_flight.cut_off:
                cut_off = counted(self._in_flight.cut_off, "request")
                self._say(f"{cut_off} cut off: they may be billed, and the same command asks them again")
            if self._reason is not None:
                raise self._reason
        return self.stats

    def stop(self, reason: VisionBatchError, *, at_once: bool = False) -> None:
        """No new requests; those in flight have `grace_s` to come home, or none with `at_once`."""
        self._reason = self._reason or reason
        self._ends_at_once = self._ends_at_once or at_once
        self._working.cancel()
        self._in_flight.bound(0 if at_once else self._config.grace_s)

    # ---------------------------------------------------------------- workers

    async def _work(self) -> None:
        send, self._records = anyio.create_memory_object_stream[Task](FIRST_BATCH)
        with self._working, self._records:
            async with anyio.create_task_group() as self._tasks:
                self._tasks.start_soon(self._read, send)
                self._widen()

    def _widen(self) -> None:
        """Workers and write credits follow the concurrency limits, which may grow as the run goes on."""
        most = self._scheduler.concurrency
        self._writer.follow(most)
        while self._workers < most + min(most, AHEAD) + 2 * self._config.threads:
            self._workers += 1
            self._tasks.start_soon(self._worker, self._records.clone())

    async def _read(self, send: MemoryObjectSendStream[Task]) -> None:
        async with send:
            try:
                await self._reader.run(send, self._writer.thread)
            except VisionBatchError as error:
                self.stop(error)
        self._is_read = True

    def _left(self) -> float:
        """Records that are not done; known at the end of the source."""
        return self._at_work + self._records.statistics().current_buffer_used if self._is_read else inf

    async def _worker(self, tasks: MemoryObjectReceiveStream[Task]) -> None:
        async with tasks:
            async for task in tasks:
                self._at_work += 1
                try:
                    await self._live(task)
                except VisionBatchError as error:  # no file handles left, and the like
                    self.stop(error)
                finally:
                    self._at_work -= 1

    async def _live(self, task: Task) -> None:
        """From the source to the writer: its prompts one after the other, while the endpoint's cache has its images."""
        await self._preparation.ask(*task, self._ask)

    # ---------------------------------------------------------------- requests

    async def _ask(self, request: PreparedRequest) -> None:
        state = RequestState(request, self._clock.utc())
        wait_s: float | None = 0.0
        while wait_s is not None:
            if wait_s > 0:
                await self._clock.sleep(wait_s)
            await self._writer.credits.acquire(1)
            try:
                while (wait_s := await self._attempt(state)) == 0:
                    pass  # it keeps its credit
            finally:
                if wait_s is not None:  # nothing to commit came of it
                    self._writer.credits.release(1)

    async def _attempt(self, state: RequestState) -> float | None:
        """One request, and what follows from it: how long to wait for the next, None when the record is done."""
        permit = await self._scheduler.acquire(state)
        if self._reason is not None:  # stopped in this very moment: nothing is sent
            self._scheduler.withdraw(permit)
            await anyio.lowlevel.checkpoint()  # where it ends
            return 0.0
        with self._in_flight.sending(permit) as request:
            result = await self._in_flight.answer(request)
            return 0.0 if result is None else await self._follow(permit, result)

    async def _follow(self, permit: Permit, result: Answer | Failure) -> float | None:
        state, now = permit.state, self._clock.utc()
        settled = self._scheduler.settle(permit, result)
        decision, unknown = settled.decision, settled.unknown_nano_usd
        self._widen()
        self.stats.retried += not decision.is_final
        if isinstance(result, Failure) and reaction(result.kind) is Reaction.THROTTLE:
            self.stats.rate_limited += 1
        if unknown or (not decision.is_final and result.usage is not None):  # billed, or perhaps, and not the last
            await self._writer.hand_over(state.billed(None if decision.is_final else result, now, unknown))
        is_done = decision.is_final
        if is_done:
            outcome = state.outcome(decision.result or result, permit.endpoint.name, now)
            is_done = await self._completion.complete(state, outcome)
        elif decision.action is Action.CORRECT and isinstance(result, Answer):
            state.request = self._stages.correct(state.request, result)
        self._check_endpoints()
        return None if is_done else decision.wait_s

    def _check_endpoints(self) -> None:
        if self._scheduler.stopped is not None and not self._scheduler.count_records():
            self.stop(EndpointStoppedError(self._scheduler.stopped))

    # ---------------------------------------------------------------- committing

    async def _commit_all(self) -> None:
        """Shielded: it ends when everything that arrived is committed."""
        with anyio.CancelScope(shield=True):
            try:
                await self._writer.run()
            except Exception:  # a bug of ours: what is in flight can no longer be committed
                self._in_flight.cancel()
                raise
            # What is committed and not sealed, the next run seals.
            await self._writer.finish(lambda: self._scheduler.spent, seals=not self._ends_at_once)

    def _ended(self, item: Outcome | Follower) -> None:
        self._reader.ended(item)
        if isinstance(item, Outcome):
            self._preparation.leaders.release(item.request_sha256)

    def _write_failed(self, error: ResourceError) -> None:
        self._reason = error
        self.stop(error, at_once=not error.answers_are_saved)

    async def _lease(self, amounts: Amounts) -> None:
        await self._writer.thread.call(self._stages.lease, amounts)

    # ---------------------------------------------------------------- threads, ticks, signals

    @contextmanager
    def _threads(self) -> Iterator[None]:
        with (
            Threads("reader") as self._reader.thread,
            Threads("writer", daemon=not self._config.waits_at_exit) as self._writer.thread,
            Threads("prepare", PREPARERS, now=self._clock.now) as self._preparation.preparers,
            Threads("decode", self._config.threads, now=self._clock.now) as self._preparation.decoders,
        ):
            yield

    async def _every(self, interval_s: float, tick: Callable[[], Awaitable[None]]) -> None:
        while True:
            await tick()
            await self._clock.sleep(interval_s)

    async def _show(self) -> None:
        self.stats.waiting = self._stopping or self._scheduler.waiting
        self.stats.paused_s = self._scheduler.paused_s
        self._report()

    def _report(self) -> None:
        for remark in self._scheduler.remarks():
            self._say(f"note: {remark}")
        try:
            self._stages.show(self.stats)
        except CallbackError as error:
            self.stop(error)

    def _say(self, words: str) -> None:
        try:
            self._stages.say(words)
        except CallbackError as error:
            self.stop(error)

    async def _exchange(self) -> None:
        reason = await self._scheduler.exchange(self.stats)
        if reason is not None:
            self.stop(reason)

    async def _publish(self) -> None:
        self.stats.low_water = self._reader.low_water
        self.stats.pauses = self._pauses.noted(self._scheduler.endpoints)
        await self._writer.write(self._stages.publish, self.stats)

    def _interrupt(self, number: signal.Signals) -> None:
        again, self._is_interrupted = self._is_interrupted, True
        self._stopping = STOPPING
        if not again:
            self._say("stopping: requests in flight come home first; a second signal ends the run at once")
        words = f"interrupted by {number.name}. The same command goes on where it stopped"
        self.stop(InterruptedRunError(words, number), at_once=again)
