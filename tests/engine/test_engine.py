"""The engine with stages in memory: who waits, who is asked, what is committed, and what ends a run."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from signal import SIGINT

import anyio
import anyio.lowlevel
import pytest

from pipeline.engine.engine import Engine
from pipeline.engine.stages import Endpoint, EngineConfig, PromptNames, RequestState, Stages
from pipeline.engine.stats import RunStats
from pipeline.errors import (
    BudgetReachedError,
    EndpointStoppedError,
    ErrorKind,
    InputError,
    InterruptedRunError,
    ResourceError,
    VisionBatchError,
)
from pipeline.limits.budget import Amounts, Budget
from pipeline.locations import LocalFile
from pipeline.records import (
    Answer,
    BilledAttempt,
    Failure,
    FetchedImages,
    Follower,
    Grow,
    ImageFacts,
    ImageRecord,
    Outcome,
    PreparedRequest,
    Status,
    Usage,
)
from tests.jumping import Latch, jumping_clock

HOUR_S = 3600.0
"""Longer than what a test waits for: then its run hangs."""
LATENCY_S = 0.01
"""Of each request, and what its script adds comes on top."""

GOOD = Answer(status=Status.OK, caption="a cat", usage=Usage(prompt_tokens=10, completion_tokens=2))
FACTS = ImageFacts(
    width=10, height=10, sent_width=10, sent_height=10, sent_bytes=100, source_bytes=100, sha256="0" * 64
)
Script = Callable[[str, int], Awaitable[Answer | Failure]]


def fail(kind: ErrorKind, **more: object) -> Failure:
    return Failure(kind=kind, message=f"because {kind}", **more)  # type: ignore[arg-type] # fields of Failure by name


async def never_answers(name: str, attempt: int) -> Answer | Failure:
    await anyio.sleep_forever()
    return GOOD


class Bench:
    """Stages whose endpoint is a function of (id, attempt), and a memory of all that happened."""

    def __init__(
        self, count: int = 0, script: Script | None = None, *, records: Iterator[ImageRecord] | None = None
    ) -> None:
        self.records = records or (ImageRecord(str(n), (LocalFile(str(n), str(n)),)) for n in range(count))
        self.script = script
        self.asked: Counter[str] = Counter()
        self.committed: list[Outcome] = []
        self.billed: list[BilledAttempt] = []
        self.followers: list[Follower] = []
        self.in_flight = self.peak = 0
        self.eight = anyio.Event()
        """Set with the eighth request."""
        self.full = anyio.Event()
        """Set once four requests are in flight."""
        self.unprepared: set[str] = set()
        self.unreadable: set[str] = set()
        """What cannot be read before `read_gate` is set."""
        self.read_gate = Latch()
        self.undecoded: set[str] = set()
        """What needs no decoder."""
        self.decoded: list[str] = []
        """What the decoding threads were given."""
        self.stuck: list[str] = []
        self.said: list[str] = []
        self.commit_gate = Latch(is_open=True)
        self.commit_error: ResourceError | None = None
        self.body = b"x" * 100
        self.names: PromptNames = ("caption",)
        self.endpoints: list[Endpoint] = []
        """Several, in place of the one that `engine` makes."""
        self.budgets: list[Budget] = []
        self.leases: list[Amounts] = []
        self.clock = jumping_clock()

    def prepare(
        self, record: ImageRecord, images: FetchedImages, names: PromptNames
    ) -> Sequence[PreparedRequest] | Failure:
        self.decoded.append(record.id)
        return self.prepared(record, names)

    def prepared(self, record: ImageRecord, names: PromptNames) -> Sequence[PreparedRequest] | Failure:
        if record.id in self.unprepared:
            return fail(ErrorKind.IMAGE_MISSING)
        if record.id in self.unreadable:
            self.read_gate.wait()
        return [
            PreparedRequest(
                record=record,
                prompt_name=name,
                image_facts=(FACTS,),
                pieces=(self.body,),
                request_sha256=self.request(record, name),
            )
            for name in names
        ]

    def request(self, record: ImageRecord, prompt_name: str) -> str:
        return record.id

    async def ask(self, request: PreparedRequest) -> Answer | Failure:
        return await self.ask_by(self.script, request)

    async def ask_by(self, script: Script | None, request: PreparedRequest) -> Answer | Failure:
        name = request.record.id
        self.asked[name] += 1
        if self.asked.total() == 8:
            self.eight.set()
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        if self.in_flight == 4:
            self.full.set()
        try:
            await self.clock.sleep(LATENCY_S)
            return GOOD if script is None else await script(name, self.asked[name])
        finally:
            self.in_flight -= 1

    def commit(
        self, outcomes: Sequence[Outcome], attempts: Sequence[BilledAttempt], followers: Sequence[Follower]
    ) -> None:
        self.commit_gate.wait()
        if self.commit_error is not None:
            raise self.commit_error
        self.committed.extend(outcomes)
        self.billed.extend(attempts)
        self.followers.extend(followers)

    def follow(self, request: PreparedRequest) -> Follower | None:
        return None

    async def fetch(self, record: ImageRecord, grow: Grow) -> FetchedImages | Failure:
        return (None,)

    def engine(self, concurrency: int | None = 4, rpm: float | None = None, **numbers: object) -> Engine:
        stages = Stages(
            records=self.records,
            missing=lambda batch: [self.names] * len(batch),
            fetch=self.fetch,
            prepare=self.prepare,
            undecoded=lambda record, _, names: self.prepared(record, names) if record.id in self.undecoded else None,
            stuck=lambda record, _: self.stuck.append(record.id),
            endpoints=self.endpoints or [Endpoint(name="here", ask=self.ask, concurrency=concurrency, rpm=rpm)],
            follow=self.follow,
            commit=self.commit,
            seal=lambda: None,
            lease=self.leases.append,
            budgets=self.budgets,
            say=self.said.append,
        )
        numbers = {"threads": 2, "prepared_bytes": 1 << 20, **numbers}
        return Engine(stages, EngineConfig(**numbers), self.clock, RunStats())  # type: ignore[arg-type] # by name

    async def run(self, **numbers: object) -> Engine:
        engine = self.engine(**numbers)  # type: ignore[arg-type] # by name
        with anyio.fail_after(HOUR_S):
            await engine.run()
        return engine

    def by_id(self) -> dict[str, Outcome]:
        assert len({outcome.record.id for outcome in self.committed}) == len(self.committed)
        return {outcome.record.id: outcome for outcome in self.committed}


async def stopped(bench: Bench, error: type[VisionBatchError], **numbers: object) -> str:
    with pytest.raises(error) as caught:
        await bench.run(**numbers)
    return str(caught.value)


async def used_up(bench: Bench, **numbers: object) -> tuple[str, int]:
    """What there is none left of, and how much of it the next request needs."""
    with pytest.raises(BudgetReachedError) as caught:
        await bench.run(**numbers)
    return caught.value.what, caught.value.need


async def test_every_record_is_asked_once_and_kept_once() -> None:
    """Five hundred records, a concurrency of four: each asked once, committed once, never more than four in flight."""
    bench = Bench(500)
    engine = await bench.run()
    assert set(bench.asked.values()) == {1}
    assert len(bench.by_id()) == engine.stats.asked == engine.stats.requests == 500
    assert bench.peak <= 4
    assert engine.stats.prompt_tokens == 5000


async def test_what_cannot_be_prepared_is_never_sent() -> None:
    """An image that fails in preparation becomes a row without a request."""
    bench = Bench(3)
    bench.unprepared = {"1"}
    await bench.run()
    assert sorted(bench.asked) == ["0", "2"]
    assert bench.by_id()["1"].status is Status.FAILED
    assert bench.by_id()["1"].attempts == 0


async def test_only_what_needs_a_decoder_comes_to_one() -> None:
    """The others go on beside a decoder that takes its time."""
    bench = Bench(6)
    bench.undecoded = {"0", "2", "4"}
    await bench.run(threads=1)
    assert sorted(bench.decoded) == ["1", "3", "5"]
    assert sorted(bench.asked) == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize("undecoded", [set(), {"2"}])
async def test_a_file_that_cannot_be_read_to_its_end(undecoded: set[str]) -> None:
    """A disk that stands still holds one thread for each try, and no record but its own."""
    bench = Bench(6)
    bench.undecoded = undecoded
    bench.unreadable = {"2"}
    await bench.run(threads=1, decode_timeout_s=0.2)
    bench.read_gate.open()
    assert bench.stuck == ["2", "2"]
    assert bench.by_id()["2"].error_kind is ErrorKind.IMAGE_UNREADABLE
    assert sorted(bench.asked) == ["0", "1", "3", "4", "5"]


async def test_back_off_holds_no_slot() -> None:
    """With one slot, a record that waits for its second try does not keep the others from being asked."""
    order: list[str] = []

    async def script(name: str, attempt: int) -> Answer | Failure:
        order.append(name)
        return fail(ErrorKind.SERVER_ERROR, status=500) if (name, attempt) == ("0", 1) else GOOD

    bench = Bench(3, script)
    await bench.run(concurrency=1)
    assert order[0] == "0"
    assert sorted(order[1:]) == ["0", "1", "2"]
    assert bench.by_id()["0"].attempts == 2


async def test_transient_failures_end_after_max_failures() -> None:
    """A record that meets nothing but 500s is asked `max_failures` times, then its row says why."""

    async def script(name: str, attempt: int) -> Answer | Failure:
        return fail(ErrorKind.SERVER_ERROR, status=500) if name == "0" else GOOD

    bench = Bench(2, script)
    await bench.run(max_failures=3)
    row = bench.by_id()["0"]
    assert (row.attempts, row.error_kind, row.status) == (3, ErrorKind.SERVER_ERROR, Status.FAILED)


async def test_an_empty_answer_is_asked_for_once_more_and_both_are_billed() -> None:
    """Empty answers cost tokens: two attempts at most, their usage and cost summed in the row."""
    spent = {"usage": Usage(prompt_tokens=10, completion_tokens=0), "cost_usd": Decimal("0.01")}

    async def script(name: str, attempt: int) -> Answer | Failure:
        return fail(ErrorKind.EMPTY_ANSWER, status=200, **spent)

    bench = Bench(1, script)
    await bench.run()
    row = bench.by_id()["0"]
    assert (row.attempts, row.usage.prompt_tokens, row.cost_usd) == (2, 20, Decimal("0.02"))
    assert [attempt.cost_usd for attempt in bench.billed] == [Decimal("0.01")]


async def test_lost_file_handles_stop_the_run() -> None:
    """An error of this machine that no record is to blame for ends the run as such."""

    async def script(name: str, attempt: int) -> Answer | Failure:
        raise ResourceError("too many open files")

    bench = Bench(50, script)
    assert "too many open files" in await stopped(bench, ResourceError)
    assert bench.committed == []


async def test_rate_limits_cost_no_record_an_attempt() -> None:
    """Nine refusals in a row, with a single failure allowed: every record is answered all the same."""
    refusals = iter(range(9))

    async def script(name: str, attempt: int) -> Answer | Failure:
        refused = next(refusals, None) is not None
        return fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=1.0) if refused else GOOD

    bench = Bench(20, script)
    engine = await bench.run(max_failures=1)
    assert {row.status for row in bench.by_id().values()} == {Status.OK}
    assert engine.stats.rate_limited == 9
    assert engine.stats.requests == 29


async def test_a_record_that_is_always_throttled_becomes_a_row() -> None:
    """Also where all others are answered long before its tenth 429: it ends after some minutes, not after an hour."""

    async def script(name: str, attempt: int) -> Answer | Failure:
        return fail(ErrorKind.RATE_LIMITED, status=429) if name == "3" else GOOD

    bench = Bench(60, script)
    began = bench.clock.now()
    await bench.run(max_wait_s=HOUR_S)
    kinds = {name: row.error_kind for name, row in bench.by_id().items() if row.status is not Status.OK}
    assert kinds == {"3": ErrorKind.RATE_LIMITED}
    assert bench.asked["3"] == 10
    assert 60.0 < bench.clock.now() - began < 600.0  # longer than the minute of a limit


async def test_the_last_records_wait_for_an_endpoint_that_is_busy() -> None:
    """Where several are left none is given up, though each was throttled before while others were answered."""
    bench = Bench(60)
    began = bench.clock.now()

    async def script(name: str, attempt: int) -> Answer | Failure:
        is_busy = name in {"56", "57"} and (attempt == 1 or bench.clock.now() - began < HOUR_S / 2)
        return fail(ErrorKind.RATE_LIMITED, status=429) if is_busy else GOOD

    bench.script = script
    await bench.run(max_wait_s=HOUR_S)
    assert {row.status for row in bench.by_id().values()} == {Status.OK}


async def test_nothing_is_sent_during_a_pause_and_one_goes_first() -> None:
    """After a 429 that asks for 60 s nothing is sent for 60 s, and then one request tests the waters."""
    answered: list[tuple[float, int]] = []
    """When, in seconds since the refusal, and how many were in flight then."""
    refused_at: list[float] = []
    bench = Bench(40)

    async def script(name: str, attempt: int) -> Answer | Failure:
        if not refused_at:
            refused_at.append(bench.clock.now())
            return fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=60.0)
        answered.append((bench.clock.now() - refused_at[0], bench.in_flight))
        return GOOD

    bench.script = script
    await bench.run()
    late = [(after_s, beside) for after_s, beside in answered if after_s > LATENCY_S]
    assert (round(late[0][0], 3), late[0][1]) == (60.0 + LATENCY_S, 1)
    assert len(answered) == len(bench.by_id()) == 40


async def test_a_wait_beyond_the_limit_stops_the_run() -> None:
    """A Retry-After of two hours ends the run and says when to go on."""

    async def script(name: str, attempt: int) -> Answer | Failure:
        return fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=7200.0)

    message = await stopped(Bench(3, script), EndpointStoppedError)
    assert "go on after 2026-01-01 02:00 UTC" in message


async def test_a_refused_key_stops_at_once_and_keeps_what_is_in_flight() -> None:
    """One 401 ends the sending; a request that is still in flight then comes home and is committed."""
    refused = anyio.Event()

    async def script(name: str, attempt: int) -> Answer | Failure:
        if name == "1":
            refused.set()
            return fail(ErrorKind.AUTHENTICATION, status=401)
        if name == "0":
            await refused.wait()
            await anyio.lowlevel.checkpoint()
        return GOOD

    bench = Bench(1000, script)
    assert "authentication" in await stopped(bench, EndpointStoppedError)
    assert "0" in bench.by_id()
    assert "1" not in bench.by_id()
    assert sum(bench.asked.values()) <= 8


@pytest.mark.parametrize("answered", [0, 5])
async def test_a_refusal_after_answers_names_its_record(answered: int) -> None:
    """It may be about that record alone, as a proxy's is, and then its name is what the user needs."""

    async def script(name: str, attempt: int) -> Answer | Failure:
        return GOOD if int(name) < answered else fail(ErrorKind.PERMISSION, status=403)

    said = await stopped(Bench(50, script), EndpointStoppedError, concurrency=1)
    assert said.endswith(" (asked about '5'; others were answered)") == (answered > 0), said


