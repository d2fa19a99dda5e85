"""The requests in flight: shielded from the end of the run for a while, and given up when they take too long."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

import anyio

from pipeline.engine.scheduler import Permit, Scheduler
from pipeline.engine.stages import Clock
from pipeline.engine.stats import RunStats
from pipeline.engine.writer import Writer
from pipeline.errors import ErrorKind
from pipeline.records import Answer, Failure


@dataclass(slots=True, eq=False)
class InFlight:
    """One request in flight."""

    permit: Permit
    home: anyio.CancelScope
    """Shields it and the hand-over of its answer from the end of the run, for a while."""
    attempt: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    given_up: Failure | None = None

    def give_up(self, waited_s: float | None) -> None:
        """Wait no longer for it. `waited_s` is None where the machine slept: then it is sent again."""
        if waited_s is not None:
            message = f"no answer within {waited_s:.0f} s, while others take far less (limits.straggler_s)"
            self.given_up = Failure(kind=ErrorKind.TIMEOUT, message=message)
        self.attempt.cancel()


class InFlightRequests:
    """All requests in flight of a run."""

    def __init__(self, scheduler: Scheduler, writer: Writer, stats: RunStats, clock: Clock) -> None:
        self._scheduler, self._writer, self._stats, self._clock = scheduler, writer, stats, clock
        self._requests: set[InFlight] = set()
        self._home_by = inf
        """When the last answer must be home: a request may be sent in the very moment in which the run is stopped."""
        self.cut_off = 0
        """Requests that the end of the run did not wait for."""

    def bound(self, grace_s: float) -> None:
        """The run is stopped: they have this long to come home."""
        self._home_by = min(self._home_by, anyio.current_time() + grace_s)
        for request in self._requests:
            request.home.deadline = self._home_by

    def cancel(self) -> None:
        """Wait for none of them."""
        for request in self._requests:
            request.home.cancel()

    def watch(self, now: float, *, has_slept: bool) -> None:
        """Give up requests that take too long, and those that this machine slept through."""
        for request in tuple(self._requests):
            permit = request.permit
            if has_slept:
                request.give_up(None)
            elif now >= permit.sent_at + permit.endpoint.timeout.timeout_s(permit.state.timeouts):
                request.give_up(now - permit.sent_at)

    @contextmanager
    def sending(self, permit: Permit) -> Iterator[InFlight]:
        with anyio.CancelScope(shield=True, deadline=self._home_by) as home:
            request = InFlight(permit, home)
            self._requests.add(request)
            self._stats.requests += 1
            self._stats.by_endpoint[permit.endpoint.name] += 1
            self._stats.in_flight += 1
            try:
                yield request
            finally:
                self._stats.in_flight -= 1
                self._requests.discard(request)
                if not permit.is_settled:
                    self.cut_off += home.cancel_called
                    self._abandon(permit)

    async def answer(self, request: InFlight) -> Answer | Failure | None:
        """The result, or that it took too long; None where it is sent again as if nothing had been."""
        permit = request.permit
        with request.attempt:
            result = await permit.endpoint.endpoint.ask(permit.state.request)
            permit.state.add(result)
            return result
        permit.state.attempts += 1
        return request.given_up

    def _abandon(self, permit: Permit) -> None:
        """The run no longer waits for this answer, and it may have been billed."""
        unknown = self._scheduler.release(permit, None)
        if unknown:
            self._writer.take(permit.state.billed(None, self._clock.utc(), unknown))
