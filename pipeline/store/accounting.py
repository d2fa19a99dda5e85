"""What outcomes add to the totals that the ledger holds, of each run and of all; `engine/stats.py` counts a command.

Sums are exact: money is counted in nano-dollars, the resolution of the column `cost_usd`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from pipeline.errors import ErrorKind
from pipeline.money import Bill, nano_usd, usd, usd_text
from pipeline.records import Answer, Outcome, Status, has_no_text
from pipeline.tokens.ratios import count_billed

_LARGEST_INT = 2**63 - 1


def storable(value: int | None) -> int | None:
    """None in place of a number that no column holds: an endpoint may state anything."""
    return value if value is not None and abs(value) <= _LARGEST_INT else None


def count_bill(counts: Counter[str], bill: Bill, times: int = 1) -> None:
    """Add what billed attempts come to; with `times` = -1 take it away, where a row counts them again."""
    usage = bill.usage
    counts["requests"] += times * bill.attempts
    counts["prompt_tokens"] += times * (storable(usage.prompt_tokens) or 0)
    counts["cached_tokens"] += times * (storable(usage.cached_tokens) or 0)
    counts["completion_tokens"] += times * (storable(usage.completion_tokens) or 0)
    counts["reasoning_tokens"] += times * (storable(usage.reasoning_tokens) or 0)
    counts["total_tokens"] += times * (storable(usage.total_tokens) or 0)
    if usage.pages is not None:
        counts["pages"] += times * (storable(usage.pages) or 0)
    counts["cost_nano_usd"] += times * (nano_usd(bill.cost_usd) or 0)


def count_outcome(counts: Counter[str], outcome: Outcome) -> None:
    """Add an outcome, its billed attempts included."""
    count_bill(counts, Bill(attempts=outcome.attempts, usage=outcome.usage, cost_usd=outcome.cost_usd))
    counts[outcome.status.value] += 1
    counts["without_text"] += has_no_text(outcome.status, outcome.error_kind)
    if isinstance(outcome.result, Answer):
        counts["predicted_prompt_tokens"] += storable(outcome.predicted_prompt_tokens) or 0
        counts["unpriced"] += nano_usd(outcome.cost_usd) is None
        if outcome.attempts == 1:
            billed, predicted = storable(outcome.usage.prompt_tokens), storable(outcome.predicted_prompt_tokens)
            count_billed(counts, outcome.result.model, billed=billed, predicted=predicted)


def count_follower(counts: Counter[str], status: Status, kind: ErrorKind | None) -> None:
    """Add a record that takes its leader's answer: no request, no tokens, no cost."""
    counts[status.value] += 1
    counts["without_text"] += has_no_text(status, kind)
    counts["deduplicated"] += 1


def count_row(counts: Counter[str], row: Mapping[str, Any]) -> None:
    """Add what a row says of itself, where nothing else counts it: as `data/` or the ledger holds it."""
    status = Status(row["status"])
    for name in _TOKENS:
        counts[name] += row[name] or 0
    cost_usd = None if row["cost_usd"] is None else Decimal(str(row["cost_usd"]))
    counts["cost_nano_usd"] += nano_usd(cost_usd) or 0
    counts["requests"] += row["attempts"] or 0
    counts["predicted_prompt_tokens"] += row["predicted_prompt_tokens"] or 0
    counts["unpriced"] += cost_usd is None and status is not Status.FAILED
    if status is not Status.FAILED and row["attempts"] == 1:
        count_billed(counts, row["model"], billed=row["prompt_tokens"], predicted=row["predicted_prompt_tokens"])
    counts["deduplicated"] += row["duplicate_of"] is not None
    counts["without_text"] += has_no_text(status, None if row["error_kind"] is None else ErrorKind(row["error_kind"]))
    counts[status.value] += 1


_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "total_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What was asked, answered and paid: in one run, or in all runs on one output directory.

    The statuses count committed answers; a record that was asked again counts each time.
    """

    requests: int = 0
    ok: int = 0
    truncated: int = 0
    refused: int = 0
    invalid: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    predicted_prompt_tokens: int = 0
    deduplicated: int = 0
    """Records that took another record's answer; the statuses count them too."""
    cost_usd: Decimal = Decimal(0)
    cost_unknown_usd: Decimal = Decimal(0)
    """The most that requests with an unknown bill can have cost: timed out, cut off, or in flight at a kill."""
    unpriced: int = 0
    """Answers whose cost is unknown; `cost_usd` is the sum of the others."""

    pages: int = 0
    """As billed, where pages are."""
    tokens_unknown: int = 0
    """The most that such requests can have taken."""

    @property
    def tokens(self) -> int:
        """What a budget counts."""
        return self.prompt_tokens + self.completion_tokens + self.tokens_unknown

    @property
    def spent_usd(self) -> Decimal:
        """What a budget counts."""
        return self.cost_usd + self.cost_unknown_usd

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; money as text."""
        return asdict(self) | {
            "cost_usd": usd_text(self.cost_usd),
            "cost_unknown_usd": usd_text(self.cost_unknown_usd),
        }

    @property
    def records(self) -> int:
        return self.ok + self.truncated + self.refused + self.invalid + self.failed

    def __sub__(self, other: "Totals") -> "Totals":
        """What has come on top since `other`."""
        return Totals(**{name: getattr(self, name) - getattr(other, name) for name in Totals.__dataclass_fields__})

    @staticmethod
    def of(counts: Mapping[str, int]) -> "Totals":
        """From the counts that the ledger stores; names of token ratios are left out."""
        known = {name: value for name, value in counts.items() if name in _COUNTED}
        return Totals(
            **known,
            cost_usd=usd(counts.get("cost_nano_usd", 0)),
            cost_unknown_usd=usd(counts.get("cost_unknown_nano_usd", 0)),
        )


_COUNTED = frozenset(Totals.__dataclass_fields__) - {"cost_usd", "cost_unknown_usd"}