async def test_an_endpoint_never_reached_stops_the_run_soon() -> None:
    """No server listens: after `first_contact_s` the run stops, and no record became a row."""

    async def script(name: str, attempt: int) -> Answer | Failure:
        return fail(ErrorKind.UNREACHABLE)

    bench = Bench(50, script)
    assert "unreachable" in await stopped(bench, EndpointStoppedError, first_contact_s=10.0)
    assert bench.committed == []


async def test_an_outage_costs_no_record_an_attempt() -> None:
    """The endpoint goes away for a while after it has answered: one probes, then all go on, all are answered."""
    away = iter(range(12))

    async def script(name: str, attempt: int) -> Answer | Failure:
        if int(name) >= 8 and next(away, None) is not None:
            return fail(ErrorKind.UNREACHABLE)
        return GOOD

    bench = Bench(30, script)
    await bench.run(max_failures=1, outage_s=3600.0)
    assert {row.status for row in bench.by_id().values()} == {Status.OK}


async def test_twenty_alike_stop_the_run() -> None:
    """When the first twenty records all end with the same error, the request itself is wrong; what to do is said."""

    async def script(name: str, attempt: int) -> Answer | Failure:
        return fail(ErrorKind.BAD_REQUEST, status=400)

    bench = Bench(1000, script)
    said = await stopped(bench, EndpointStoppedError)
    assert "(bad_request)" in said
    assert "`retry_kind=bad_request`" in said
    assert 20 <= len(bench.committed) <= 20 + 8


