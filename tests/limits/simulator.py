"""A discrete-event simulator of endpoints, which drives the real scheduler by a clock that jumps.

    python -m tests.limits.driver [--seeds 5] [--minutes 10] [--tuned] [NAME ...]

Workers take records through the same scheduler as a run's workers do; only the endpoints are models. They count with
the emulator's own limits (token bucket, fixed minutes, sliding minute), and time is that of an event loop whose
selector jumps to the next timer. Each row compares the answers of a run with those of the best fixed setting (a number
in flight, a rate) on the same endpoint: the best of those with at most 0.1 throttles an answer.
"""

import argparse
import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any, Final, Protocol

import anyio

from pipeline.emulator.limits import Limit, LimitKind, make_limit
from pipeline.engine.stages import Clock
from pipeline.errors import ErrorKind
from pipeline.records import (
    Answer,
    Failure,
    ImageFacts,
    ImageRecord,
    PreparedRequest,
    Quota,
    RateLimitInfo,
    Status,
    Usage,
)
from tests.jumping import JumpingLoop

START = datetime(2026, 1, 1, tzinfo=UTC)
SETTLED_S = 120.0
"""From then on the answers count."""
FIRST_S = 60.0
"""Throttles after this count as late."""
TOLERATED = 0.1
"""Throttles an answer that a fixed setting may have and still be called the best."""
STATUSES: Final[Mapping[ErrorKind, int]] = {ErrorKind.RATE_LIMITED: 429, ErrorKind.OVERLOADED: 503}
FACTS = ImageFacts(width=9, height=9, sent_width=9, sent_height=9, sent_bytes=99, source_bytes=99, sha256="0" * 64)


@dataclass(frozen=True, kw_only=True)
class Server:
    """What an endpoint does. Times in seconds; rates a minute."""

    kind: LimitKind = LimitKind.BUCKET
    rpm: int | None = None
    tpm: int | None = None
    advertises: bool = False
    """Whether its limits stand in the headers."""
    states_wait: bool = False
    """Whether a 429 has a Retry-After."""
    cap: int | None = None
    """Requests beyond this number in flight are throttled."""
    slots: int | None = None
    """Requests beyond this number wait in a queue."""
    thrash: float = 0.0
    """With F > `slots` in flight work takes 1 + thrash x (F - slots) / slots times as long."""
    median_s: float = 0.45
    sigma: float = 0.45
    throttles_at_random: float = 0.0
    throttles_with: ErrorKind = ErrorKind.RATE_LIMITED
    outage: tuple[float, float] | None = None
    outage_with: ErrorKind = ErrorKind.UNREACHABLE
    other_rpm: float = 0.0
    """Requests of a second client on the same account."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Endpoints, what the user configures, and the fixed settings that compete."""

    name: str
    servers: tuple[Server, ...]
    fixed: tuple[tuple[int, float | None], ...]
    """(requests in flight, a minute) of one endpoint; of several, one each."""
    share: float
    """Of the best fixed setting's answers that is enough."""
    throttles: float
    """An answer, at most."""
    late: int | None = None
    """Throttles after the first minute, at most."""
    settled_s: int = 240
    """When nine tenths of the best fixed setting's answers begin to come, at the latest."""
    user_rpm: float | None = None
    poison: int = 0
    """Records that are always throttled."""
    held_out: bool = False
    """Written before the design, and never used to tune it."""
    in_short: bool = False
    """Whether the suite runs it."""


B, F, S = LimitKind.BUCKET, LimitKind.FIXED, LimitKind.SLIDING


