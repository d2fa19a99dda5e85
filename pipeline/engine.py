"""The run itself: all concurrency and all waiting are here.

    reader ──records──▶ lanes: fetch · prepare · ask ──outcomes──▶ keeper ──▶ ledger, parts

A *lane* takes one record through its whole life; a few more lanes run than there are slots, so that
prepared requests are ready when a slot is free. Every arrow is bounded: records and outcomes in items,
prepared requests in bytes. A *slot* is held for one attempt only; a record that waits for another try
holds its lane and its bytes, never a slot. The *keeper* is alone in writing: it takes whatever has arrived
since its last commit. A *place* at the keeper is taken before a request is sent and given back when its
answer is committed, so that no kill can cost more than the requests in flight and as many answers.

Stopping means cancelling the lanes. An attempt and the hand-over of its answer are shielded from that:
what was paid for comes home, and is kept.
"""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from itertools import compress, islice
from typing import TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from pipeline.errors import EndpointStoppedError, InterruptedRunError, ResourceError, VisionBatchError
from pipeline.gates import Room
from pipeline.policy.health import Health
from pipeline.policy.limits import Cooldown, Pace
from pipeline.policy.retry import (
    TRANSIENT,
    Reaction,
    backoff_s,
    is_worth_fetching_again,
    max_attempts_of,
    reaction,
    stop_message,
)
from pipeline.records import Answer, BilledAttempt, Failure, ImageRecord, Outcome, PreparedRequest, Shared, Status
from pipeline.stages import Arrival, Clock, EngineConfig, Stages, Trial
from pipeline.stats import RunStats

T = TypeVar("T")

FIRST_BATCH, BATCH, LARGEST_BATCH = 16, 256, 4096
PATIENCE = 10
"""Rate limits that one record meets before it fails, while others are answered."""