async def test_a_lost_disk_stops_the_run_with_its_own_error() -> None:
    """When the writer cannot write, nothing more is asked than what was under way, and the error is the disk's."""
    bench = Bench(5000)
    bench.commit_error = ResourceError("no space left on device")
    assert "no space" in await stopped(bench, ResourceError)
    assert sum(bench.asked.values()) <= 16


async def test_answers_that_are_not_kept_yet_are_bounded() -> None:
    """While the writer stands still, at most 2 x concurrency requests are ever sent: what a kill can cost."""
    bench = Bench(1000)
    bench.commit_gate.close()
    engine = bench.engine(dedup=False)  # which looks things up in the writer's thread, and that one stands still
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(engine.run)
        await bench.eight.wait()
        await anyio.wait_all_tasks_blocked()
        assert sum(bench.asked.values()) == 8
        bench.commit_gate.open()
    assert len(bench.by_id()) == 1000


async def test_an_interrupt_brings_home_what_is_in_flight() -> None:
    """Ctrl-C once: no new requests, the four in flight are answered and committed, the run says it was interrupted."""
    home = anyio.Event()

    async def script(name: str, attempt: int) -> Answer | Failure:
        await home.wait()
        return GOOD

    bench = Bench(100, script)
    engine = bench.engine()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect, engine, InterruptedRunError)
        await bench.full.wait()
        engine.stop(InterruptedRunError("interrupted", SIGINT))
        await anyio.wait_all_tasks_blocked()
        home.set()
    assert sum(bench.asked.values()) == 4
    assert len(bench.by_id()) == 4