def _scenarios() -> Iterator[Scenario]:
    for kind in (B, F, S):
        limit = Server(kind=kind, rpm=600)
        held = {"held_out": kind is F}
        yield Scenario(
            name=f"headers, 600 RPM, {kind}", servers=(Server(kind=kind, rpm=600, advertises=True, states_wait=True),),
            fixed=((32, 600),), share=0.985, throttles=0.02, late=1, in_short=kind is S, **held,
        )  # fmt: skip
        yield Scenario(
            name=f"--rpm 600, {kind}", servers=(limit,), fixed=((32, 600),), share=0.99, throttles=0.0, late=1,
            user_rpm=600, **held,
        )  # fmt: skip
        for rpm, slots in ((60, 32), (600, 32), (6000, 128)):
            yield Scenario(
                name=f"bare 429s, {rpm} RPM, {kind}", servers=(Server(kind=kind, rpm=rpm),), fixed=((slots, rpm),),
                share=0.9, throttles=0.1, in_short=rpm == 600 and kind is B, held_out=(rpm == 6000) != (kind is F),
            )  # fmt: skip
            yield Scenario(
                name=f"Retry-After, {rpm} RPM, {kind}", servers=(Server(kind=kind, rpm=rpm, states_wait=True),),
                fixed=((slots, rpm),), share=0.9, throttles=0.1, held_out=(rpm == 60) != (kind is S),
            )  # fmt: skip
        yield Scenario(
            name=f"bare 429s, 200,000 TPM, {kind}", servers=(Server(kind=kind, tpm=200_000),),
            fixed=tuple((32, 121 * share) for share in (0.9, 0.95, 1.0)), share=0.9, throttles=0.1, held_out=kind is S,
        )  # fmt: skip
        yield Scenario(
            name=f"headers, 200,000 TPM, {kind}", servers=(Server(kind=kind, tpm=200_000, advertises=True),),
            fixed=tuple((32, 121 * share) for share in (0.9, 0.95, 1.0)), share=0.9, throttles=0.1, held_out=kind is B,
        )  # fmt: skip
        yield Scenario(
            name=f"second client, 600 RPM, {kind}", servers=(Server(kind=kind, rpm=600, other_rpm=300),),
            fixed=((32, 300), (32, 330), (32, 360), (32, 420)), share=0.9, throttles=0.1, held_out=kind is B,
        )  # fmt: skip
        yield Scenario(
            name=f"poison, bare 429s, 600 RPM, {kind}", servers=(limit,), fixed=((32, 600),), share=0.9, throttles=0.1,
            poison=5, held_out=kind is S, in_short=kind is B,
        )  # fmt: skip
    yield from _concurrency()
    yield from _troubles()


def _concurrency() -> Iterator[Scenario]:
    for cap, median_s in ((8, 0.45), (32, 0.45), (256, 0.45), (8, 10.0), (64, 4.0)):
        yield Scenario(
            name=f"silent cap of {cap}, {median_s:g} s", servers=(Server(cap=cap, median_s=median_s),),
            fixed=((cap, None),), share=0.9, throttles=0.02, held_out=cap in {256, 64},
            in_short=(cap, median_s) == (8, 0.45),
        )  # fmt: skip
    for cap in (8, 32):
        yield Scenario(
            name=f"cap of {cap}, Retry-After 1", servers=(Server(cap=cap, states_wait=True),), fixed=((cap, None),),
            share=0.85, throttles=0.02, held_out=cap == 8,
        )  # fmt: skip
    for slots, median_s, thrash in ((8, 0.45, 0.0), (64, 1.0, 0.0), (8, 0.45, 0.5), (128, 1.0, 0.5), (64, 8.0, 0.0)):
        yield Scenario(
            name=f"{'thrash' if thrash else 'queue'} beyond {slots}, {median_s:g} s",
            servers=(Server(slots=slots, median_s=median_s, thrash=thrash),), share=0.9, throttles=0.02,
            fixed=((slots, None), (round(slots * 1.25), None)), held_out=median_s > 1 or slots == 128,
            in_short=slots == 8,
        )  # fmt: skip
    yield Scenario(
        name="slow tails, queue beyond 32", servers=(Server(slots=32, median_s=1.0, sigma=0.9),),
        fixed=((32, None), (40, None)), share=0.9, throttles=0.02, held_out=True,
    )  # fmt: skip
    yield Scenario(
        name="cap of 20 and 600 RPM", servers=(Server(kind=F, rpm=600, cap=20),), fixed=((20, 600),), share=0.9,
        throttles=0.1, held_out=True,
    )  # fmt: skip


