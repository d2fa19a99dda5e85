"""The run itself: all concurrency and all waiting are here.

    reader ──records──▶ lanes: fetch · prepare · ask ──outcomes──▶ keeper ──▶ ledger, parts

A *lane* takes one record through its whole life; a few more lanes run than there are slots, so that
prepared requests are ready when a slot is free. Every arrow is bounded: records and outcomes in items,
prepared requests in bytes. A *turn* (`turns`, `channel`) is one request's permission to be sent: a slot of
an endpoint, its limits' and the budget's. It is held for one attempt only; a record that waits for another
try holds its lane and its bytes, never a slot. The *keeper* is alone in writing: it takes whatever has
arrived since its last commit. A *place* at the keeper is taken before a request is sent and given back when
its answer is committed, so that no kill can cost more than the requests in flight and as many answers.

What a record has been through on its way to an answer is its *trial* (`stages`); one request on its way is a
*flight*. Of equal requests one record holds the *claim*, and the others wait for what it brings home.

Stopping means cancelling the lanes. An attempt and the hand-over of its answer are shielded from that:
what was paid for comes home, and is kept.
"""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import compress, islice
from math import inf
from typing import TypeVar

import anyio
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from pipeline.engine.scheduler import Turn, Turns
from pipeline.engine.semaphores import GrowingRoom, Room, Share
from pipeline.engine.stages import Arrival, Clock, EngineConfig, Stages, Trial
from pipeline.engine.state import Channel
from pipeline.engine.stats import RunStats
from pipeline.engine.threads import DaemonThreads
from pipeline.errors import (
    BudgetReachedError,
    EndpointStoppedError,
    ErrorKind,
    InterruptedRunError,
    ResourceError,
    VisionBatchError,
)
from pipeline.limits.budget import Amounts
from pipeline.limits.decision import TRANSIENT, Reaction, reaction
from pipeline.limits.fetching import fetch_retry_s
from pipeline.limits.health import Health
from pipeline.records import (
    Answer,
    BilledAttempt,
    Failure,
    FetchedImages,
    ImageRecord,
    Outcome,
    PreparedRequest,
    Shared,
    Status,
    is_unanswered,
)

T = TypeVar("T")

FIRST_BATCH, BATCH, LARGEST_BATCH = 16, 256, 4096
SLEPT_S = 20.0
"""The wall clock ran so far ahead of the monotonic one: this machine was asleep."""
ARRIVALS = 256
READ_BYTES = 8 << 20
"""Text of records (`data:` addresses, a manifest's other columns) that is read at a time: a row may be megabytes."""
AHEAD = 64
"""Requests at most that are ready beyond those in flight."""


@dataclass(slots=True, eq=False)
class Flight:
    """One request in flight."""

    turn: Turn
    home: anyio.CancelScope
    """Shields it and the hand-over of its answer from the end of the run, for a while."""
    asking: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    given_up: Failure | None = None

    def give_up(self, has_slept: bool, now: float) -> None:  # noqa: FBT001 - read at one place
        waited_s = now - self.turn.sent_at
        if not has_slept:
            message = f"no answer within {waited_s:.0f} s, while others take far less (limits.straggler_s)"
            self.given_up = Failure(kind=ErrorKind.TIMEOUT, message=message)
        self.asking.cancel()