async def test_a_second_interrupt_waits_for_nobody() -> None:
    """Ctrl-C twice: requests that never come home do not hold the end up."""
    bench = Bench(100, never_answers)
    engine = bench.engine()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect, engine, InterruptedRunError)
        await bench.full.wait()
        engine.stop(InterruptedRunError("interrupted", SIGINT))
        engine.stop(InterruptedRunError("interrupted", SIGINT), at_once=True)
    assert bench.committed == []
    assert bench.said[-1] == "4 requests cut off: they may be billed, and the same command asks them again"


async def _expect(engine: Engine, error: type[VisionBatchError]) -> None:
    with pytest.raises(error), anyio.fail_after(HOUR_S):
        await engine.run()


async def test_a_source_that_breaks_off_keeps_what_came_before() -> None:
    """A manifest that turns out wrong in the middle stops the run with its own message; answers stay committed."""

    def records() -> Iterator[ImageRecord]:
        for n in range(40):
            yield ImageRecord(str(n), (LocalFile(str(n), str(n)),))
        raise InputError("manifest.csv:41: no image")

    bench = Bench(records=records())
    assert "manifest.csv:41" in await stopped(bench, InputError)
    assert set(bench.asked) >= set(bench.by_id())


async def test_the_source_is_read_no_further_than_needed() -> None:
    """While nothing is answered, the reader stops after its buffer: a source of any length is never in memory."""
    read = 0

    def records() -> Iterator[ImageRecord]:
        nonlocal read
        for n in range(100_000):
            read += 1
            yield ImageRecord(str(n), (LocalFile(str(n), str(n)),))

    bench = Bench(records=records(), script=never_answers)
    engine = bench.engine()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect, engine, InterruptedRunError)
        await bench.full.wait()
        await anyio.wait_all_tasks_blocked()
        engine.stop(InterruptedRunError("interrupted", SIGINT), at_once=True)
    assert read <= 16 + 2 * 256


async def test_prepared_requests_are_bounded_in_bytes() -> None:
    """With room for two bodies, a third is not asked before one of the first is committed, whatever the concurrency."""
    bench = Bench(50)
    bench.body = b"x" * 1000
    await bench.run(concurrency=16, prepared_bytes=2500)
    assert bench.peak <= 2
    assert len(bench.by_id()) == 50


async def test_requests_are_spaced_by_rpm() -> None:
    """600 a minute are a tenth of a second apart, but for a quarter of a second that is made up for."""
    sent: list[float] = []
    bench = Bench(20)

    async def script(name: str, attempt: int) -> Answer | Failure:
        sent.append(bench.clock.now())
        return GOOD

    bench.script = script
    await bench.run(rpm=600)
    assert [round(after - before, 3) for before, after in pairwise(sent)] == [0, 0, 0.05, *[0.1] * 16]


async def test_fetches_are_retried_like_requests() -> None:
    """A remote image that fails twice for a transient reason is asked about all the same."""
    fetched: Counter[str] = Counter()

    class Remote(Bench):
        async def fetch(self, record: ImageRecord, grow: Grow) -> FetchedImages | Failure:
            fetched[record.id] += 1
            return fail(ErrorKind.FETCH_FAILED) if fetched[record.id] < 3 else (b"image",)

    bench = Remote(2)
    await bench.run()
    assert fetched == {"0": 3, "1": 3}
    assert {row.status for row in bench.by_id().values()} == {Status.OK}


