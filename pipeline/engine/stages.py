"""What the engine is given: the stages that it drives, its numbers, its time; and what it knows of a record."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from pipeline.config.shards import SourceShard
from pipeline.engine.hooks import Ask
from pipeline.engine.stats import RunStats
from pipeline.limits.budget import Amounts, Budget
from pipeline.records import (
    Answer,
    BilledAttempt,
    Failure,
    FetchedImages,
    Follower,
    Grow,
    ImageRecord,
    Outcome,
    PreparedRequest,
    Usage,
)

if TYPE_CHECKING:
    from pipeline.engine.leases import Leases

PromptNames = tuple[str, ...]
"""Names of prompts that a record is asked, in their order."""
Arrival = Outcome | BilledAttempt | Follower
"""What comes to the writer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One endpoint that a run may ask."""

    name: str
    """What rows call it."""
    ask: Callable[[PreparedRequest], Awaitable[Answer | Failure]]
    """One attempt. Never raises for what the network or the server does."""
    most: Callable[[PreparedRequest], Amounts] = lambda _: Amounts(requests=1)
    """The most that a request can cost; what is not known is None."""
    concurrency: int | None = None
    """Requests in flight; None: as many as turn out best, up to `max_concurrency`."""
    max_concurrency: int = 512
    rpm: float | None = None
    tpm: float | None = None
    shard: SourceShard | None = None
    """Its rates are those of N runs together; None: of this run alone."""
    weight: float = 1.0
    """Its share of the requests, among several."""
    counts_billed: bool = False
    """Whether its tokens a minute are those billed, not the prompt's and `max_tokens`."""
    timeout_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What the engine drives: plain functions on values. `run.py` builds them from the edges."""

    records: Iterator[ImageRecord]
    """Blocking; read in a thread of its own."""
    missing: Callable[[Sequence[ImageRecord]], Sequence[PromptNames]]
    """For each, the names of the prompts that it is to be asked. Blocking, in the writer's thread."""
    fetch: Callable[[ImageRecord, Grow], Awaitable[FetchedImages | Failure]]
    """The bytes of remote images; None for each that `prepare` reads itself."""
    prepare: Callable[[ImageRecord, FetchedImages, PromptNames], Sequence[PreparedRequest] | Failure]
    """The requests of a record, one a prompt. Blocking, in the decoding threads: one a core."""
    undecoded: Callable[[ImageRecord, FetchedImages, PromptNames], Sequence[PreparedRequest] | Failure | None] = (
        lambda *_: None
    )
    """The same of a record whose images are sent as they are; None where one has to be decoded. Blocking, in the
    preparing threads: most of it is waiting, for the disk or the interpreter."""
    stuck: Callable[[ImageRecord, int], None] = lambda *_: None
    """The thread with this identifier stands still in `prepare`. The record is prepared again, apart."""
    endpoints: Sequence[Endpoint]
    follow: Callable[[PreparedRequest], Follower | None]
    """The answer to the same request that there is already. Blocking, in the writer's thread."""
    correct: Callable[[PreparedRequest, Answer], PreparedRequest] = lambda request, answer: replace(
        request, corrects=answer
    )
    """The request that repeats an answer with invalid labels."""
    commit: Callable[[Sequence[Outcome], Sequence[BilledAttempt], Sequence[Follower]], None]
    """Blocking, in the writer's thread; raises ResourceError."""
    seal: Callable[[], object]
    """What is committed becomes readable. Blocking, in the writer's thread."""
    lease: Callable[[Amounts], None] = lambda _: None
    """Make known how much this process may come to, before it does. Blocking, in the writer's thread."""
    after: Callable[[Outcome], Awaitable[Outcome | Ask]] | None = None
    """What a hook makes of an answer, or that its record is asked again. In the loop, without a permit."""
    reword: Callable[[PreparedRequest, str], PreparedRequest] = lambda request, _: request
    """The same request with another prompt."""
    budgets: Sequence[Budget] = ()
    leases: "Leases | None" = None
    """Where limits and budgets are given out that this run has together with others."""
    show: Callable[[RunStats], None] = lambda _: None
    """Called in the loop, several times a second."""
    say: Callable[[str], None] = lambda _: None
    """Told in the loop what the user should know, once each."""
    publish: Callable[[RunStats], None] = lambda _: None
    """Called every `publish_s`. Blocking, in the writer's thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Numbers of a run; times in seconds."""

    threads: int
    prepared_bytes: int
    decode_timeout_s: float = 120.0
    """A thread that decodes for longer is given up."""
    fetched_bytes: int = 1 << 28
    """Of images that are fetched and not prepared yet; one at a time may exceed it."""
    dedup: bool = True
    """Whether equal requests share one answer."""
    sees_changes: bool = False
    """Whether changed files are asked again: one that is only newer keeps its answer."""
    has_rows: bool = True
    """Whether OUT may hold answers from before, which they share as well."""
    max_failures: int = 6
    max_wait_s: float = 3600.0
    outage_s: float = 1800.0
    first_contact_s: float = 10.0
    max_error_rate: float = 0.5
    has_answers: bool = False
    """Whether OUT holds good answers to the same question."""
    seal_interval_s: float = 30.0
    straggler_s: float = 10.0
    """No request is given up sooner, however quick the others are."""
    reads_ahead: bool = True
    """Whether the source gives its records at once; a pipe may bring one an hour."""
    max_time_s: float | None = None
    grace_s: float = 60.0
    waits_at_exit: bool = True
    """Whether the process ends only when the writer has: where nothing is committed there is nothing to wait for."""
    show_s: float = 0.25
    publish_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and randomness, injected."""

    now: Callable[[], float] = monotonic
    utc: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: Random = field(default_factory=Random)


@dataclass(slots=True)
class RequestState:
    """What one request of a record has been through on its way to an answer."""

    request: PreparedRequest
    asked_at: datetime
    first: PreparedRequest = field(init=False)
    """As it was prepared: a hook may have it asked with one prompt after another."""
    predicted_prompt_tokens: int | None = field(init=False)
    """Of the first request: what an answer costs that has to be corrected is no prediction."""
    place: int | None = None
    """Its place in the line for permits; None: at the end."""
    attempts: int = 0
    failures: int = 0
    """Attempts that count against `request.max_failures`."""
    timeouts: int = 0
    """Of these, requests that took too long."""
    throttles: dict[str, int] = field(default_factory=dict)
    """By endpoint: 429s after which the very next request there was answered."""
    throttled_by: dict[str, int] = field(default_factory=dict)
    """By endpoint: all 429s and the like."""
    rejected_by: str | None = None
    """The endpoint that rejected this request; another one is asked once."""
    rejection: str = ""
    """Its words."""
    failed_on: str | None = None
    """The endpoint that had the last failure."""
    asked_again: int = 0
    """Times that a hook had it asked once more."""
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None

    def __post_init__(self) -> None:
        self.first = self.request
        self.predicted_prompt_tokens = self.request.predicted_prompt_tokens

    @property
    def times_throttled(self) -> int:
        """By any endpoint."""
        return sum(self.throttled_by.values())

    def add(self, result: Answer | Failure) -> None:
        self.attempts += 1
        if result.usage is not None:
            self.usage += result.usage
        if result.cost_usd is not None:
            self.cost_usd = result.cost_usd + (self.cost_usd or 0)

    def billed(self, result: Answer | Failure | None, at: datetime, unknown_nano_usd: int = 0) -> BilledAttempt:
        """The last attempt, which cost something, or may have, and is not the last word."""
        return BilledAttempt(
            record=self.request.record,
            prompt_name=self.request.prompt_name,
            at=at,
            usage=(result.usage if result else None) or Usage(),
            cost_usd=result.cost_usd if result else None,
            unknown_nano_usd=unknown_nano_usd,
        )

    def outcome(self, result: Answer | Failure, endpoint: str, answered_at: datetime) -> Outcome:
        return Outcome(
            endpoint=endpoint,
            record=self.request.record,
            prompt_name=self.request.prompt_name,
            result=result,
            image_facts=self.request.image_facts,
            request_sha256=self.request.request_sha256,
            predicted_prompt_tokens=self.predicted_prompt_tokens,
            token_rule=self.request.token_rule,
            attempts=self.attempts,
            usage=self.usage,
            cost_usd=self.cost_usd,
            asked_at=self.asked_at,
            answered_at=answered_at,
        )
