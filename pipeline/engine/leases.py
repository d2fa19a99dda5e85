"""What a run takes from limits and budgets that it has together with other runs, which another process gives out."""

from collections.abc import Sequence
from typing import Protocol

from pipeline.engine.state import EndpointState
from pipeline.engine.stats import RunStats
from pipeline.errors import VisionBatchError
from pipeline.limits.budget import Amounts, Budget


class Leases(Protocol):
    """Asked by the scheduler before each request, and once a tick."""

    def begin(self, spent: Amounts) -> list[Budget]:
        """The budgets of a run that has spent this before; none where nothing is bounded."""

    def take(self, endpoint: int, tokens: float) -> float | None:
        """Use a permit for a request of this many tokens: None. Else the seconds to wait; 0: `fetch` brings more."""

    async def fetch(self, endpoint: int, tokens: float, places: int) -> None:
        """Ask for permits, for as many requests as may be in flight beside those that are."""

    async def extend(self, budgets: Sequence[Budget], need: Amounts, requests: int) -> bool:
        """Ask for more of the budget, enough for one request or for several, or wait a moment for it.

        False where none is left.
        """

    async def exchange(self, endpoints: Sequence[EndpointState], stats: RunStats) -> VisionBatchError | None:
        """Report what was seen of each endpoint, and apply what others have seen. Returns what ends the run."""
