"""What `on_progress` receives while a run goes on."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from time import monotonic

from pipeline.api.callbacks import checked
from pipeline.engine.stats import RunStats


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """A run at one moment. All counts are of committed rows."""

    done: int
    """Records with a row: those of this run, and those that earlier runs answered."""
    total: int | None
    """Records of the source; None where the source does not say."""
    asked: int
    """Rows of this run."""
    by_status: dict[str, int]
    """Rows of this run per status: `ok`, `truncated`, `refused`, `invalid`, `failed`."""
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Decimal | None
    """Cost of this run so far; None where no price is known."""
    cost_unknown_usd: Decimal
    """The most that requests without a known bill can have cost. It is not part of `cost_usd`."""
    elapsed_s: float
    eta_s: float | None
    """Expected seconds until the end; None before the first row, and where `total` is unknown."""
    waiting: str | None
    """What the whole run waits for; None while requests are sent."""


def reporter(on_progress: Callable[[RunProgress], None]) -> Callable[[RunStats], None]:
    """A function of the engine's counts that calls `on_progress`. Time counts from now."""
    began, report = monotonic(), checked("on_progress", on_progress)
    return lambda stats: report(progress_of(stats, monotonic() - began))


def progress_of(stats: RunStats, elapsed_s: float) -> RunProgress:
    """The counts of a run as a frozen value."""
    left = None if stats.total is None else stats.total - stats.done
    return RunProgress(
        done=stats.done,
        total=stats.total,
        asked=stats.asked,
        by_status={status.value: count for status, count in stats.by_status.items()},
        prompt_tokens=stats.prompt_tokens,
        completion_tokens=stats.completion_tokens,
        cost_usd=stats.known_cost_usd,
        cost_unknown_usd=stats.cost_unknown_usd,
        elapsed_s=elapsed_s,
        eta_s=None if left is None or not stats.asked else elapsed_s / stats.asked * left,
        waiting=stats.waiting,
    )
