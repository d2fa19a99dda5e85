"""The summary of a run: of one command, or of all shards of a cluster together."""

from collections import Counter
from datetime import datetime
from typing import Any

from pipeline.engine.stats import RunStats, RunSummary
from pipeline.errors import VisionBatchError
from pipeline.money import known_cost
from pipeline.records import is_unanswered
from pipeline.run.job import Job, endpoint_name, exceeds
from pipeline.run.rows_of_out import State, by_kind
from pipeline.store.accounting import Totals


def summarise(
    job: Job,
    stats: RunStats,
    took: Totals,
    before: Counter[State],
    stopped: VisionBatchError | None,
    *,
    run_id: str,
    began_at: datetime,
    seconds: float,
    is_priced: bool = True,
) -> RunSummary:
    """What a command has done: it `took` tokens and money, and rows are left from `before`, as `rows_before` gives.

    `is_priced`: a price is known where no answer states one.
    """
    bad_before = sum(rows for state, rows in before.items() if is_unanswered(*state))
    too_many = exceeds(job.max_failed, stats.bad, stats.asked) or (job.fail_on_any and stats.bad + bad_before > 0)
    return RunSummary(
        run_id=run_id, out=job.name, model=job.config.request.model, endpoint=endpoint_name(job),
        config_hash=job.config.config_hash(), began_at=began_at, seconds=seconds,
        exit_code=stopped.exit_code if stopped else int(too_many),
        stopped=str(stopped) if stopped else None,
        images=None if stats.total is None else stats.total // stats.prompts,
        prompts=stats.prompts, skipped=stats.skipped, asked=stats.asked, followers=stats.followers,
        requests=stats.requests, retried=stats.retried, rate_limited=stats.rate_limited,
        by_status={status.value: count for status, count in stats.by_status.items()},
        by_error=dict(stats.by_error),
        by_endpoint=dict(stats.by_endpoint),
        source_bytes=stats.source_bytes, sent_bytes=stats.sent_bytes, tokens_saved=stats.tokens_saved,
        bad=stats.bad, bad_before=bad_before, still=by_kind(before), examples=list(stats.examples.values()),
        passed_over=dict(stats.passed_over),
        **_bill(stats, took, is_priced=is_priced),
    )  # fmt: skip


def _bill(stats: RunStats, took: Totals, *, is_priced: bool) -> dict[str, Any]:
    """What it took in tokens and money; None where no answer states it."""
    is_unknown = took.unpriced > 0 or (stats.requests > 0 and not is_priced and not stats.answered)
    none = None if stats.answered or took.cost_unknown_usd else 0
    return {
        "prompt_tokens": took.prompt_tokens or none,
        "completion_tokens": took.completion_tokens or none,
        "pages": took.pages,
        "cost_usd": known_cost(took.cost_usd, took.cost_unknown_usd, is_unknown=is_unknown),
        "cost_unknown_usd": took.cost_unknown_usd,
        "unpriced": took.unpriced,
    }


def totals_of(stats: RunStats) -> Totals:
    """What was taken by the counts of a run, where no ledger tells it."""
    return Totals(
        prompt_tokens=stats.prompt_tokens,
        completion_tokens=stats.completion_tokens,
        cost_usd=stats.cost_usd,
        cost_unknown_usd=stats.cost_unknown_usd,
        unpriced=stats.unpriced,
        pages=stats.pages,
    )
