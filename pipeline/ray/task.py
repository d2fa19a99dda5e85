"""One shard as a task of a Ray cluster: a run of its own, on whichever node comes next."""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio

from pipeline.config.run_config import RunConfig
from pipeline.engine.garbage import rare_searches
from pipeline.engine.hooks import OnAnswer
from pipeline.engine.stages import Clock
from pipeline.engine.stats import RunStats, RunSummary
from pipeline.errors import OutInUseError, ResourceError, VisionBatchError
from pipeline.limits.budget import Amounts
from pipeline.ray.actor import RemoteLimiter
from pipeline.ray.leases import SharedLimits
from pipeline.run.job import Job
from pipeline.run.run import run_job
from pipeline.store.keyset import KeySet

IN_USE_S = 120.0
"""How long a shard waits until its ledger is free: a network file system notices a dead node late."""
AGAIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardWork:
    """One shard, as a worker is given it."""

    index: int
    shards: int
    sources: tuple[str, ...]
    folder: str
    """The working directory, from which sources are named."""
    out: Path
    """Of the whole dataset."""
    place: Path
    """Of this shard."""
    answered: Path
    config: RunConfig
    emulated: bool
    bounds: Amounts
    endpoints: int
    ends_at: float | None
    """When the time of the run is up, in seconds since 1970."""
    on_answer: OnAnswer | None
    limiter: Any
    """The handle of the actor."""
    secrets: Mapping[str, str] = field(repr=False, default_factory=dict)
    """Keys of endpoints by their variables."""

    @property
    def name(self) -> str:
        return f"{self.index}/{self.shards}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardEnd:
    """How a shard ended."""

    index: int
    stats: RunStats
    summary: RunSummary | None = None
    error: VisionBatchError | None = None
    """What stopped it; None: it is done."""
    notes: tuple[str, ...] = ()
    """What the user should know."""


def run_shard(work: ShardWork) -> ShardEnd:
    """In a worker of the cluster. A shard that another worker had begun goes on where its ledger ends."""
    with _environment(work), rare_searches():
        options = {"use_uvloop": find_spec("uvloop") is not None}
        return anyio.run(partial(_run, work), backend_options=options)


async def _run(work: ShardWork) -> ShardEnd:
    from ray.exceptions import RayError  # noqa: PLC0415 - only workers have it

    clock, latest, notes = Clock(), RunStats(), list[str]()

    def show(stats: RunStats) -> None:
        nonlocal latest
        latest = stats

    limiter, waits_until = RemoteLimiter(work.limiter), clock.now() + IN_USE_S
    while True:
        leases = SharedLimits(limiter, work.name, work.endpoints, clock, bounds=work.bounds, unreachable=(RayError,))
        error: VisionBatchError | None = None
        summary: object = None
        try:
            summary = await run_job(_job(work, leases), show, clock, notes.append)
        except VisionBatchError as stopped:
            error, summary = stopped, stopped.summary
        if isinstance(error, OutInUseError) and clock.now() < waits_until:
            await clock.sleep(AGAIN_S)
            continue
        await leases.leave()
        return ShardEnd(
            index=work.index,
            stats=replace(latest, saves=None),
            summary=summary if isinstance(summary, RunSummary) else None,
            error=error,
            notes=tuple(note for note in notes if note.startswith("note: ")),
        )


def _job(work: ShardWork, leases: SharedLimits) -> Job:
    """The run of this shard: a part of the source, no limits of its own, and what the whole has answered left out."""
    budget = work.config.budget
    if work.ends_at is not None:
        budget = budget.model_copy(update={"max_time_s": max(0.001, work.ends_at - time.time())})
    source = work.config.source.model_copy(update={"shard": work.name})
    return Job(
        sources=work.sources,
        out=work.place,
        within=work.out,
        config=work.config.model_copy(update={"source": source, "budget": budget}),
        emulated=work.emulated,
        yes=True,
        answered=KeySet([work.answered.read_bytes()]),
        leases=leases,
        on_answer=work.on_answer,
    )


@contextmanager
def _environment(work: ShardWork) -> Iterator[None]:
    """The working directory and the keys of the command, which the worker forgets afterwards."""
    before = {name: os.environ.get(name) for name in work.secrets}
    try:
        os.chdir(work.folder)
        os.environ.update(work.secrets)
        yield
    except OSError as error:
        raise ResourceError(
            f"{work.folder} on {socket.gethostname()}: {error.strerror}. Sources and OUT lie where every node of the "
            "cluster finds them under the same name"
        ) from error
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