async def test_a_wait_that_an_image_host_asks_for() -> None:
    """The record waits as long as its host asks and holds no permit; one that would wait too long fails at once."""
    fetched: Counter[str] = Counter()
    sent: dict[str, float] = {}
    began = 0.0

    async def script(name: str, attempt: int) -> Answer | Failure:
        sent[name] = bench.clock.now() - began
        return GOOD

    class Remote(Bench):
        async def fetch(self, record: ImageRecord, grow: Grow) -> FetchedImages | Failure:
            fetched[record.id] += 1
            wait_s = {"0": 30.0, "1": 3601.0}.get(record.id, 0.0)
            if wait_s and fetched[record.id] == 1:
                return fail(ErrorKind.FETCH_FAILED, status=429, retry_after_s=wait_s)
            return (b"image",)

    bench = Remote(6, script)
    began = bench.clock.now()
    await bench.run(concurrency=1, max_wait_s=3600.0)
    assert {name: row.status for name, row in bench.by_id().items() if row.status is not Status.OK} == {
        "1": Status.FAILED
    }
    assert fetched == {"0": 2, "1": 1, "2": 1, "3": 1, "4": 1, "5": 1}
    assert max(sent[name] for name in "2345") < 1.0
    assert sent["0"] == pytest.approx(30.0 + LATENCY_S)


async def test_equal_requests_are_asked_once() -> None:
    """Ten records, three different requests: three are sent, whatever the concurrency; the others share."""
    by_request: dict[str, str] = {}

    class Same(Bench):
        def request(self, record: ImageRecord, prompt_name: str) -> str:
            return str(int(record.id) % 3)

        def follow(self, request: PreparedRequest) -> Follower | None:
            if request.request_sha256 not in by_request:
                return None
            return Follower(
                record=request.record,
                image_facts=(FACTS,),
                request_sha256=request.request_sha256,
                key=b"",
                status=Status.OK,
            )

        def commit(
            self, outcomes: Sequence[Outcome], attempts: Sequence[BilledAttempt], followers: Sequence[Follower]
        ) -> None:
            super().commit(outcomes, attempts, followers)
            by_request.update({str(o.request_sha256): o.record.id for o in outcomes if o.status is Status.OK})

    bench = Same(10)
    await bench.run(concurrency=8)
    assert sum(bench.asked.values()) == 3
    assert len(bench.committed) == 3
    assert len(bench.followers) == 7


async def test_where_the_first_fails_the_next_takes_its_place() -> None:
    """Of two equal requests the first fails for good: the second is asked, and does not wait for ever."""

    class Same(Bench):
        def request(self, record: ImageRecord, prompt_name: str) -> str:
            return "same"

    async def script(name: str, attempt: int) -> Answer | Failure:
        return GOOD if bench.asked.total() > 2 else fail(ErrorKind.SERVER_ERROR, status=500)

    bench = Same(3, script)
    await bench.run(max_failures=1)
    assert sorted(outcome.status for outcome in bench.committed) == [Status.FAILED, Status.FAILED, Status.OK]


async def test_equal_requests_that_all_fail_are_prepared_twice_at_most() -> None:
    """Where many wait for one that fails, one of them is prepared again and asked: not all, each time."""

    class Same(Bench):
        def request(self, record: ImageRecord, prompt_name: str) -> str:
            return "same"

    async def script(name: str, attempt: int) -> Answer | Failure:
        return fail(ErrorKind.BAD_REQUEST, status=400)

    bench = Same(100, script)
    await bench.run(concurrency=32, max_error_rate=1.0, has_answers=True)
    assert len(bench.committed) == bench.asked.total() == 100
    assert max(Counter(bench.decoded).values()) <= 2


@pytest.mark.parametrize("then", ["gone", "another"])
async def test_a_leader_to_be_whose_image_changes(then: str) -> None:
    """The first fails; the image of the next is gone by then, or another one: those that wait for it go on."""

    class Same(Bench):
        def prepare(
            self, record: ImageRecord, images: FetchedImages, names: PromptNames
        ) -> Sequence[PreparedRequest] | Failure:
            if then == "gone" and record.id in self.decoded:
                return fail(ErrorKind.IMAGE_MISSING)
            return super().prepare(record, images, names)

        def request(self, record: ImageRecord, prompt_name: str) -> str:
            return "same" if self.decoded.count(record.id) == 1 else record.id

    async def script(name: str, attempt: int) -> Answer | Failure:
        return fail(ErrorKind.BAD_REQUEST, status=400) if bench.asked.total() == 1 else GOOD

    bench = Same(12, script)
    await bench.run(concurrency=8)
    assert sorted(int(outcome.record.id) for outcome in bench.committed) == list(range(12))


async def test_leaders_to_be_wait_for_nobody() -> None:
    """Each record has the same two prompts as all others, and everything fails: none waits for what another holds."""

    class Same(Bench):
        def request(self, record: ImageRecord, prompt_name: str) -> str:
            return prompt_name

        def prepare(
            self, record: ImageRecord, images: FetchedImages, names: PromptNames
        ) -> Sequence[PreparedRequest] | Failure:
            found = super().prepare(record, images, names)
            return found if isinstance(found, Failure) or int(record.id) % 2 else found[::-1]

    async def script(name: str, attempt: int) -> Answer | Failure:
        return fail(ErrorKind.BAD_REQUEST, status=400)

    bench = Same(40, script)
    bench.names = ("one", "two")
    await bench.run(concurrency=16, max_error_rate=1.0, has_answers=True)
    assert len({(outcome.record.id, outcome.prompt_name) for outcome in bench.committed}) == 80


async def test_an_id_under_way_is_not_asked_twice() -> None:
    """A stream brings one id twice before its answer is committed: one request, one row."""
    twice = iter(
        [
            ImageRecord("a", (LocalFile("1", "1"),)),
            ImageRecord("a", (LocalFile("2", "2"),)),
            ImageRecord("b", (LocalFile("3", "3"),)),
        ]
    )
    bench = Bench(records=twice)
    await bench.run()
    assert bench.asked == {"a": 1, "b": 1}


