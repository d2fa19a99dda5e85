"""The actor that gives out limits and budgets on a Ray cluster, and how runs call it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import orjson

from pipeline import files
from pipeline.engine.stats import RunStats
from pipeline.limits.budget import Amounts
from pipeline.limits.cluster import ClusterLimits, EndpointLimits, EndpointReport, Orders, Permits


@dataclass(frozen=True, slots=True)
class WholeLimits:
    """What all runs on the cluster have together."""

    endpoints: tuple[EndpointLimits, ...]
    budget: Amounts
    notes: Path | None = None
    """The file that holds what was given out, where the budget has to survive this actor."""
    awaited: tuple[str, ...] = ()
    """Holders whose requests of the last minute are not known."""


class LimiterActor:
    """`ClusterLimits` behind calls. What it must not forget is in a file before it is given out."""

    def __init__(self, whole: WholeLimits) -> None:
        self._notes = whole.notes
        noted = self._read()
        granted = {name: Amounts(**amounts) for name, amounts in noted.get("granted", {}).items()}
        awaited = noted.get("holders", whole.awaited)
        self._limits = ClusterLimits(monotonic(), whole.endpoints, whole.budget, granted, awaited)
        self._noted: object = None

    async def register(self, name: str, holds: Amounts, sent: Sequence[tuple[float, float]] | None) -> Orders:
        orders = self._limits.register(monotonic(), name, holds, sent)
        self._note()
        return orders

    async def leave(self, name: str, spent: Amounts) -> None:
        self._limits.leave(name, spent)
        self._note()

    async def exchange(self, name: str, reports: Sequence[EndpointReport], stats: RunStats | None) -> Orders:
        return self._limits.exchange(monotonic(), name, reports, stats)

    async def take(self, name: str, at: int, tokens: float, most: int) -> Permits:
        return self._limits.take(monotonic(), name, at, tokens, most)

    async def more(self, name: str, need: Amounts, wanted: Amounts, *, is_idle: bool) -> tuple[Amounts | None, bool]:
        found = self._limits.more(monotonic(), name, need, wanted, is_idle=is_idle)
        self._note()
        return found

    async def look(self) -> tuple[dict[str, RunStats | None], Amounts]:
        """What each run at work has last reported, and what all shards may have spent."""
        return self._limits.stats(), sum(self._limits.granted.values(), Amounts(0, 0, 0))

    async def end(self, number: int) -> None:
        """Tell all runs to stop, as this signal does."""
        self._limits.stop = number

    def _read(self) -> dict[str, Any]:
        if self._notes is None or not self._notes.is_file():
            return {}
        with suppress(ValueError):
            found: dict[str, Any] = orjson.loads(files.read(self._notes))
            return found
        return {}

    def _note(self) -> None:
        if self._notes is None:
            return
        granted = {name: asdict(amounts) for name, amounts in self._limits.granted.items()}
        noted = {"granted": granted, "holders": self._limits.holders}
        if noted != self._noted:
            files.write_atomic(self._notes, orjson.dumps(noted), durable=True)
            self._noted = noted


class RemoteLimiter:
    """The calls of the actor, for a loop."""

    def __init__(self, actor: Any, again: Callable[[], Any] | None = None) -> None:  # noqa: ANN401 - a handle of Ray
        """`again` gives another actor where this one has ended for good."""
        self._actor, self._again = actor, again

    async def _call(self, method: str, *words: object, **named: object) -> Any:  # noqa: ANN401 - of any call
        try:
            return await getattr(self._actor, method).remote(*words, **named)
        except Exception as error:
            if self._again is not None and type(error).__name__ == "ActorDiedError":
                self._actor = self._again()
            raise

    async def register(self, name: str, holds: Amounts, sent: Sequence[tuple[float, float]] | None) -> Orders:
        found: Orders = await self._call("register", name, holds, sent)
        return found

    async def leave(self, name: str, spent: Amounts) -> None:
        await self._call("leave", name, spent)

    async def exchange(self, name: str, reports: Sequence[EndpointReport], stats: RunStats | None) -> Orders:
        # What counts tokens that were saved is a function of the run, and stays there.
        found: Orders = await self._call("exchange", name, reports, stats and replace(stats, saves=None))
        return found

    async def take(self, name: str, at: int, tokens: float, most: int) -> Permits:
        found: Permits = await self._call("take", name, at, tokens, most)
        return found

    async def more(self, name: str, need: Amounts, wanted: Amounts, *, is_idle: bool) -> tuple[Amounts | None, bool]:
        found: tuple[Amounts | None, bool] = await self._call("more", name, need, wanted, is_idle=is_idle)
        return found
