"""What a run has done so far."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from math import inf

from pipeline.errors import ErrorKind
from pipeline.limits.pauses import Paused
from pipeline.money import Bill, known_cost, nano_usd, usd, usd_text
from pipeline.records import Answer, BilledAttempt, Follower, ImageFacts, Outcome, Status, has_no_text

STOPPING = "stopping"
"""What a run waits for that was interrupted: the requests in flight."""
FIRST_ANSWERS = 3
"""Answers that are shown as soon as they are committed, so that a wrong prompt is seen at once."""
EXCERPT = 200
"""Characters of them."""


@dataclass(slots=True)
class RunStats:
    """Counts of one run. Answers count once they are committed, never before."""

    total: int | None = None
    """Rows that the source comes to, where known: one for each record and prompt."""
    prompts: int = 1
    """Rows of each record."""
    read: int = 0
    """Records that came from the source, those before its low-water mark included."""
    low_water: float = 0
    """The number of records, from the source's beginning, that need no second look."""
    lowest_open: float = inf
    """The place of the first record that failed for a transient reason."""
    skipped: int = 0
    """Committed by an earlier run."""
    asked: int = 0
    """Rows committed by this run."""
    followers: int = 0
    """Of these, rows that share the answer of another."""
    requests: int = 0
    retried: int = 0
    """Requests after the first of a row."""
    in_flight: int = 0
    granted_usd: Decimal | None = None
    """What this run may spend; None where it has no budget."""
    by_status: Counter[Status] = field(default_factory=Counter)
    by_error: Counter[str] = field(default_factory=Counter)
    by_state: Counter[tuple[Status, ErrorKind | None]] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    pages: int = 0
    """As billed, where pages are."""
    cost_usd: Decimal = Decimal(0)
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """Files of the source that are no images, by kind."""
    is_priced: bool = True
    """Whether a price is known before any answer states one."""
    unpriced: int = 0
    """Answers that no price is known for."""
    cost_unknown_usd: Decimal = Decimal(0)
    """The most that requests with an unknown bill can have cost."""
    by_endpoint: Counter[str] = field(default_factory=Counter)
    """Requests."""
    rate_limited: int = 0
    source_bytes: int = 0
    sent_bytes: int = 0
    saves: Callable[[ImageFacts], int] | None = None
    """How many tokens it saves that an image is sent smaller than it is; None where that is unknown."""
    tokens_saved: int = 0
    waiting: str | None = None
    """What the whole run waits for, in words."""
    paused_s: float = 0.0
    """Seconds until an endpoint may be asked again."""
    examples: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """(id, kind, message) of the first row of each kind of error."""
    first_answers: list[tuple[str, str]] = field(default_factory=list)
    """(id, text) of the first answers."""
    latency_s: float = 0.0
    """Of all requests that were answered, together."""
    pauses: tuple[Paused, ...] = ()
    """In which nothing was sent to an endpoint, up to now."""
    _open_bills: dict[tuple[str, str], Bill] = field(default_factory=dict)
    """By id and prompt, of rows under way: what attempts without an answer were billed."""

    @property
    def unit(self) -> str:
        """What is counted on screen."""
        return "image" if self.prompts == 1 else "row"

    @property
    def done(self) -> int:
        return self.skipped + self.asked

    @property
    def bad(self) -> int:
        """Rows that `max_failed` counts."""
        without_text = sum(rows for (status, kind), rows in self.by_state.items() if has_no_text(status, kind))
        return self.by_status[Status.FAILED] + self.by_status[Status.INVALID] + without_text

    @property
    def known_cost_usd(self) -> Decimal | None:
        """None where nothing is known of what the answers cost."""
        is_known = self.is_priced or self.answered > 0  # each answer may state its own, also where it is nothing
        return known_cost(self.cost_usd, self.cost_unknown_usd, is_unknown=self.unpriced > 0 or not is_known)

    @property
    def answered(self) -> int:
        """Rows with an answer of their own."""
        return self.asked - self.followers - self.by_status[Status.FAILED]

    def bill(self, attempt: BilledAttempt) -> None:
        """Count an attempt without an answer that the ledger now holds, until the row of its record includes it."""
        bill = Bill(usage=attempt.usage, cost_usd=attempt.cost_usd)
        key = attempt.record.id, attempt.prompt_name
        before = self._open_bills.get(key)
        self._open_bills[key] = bill if before is None else before + bill
        self._count(bill)
        self.cost_unknown_usd += usd(attempt.unknown_nano_usd)

    def _count(self, bill: Bill, times: int = 1) -> None:
        self.prompt_tokens += times * (bill.usage.prompt_tokens or 0)
        self.completion_tokens += times * (bill.usage.completion_tokens or 0)
        self.pages += times * (bill.usage.pages or 0)
        self.cost_usd += times * usd(nano_usd(bill.cost_usd) or 0)

    def add(self, outcome: Outcome | Follower) -> None:
        """Count a row that the ledger now holds."""
        if isinstance(outcome, Follower) and outcome.is_its_own:
            self.skipped += 1
            return
        self.asked += 1
        self.by_status[outcome.status] += 1
        self.by_state[outcome.status, outcome.error_kind] += 1
        if (kind := outcome.error_kind) is not None:
            self.by_error[kind] += 1
        if isinstance(outcome, Follower):
            self.followers += 1
            return
        if kind is not None and kind not in self.examples:
            self.examples[kind] = (outcome.record.id, kind, outcome.error_message or "")
        if isinstance(outcome.result, Answer):
            self.latency_s += outcome.result.latency_s
            if len(self.first_answers) < FIRST_ANSWERS:
                self._excerpt(outcome, outcome.result)
        if (counted := self._open_bills.pop((outcome.record.id, outcome.prompt_name), None)) is not None:
            self._count(counted, times=-1)
        self._count(Bill(usage=outcome.usage, cost_usd=outcome.cost_usd))
        self.unpriced += outcome.cost_usd is None and isinstance(outcome.result, Answer)
        for facts in outcome.image_facts:
            self.source_bytes += 0 if facts.frame else facts.source_bytes
            self.sent_bytes += facts.sent_bytes or 0
            if self.saves is not None and outcome.usage.prompt_tokens:
                self.tokens_saved += self.saves(facts)

    def _excerpt(self, outcome: Outcome, answer: Answer) -> None:
        """Keep the beginning of an answer."""
        labels = None if answer.labels is None else json.dumps(answer.labels, ensure_ascii=False, default=str)
        text = " ".join((labels or answer.caption or "").split())
        if text:
            name = outcome.record.id if self.prompts == 1 else f"{outcome.record.id} ({outcome.prompt_name})"
            self.first_answers.append((name, text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What a run did: `runs/<run_id>.json`, and the command line's JSON."""

    run_id: str
    """The column `run_id` of its rows; a run that was interrupted keeps it when it resumes."""
    out: str
    """The output directory, as it was named."""
    exit_code: int
    """Of the command line: 0 done, 1 rows without an answer, 3 budget, 4 endpoint, 5 disk, beyond 128 a signal."""
    stopped: str | None
    """Why the run ended early, in one line."""
    model: str | None
    """As configured; None where the endpoint serves one and was not asked which."""
    endpoint: str
    """The address of the first endpoint, or `emulator`."""
    config_hash: str
    """The configuration that was asked; the column `config_hash` of its rows."""
    began_at: datetime
    """When the command began, ISO 8601 in UTC."""
    seconds: float
    """From then to its end."""
    images: int | None
    """Records in the source, where known."""
    skipped: int
    """Committed by earlier runs, not asked again."""
    asked: int
    """Rows that this run has committed."""
    followers: int
    """Of these, rows that share the answer to the same request."""
    requests: int
    """Requests sent, retries included."""
    by_status: dict[str, int]
    """Rows of this run by `status`."""
    by_error: dict[str, int]
    """Rows of this run by `error_kind`."""
    prompt_tokens: int | None
    """By the ledger, as all sums of this run; None where no answer states it."""
    completion_tokens: int | None
    """Likewise."""
    cost_usd: Decimal | None
    """The sum of what is known; None where nothing is."""
    cost_unknown_usd: Decimal
    """The most that requests can have cost whose bill is unknown; no part of `cost_usd`."""
    unpriced: int
    """Answers that no price is known for."""
    rate_limited: int
    """Requests that were throttled (429, 503, 529)."""
    by_endpoint: dict[str, int]
    """Requests by the address of the endpoint."""
    source_bytes: int
    """Bytes of the images' files."""
    sent_bytes: int
    """Bytes of the images as they were sent."""
    left_out: int = 0
    """Records that the words of a selection (`only`, or another configuration for some rows) leave out."""
    own_config_hash: str | None = None
    """The configuration of OUT, with which a run without a selection continues; `config_hash` is this run's."""
    by_config: dict[str, int] = field(default_factory=dict)
    """Rows of OUT by the configuration that answered them, OUT's own first; empty where the run has that one."""
    changes: list[str] = field(default_factory=list)
    """The settings that this run has otherwise than OUT, a line each."""
    prompts: int = 1
    """Rows of each record: `skipped`, `asked` and what follows them count rows."""
    pages: int = 0
    """As billed, where pages are, as OCR does, and no tokens."""
    tokens_saved: int = 0
    """By sending images smaller than they are, as the token rule tells."""
    saved_usd: Decimal | None = None
    """What these would have cost."""
    bad_before: int = 0
    """Rows of OUT without an answer that this run has not asked again."""
    still: dict[str, dict[str, int]] = field(default_factory=dict)
    """The same by status and `error_kind`, and the refused ones."""
    examples: list[tuple[str, str, str]] = field(default_factory=list)
    """(id, kind, message) of one row of each kind of error."""
    bad: int = 0
    """Rows of this run without an answer, which `max_failed` counts: failed, invalid, or truncated before any text."""
    retried: int = 0
    """Requests after the first of a row."""
    failures: str | None = None
    """The file that lists the rows of OUT that are not `ok`; None where all are."""
    replaced_corrections: int = 0
    """Captions that a person had corrected, and whose answer this run has replaced: they no longer apply."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """Files of the sources that are not asked about, by kind: `.fits`, or what is wrong with them."""

    @property
    def images_per_s(self) -> float:
        return self.asked / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; money as text."""
        plain = asdict(self) | {"images_per_s": round(self.images_per_s, 2)}
        plain |= {name: usd_text(getattr(self, name)) for name in ("cost_usd", "saved_usd", "cost_unknown_usd")}
        plain["began_at"] = self.began_at.isoformat()
        return plain