async def test_ninety_seconds_of_cooldown_cost_no_record_an_attempt() -> None:
    """Four in flight are throttled for ninety seconds: all go on then, with a single failure allowed."""
    bench = Bench(40)
    sent: list[float] = []

    async def script(name: str, attempt: int) -> Answer | Failure:
        sent.append(bench.clock.now())
        if len(sent) <= 4:
            await bench.full.wait()
            return fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=90.0)
        return GOOD

    bench.script = script
    engine = await bench.run(max_failures=1)
    assert sent[4] - sent[3] == pytest.approx(90.0 + LATENCY_S)
    assert engine.stats.rate_limited == 4
    assert {row.status for row in bench.by_id().values()} == {Status.OK}
    assert sum(row.attempts for row in bench.by_id().values()) == engine.stats.requests == 44


async def test_stragglers_are_given_up_and_asked_again() -> None:
    """Two of a hundred requests would never be answered: they are asked once more, long before the endpoint's limit."""

    async def script(name: str, attempt: int) -> Answer | Failure:
        return await never_answers(name, attempt) if name in {"50", "99"} and attempt == 1 else GOOD

    bench = Bench(100, script)
    bench.endpoints = [Endpoint(name="here", ask=bench.ask, concurrency=4, timeout_s=1e6)]
    await bench.run(straggler_s=10.0)
    rows = bench.by_id()
    assert {row.status for row in rows.values()} == {Status.OK}
    assert {name for name, row in rows.items() if row.attempts == 2} == {"50", "99"}


async def test_what_is_given_up_counts_as_failure_and_as_its_reservation() -> None:
    """With one failure allowed a request that never comes home ends its record, and the budget counts the most."""

    async def script(name: str, attempt: int) -> Answer | Failure:
        return await never_answers(name, attempt) if name == "30" else GOOD

    bench = Bench(40, script)
    bench.budgets = [Budget(Amounts(nano_usd=10**9))]
    bench.endpoints = [
        Endpoint(name="here", ask=bench.ask, concurrency=4, timeout_s=1e6, most=lambda _: Amounts(1000, 100, 1))
    ]
    engine = await bench.run(max_failures=1)
    row = bench.by_id()["30"]
    assert (row.status, row.error_kind, row.attempts) == (Status.FAILED, ErrorKind.TIMEOUT, 1)
    assert "no answer within" in str(row.error_message)
    assert engine.stats.cost_unknown_usd == Decimal("0.00004")  # no answer here has a price, so all count as reserved
    assert {attempt.record.id: attempt.unknown_nano_usd for attempt in bench.billed}["30"] == 1000


def sleeper(bench: Bench) -> Callable[[float], None]:
    """A clock whose machine can sleep: the wall clock runs on, the other one stands still."""
    asleep_s = 0.0

    def sleep(so_long_s: float) -> None:
        nonlocal asleep_s
        asleep_s += so_long_s

    began, now = bench.clock.utc(), bench.clock.now
    bench.clock = replace(bench.clock, utc=lambda: began + timedelta(seconds=now() + asleep_s))
    return sleep


async def test_sleep_voids_what_is_in_flight() -> None:
    """The wall clock jumps ahead by an hour: the four requests under way are sent again, and none lost an attempt."""
    bench = Bench(20)
    fall_asleep = sleeper(bench)

    async def script(name: str, attempt: int) -> Answer | Failure:
        return await never_answers(name, attempt) if int(name) < 4 and attempt == 1 else GOOD

    bench.script = script
    engine = bench.engine(max_failures=1)
    with anyio.fail_after(HOUR_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.run)
            await bench.full.wait()
            fall_asleep(3600.0)
    rows = bench.by_id()
    assert {row.status for row in rows.values()} == {Status.OK}
    assert {name: row.attempts for name, row in rows.items() if row.attempts > 1} == dict.fromkeys("0123", 2)


async def test_more_workers_follow_the_concurrency() -> None:
    """An endpoint that takes any number of requests gets more than the first workers could ever send."""
    bench = Bench(1500)

    async def script(name: str, attempt: int) -> Answer | Failure:
        await bench.clock.sleep(4.0)
        return GOOD

    bench.script = script
    bench.endpoints = [Endpoint(name="here", ask=bench.ask)]
    await bench.run()
    assert bench.peak > 2 * 8 + 2 * 2
    assert len(bench.by_id()) == 1500


def _shared(bench: Bench, first: Script, second: Script, concurrency: int = 4) -> None:
    """Two endpoints, `first` and `second`, in place of the one."""

    def asker(script: Script) -> Callable[[PreparedRequest], Awaitable[Answer | Failure]]:
        async def ask(request: PreparedRequest) -> Answer | Failure:
            return await bench.ask_by(script, request)

        return ask

    bench.endpoints = [
        Endpoint(name="first", ask=asker(first), concurrency=concurrency),
        Endpoint(name="second", ask=asker(second), concurrency=concurrency),
    ]


async def _always_good(name: str, attempt: int) -> Answer | Failure:
    return GOOD


@pytest.mark.parametrize("kind", [ErrorKind.UNREACHABLE, ErrorKind.QUOTA_EXHAUSTED, ErrorKind.AUTHENTICATION])
async def test_one_of_two_endpoints_dies_in_the_middle(kind: ErrorKind) -> None:
    """After twenty answers it is gone: all records are answered by the other, none lost an attempt by it."""
    answers = iter(range(20))

    async def dying(name: str, attempt: int) -> Answer | Failure:
        return fail(kind) if next(answers, None) is None else GOOD

    bench = Bench(200)
    _shared(bench, _always_good, dying)
    engine = await bench.run(max_failures=1)
    rows = bench.by_id()
    assert {row.status for row in rows.values()} == {Status.OK}
    assert Counter(row.endpoint for row in rows.values()) == {"first": 180, "second": 20}
    assert engine.stats.by_endpoint["first"] == 180
    assert engine.stats.by_endpoint.total() == engine.stats.requests == sum(row.attempts for row in rows.values())