def _troubles() -> Iterator[Scenario]:
    queue = Server(slots=32, median_s=0.6)
    yield Scenario(
        name="1 % random 429s, queue beyond 64", servers=(Server(slots=64, throttles_at_random=0.01),),
        fixed=((64, None), (80, None)), share=0.9, throttles=0.03,
    )  # fmt: skip
    yield Scenario(
        name="5 % random 429s, queue beyond 32", servers=(Server(slots=32, throttles_at_random=0.05),),
        fixed=((32, None), (40, None)), share=0.85, throttles=0.1, held_out=True,
    )  # fmt: skip
    yield Scenario(  # each wait is one of the whole run: fixed settings let the others go on
        name="5 % random Retry-After, queue beyond 32",
        servers=(Server(slots=32, throttles_at_random=0.05, states_wait=True),), fixed=((32, None), (40, None)),
        share=0.4, throttles=0.1,
    )  # fmt: skip
    yield Scenario(
        name="poison, queue beyond 64", servers=(Server(slots=64),), fixed=((64, None), (80, None)), share=0.9,
        throttles=0.02, poison=5,
    )  # fmt: skip
    yield Scenario(
        name="poison, silent cap of 16", servers=(Server(cap=16),), fixed=((16, None),), share=0.9, throttles=0.02,
        poison=5, held_out=True,
    )  # fmt: skip
    yield Scenario(
        name="poison, Retry-After, 600 RPM", servers=(Server(kind=F, rpm=600, states_wait=True),), fixed=((32, 600),),
        share=0.9, throttles=0.1, poison=5,
    )  # fmt: skip
    for lasts_s in (60.0, 180.0):
        yield Scenario(
            name=f"outage of {lasts_s:g} s, queue beyond 32",
            servers=(Server(slots=32, median_s=0.6, outage=(200.0, 200.0 + lasts_s)),), fixed=((32, None), (40, None)),
            share=0.9, throttles=0.02, held_out=lasts_s > 60,
        )  # fmt: skip
    for start_s, lasts_s, settled_s in ((3.0, 5.0, 20), (20.0, 25.0, 60)):
        busy = replace(queue, outage=(start_s, start_s + lasts_s), outage_with=ErrorKind.OVERLOADED)
        yield Scenario(
            name=f"503s for {lasts_s:g} s from {start_s:g} s on, queue beyond 32", servers=(busy,),
            fixed=((32, None), (40, None)), share=0.9, throttles=0.02, settled_s=settled_s, in_short=start_s < 10,
        )  # fmt: skip
    for kind in (B, F, S):
        limit = Server(kind=kind, rpm=600, throttles_with=ErrorKind.OVERLOADED)
        yield Scenario(
            name=f"bare 503s, 600 RPM, {kind}", servers=(limit,), fixed=((32, 600),), share=0.9, throttles=0.1,
        )  # fmt: skip
    yield Scenario(
        name="two: queue, bare 600 RPM", servers=(queue, Server(kind=B, rpm=600)), fixed=((32, None), (32, 600)),
        share=0.9, throttles=0.1,
    )  # fmt: skip
    yield Scenario(
        name="two: queue, outage", servers=(queue, Server(slots=32, median_s=0.6, outage=(150.0, 330.0))),
        fixed=((32, None), (32, None)), share=0.9, throttles=0.02, held_out=True,
    )  # fmt: skip


SCENARIOS = tuple(_scenarios())


@dataclass(slots=True)
class Record:
    """One record: what it is, and what it will cost."""

    request: PreparedRequest
    tokens: int
    is_poison: bool


