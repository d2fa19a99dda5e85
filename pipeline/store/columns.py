"""An `Outcome` as one row of `data/`, as one small number in the ledger, and as what it adds to the totals.

Everything here is exact: money is counted in nano-dollars, the resolution of the column `cost_usd`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from pipeline.errors import ErrorKind
from pipeline.money import Bill, nano_usd, usd, usd_text
from pipeline.records import Answer, Failure, Outcome, Shared, Status, Usage, has_no_text
from pipeline.tokens.ratios import count_billed

_LARGEST_INT = 2**63 - 1

# These numbers are stored: new statuses and kinds are added at the end, none is ever changed.
_STATUS_CODES = {
    Status.OK: 1,
    Status.TRUNCATED: 2,
    Status.REFUSED: 3,
    Status.INVALID: 4,
    Status.FAILED: 5,
}
_KIND_CODES = {
    ErrorKind.IMAGE_MISSING: 1,
    ErrorKind.IMAGE_UNREADABLE: 2,
    ErrorKind.IMAGE_TRUNCATED: 3,
    ErrorKind.IMAGE_UNSUPPORTED: 4,
    ErrorKind.IMAGE_BOMB: 5,
    ErrorKind.IMAGE_TOO_LARGE: 6,
    ErrorKind.FETCH_FAILED: 7,
    ErrorKind.RATE_LIMITED: 8,
    ErrorKind.REQUEST_EXCEEDS_LIMIT: 9,
    ErrorKind.OVERLOADED: 10,
    ErrorKind.SERVER_ERROR: 11,
    ErrorKind.TIMEOUT: 12,
    ErrorKind.CONNECTION: 13,
    ErrorKind.UNREACHABLE: 14,
    ErrorKind.INVALID_RESPONSE: 15,
    ErrorKind.EMPTY_ANSWER: 16,
    ErrorKind.IMAGE_IGNORED: 17,
    ErrorKind.BAD_REQUEST: 18,
    ErrorKind.REQUEST_TOO_LARGE: 19,
    ErrorKind.CONTENT_FILTER: 20,
    ErrorKind.REFUSED: 21,
    ErrorKind.REASONING_EXHAUSTED: 22,
    ErrorKind.AUTHENTICATION: 23,
    ErrorKind.PERMISSION: 24,
    ErrorKind.QUOTA_EXHAUSTED: 25,
    ErrorKind.MODEL_NOT_FOUND: 26,
}
_STATUS_OF = {code: status for status, code in _STATUS_CODES.items()}
_KIND_OF = {code: kind for kind, code in _KIND_CODES.items()}


def state_code(status: Status, kind: ErrorKind | None) -> int:
    """Status and kind as the number that the ledger keeps for a record."""
    return _STATUS_CODES[status] + (8 * _KIND_CODES[kind] if kind is not None else 0)


def state_of(code: int) -> tuple[Status, ErrorKind | None]:
    """The inverse of `state_code`."""
    return _STATUS_OF[code % 8], _KIND_OF.get(code // 8)


def error_of(outcome: Outcome) -> tuple[ErrorKind | None, str | None]:
    """The columns `error_kind` and `error_message`: null where the status is `ok`."""
    result = outcome.result
    if isinstance(result, Failure):
        return result.kind, result.message
    if result.status is Status.OK:
        return None, None
    return result.error_kind, result.error_message


def count_bill(counts: Counter[str], bill: Bill, times: int = 1) -> None:
    """Add what billed attempts come to; with `times` = -1 take it away, where a row counts them again."""
    usage = bill.usage
    counts["requests"] += times * bill.attempts
    counts["prompt_tokens"] += times * (_int(usage.prompt_tokens) or 0)
    counts["cached_tokens"] += times * (_int(usage.cached_tokens) or 0)
    counts["completion_tokens"] += times * (_int(usage.completion_tokens) or 0)
    counts["reasoning_tokens"] += times * (_int(usage.reasoning_tokens) or 0)
    counts["total_tokens"] += times * (_int(usage.total_tokens) or 0)
    counts["cost_nano_usd"] += times * (nano_usd(bill.cost_usd) or 0)


def count_outcome(counts: Counter[str], outcome: Outcome) -> None:
    """Add an outcome, its billed attempts included."""
    count_bill(counts, Bill(attempts=outcome.attempts, usage=outcome.usage, cost_usd=outcome.cost_usd))
    counts[outcome.status.value] += 1
    counts["without_text"] += has_no_text(outcome.status, outcome.error_kind)
    if isinstance(outcome.result, Answer):
        counts["predicted_prompt_tokens"] += _int(outcome.predicted_prompt_tokens) or 0
        counts["unpriced"] += nano_usd(outcome.cost_usd) is None
        if outcome.attempts == 1:
            billed, predicted = _int(outcome.usage.prompt_tokens), _int(outcome.predicted_prompt_tokens)
            count_billed(counts, outcome.result.model, billed=billed, predicted=predicted)


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
    counts["shared"] += row["duplicate_of"] is not None
    counts["without_text"] += has_no_text(status, None if row["error_kind"] is None else ErrorKind(row["error_kind"]))
    counts[status.value] += 1


_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "total_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What was asked, answered and paid: in one run, or in all runs on one output directory.

    The statuses count answers as they were kept; a record that was asked again counts each time.
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
    shared: int = 0
    """Records that share another's answer; the statuses count them too."""
    cost_usd: Decimal = Decimal(0)
    cost_unknown_usd: Decimal = Decimal(0)
    """The most that requests can have cost whose bill nobody knows: given up, cut off, or in flight at a kill."""
    unpriced: int = 0
    """Answers whose cost is unknown; `cost_usd` is the sum of the others."""

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
        """From the counts that the ledger keeps; names of other versions are left out."""
        known = {name: value for name, value in counts.items() if name in _COUNTED}
        return Totals(
            **known,
            cost_usd=usd(counts.get("cost_nano_usd", 0)),
            cost_unknown_usd=usd(counts.get("cost_unknown_nano_usd", 0)),
        )


