"""Records asked by a long-lived engine, without an output directory: what comes in goes back to the caller.

The engine runs in a thread of its own as long as its owner lives, so that what it has learned of the endpoint (how many
requests it takes, its rates, its latency) is there for the next batch.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from queue import SimpleQueue

import anyio

from pipeline.config.keys import find_key
from pipeline.config.run_config import RunConfig
from pipeline.engine.engine import Engine
from pipeline.engine.garbage import rare_searches
from pipeline.engine.stages import Clock, Stages
from pipeline.engine.stats import RunStats
from pipeline.http.session import open_session
from pipeline.limits.budget import Amounts
from pipeline.ray.beforehand import budget_of, config_of_shards, limits_of
from pipeline.ray.limiters import leases_of
from pipeline.records import BilledAttempt, Failure, Follower, ImageRecord, Outcome
from pipeline.run.endpoints import endpoints_of, targets_of
from pipeline.run.images import MEGABYTE
from pipeline.run.job import Job, check_prompt, engine_config, image_hosts
from pipeline.run.labels import corrected
from pipeline.run.model import with_model
from pipeline.run.prepare import Fetcher, Preparer

Row = ImageRecord | Failure
"""A record, or what is wrong with it."""


@dataclass(slots=True)
class _Batch:
    """Rows of one call, until all of them are answered."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    missing: int = 0
    done: "Future[None]" = field(default_factory=Future)


class StandingEngine:
    """One engine. `ask` may be called from several threads; each call waits for its own rows."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._records: SimpleQueue[ImageRecord | None] = SimpleQueue()
        self._numbers = count()
        self._open: dict[str, tuple[_Batch, int]] = {}
        self._lock = threading.Lock()
        self._ended: BaseException | None = None
        self._thread: threading.Thread | None = None

    def ask(self, rows: Sequence[Row]) -> list[Outcome]:
        """The outcome of each row, in order. Raises what ended the engine, where nothing can be asked any more."""
        batch, now = _Batch(missing=len(rows)), datetime.now(UTC)
        if not rows:
            return []
        self._begin()
        for at, row in enumerate(rows):
            if isinstance(row, Failure):
                record = ImageRecord(id=str(at), images=())
                self._settle(batch, at, Outcome(record=record, result=row, asked_at=now, answered_at=now))
                continue
            name = str(next(self._numbers))
            with self._lock:
                self._open[name] = (batch, at)
            self._records.put(replace(row, id=name))
        if self._ended is not None:
            self._fail(self._ended)
        batch.done.result()
        return [batch.outcomes[at] for at in range(len(rows))]

    def close(self) -> None:
        """No more rows come."""
        self._records.put(None)

    def _begin(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="captioner", daemon=True)
                self._thread.start()

    def _settle(self, batch: _Batch, at: int, outcome: Outcome) -> None:
        with self._lock:
            batch.outcomes[at] = outcome
            batch.missing -= 1
            is_done = batch.missing == 0
        if is_done and not batch.done.done():
            batch.done.set_result(None)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            open_, self._open = self._open, {}
        for batch in {id(batch): batch for batch, _ in open_.values()}.values():
            if not batch.done.done():
                batch.done.set_exception(error)

    # ---------------------------------------------------------------- the engine's thread

    def _run(self) -> None:
        error: BaseException = RuntimeError("the captioner is closed")
        try:
            anyio.run(self._drive, backend_options={"use_uvloop": find_spec("uvloop") is not None})
        except BaseException as raised:  # noqa: BLE001 - it is raised where rows are waited for
            error = raised
        self._ended = error
        self._fail(error)

    async def _drive(self) -> None:
        clock, config = Clock(), self._config
        keys = [find_key(one) for one in config.all_endpoints]
        async with AsyncExitStack() as stack:
            stack.enter_context(rare_searches())
            targets = targets_of(config, [None if key is None else key.value for key in keys])
            config = await with_model(config, targets[0])
            job = Job(sources=(), out=Path(), config=config, redactor=targets[0].redactor)
            budget = budget_of(job, Amounts(0, 0, 0))
            leases = leases_of(limits_of(config), budget, [one.base_url for one in config.all_endpoints])
            job = replace(job, config=config_of_shards(config), leases=leases)
            sessions = [await stack.enter_async_context(open_session(target.endpoint)) for target in targets]
            prepare = Preparer.build(job.config, clock.utc().date())
            check_prompt(prepare.prompt_shape())
            endpoints = endpoints_of(job, targets, sessions, prepare)
            hosts = await stack.enter_async_context(image_hosts(job.config))
            stages = Stages(
                records=self._taken(),
                missing=lambda records: [job.config.prompt_names] * len(records),
                fetch=Fetcher(hosts, int(job.config.images.max_file_mb * MEGABYTE), prepare.passing(hosts)),
                prepare=prepare,
                undecoded=prepare.undecoded,
                endpoints=endpoints,
                follow=lambda _: None,
                correct=corrected,
                commit=self._commit,
                seal=lambda: None,
                budgets=leases.begin(Amounts(0, 0, 0)),
                leases=leases,
            )
            numbers = replace(engine_config(job), dedup=False, has_rows=False, reads_ahead=False, waits_at_exit=False)
            try:
                await Engine(stages, numbers, clock, RunStats()).run()
            finally:
                await leases.leave()

    def _taken(self) -> Iterator[ImageRecord]:
        while (record := self._records.get()) is not None:
            yield record

    def _commit(self, outcomes: Sequence[Outcome], _: Sequence[BilledAttempt], __: Sequence[Follower]) -> None:
        """To the call that waits for them; in the writer's thread."""
        for outcome in outcomes:
            with self._lock:
                batch, at = self._open.pop(outcome.record.id, (None, 0))
            if batch is not None:
                self._settle(batch, at, outcome)
