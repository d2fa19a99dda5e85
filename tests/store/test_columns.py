"""Outcomes as rows of `data/`."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from pipeline.errors import ErrorKind
from pipeline.locations import LocalFile
from pipeline.records import Answer, Failure, ImageFacts, ImageRecord, Outcome, Status, Usage
from pipeline.store.columns import RowOrigin, error_of, row_of

NOON = datetime(2026, 11, 3, 12, 0, 0, 123456, tzinfo=UTC)

ANSWERED = Outcome(
    record=ImageRecord("a/b.jpg", (LocalFile("a/b.jpg", "/photos/a/b.jpg"),), extra='{"split":"train"}', line=2),
    result=Answer(
        status=Status.OK,
        caption="A quay.",
        model="gpt-4o-2024-08-06",
        provider="azure",
        finish_reason="stop",
        request_id="req_1",
        latency_s=1.25,
        error_message="not shown where the status is ok",
    ),
    image_facts=(
        ImageFacts(
            width=4032,
            height=3024,
            sent_width=1024,
            sent_height=768,
            sent_bytes=150_000,
            source_bytes=3_000_000,
            sha256="ab" * 32,
        ),
    ),
    request_sha256="cd" * 32,
    predicted_prompt_tokens=765,
    token_rule="openai-tiles",  # noqa: S106 - names a rule about tokens
    attempts=2,
    usage=Usage(prompt_tokens=800, cached_tokens=3, completion_tokens=5, reasoning_tokens=1, total_tokens=805),
    cost_usd=Decimal("0.0000000015"),
    asked_at=NOON,
    answered_at=NOON,
)
FAILED = Outcome(
    record=ImageRecord("c.jpg", (LocalFile("c.jpg", "/photos/c.jpg"),)),
    result=Failure(kind=ErrorKind.TIMEOUT, message="no answer within 300 s", model="m", request_id="r"),
    attempts=6,
)


def rowed(outcome: Outcome) -> dict[str, object]:
    return row_of(outcome, RowOrigin(endpoint="http://e/v1", run_id="run", config_hash="hash"))


def test_an_answer_fills_its_columns() -> None:
    """Proves which part of an outcome stands in which column, for an answer."""
    assert rowed(ANSWERED) == {
        "id": "a/b.jpg",
        "prompt_name": "caption",
        "images": [
            {
                "image": "a/b.jpg",
                "sha256": "ab" * 32,
                "width": 4032,
                "height": 3024,
                "sent_width": 1024,
                "sent_height": 768,
                "sent_bytes": 150_000,
            }
        ],
        "image": "a/b.jpg",
        "status": "ok",
        "caption": "A quay.",
        "captions": None,
        "confidence": None,
        "labels": None,
        "pages": None,
        "document_annotation": None,
        "features": None,
        "flags": [],
        "model": "gpt-4o-2024-08-06",
        "endpoint": "http://e/v1",
        "provider": "azure",
        "finish_reason": "stop",
        "request_id": "req_1",
        "prompt_tokens": 800,
        "cached_tokens": 3,
        "completion_tokens": 5,
        "reasoning_tokens": 1,
        "total_tokens": 805,
        "predicted_prompt_tokens": 765,
        "token_rule": "openai-tiles",
        "cost_usd": Decimal("0.000000002"),
        "attempts": 2,
        "latency_s": 1.25,
        "width": 4032,
        "height": 3024,
        "sent_width": 1024,
        "sent_height": 768,
        "sent_bytes": 150_000,
        "sha256": "ab" * 32,
        "request_sha256": "cd" * 32,
        "duplicate_of": None,
        "error_kind": None,
        "error_message": None,
        "run_id": "run",
        "config_hash": "hash",
        "asked_at": NOON,
        "answered_at": NOON,
        "record": '{"split":"train"}',
    }


def test_a_failure_says_why_and_nothing_else() -> None:
    """Proves that a failed row holds kind and message, no caption, and null for every unknown number."""
    row = rowed(FAILED)
    told = {name: value for name, value in row.items() if value is not None}
    assert told == {
        "id": "c.jpg",
        "prompt_name": "caption",
        "images": [
            dict.fromkeys(("sha256", "width", "height", "sent_width", "sent_height", "sent_bytes")) | {"image": "c.jpg"}
        ],
        "image": "c.jpg",
        "status": "failed",
        "flags": [],
        "model": "m",
        "endpoint": "http://e/v1",
        "request_id": "r",
        "attempts": 6,
        "error_kind": "timeout",
        "error_message": "no answer within 300 s",
        "run_id": "run",
        "config_hash": "hash",
    }
    assert row.keys() == rowed(ANSWERED).keys()


def test_a_refusal_keeps_its_reason() -> None:
    """Proves that an answer which is not `ok` shows its kind and message."""
    refused = Answer(status=Status.REFUSED, caption=None, error_kind=ErrorKind.CONTENT_FILTER, error_message="flagged")
    row = rowed(replace(FAILED, result=refused))
    assert (row["status"], row["error_kind"], row["error_message"]) == ("refused", "content_filter", "flagged")
    assert error_of(replace(FAILED, result=refused)) == (ErrorKind.CONTENT_FILTER, "flagged")


@pytest.mark.parametrize("cost", ["NaN", "Infinity", "1000000000", "-1e20"])
def test_numbers_that_no_column_holds_become_null(cost: str) -> None:
    """Proves that nonsense in a usage or price cannot make a row that Parquet refuses later."""
    usage = Usage(prompt_tokens=2**63, completion_tokens=-(2**70), total_tokens=2**63 - 1)
    row = rowed(replace(ANSWERED, usage=usage, cost_usd=Decimal(cost)))
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (None, None, 2**63 - 1)
    assert row["cost_usd"] is None
