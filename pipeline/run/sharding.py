"""What one shard of an array may use of the limits and budgets of all, and what is said of it."""

from collections.abc import Callable
from decimal import Decimal

from pipeline.config.limits import BudgetConfig
from pipeline.config.run_config import RunConfig
from pipeline.config.shards import SourceShard
from pipeline.engine.progress import counted, dollars
from pipeline.sources import Source
from pipeline.sources.sharded import sharding_of


def limits_shard(config: RunConfig) -> SourceShard | None:
    """The shard whose share of the limits and budgets counts; None where they are whole."""
    return config.source.own_shard if config.limits.divide else None


def shared_budget(config: RunConfig) -> BudgetConfig:
    """The share of the budgets: what all shards have adds up to no more than what is set."""
    budget, shard = config.budget, limits_shard(config)
    if shard is None:
        return budget
    usd = {name: getattr(budget, name) for name in ("max_cost_usd", "max_cost_total_usd", "confirm_usd")}
    counts = {name: getattr(budget, name) for name in ("max_requests", "max_tokens")}
    shares = {name: shard.usd_of(whole) for name, whole in usd.items() if whole is not None}
    return budget.model_copy(
        update={**shares, **{name: shard.part_of(whole) for name, whole in counts.items() if whole is not None}}
    )


def say_shard(config: RunConfig, source: Source, total: int | None, say: Callable[[str], None]) -> None:
    """What of the source is this shard's, and what it may use of limits and budgets: a line each."""
    shard = config.source.own_shard
    if shard is None:
        return
    say(_source_words(shard, source, total))
    if total == 0:
        return
    if limits_shard(config) is None:
        say(f"limits and budgets are whole: each of the {shard.count} shards may use all of them")
        return
    shares = ", ".join(_shares(config, shard))
    say(
        f"limits and budgets are divided by {shard.count}, those that the endpoint advertises too"
        f"{f': {shares}' if shares else ''} (`divide_limits=False` keeps them whole)"
    )


def _source_words(shard: SourceShard, source: Source, total: int | None) -> str:
    found = sharding_of(source)
    words = [f"shard {shard}: {'images unknown until they are read' if total is None else counted(total, 'image')}"]
    if found.files:
        words.append(f"{found.own:,} of {counted(found.files, 'file')}, by the hash of the name")
    if found.is_by_id:
        words.append("by the hash of the id")
    if found.single is not None:
        words.append(f"{found.single} is one file, and every shard reads it")
    nothing = ": nothing to ask" if total == 0 else ""
    return f"{'; '.join(words)}{nothing}"


def _shares(config: RunConfig, shard: SourceShard) -> list[str]:
    limits, budget, own = config.limits, config.budget, shared_budget(config)
    found = [
        f"{_number(whole / shard.count)} of {_number(whole)} {what} a minute"
        for whole, what in ((limits.rpm, "requests"), (limits.tpm, "tokens"))
        if whole is not None
    ]
    if isinstance(limits.concurrency, int):
        found.append(f"{shard.part_of(limits.concurrency):,} of {limits.concurrency:,} in flight")
    for name in ("max_cost_usd", "max_cost_total_usd"):
        whole, share = getattr(budget, name), getattr(own, name)
        if isinstance(whole, Decimal):
            found.append(f"{dollars(share)} of {dollars(whole)}{' over all runs' if 'total' in name else ''}")
    for name, what in (("max_requests", "requests"), ("max_tokens", "tokens")):
        if (count := getattr(budget, name)) is not None:
            found.append(f"{getattr(own, name):,} of {count:,} {what}")
    return found


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 and value == int(value) else f"{value:,.4g}"