class Engine:
    """Runs the stages over all records. `await run()` once; `stop()` from the loop at any time."""

    def __init__(self, stages: Stages, config: EngineConfig, clock: Clock, stats: RunStats) -> None:
        self._stages, self._config, self._clock, self.stats = stages, config, clock, stats
        self._room = Room(config.prepared_bytes)
        self._fetching = GrowingRoom(config.fetched_bytes)
        channels = [Channel(endpoint, config, clock) for endpoint in stages.endpoints]
        self._turns = Turns(channels, stages.budgets, self._lease, clock)
        self._places = Room(2 * self._turns.slots)
        self._health = Health(config.max_error_rate, config.has_answers)
        self._began, self._slept_s = clock.now(), 0.0
        self._epoch = clock.utc().timestamp() - self._began
        self._lanes = 0
        self._late: list[Arrival] = []
        """What could not be handed over before the run was cut off: it is kept at its end."""
        self._has_unsealed = self._cannot_write = self._is_interrupted = self._ends_at_once = False
        self._stopping: str | None = None
        self._reason: VisionBatchError | None = None
        self._working = anyio.CancelScope()
        self._home_by = inf
        """When the last answer must be home: a request may be sent in the very moment in which the run is stopped."""
        self._flights: set[Flight] = set()
        self._under_way: dict[str, int] = {}
        """Ids between the reader and the keeper (a stream may bring one twice), with their place in the source."""
        self._claims: dict[str, anyio.Event] = {}
        """Requests that somebody is asking; set when the answer is committed, or there is none."""
        self._outcomes, self._arrived = anyio.create_memory_object_stream[Outcome | BilledAttempt | Shared](ARRIVALS)

    async def run(self) -> RunStats:
        """Until every record is kept. Raises what stopped the run, once everything that was paid for is kept."""
        with self._threads():
            async with anyio.create_task_group() as aside:
                aside.start_soon(self._every, self._config.show_s, self._show)
                aside.start_soon(self._every, self._config.publish_s, self._publish)
                aside.start_soon(self._every, self._config.show_s, self._watch_flights)
                aside.start_soon(self._every, self._config.seal_interval_s, self._seal)
                aside.start_soon(self._watch_time)
                aside.start_soon(self._watch_signals)
                async with anyio.create_task_group() as keeping:
                    keeping.start_soon(self._keep_all)
                    async with self._outcomes:  # closed, it ends the keeper when all of it is written
                        await self._work()
                aside.cancel_scope.cancel()
            self._remark()
            self._stages.show(self.stats)
            await self._publish()
            if self._reason is not None:
                raise self._reason
        return self.stats

    def stop(self, reason: VisionBatchError, *, at_once: bool = False) -> None:
        """No new requests; what is in flight has `grace_s` to come home, or none with `at_once`."""
        self._reason = self._reason or reason
        self._ends_at_once = self._ends_at_once or at_once
        self._working.cancel()
        self._home_by = min(self._home_by, anyio.current_time() + (0 if at_once else self._config.grace_s))
        for flight in self._flights:
            flight.home.deadline = self._home_by

    # ---------------------------------------------------------------- reader and lanes

    async def _work(self) -> None:
        send, self._records = anyio.create_memory_object_stream[ImageRecord](FIRST_BATCH)
        with self._working, self._records:
            async with anyio.create_task_group() as self._tasks:
                self._tasks.start_soon(self._read, send)
                self._widen()

    def _widen(self) -> None:
        """As many lanes and places as the slots call for, of which there may become more as the run goes on."""
        slots = self._turns.slots
        self._places.resize(2 * slots)
        while self._lanes < slots + min(slots, AHEAD) + 2 * self._config.threads:
            self._lanes += 1
            self._tasks.start_soon(self._lane, self._records.clone())

    async def _read(self, send: MemoryObjectSendStream[ImageRecord]) -> None:
        async with send:
            try:
                await self._read_all(send)
            except VisionBatchError as error:
                self.stop(error)
        for channel in self._turns.channels:
            channel.nothing_follows = True

    async def _read_all(self, send: MemoryObjectSendStream[ImageRecord]) -> None:
        size = FIRST_BATCH if self._config.reads_ahead else 1
        ahead = self._ahead(size)
        while batch := await ahead:
            ahead = self._ahead(size)  # is read while the ledger looks these up
            is_missing = await self._in(self._writer, self._stages.missing, batch)
            await self._hand_on(batch, is_missing, send)
            # Where all of it is kept already there is nothing to wait for: larger batches, fewer hops.
            if self._config.reads_ahead:
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
        """The next records, as many at most, or fewer that hold much text."""
        taken: list[ImageRecord] = []
        held = 0
        for record in islice(self._stages.records, size):
            taken.append(record)
            held += record.held_bytes
            if held >= READ_BYTES:
                break
        return taken

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
        async with self._fetching.share() as share:
            data = await self._fetched(record, share)
            if isinstance(data, Failure):
                return data
            return await self._in(self._decoders, self._stages.prepare, record, data)

    async def _fetched(self, record: ImageRecord, share: Share) -> FetchedImages | Failure:
        failures = 0
        while True:
            data = await self._stages.fetch(record, share.grow)
            failures += 1
            if not isinstance(data, Failure):
                return data
            wait_s = fetch_retry_s(
                data, failures, max_failures=self._config.max_failures, max_wait_s=self._config.max_wait_s,
                rand=self._clock.random.random(),
            )  # fmt: skip
            if wait_s is None:
                return data
            share.clear()
            await self._clock.sleep(wait_s)

    # ---------------------------------------------------------------- asking

    async def _ask(self, request: PreparedRequest) -> None:
        trial = Trial(request, self._clock.utc())
        pause_s: float | None = 0.0
        while pause_s is not None:
            if pause_s > 0:
                await self._clock.sleep(pause_s)
            await self._places.enter(1)
            try:
                while (pause_s := await self._attempt(trial)) == 0:
                    pass  # it keeps its place
            finally:
                if pause_s is not None:  # nothing to keep came of it
                    self._places.leave(1)

    async def _attempt(self, trial: Trial) -> float | None:
        """One request, and what follows from it: how long to wait for the next, None when the record is done."""
        turn = await self._turns.next(trial)
        if self._reason is not None:  # stopped in this very moment: nothing is sent
            self._turns.withdraw(turn)
            await anyio.lowlevel.checkpoint()  # where it ends
            return 0.0
        with self._flight(turn) as flight:
            result = await self._answer(flight)
            return 0.0 if result is None else await self._follow(turn, result)

    async def _answer(self, flight: Flight) -> Answer | Failure | None:
        """What the endpoint says, or that it took too long; None where it is asked again as if nothing had been."""
        turn = flight.turn
        with flight.asking:
            result = await turn.channel.endpoint.ask(turn.trial.request)
            turn.trial.add(result)
            return result
        turn.trial.attempts += 1
        return flight.given_up

    async def _follow(self, turn: Turn, result: Answer | Failure) -> float | None:
        trial, channel, now = turn.trial, turn.channel, self._clock.utc()
        unknown = self._turns.settle(turn, result)
        pause_s = channel.judge(trial, result, turn.sent_at)
        if trial.exceeds_limit and isinstance(result, Failure):
            trial.exceeds_limit, result = False, replace(result, kind=ErrorKind.REQUEST_EXCEEDS_LIMIT)
            self.stats.rate_limited += 1
        if pause_s is None and isinstance(result, Failure) and self._turns.refer(turn, result):
            pause_s = 0.0
        self._turns.notify()
        self._widen()
        if isinstance(result, Failure) and reaction(result.kind) is Reaction.COOLDOWN:
            self.stats.rate_limited += 1
        if unknown or (pause_s is not None and result.usage is not None):  # billed, or perhaps, and no last word
            await self._hand_over(trial.billed(None if pause_s is None else result, now, unknown))
        if pause_s is None:
            await self._finish(trial.outcome(result, channel.name, now))
        if self._turns.stopped is not None and not self._turns.blame_records():
            self.stop(EndpointStoppedError(self._turns.stopped))
        return pause_s

    @contextmanager
    def _flight(self, turn: Turn) -> Iterator[Flight]:
        with anyio.CancelScope(shield=True, deadline=self._home_by) as home:
            flight = Flight(turn, home)
            self._flights.add(flight)
            self.stats.requests += 1
            self.stats.by_endpoint[turn.channel.name] += 1
            self.stats.in_flight += 1
            try:
                yield flight
            finally:
                self.stats.in_flight -= 1
                self._flights.discard(flight)
                if not turn.is_settled:
                    self._abandon(turn)

    def _abandon(self, turn: Turn) -> None:
        """Nobody waits for this answer any more, and it may have been billed."""
        unknown = self._turns.settle(turn, None)
        if unknown:
            self._late.append(turn.trial.billed(None, self._clock.utc(), unknown))

    async def _hand_over(self, arrival: Arrival) -> None:
        """To the keeper; where the run is cut off just now, to its end."""
        try:
            await self._outcomes.send(arrival)
        except BaseException:
            self._late.append(arrival)
            raise

    async def _finish(self, outcome: Outcome) -> None:
        await self._hand_over(outcome)
        good = outcome.status is not Status.REFUSED and not is_unanswered(outcome.status, outcome.error_kind)
        alike = self._health.add(None if good else outcome.error_kind)
        if alike is not None:
            way_out = f"check the prompt and the model; then `retry_kind={alike}` asks them again"
            self.stop(EndpointStoppedError(f"the records end alike ({alike}): {outcome.error_message} - {way_out}"))

    async def _watch_flights(self) -> None:
        """Requests that take too long, and those that this machine slept through, are given up."""
        now = self._clock.now()
        asleep_s = (self._clock.utc().timestamp() - now) - self._epoch
        self._epoch += asleep_s
        has_slept = asleep_s > SLEPT_S
        if has_slept:
            self._slept_s += asleep_s
            for channel in self._turns.channels:
                channel.woke(asleep_s)
            self._turns.notify()
        if self._slept_s and now - self._began + self._slept_s >= (self._config.max_time_s or inf):
            self._end_of_time()  # which passed while the clock of _watch_time stood still
        for flight in tuple(self._flights):
            turn = flight.turn
            if has_slept or now >= turn.sent_at + turn.channel.patience.timeout_s(turn.trial.timeouts):
                flight.give_up(has_slept, now)

    # ---------------------------------------------------------------- keeping

    async def _keep_all(self) -> None:
        """Alone in writing, and shielded: it ends when everything that arrived is committed."""
        with anyio.CancelScope(shield=True):
            try:
                async with self._arrived:
                    async for first in self._arrived:
                        await self._keep([first, *self._also_arrived()])
            except Exception:  # a bug of ours: nobody is left to take what is in flight
                for flight in self._flights:
                    flight.home.cancel()
                raise
            if self._late:
                await self._keep(self._late)
            await self._write(self._stages.lease, self._turns.spent)
            if not self._ends_at_once:  # what is committed and not sealed, the next run seals
                await self._write(self._stages.seal)

    def _also_arrived(self) -> Iterator[Arrival]:
        with suppress(anyio.WouldBlock, anyio.EndOfStream):
            while True:
                yield self._arrived.receive_nowait()

    async def _keep(self, arrived: list[Arrival]) -> None:
        outcomes = [item for item in arrived if isinstance(item, Outcome)]
        attempts = [item for item in arrived if isinstance(item, BilledAttempt)]
        shared = [item for item in arrived if isinstance(item, Shared)]
        ended: list[Outcome | Shared] = [*outcomes, *shared]
        self._has_unsealed = True
        if await self._write(self._stages.keep, outcomes, attempts, shared):
            for attempt in attempts:
                self.stats.bill(attempt)
            for item in ended:
                self.stats.keep(item)
        for item in ended:
            place = self._under_way.pop(item.record.id, 0)
            if item.error_kind in TRANSIENT:  # the next run looks at this one again
                self.stats.lowest_open = min(self.stats.lowest_open, place)
        for outcome in outcomes:
            self._unclaim(outcome.request_sha256)
            if outcome.attempts:
                self._places.leave(1)

    async def _write(self, what: Callable[..., object], *args: object) -> bool:
        """A write that fails stops the run: at once, unless answers that still come go to a file beside the ledger."""
        if self._cannot_write and what is not self._stages.keep:
            return False
        try:
            await self._in(self._writer, what, *args)
        except ResourceError as error:
            if not self._cannot_write:
                self._cannot_write, self._reason = True, error
                self.stop(error, at_once=not error.is_put_by)
            return False
        return True

    # ---------------------------------------------------------------- threads, ticks, signals

    @contextmanager
    def _threads(self) -> Iterator[None]:
        with (
            DaemonThreads("reader") as self._reader,
            ThreadPoolExecutor(1, "writer") as self._writer,
            DaemonThreads("decode", self._config.threads) as self._decoders,
        ):
            yield

    async def _in(self, executor: Executor, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, work, *args)

    async def _every(self, interval_s: float, tick: Callable[[], Awaitable[None]]) -> None:
        while True:
            await tick()
            await self._clock.sleep(interval_s)

    async def _seal(self) -> None:
        if self._has_unsealed:
            self._has_unsealed = False
            await self._write(self._stages.seal)

    async def _show(self) -> None:
        self.stats.waiting = self._stopping or self._turns.waiting
        self._remark()
        self._stages.show(self.stats)

    def _remark(self) -> None:
        for remark in self._turns.remarks():
            self._stages.say(f"note: {remark}")

    async def _lease(self, amounts: Amounts) -> None:
        await self._in(self._writer, self._stages.lease, amounts)

    async def _watch_time(self) -> None:
        if self._config.max_time_s is not None:
            await self._clock.sleep(self._config.max_time_s)
            self._end_of_time()

    def _end_of_time(self) -> None:
        self.stop(BudgetReachedError("the time is up", what="time"))

    async def _publish(self) -> None:
        self.stats.low_water = min(self.stats.lowest_open, next(iter(self._under_way.values()), self.stats.read))
        await self._write(self._stages.publish, self.stats)

    async def _watch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        known = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]
        wanted = [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]  # nohup
        before = {number: signal.getsignal(number) for number in wanted}
        try:
            with anyio.open_signal_receiver(*wanted) as numbers:
                async for number in numbers:
                    self._interrupt(number)
        finally:  # the loop would leave SIGINT to Python's own handler, which ends in a traceback
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _interrupt(self, number: signal.Signals) -> None:
        again, self._is_interrupted = self._is_interrupted, True
        self._stopping = "stopping"
        if not again:
            self._stages.say("stopping: requests in flight come home first; a second signal ends the run at once")
        words = f"interrupted by {number.name}. The same command goes on where it stopped"
        self.stop(InterruptedRunError(words, number), at_once=again)
