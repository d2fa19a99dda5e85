"""Time during a run: its end, requests that take too long, and a machine that slept."""

from collections.abc import Callable
from math import inf

from pipeline.engine.in_flight import InFlightRequests
from pipeline.engine.scheduler import Scheduler
from pipeline.engine.stages import Clock
from pipeline.errors import BudgetReachedError, VisionBatchError

SLEPT_S = 20.0
"""The wall clock ran this far ahead of the monotonic one: this machine was asleep."""


class Watch:
    """Gives up what takes too long, and stops the run when its time is up."""

    def __init__(
        self,
        scheduler: Scheduler,
        in_flight: InFlightRequests,
        max_time_s: float | None,
        clock: Clock,
        stop: Callable[[VisionBatchError], None],
    ) -> None:
        self._scheduler, self._in_flight, self._clock, self._stop = scheduler, in_flight, clock, stop
        self._max_time_s = inf if max_time_s is None else max_time_s
        self._began, self._slept_s = clock.now(), 0.0
        self._epoch = clock.utc().timestamp() - self._began

    async def tick(self) -> None:
        """Requests that take too long, and those that this machine slept through, are given up."""
        now = self._clock.now()
        asleep_s = (self._clock.utc().timestamp() - now) - self._epoch
        self._epoch += asleep_s
        has_slept = asleep_s > SLEPT_S
        if has_slept:
            self._slept_s += asleep_s
            for endpoint in self._scheduler.endpoints:
                endpoint.woke(asleep_s)
            self._scheduler.notify()
        if self._slept_s and now - self._began + self._slept_s >= self._max_time_s:
            self._end()  # which passed while the clock of `time` stood still
        self._in_flight.watch(now, has_slept=has_slept)

    async def time(self) -> None:
        """Stop the run when its time is up."""
        if self._max_time_s < inf:
            await self._clock.sleep(self._max_time_s)
            self._end()

    def _end(self) -> None:
        self._stop(BudgetReachedError("the time is up", what="time"))