async def test_both_endpoints_refuse() -> None:
    """The run stops with the words of both."""

    async def refusing(name: str, attempt: int) -> Answer | Failure:
        return fail(ErrorKind.AUTHENTICATION, status=401)

    async def spent(name: str, attempt: int) -> Answer | Failure:
        return fail(ErrorKind.QUOTA_EXHAUSTED, status=429)

    bench = Bench(200)
    _shared(bench, refusing, spent)
    message = await stopped(bench, EndpointStoppedError)
    assert "first: because authentication" in message
    assert "second: because quota_exhausted" in message
    assert bench.committed == []


async def test_a_budget_of_requests_is_exact() -> None:
    """Ten requests are granted: ten are sent, ten rows are committed, and the error says which budget it was."""
    bench = Bench(100)
    bench.budgets = [Budget(Amounts(requests=10))]
    assert await used_up(bench) == ("requests", 1)
    assert sum(bench.asked.values()) == len(bench.by_id()) == 10
    assert bench.leases[-1].requests == 10


async def test_a_budget_in_dollars_is_leased_and_kept() -> None:
    """Each answer bills a tenth of what it reserved: never above the budget, nothing sent without a lease."""
    seen: list[int] = []
    answer = Answer(status=Status.OK, caption="x", cost_usd=Decimal("1e-7"), usage=Usage(prompt_tokens=10))

    async def script(name: str, attempt: int) -> Answer | Failure:
        spent = bench.budgets[0].spent + bench.budgets[0].reserved
        seen.append(spent.nano_usd or 0)
        assert (bench.leases[-1].nano_usd or 0) >= seen[-1]
        return answer

    bench = Bench(100, script)
    bench.budgets = [Budget(Amounts(nano_usd=5000))]
    bench.endpoints = [Endpoint(name="here", ask=bench.ask, concurrency=4, most=lambda _: Amounts(1000, 100, 1))]
    assert await used_up(bench) == ("nano_usd", 1000)
    assert max(seen) <= 5000
    assert bench.budgets[0].spent.nano_usd == 100 * len(bench.by_id()) == 4100


async def test_time_is_a_budget() -> None:
    """After `max_time_s` nothing new is sent; what is in flight comes home and is committed."""

    async def script(name: str, attempt: int) -> Answer | Failure:
        await bench.clock.sleep(20.0)
        return GOOD

    bench = Bench(100_000, script)
    assert await used_up(bench, max_time_s=60.0) == ("time", 0)
    assert len(bench.by_id()) == sum(bench.asked.values()) == 12


async def test_a_request_sent_as_the_run_stops_is_bound_like_the_others() -> None:
    """A permit that was given in the moment of the stop is used after it: its request has as long to come home."""
    bench = Bench(4, never_answers)
    engine = bench.engine()
    engine.stop(InterruptedRunError("interrupted", SIGINT), at_once=True)
    prepared = bench.prepare(ImageRecord("a", (LocalFile("a", "a"),)), (None,), ("caption",))
    assert not isinstance(prepared, Failure)
    state = RequestState(prepared[0], engine._clock.utc())
    permit = await engine._scheduler.acquire(state)
    with anyio.fail_after(5), engine._in_flight.sending(permit) as request:
        await engine._in_flight.answer(request)
    assert engine.stats.in_flight == 0
    engine._writer.close()
    engine._writer._arrived.close()


async def test_sleep_shortens_what_is_waited_for() -> None:
    """Told to wait for 3,000 s, and asleep for as long: the run goes on at once, not 3,000 s after it woke."""
    bench = Bench(8)
    fall_asleep = sleeper(bench)
    refused = anyio.Event()

    async def script(name: str, attempt: int) -> Answer | Failure:
        if not refused.is_set():
            refused.set()
            return fail(ErrorKind.RATE_LIMITED, status=429, retry_after_s=3000.0)
        return GOOD

    bench.script = script
    engine, began = bench.engine(concurrency=1), bench.clock.now()
    with anyio.fail_after(HOUR_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.run)
            await refused.wait()
            fall_asleep(3000.0)
    assert bench.clock.now() - began < 1.0
    assert {row.status for row in bench.by_id().values()} == {Status.OK}


async def test_what_is_given_up_for_a_sleep_is_committed_soon() -> None:
    """The machine slept with four requests in flight: their unknown cost is in the ledger before the run ends."""
    bench = Bench(4)
    fall_asleep = sleeper(bench)
    bench.endpoints = [Endpoint(name="here", ask=bench.ask, concurrency=4, most=lambda _: Amounts(1000, 100, 1))]
    bench.budgets = [Budget(Amounts(nano_usd=10**9), is_proven=True)]
    counted = list[int]()

    async def script(name: str, attempt: int) -> Answer | Failure:
        if attempt == 1:
            return await never_answers(name, attempt)
        await bench.clock.sleep(5.0)
        counted.append(sum(one.unknown_nano_usd for one in bench.billed))
        return GOOD

    bench.script = script
    engine = bench.engine()
    with anyio.fail_after(HOUR_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.run)
            await bench.full.wait()
            fall_asleep(7200.0)
    assert counted[-1] == 4000


