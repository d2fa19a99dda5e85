"""The pauses of a run, as its ledger keeps them: those that follow each other closely are one."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pipeline.engine.stages import Clock
from pipeline.engine.state import EndpointState
from pipeline.limits.circuit import Pause
from pipeline.limits.pauses import Paused

CLOSE: Final = 0.01
"""Pauses are one where less of the run than this share lies between them: a day of short ones is a short list."""
CLOSE_S: Final = 1.0


class PauseLog:
    """Takes pauses out of circuits, and puts dates on them."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._began = clock, clock.now()
        self._ended: list[Paused] = []
        self._begun: dict[tuple[str, float], datetime] = {}
        """When those began that go on: a pause keeps its date, whatever the clocks do."""

    def noted(self, endpoints: Iterable[EndpointState]) -> tuple[Paused, ...]:
        """All pauses up to now; those that go on end now."""
        open_ones = []
        for endpoint in endpoints:
            found, endpoint.circuit.pauses = endpoint.circuit.pauses, []
            for pause in found:
                if pause.ended is None:
                    endpoint.circuit.pauses.append(pause)
                    open_ones.append(self._dated(endpoint.name, pause))
                else:
                    self._add(self._dated(endpoint.name, pause))
        return (*self._ended, *open_ones)

    def _dated(self, endpoint: str, pause: Pause) -> Paused:
        now, utc = self._clock.now(), self._clock.utc()
        key, until = (endpoint, pause.began), now if pause.ended is None else pause.ended
        began = self._begun.setdefault(key, utc - timedelta(seconds=now - pause.began))
        if pause.ended is not None:
            del self._begun[key]
        seconds = until - pause.began
        return Paused(endpoint, pause.reason.value, began, began + timedelta(seconds=seconds), 1, seconds)

    def _add(self, new: Paused) -> None:
        close_s = max(CLOSE_S, CLOSE * (self._clock.now() - self._began))
        for at, old in enumerate(self._ended):
            is_alike = (old.endpoint, old.reason) == (new.endpoint, new.reason)
            if is_alike and 0 <= (new.began_at - old.ended_at).total_seconds() < close_s:
                times, seconds = old.times + 1, old.seconds + new.seconds
                self._ended[at] = replace(old, ended_at=new.ended_at, times=times, seconds=seconds)
                return
        self._ended.append(new)