class Model:
    """One endpoint of a simulation."""

    def __init__(self, server: Server, random: Random, clock: Clock) -> None:
        self.server, self._random, self._clock, self._began = server, random, clock, clock.now()
        self._requests = self._limit(server.rpm)
        self._tokens = self._limit(server.tpm)
        self._inside = self._busy = 0
        self._queue = deque[asyncio.Future[None]]()

    def _limit(self, per_minute: int | None) -> Limit | None:
        return None if per_minute is None else make_limit(self.server.kind, per_minute, max(1, per_minute // 10))

    async def ask(self, record: Record) -> Answer | Failure:
        server, random = self.server, self._random
        await self._clock.sleep(random.uniform(0.01, 0.03))
        since_s = self._clock.now() - self._began
        if server.outage is not None and server.outage[0] <= since_s < server.outage[1]:
            return _failure(server.outage_with)
        wait_s = self._throttled(record)
        if wait_s is not None:
            await self._clock.sleep(0.03)
            told_s = max(1.0, math.ceil(wait_s)) if server.states_wait else None
            return _failure(server.throttles_with, retry_after_s=told_s, limits=self._headers())
        self._inside += 1
        await self._work()
        usage = Usage(prompt_tokens=record.tokens, completion_tokens=0)
        return Answer(status=Status.OK, caption="a cat", usage=usage, limits=self._headers())

    def _throttled(self, record: Record) -> float | None:
        server, now_ns = self.server, int(self._clock.now() * 1e9)
        is_full = server.cap is not None and self._inside >= server.cap
        if record.is_poison or is_full or self._random.random() < server.throttles_at_random:
            return 1.0
        for limit, amount in ((self._requests, 1), (self._tokens, record.tokens)):
            if limit is not None and (wait_ns := limit.ask(amount, now_ns)):
                return wait_ns / 1e9
        return None

    async def _work(self) -> None:
        slots = self.server.slots or 1 << 30
        if self._busy >= slots:
            turn = asyncio.get_running_loop().create_future()
            self._queue.append(turn)
            await turn
        self._busy += 1
        crowd = max(0, self._inside - slots) / slots
        median_s = self.server.median_s * (1 + self.server.thrash * crowd)
        await self._clock.sleep(median_s * math.exp(self._random.gauss(0, self.server.sigma)))
        self._busy, self._inside = self._busy - 1, self._inside - 1
        if self._queue:
            self._queue.popleft().set_result(None)

    def _headers(self) -> RateLimitInfo | None:
        if not self.server.advertises:
            return None
        return RateLimitInfo(
            requests=self._quota(self._requests, self.server.rpm), tokens=self._quota(self._tokens, self.server.tpm)
        )

    def _quota(self, limit: Limit | None, per_minute: int | None) -> Quota | None:
        if limit is None or per_minute is None:
            return None
        standing = limit.standing(int(self._clock.now() * 1e9))
        return Quota(limit=per_minute, remaining=standing.remaining, reset_s=standing.reset_ns / 1e9)

    async def other_client(self) -> None:
        """Requests of another client, at intervals that vary."""
        while self.server.other_rpm and self._requests is not None:
            self._requests.ask(1, int(self._clock.now() * 1e9))
            await self._clock.sleep(60.0 / self.server.other_rpm * self._random.uniform(0.5, 1.5))


def _failure(kind: ErrorKind, **more: Any) -> Failure:
    return Failure(kind=kind, message=f"because {kind}", status=STATUSES.get(kind), **more)


class Driver(Protocol):
    """What takes records to endpoints."""

    @property
    def concurrency(self) -> int: ...

    @property
    def stopped(self) -> str | None: ...

    async def live(self, record: Record) -> bool:
        """Take one record through its life -> whether it was answered."""


@dataclass
class Run:
    """One simulated run; counts by second."""

    scenario: Scenario
    seed: int
    minutes: float
    answers: Counter[int] = field(default_factory=Counter)
    throttles: Counter[int] = field(default_factory=Counter)
    tries: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    stopped: str | None = None

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._numbers = count(1)

    def records(self) -> Record:
        number = next(self._numbers)
        true = self._random.randint(300, 3000) if self.scenario.servers[0].tpm else 100
        predicted = round(true * math.exp(self._random.gauss(0.1, 0.3))) if self.scenario.servers[0].tpm else 100
        request = PreparedRequest(
            record=ImageRecord(str(number), ()), image_facts=(FACTS,), pieces=(b"",), request_sha256=str(number),
            predicted_prompt_tokens=predicted, max_answer_tokens=0,
        )  # fmt: skip
        is_poison = number % 400 == 50 and number < 400 * self.scenario.poison
        return Record(request, true, is_poison)

    def models(self) -> list[Model]:
        """Inside the loop whose clock jumps: from here on `clock` is its time."""
        now = asyncio.get_running_loop().time
        self.clock = Clock(now=now, utc=lambda: START + timedelta(seconds=now()), sleep=asyncio.sleep, random=Random(7))
        self._began = now()
        return [Model(server, Random(self.seed + 1), self.clock) for server in self.scenario.servers]

    async def asked(self, model: Model, record: Record) -> Answer | Failure:
        self.tries[record.request.record.id] += 1
        result = await model.ask(record)
        second = int(self.clock.now() - self._began)
        if isinstance(result, Answer):
            self.answers[second] += 1
            del self.tries[record.request.record.id]
        elif result.status is not None:
            self.throttles[second] += 1
        return result

    async def work(self, driver: Driver, models: Sequence[Model]) -> None:
        """Workers as an engine has them, until the time is up."""
        workers = 0

        async def worker() -> None:
            while True:
                record = self.records()
                if not await driver.live(record):
                    self.lost.append(record.request.record.id + ("" if record.is_poison else " good"))

        async with anyio.create_task_group() as tasks:
            for model in models:
                tasks.start_soon(model.other_client)
            while self.clock.now() < self._began + 60 * self.minutes and not driver.stopped:
                while workers < driver.concurrency + min(driver.concurrency, 64) + 4:
                    workers += 1
                    tasks.start_soon(worker)
                await self.clock.sleep(0.25)
            self.stopped = driver.stopped
            tasks.cancel_scope.cancel()

    @property
    def per_minute(self) -> float:
        late = sum(number for second, number in self.answers.items() if second >= SETTLED_S)
        return late / (self.minutes - SETTLED_S / 60)

    @property
    def throttle_share(self) -> float:
        return self.throttles.total() / max(1, self.answers.total())

    @property
    def late_throttles(self) -> int:
        return sum(number for second, number in self.throttles.items() if second >= FIRST_S)

    def settled_s(self, per_minute: float) -> int | None:
        """From when on a minute has nine tenths of this rate."""
        for second in range(0, int(60 * self.minutes) - 60, 5):
            if sum(self.answers[second + one] for one in range(60)) >= 0.9 * per_minute:
                return second
        return None


class Fixed:
    """Fixed numbers in place of a scheduler: in flight, a minute; a throttled record waits a second, or as stated."""

    def __init__(self, run: Run, models: Sequence[Model], settings: Sequence[tuple[int, float | None]]) -> None:
        self._run, self._models, self._settings = run, models, settings
        self._free = [anyio.Semaphore(number) for number, _ in settings]
        self._next_at = [0.0] * len(models)
        self._places = count()
        self.concurrency, self.stopped = sum(number for number, _ in settings), None

    async def live(self, record: Record) -> bool:
        which = next(self._places) % len(self._models)
        while True:
            async with self._free[which]:
                await self._paced(which)
                result = await self._run.asked(self._models[which], record)
            if isinstance(result, Answer):
                return True
            if record.is_poison:
                return False
            await self._run.clock.sleep(result.retry_after_s or 1.0)

    async def _paced(self, which: int) -> None:
        rpm = self._settings[which][1]
        if rpm is not None:
            now = self._run.clock.now()
            at = max(now, self._next_at[which])
            self._next_at[which] = at + 60.0 / rpm
            await self._run.clock.sleep(at - now)


Make = Callable[[Run, Sequence[Model]], Driver]


def simulate(scenario: Scenario, make: Make, seed: int, minutes: float) -> Run:
    run = Run(scenario, seed, minutes)

    async def main() -> None:
        models = run.models()
        await run.work(make(run, models), models)

    anyio.run(main, backend_options={"loop_factory": JumpingLoop})
    return run


def best_fixed(scenario: Scenario, seed: int, minutes: float) -> float:
    """Answers a minute of the best fixed setting."""
    several = len(scenario.servers) > 1
    choices = [scenario.fixed] if several else [(each,) for each in scenario.fixed]
    runs = [simulate(scenario, lambda run, models, c=each: Fixed(run, models, c), seed, minutes) for each in choices]  # type: ignore[misc] # bound here
    allowed = [run for run in runs if run.throttle_share <= TOLERATED] or runs
    return max(run.per_minute for run in allowed)


@dataclass(frozen=True)
class Row:
    """One scenario over several seeds: the worst of each."""

    scenario: Scenario
    share: float
    throttles: float
    late: int
    settled_s: int | None
    lost: int
    """Good records."""
    tries: int
    """Of the poison record that was sent most often."""
    stopped: str | None

    @property
    def is_enough(self) -> bool:
        scenario = self.scenario
        is_quiet = self.throttles <= scenario.throttles and self.late <= (
            self.late if scenario.late is None else scenario.late
        )
        is_whole = not self.lost and self.stopped is None and self.tries <= 10
        is_soon = self.settled_s is not None and self.settled_s <= scenario.settled_s
        return is_whole and is_quiet and is_soon and self.share >= scenario.share

    def __str__(self) -> str:
        settled = "never" if self.settled_s is None else f"{self.settled_s:4d} s"
        flag = " (held out)" if self.scenario.held_out else ""
        return (
            f"{'ok  ' if self.is_enough else 'MISS'} {self.scenario.name + flag:46s} {self.share:6.3f}"
            f" {self.throttles:8.4f} late {self.late:5d} settled {settled:>6s} lost {self.lost} tries {self.tries:3d}"
            f" {self.stopped or ''}"
        )


def row(scenario: Scenario, make: Make, seeds: Sequence[int], minutes: float) -> Row:
    runs = [(simulate(scenario, make, seed, minutes), best_fixed(scenario, seed, minutes)) for seed in seeds]
    settled = [run.settled_s(best) for run, best in runs]
    return Row(
        scenario,
        share=min(run.per_minute / best for run, best in runs),
        throttles=max(run.throttle_share for run, _ in runs),
        late=max(run.late_throttles for run, _ in runs),
        settled_s=None if None in settled else max(each or 0 for each in settled),
        lost=sum(name.endswith("good") for run, _ in runs for name in run.lost),
        tries=max((run.tries[str(50 + 400 * n)] for run, _ in runs for n in range(scenario.poison)), default=0),
        stopped=next((run.stopped for run, _ in runs if run.stopped), None),
    )


def main(make: Make) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="scenarios whose name contains one of these")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--tuned", action="store_true", help="only those that are not held out")
    options = parser.parse_args()
    missed = 0
    for scenario in SCENARIOS:
        if options.tuned and scenario.held_out:
            continue
        if not options.names or any(name in scenario.name for name in options.names):
            one = row(scenario, make, range(1, options.seeds + 1), options.minutes)
            missed += not one.is_enough
            print(one, flush=True)  # noqa: T201
    print(f"{missed} missed")  # noqa: T201
