"""What all shards of a run have done together: the counts on screen, and the summary at the end."""

from collections.abc import Iterable
from decimal import Decimal

from pipeline.engine.stats import FIRST_ANSWERS, RunStats, RunSummary

_ADDED = (
    "skipped", "asked", "followers", "requests", "retried", "in_flight", "prompt_tokens", "completion_tokens", "pages",
    "cost_usd", "unpriced", "cost_unknown_usd", "rate_limited", "source_bytes", "sent_bytes", "tokens_saved",
    "latency_s", "read",
)  # fmt: skip
_COUNTED = ("by_status", "by_error", "by_state", "by_endpoint")


def summed(each: Iterable[RunStats], into: RunStats) -> RunStats:
    """`into`, which holds what is of the whole run, with the counts of all shards."""
    waits = []
    for stats in each:
        for name in _ADDED:
            setattr(into, name, getattr(into, name) + getattr(stats, name))
        for name in _COUNTED:
            getattr(into, name).update(getattr(stats, name))
        for kind, example in stats.examples.items():
            into.examples.setdefault(kind, example)
        into.first_answers += stats.first_answers[: FIRST_ANSWERS - len(into.first_answers)]
        into.pauses = (*into.pauses, *stats.pauses)
        if stats.in_flight or stats.waiting:
            waits.append((stats.waiting, stats.paused_s))
    if waits and all(waiting for waiting, _ in waits):
        into.waiting, into.paused_s = min(waits, key=lambda one: one[1])
    return into


def saved_usd(summaries: Iterable[RunSummary]) -> Decimal | None:
    """What smaller images would have cost more, where a price is known."""
    known = [one.saved_usd for one in summaries if one.saved_usd is not None]
    return sum(known, Decimal(0)) if known else None