class Engine:
    """Runs the stages over all records. `await run()` once; `stop()` from the loop at any time."""

    def __init__(self, stages: Stages, config: EngineConfig, clock: Clock, stats: RunStats) -> None:
        self._stages, self._config, self._clock, self.stats = stages, config, clock, stats
        self._room = Room(config.prepared_bytes)
        self._slots = anyio.CapacityLimiter(config.slots)
        self._places = anyio.Semaphore(2 * config.slots)
        self._pace = Pace.per_minute(config.rpm)
        self._health = Health(config.max_error_rate)
        self._cooldown: Cooldown | None = None
        self._well = anyio.Event()
        self._answers = 0
        self._reason: VisionBatchError | None = None
        self._working = anyio.CancelScope()
        self._flights: set[anyio.CancelScope] = set()
        self._under_way: dict[str, int] = {}
        """Ids between the reader and the keeper (a stream may bring one twice), with their place in the source."""
        self._claims: dict[str, anyio.Event] = {}
        """Requests that somebody is asking; set when the answer is committed, or there is none."""
        self._outcomes, self._arrived = anyio.create_memory_object_stream[Outcome | BilledAttempt | Shared](
            2 * config.slots
        )

    async def run(self) -> RunStats:
        """Until every record is kept. Raises what stopped the run, once everything that was paid for is kept."""
        with self._threads():
            async with anyio.create_task_group() as aside:
                aside.start_soon(self._every, self._config.show_s, self._show)
                aside.start_soon(self._every, self._config.publish_s, self._publish)
                aside.start_soon(self._watch_signals)
                async with anyio.create_task_group() as keeping:
                    keeping.start_soon(self._keep_all)
                    async with self._outcomes:  # closed, it ends the keeper when all of it is written
                        await self._work()
                aside.cancel_scope.cancel()
            self._stages.show(self.stats)
            await self._publish()
            if self._reason is not None:
                raise self._reason
        return self.stats

    def stop(self, reason: VisionBatchError, *, at_once: bool = False) -> None:
        """No new requests; what is in flight has `grace_s` to come home, or none with `at_once`."""
        self._reason = self._reason or reason
        self._working.cancel()
        deadline = anyio.current_time() + (0 if at_once else self._config.grace_s)
        for flight in self._flights:
            flight.deadline = min(flight.deadline, deadline)

    # ---------------------------------------------------------------- reader and lanes

    async def _work(self) -> None:
        send, receive = anyio.create_memory_object_stream[ImageRecord](self._config.lanes)
        with self._working:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, send)
                for _ in range(self._config.lanes):
                    tasks.start_soon(self._lane, receive.clone())
                receive.close()

    async def _read(self, send: MemoryObjectSendStream[ImageRecord]) -> None:
        async with send:
            try:
                await self._read_all(send)
            except VisionBatchError as error:
                self.stop(error)

    async def _read_all(self, send: MemoryObjectSendStream[ImageRecord]) -> None:
        size = FIRST_BATCH
        ahead = self._ahead(size)
        while batch := await ahead:
            ahead = self._ahead(size)  # is read while the ledger looks these up
            is_missing = await self._in(self._writer, self._stages.missing, batch)
            await self._hand_on(batch, is_missing, send)
            # Where all of it is kept already there is nothing to wait for: larger batches, fewer hops.
            size = BATCH if any(is_missing) else min(2 * size, LARGEST_BATCH)

    async def _hand_on(
        self, batch: list[ImageRecord], is_missing: Sequence[bool], send: MemoryObjectSendStream[ImageRecord]
    ) -> None:
        began = self.stats.read
        self.stats.skipped += len(batch) - sum(is_missing)
        for place in compress(range(len(batch)), is_missing):
            record = batch[place]
            self.stats.read = began + place
            if record.id not in self._under_way:
                self._under_way[record.id] = self.stats.read
                await send.send(record)
        self.stats.read = began + len(batch)

    def _ahead(self, size: int) -> "asyncio.Future[list[ImageRecord]]":
        future = asyncio.get_running_loop().run_in_executor(self._reader, self._take, size)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # told even if nobody waits for it
        return future

    def _take(self, size: int) -> list[ImageRecord]:
        return list(islice(self._stages.records, size))

    async def _lane(self, records: MemoryObjectReceiveStream[ImageRecord]) -> None:
        async with records:
            async for record in records:
                try:
                    await self._live(record)
                except VisionBatchError as error:  # no file handles left, and the like
                    self.stop(error)

    async def _live(self, record: ImageRecord) -> None:
        """From the source to the keeper."""
        prepared = await self._claimed(record)
        if isinstance(prepared, PreparedRequest):
            async with self._room.held(len(prepared.body)):
                await self._ask(prepared)
        else:
            await self._outcomes.send(prepared)

    async def _claimed(self, record: ImageRecord) -> PreparedRequest | Shared | Outcome:
        """The request to send; nobody else is asking the same one now, nor was it answered before."""
        while True:
            prepared = await self._prepared(record)
            if isinstance(prepared, Failure):
                return Outcome(record=record, result=prepared)
            if not self._config.dedup:
                return prepared
            other = self._claims.get(prepared.request_sha256)
            if other is not None:
                prepared = replace(prepared, body=b"")  # who waits holds no image
                await other.wait()
            else:
                self._claims[prepared.request_sha256] = anyio.Event()
            shared = await self._in(self._writer, self._stages.twin, prepared)
            if shared is not None and other is None:
                self._unclaim(prepared.request_sha256)
            if shared is not None or other is None:
                return prepared if shared is None else shared

    def _unclaim(self, request_sha256: str | None) -> None:
        if request_sha256 in self._claims:
            self._claims.pop(request_sha256).set()

    async def _prepared(self, record: ImageRecord) -> PreparedRequest | Failure:
        data = await self._fetched(record)
        if isinstance(data, Failure):
            return data
        return await self._in(self._decoders, self._stages.prepare, record, data)

    async def _fetched(self, record: ImageRecord) -> bytes | Failure | None:
        failures = 0
        while True:
            data = await self._stages.fetch(record)
            failures += 1
            if not isinstance(data, Failure) or not is_worth_fetching_again(data, failures, self._config.max_failures):
                return data
            await self._clock.sleep(backoff_s(failures, self._clock.random.random()))

    # ---------------------------------------------------------------- asking

    async def _ask(self, request: PreparedRequest) -> None:
        trial = Trial(request, self._clock.utc(), self._answers)
        while (pause_s := await self._attempt(trial)) is not None:
            if pause_s > 0:
                await self._clock.sleep(pause_s)

    async def _attempt(self, trial: Trial) -> float | None:
        """One request, and what follows from it: how long to wait for the next, None when the record is done."""
        await self._places.acquire()
        pause_s: float | None = 0.0
        try:
            async with self._slots:
                await self._turn()
                with self._flight():
                    sent_at = self._clock.now()
                    result = await self._stages.ask(trial.request)
                    trial.add(result)
                    pause_s = self._judge(trial, result, sent_at)
                    if pause_s is None:
                        await self._finish(trial.outcome(result, self._clock.utc()))
                    elif result.usage is not None:  # billed, and to be asked again
                        await self._outcomes.send(trial.billed(result, self._clock.utc()))
        finally:
            if pause_s is not None:  # nothing to keep came of it
                self._places.release()
        return pause_s

    async def _turn(self) -> None:
        """Wait until one more request may be sent."""
        while self._cooldown is not None:
            now = self._clock.now()
            if now >= self._cooldown.until:
                self._cooldown = self._cooldown.probing(now, self._config.first_contact_s)
                break
            await self._until_well(self._cooldown.until - now)
        self._pace, wait_s = self._pace.take(self._clock.now())
        if wait_s > 0:
            await self._clock.sleep(wait_s)

    @contextmanager
    def _flight(self) -> Iterator[None]:
        with anyio.CancelScope(shield=True) as scope:
            self._flights.add(scope)
            self.stats.requests += 1
            self.stats.in_flight += 1
            try:
                yield
            finally:
                self.stats.in_flight -= 1
                self._flights.discard(scope)

    async def _finish(self, outcome: Outcome) -> None:
        await self._outcomes.send(outcome)
        good = outcome.status in {Status.OK, Status.TRUNCATED}
        alike = self._health.add(None if good else outcome.error_kind)
        if alike is not None:
            self.stop(EndpointStoppedError(f"the records end alike ({alike}): {outcome.error_message}"))

    # ---------------------------------------------------------------- what follows from an attempt

    def _judge(self, trial: Trial, result: Answer | Failure, sent_at: float) -> float | None:
        """How long this record waits for its next attempt (seconds); None when there is none."""
        if isinstance(result, Answer):
            self._answers += 1
            self._recovered(sent_at)
            return None
        what = reaction(result.kind)
        if what is Reaction.STOP:
            self.stop(EndpointStoppedError(stop_message(result)))
            return 0.0
        if what is Reaction.RECORD_FAILS:
            self._recovered(sent_at)
            return None
        if what is Reaction.RETRY:
            if result.status is not None:  # ailing, but reached
                self._recovered(sent_at)
            return self._retry(trial, result)
        if what is Reaction.COOLDOWN:
            return self._cool(trial, result)
        return self._outage(result)

    def _retry(self, trial: Trial, failure: Failure) -> float | None:
        trial.failures += 1
        if trial.failures >= max_attempts_of(failure.kind, self._config.max_failures):
            return None
        return backoff_s(trial.failures, self._clock.random.random())

    def _cool(self, trial: Trial, failure: Failure) -> float | None:
        """The endpoint is busy: all wait together, and the record loses no attempt by it."""
        self.stats.rate_limited += 1
        trial.rate_limits += 1
        if trial.rate_limits >= PATIENCE and self._answers > trial.answers_before:
            return None
        told_s = failure.retry_after_s
        if told_s is not None and told_s > self._config.max_wait_s:
            resume_at = self._clock.utc() + timedelta(seconds=told_s)
            self.stop(EndpointStoppedError(f"{failure.message} (go on after {resume_at:%Y-%m-%d %H:%M} UTC)"))
        self._pause(told_s, "rate limited")
        return 0.0

    def _outage(self, failure: Failure) -> float:
        """The endpoint cannot be reached: one record probes, and none loses an attempt by it."""
        self._pause(failure.retry_after_s, failure.message)
        patience_s = self._config.outage_s if self._answers else self._config.first_contact_s
        if self._cooldown is not None and self._cooldown.refused_at - self._cooldown.since >= patience_s:
            self.stop(EndpointStoppedError(stop_message(failure)))
        return 0.0

    def _pause(self, told_s: float | None, why: str) -> None:
        self._cooldown = Cooldown.after(self._cooldown, self._clock.now(), told_s)
        self.stats.waiting = why

    def _recovered(self, sent_at: float) -> None:
        if self._cooldown is not None and self._cooldown.ended_by(sent_at):
            self._cooldown = None
            self.stats.waiting = None
            self._well.set()
            self._well = anyio.Event()

    async def _until_well(self, longest_s: float) -> None:
        async with anyio.create_task_group() as either:
            either.start_soon(self._sleep_then_cancel, longest_s, either.cancel_scope)
            await self._well.wait()
            either.cancel_scope.cancel()

    async def _sleep_then_cancel(self, wait_s: float, scope: anyio.CancelScope) -> None:
        await self._clock.sleep(wait_s)
        scope.cancel()

    # ---------------------------------------------------------------- keeping

    async def _keep_all(self) -> None:
        """Alone in writing, and shielded: it ends when everything that arrived is committed."""
        with anyio.CancelScope(shield=True):
            sealed_at = self._clock.now()
            async with self._arrived:
                async for first in self._arrived:
                    await self._keep([first, *self._others()])
                    if self._clock.now() - sealed_at >= self._config.seal_interval_s:
                        await self._write(self._stages.seal)
                        sealed_at = self._clock.now()
            await self._write(self._stages.seal)

    def _others(self) -> Iterator[Arrival]:
        with suppress(anyio.WouldBlock, anyio.EndOfStream):
            while True:
                yield self._arrived.receive_nowait()

    async def _keep(self, arrived: list[Arrival]) -> None:
        outcomes = [item for item in arrived if isinstance(item, Outcome)]
        attempts = [item for item in arrived if isinstance(item, BilledAttempt)]
        shared = [item for item in arrived if isinstance(item, Shared)]
        ended: list[Outcome | Shared] = [*outcomes, *shared]
        if await self._write(self._stages.keep, outcomes, attempts, shared):
            for item in ended:
                self.stats.keep(item)
        for item in ended:
            place = self._under_way.pop(item.record.id, 0)
            if item.error_kind in TRANSIENT:  # the next run looks at this one again
                self.stats.lowest_open = min(self.stats.lowest_open, place)
        for outcome in outcomes:
            self._unclaim(outcome.request_sha256)
            if outcome.attempts:
                self._places.release()

    async def _write(self, what: Callable[..., object], *args: object) -> bool:
        """A write that fails stops the run at once, since what would still be answered could not be kept."""
        if isinstance(self._reason, ResourceError):
            return False
        try:
            await self._in(self._writer, what, *args)
        except ResourceError as error:
            self._reason = error
            self.stop(error, at_once=True)
            return False
        return True

    # ---------------------------------------------------------------- threads, ticks, signals

    @contextmanager
    def _threads(self) -> Iterator[None]:
        with (
            ThreadPoolExecutor(1, "reader") as self._reader,
            ThreadPoolExecutor(1, "writer") as self._writer,
            ThreadPoolExecutor(self._config.threads, "decode") as self._decoders,
        ):
            yield

    async def _in(self, executor: Executor, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, work, *args)

    async def _every(self, interval_s: float, tick: Callable[[], Awaitable[None]]) -> None:
        while True:
            await tick()
            await self._clock.sleep(interval_s)

    async def _show(self) -> None:
        self._stages.show(self.stats)

    async def _publish(self) -> None:
        self.stats.low_water = min(self.stats.lowest_open, next(iter(self._under_way.values()), self.stats.read))
        await self._write(self._stages.publish, self.stats)

    async def _watch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        wanted = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]
        with anyio.open_signal_receiver(*wanted) as numbers:
            async for number in numbers:
                self._interrupt(number)

    def _interrupt(self, number: signal.Signals) -> None:
        again = self._reason is not None
        self.stats.waiting = f"stopping: {self.stats.in_flight} requests in flight come home (again: at once)"
        self.stop(InterruptedRunError(f"interrupted by {number.name}", number), at_once=again)
