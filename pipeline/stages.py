"""What the engine is given: the stages that it drives, its numbers, its time; and what it knows of a record."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from time import monotonic

import anyio

from pipeline.records import Answer, BilledAttempt, Failure, ImageRecord, Outcome, PreparedRequest, Shared, Usage
from pipeline.stats import RunStats

Arrival = Outcome | BilledAttempt | Shared
"""What comes to the keeper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What the engine drives: plain functions on values. `run.py` builds them from the edges."""

    records: Iterator[ImageRecord]
    """Blocking; read in a thread of its own."""
    missing: Callable[[Sequence[ImageRecord]], Sequence[bool]]
    """For each, whether it is to be asked. Blocking, in the writer's thread."""
    fetch: Callable[[ImageRecord], Awaitable[bytes | Failure | None]]
    """Bytes of a remote image; None where `prepare` reads the file itself."""
    prepare: Callable[[ImageRecord, bytes | None], PreparedRequest | Failure]
    """Blocking, in the decoding threads: one hop a record."""
    ask: Callable[[PreparedRequest], Awaitable[Answer | Failure]]
    """One attempt. Never raises for what the network or the server does."""
    twin: Callable[[PreparedRequest], Shared | None]
    """The answer to the same request that there is already. Blocking, in the writer's thread."""
    keep: Callable[[Sequence[Outcome], Sequence[BilledAttempt], Sequence[Shared]], None]
    """Commit. Blocking, in the writer's thread; raises ResourceError."""
    seal: Callable[[], object]
    """What is committed becomes readable. Blocking, in the writer's thread."""
    show: Callable[[RunStats], None] = lambda _: None
    """Called in the loop, several times a second."""
    publish: Callable[[RunStats], None] = lambda _: None
    """Called every `publish_s`. Blocking, in the writer's thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Numbers of a run; times in seconds."""

    slots: int
    threads: int
    prepared_bytes: int
    rpm: float | None = None
    dedup: bool = True
    """Whether equal requests share one answer."""
    max_failures: int = 6
    max_wait_s: float = 3600.0
    outage_s: float = 1800.0
    first_contact_s: float = 10.0
    max_error_rate: float = 0.5
    seal_interval_s: float = 30.0
    grace_s: float = 60.0
    show_s: float = 0.25
    publish_s: float = 2.0

    @property
    def lanes(self) -> int:
        return 2 * self.slots + 2 * self.threads


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and randomness, injected."""

    now: Callable[[], float] = monotonic
    utc: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: Random = field(default_factory=Random)


@dataclass(slots=True)
class Trial:
    """What one record has been through on its way to an answer."""

    request: PreparedRequest
    asked_at: datetime
    answers_before: int
    """Good answers of the whole run when this record was first asked."""
    attempts: int = 0
    failures: int = 0
    rate_limits: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None

    def add(self, result: Answer | Failure) -> None:
        self.attempts += 1
        if result.usage is not None:
            self.usage += result.usage
        if result.cost_usd is not None:
            self.cost_usd = result.cost_usd + (self.cost_usd or 0)

    def billed(self, result: Answer | Failure, at: datetime) -> BilledAttempt:
        """The last attempt, which cost something and is not the last word."""
        return BilledAttempt(record=self.request.record, at=at, usage=result.usage or Usage(), cost_usd=result.cost_usd)

    def outcome(self, result: Answer | Failure, answered_at: datetime) -> Outcome:
        return Outcome(
            record=self.request.record,
            result=result,
            facts=self.request.facts,
            request_sha256=self.request.request_sha256,
            predicted_prompt_tokens=self.request.predicted_prompt_tokens,
            token_rule=self.request.token_rule,
            attempts=self.attempts,
            usage=self.usage,
            cost_usd=self.cost_usd,
            asked_at=self.asked_at,
            answered_at=answered_at,
        )
