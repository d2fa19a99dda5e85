"""What a run has done so far."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from math import inf

from pipeline.errors import ErrorKind
from pipeline.money import Bill, known_cost, nano_usd, usd, usd_text
from pipeline.records import Answer, BilledAttempt, Follower, ImageFacts, Outcome, Status, has_no_text

EXAMPLES = 5


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
    in_flight: int = 0
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
    examples: list[tuple[str, str, str]] = field(default_factory=list)
    """(id, kind, message) of the first rows without a good answer."""
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
        return known_cost(self.cost_usd, self.cost_unknown_usd, is_unknown=self.unpriced > 0)

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
        if isinstance(outcome, Follower):
            self.followers += 1
            return
        if outcome.error_kind is not None:
            self.by_error[outcome.error_kind] += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append((outcome.record.id, outcome.error_kind, outcome.error_message or ""))
        if (counted := self._open_bills.pop((outcome.record.id, outcome.prompt_name), None)) is not None:
            self._count(counted, times=-1)
        self._count(Bill(usage=outcome.usage, cost_usd=outcome.cost_usd))
        self.unpriced += outcome.cost_usd is None and isinstance(outcome.result, Answer)
        for facts in outcome.image_facts:
            self.source_bytes += 0 if facts.frame else facts.source_bytes
            self.sent_bytes += facts.sent_bytes or 0
            if self.saves is not None and outcome.usage.prompt_tokens:
                self.tokens_saved += self.saves(facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What a run did: `runs/<run_id>.json`, and the command line's JSON."""

    run_id: str
    out: str
    exit_code: int
    stopped: str | None
    """Why the run ended early, in one line."""
    model: str | None
    endpoint: str
    config_hash: str
    began_at: datetime
    seconds: float
    images: int | None
    """Records in the source, where known."""
    skipped: int
    """Committed by earlier runs, not asked again."""
    asked: int
    followers: int
    """Of these, rows that share the answer to the same request."""
    requests: int
    by_status: dict[str, int]
    by_error: dict[str, int]
    prompt_tokens: int | None
    """By the ledger, as all sums of this run; None where no answer states it; so `completion_tokens`."""
    completion_tokens: int | None
    cost_usd: Decimal | None
    """The sum of what is known; None where nothing is."""
    cost_unknown_usd: Decimal
    """The most that requests can have cost whose bill is unknown; no part of `cost_usd`."""
    unpriced: int
    rate_limited: int
    by_endpoint: dict[str, int]
    source_bytes: int
    sent_bytes: int
    left_out: int = 0
    """Records that the words of a selection (`only`, or another configuration for some rows) leave out."""
    own_config_hash: str | None = None
    """The configuration of OUT, with which a run without a selection continues; `config_hash` is this run's."""
    by_config: dict[str, int] = field(default_factory=dict)
    """Rows of OUT by the configuration that answered them, OUT's own first; empty where the run has that one."""
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