async def test_one_signal_while_the_time_is_up() -> None:
    """`--max-time` has ended the sending; one SIGINT then leaves what is in flight the same time to come home."""
    bench = Bench(20)
    engine = bench.engine(concurrency=4, max_time_s=20.0)
    interrupted = False

    async def script(name: str, attempt: int) -> Answer | Failure:
        nonlocal interrupted
        await bench.clock.sleep(21)
        if not interrupted:
            interrupted = True
            engine._interrupt(SIGINT)
        await bench.clock.sleep(5)
        return GOOD

    bench.script = script
    with pytest.raises(BudgetReachedError):
        await engine.run()
    assert interrupted
    assert len(bench.by_id()) == 4


async def test_sleep_counts_as_time() -> None:
    """`--max-time` of an hour, and the machine sleeps for two: nothing new is sent once it is awake."""
    bench = Bench(100_000, never_answers)
    fall_asleep = sleeper(bench)
    engine = bench.engine(max_time_s=3600.0, grace_s=0.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect, engine, BudgetReachedError)
        await bench.full.wait()
        fall_asleep(7200.0)
    assert sum(bench.asked.values()) == 4


async def test_records_are_blamed_only_where_no_endpoint_is_left() -> None:
    """The second of two endpoints has nothing but errors once it has answered; the first takes all the rest, and its
    errors stay the endpoint's to the end of the source and beyond.
    """
    answers = iter(range(20))

    async def ailing(name: str, attempt: int) -> Answer | Failure:
        return GOOD if next(answers, None) is not None else fail(ErrorKind.SERVER_ERROR, status=500)

    async def slow(name: str, attempt: int) -> Answer | Failure:
        await bench.clock.sleep(20.0)
        return GOOD

    bench = Bench(120)
    _shared(bench, slow, ailing)
    engine = await bench.run(outage_s=30.0)
    rows = bench.by_id()
    assert {row.status for row in rows.values()} == {Status.OK}
    assert Counter(row.endpoint for row in rows.values())["second"] == 20
    ill = engine._scheduler.endpoints[1]
    assert (ill.may_be_records, ill._counts_records, ill.stopped is None) == (True, False, False)


async def test_poison_is_found_by_both_endpoints() -> None:
    """Twelve records at which both always fail, and nothing else is left: they become rows, the run ends well."""

    async def script(name: str, attempt: int) -> Answer | Failure:
        return GOOD if int(name) < 40 else fail(ErrorKind.SERVER_ERROR, status=500)

    bench = Bench(52)
    _shared(bench, script, script)
    await bench.run(max_failures=3, outage_s=30.0)
    rows = bench.by_id()
    assert Counter(row.status for row in rows.values()) == {Status.OK: 40, Status.FAILED: 12}
    assert {row.attempts >= 3 for name, row in rows.items() if int(name) >= 40} == {True}


async def test_a_decoder_that_never_returns_holds_nothing() -> None:
    """A thread that stands in C code keeps neither the first nor the second signal from ending the run."""
    gate = Latch()

    class Stuck(Bench):
        def prepare(
            self, record: ImageRecord, images: FetchedImages, names: PromptNames
        ) -> Sequence[PreparedRequest] | Failure:
            gate.wait()
            return fail(ErrorKind.IMAGE_MISSING)

    bench = Stuck(10)
    engine = bench.engine()

    async def interrupt() -> None:
        await gate.reached.wait()
        engine.stop(InterruptedRunError("interrupted", SIGINT))
        engine.stop(InterruptedRunError("interrupted", SIGINT), at_once=True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(interrupt)
        await _expect(engine, InterruptedRunError)
    gate.open()
    assert bench.committed == []


async def test_fetched_images_are_bounded_until_they_are_prepared() -> None:
    """Thirty fetches of 10 bytes and room for 25: at most 35 are held, a failed one holds none, all are committed."""
    fetched, prepared, peak = 0, 0, 0
    tries: Counter[str] = Counter()

    class Fetching(Bench):
        async def fetch(self, record: ImageRecord, grow: Grow) -> FetchedImages | Failure:
            nonlocal fetched, peak
            tries[record.id] += 1
            for _ in range(10):
                await grow(1)
                fetched += 1
                peak = max(peak, fetched - prepared)
                await anyio.lowlevel.checkpoint()
            if tries[record.id] == 1 and int(record.id) % 3 == 0:
                fetched -= 10
                return fail(ErrorKind.FETCH_FAILED)
            return (b"x" * 10,)

        def prepare(
            self, record: ImageRecord, images: FetchedImages, names: PromptNames
        ) -> Sequence[PreparedRequest] | Failure:
            nonlocal prepared
            (data,) = images
            assert isinstance(data, bytes)
            prepared += len(data)
            return super().prepare(record, images, names)

    bench = Fetching(30)
    await bench.run(fetched_bytes=25, threads=1)
    assert len(bench.by_id()) == 30
    assert tries.total() == 40
    assert 25 <= peak <= 35


async def test_all_that_is_cut_off_is_counted() -> None:
    """Three hundred requests are cut off: three hundred reservations are committed as unknown."""
    bench = Bench(2000, never_answers)
    bench.budgets = [Budget(Amounts(nano_usd=10**9), is_proven=True)]
    bench.endpoints = [Endpoint(name="here", ask=bench.ask, concurrency=300, most=lambda _: Amounts(1000, 100, 1))]
    engine = bench.engine()
    all_in_flight = anyio.Event()

    async def script(name: str, attempt: int) -> Answer | Failure:
        if bench.in_flight == 300:
            all_in_flight.set()
        return await never_answers(name, attempt)

    bench.script = script

    async def run() -> None:
        with pytest.raises(InterruptedRunError):
            await engine.run()

    with anyio.fail_after(HOUR_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await all_in_flight.wait()
            engine.stop(InterruptedRunError("interrupted", 2), at_once=True)
    assert sum(attempt.unknown_nano_usd for attempt in bench.billed) == 300 * 1000