_COUNTED = frozenset(Totals.__dataclass_fields__) - {"cost_usd", "cost_unknown_usd"}


def row_of(outcome: Outcome, *, prompt_name: str, endpoint: str, run_id: str, config_hash: str) -> dict[str, object]:
    """One plain value for each column of `data/`, null included.

    `cost_usd` is a Decimal with nine places, `asked_at` and `answered_at` are as they came. Numbers that
    no column can hold (an endpoint may state anything) become null: a row that is kept can be sealed.
    """
    result, usage, record = outcome.result, outcome.usage, outcome.record
    kind, message = error_of(outcome)
    nano = nano_usd(outcome.cost_usd)
    return {
        "id": record.id,
        "prompt_name": prompt_name,
        "image": record.image,
        "status": outcome.status.value,
        **_answer_columns(result),
        "flags": [],
        "model": result.model,
        "endpoint": endpoint,
        "request_id": result.request_id,
        "prompt_tokens": _int(usage.prompt_tokens),
        "cached_tokens": _int(usage.cached_tokens),
        "completion_tokens": _int(usage.completion_tokens),
        "reasoning_tokens": _int(usage.reasoning_tokens),
        "total_tokens": _int(usage.total_tokens),
        "predicted_prompt_tokens": _int(outcome.predicted_prompt_tokens),
        "token_rule": outcome.token_rule,
        "cost_usd": None if nano is None else usd(nano),
        "attempts": outcome.attempts,
        **_image_columns(outcome),
        "request_sha256": outcome.request_sha256,
        "duplicate_of": None,
        "error_kind": None if kind is None else kind.value,
        "error_message": message,
        "run_id": run_id,
        "config_hash": config_hash,
        "asked_at": outcome.asked_at,
        "answered_at": outcome.answered_at,
        "record": record.extra,
    }


SHARED_COLUMNS = (
    "status", "caption", "captions", "labels", "flags", "model", "endpoint", "provider", "finish_reason", "request_id",
    "error_kind", "error_message", "asked_at", "answered_at",
)  # fmt: skip
"""What a row that shares an answer takes from the row of the record that was asked."""

SHAREABLE = frozenset({Status.OK, Status.TRUNCATED, Status.REFUSED})
"""Answers that another record with the same request need not pay for again."""


def shared_row(shared: Shared, *, prompt_name: str, endpoint: str, run_id: str, config_hash: str) -> dict[str, object]:
    """The row of a record that shares an answer, before it is filled: no tokens, no cost, no request."""
    outcome = Outcome(
        record=shared.record,
        result=Answer(status=shared.status, caption=None),
        image_facts=shared.image_facts,
        request_sha256=shared.request_sha256,
        usage=_NOTHING,
        cost_usd=Decimal(0),
    )
    row = row_of(outcome, prompt_name=prompt_name, endpoint=endpoint, run_id=run_id, config_hash=config_hash)
    return {**row, "latency_s": None}


def filled(row: dict[str, object], asked: Mapping[str, object]) -> dict[str, object]:
    """A shared row with the answer of the row `asked`."""
    taken = {name: asked[name] for name in SHARED_COLUMNS if name in asked}
    return {**row, **taken, "duplicate_of": asked["id"]}


_NOTHING = Usage(prompt_tokens=0, cached_tokens=0, completion_tokens=0, reasoning_tokens=0, total_tokens=0)


def _answer_columns(result: Answer | Failure) -> dict[str, object]:
    if isinstance(result, Failure):
        return dict.fromkeys(("caption", "captions", "provider", "finish_reason", "latency_s"))
    return {
        "caption": result.caption,
        "captions": list(result.captions) or None,
        "provider": result.provider,
        "finish_reason": result.finish_reason,
        "latency_s": result.latency_s,
    }


def _image_columns(outcome: Outcome) -> dict[str, object]:
    facts = outcome.facts
    if facts is None:
        return dict.fromkeys(("width", "height", "sent_width", "sent_height", "sent_bytes", "sha256"))
    return {
        "width": facts.width,
        "height": facts.height,
        "sent_width": facts.sent_width,
        "sent_height": facts.sent_height,
        "sent_bytes": facts.sent_bytes,
        "sha256": facts.sha256,
    }


def _int(value: int | None) -> int | None:
    return value if value is not None and abs(value) <= _LARGEST_INT else None
