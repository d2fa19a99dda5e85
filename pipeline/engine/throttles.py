"""Throttles at one endpoint: about its limits, or about a record that is throttled whenever it is sent.

A throttle counts against its record once the very next request is answered.
"""

from collections import deque

from pipeline.engine.stages import RequestState
from pipeline.limits.decision import Known

RECENT, RARE = 100, 10
"""Up to `RARE` throttles of the last `RECENT` results are chance where each states a wait: without it a server that
throttles one request in twenty-five at random would be paced at what the first seconds granted.
"""

Suspects = tuple[RequestState, ...]
"""Records whose throttles came right before a request."""


class Throttles:
    """The throttles of one endpoint."""

    def __init__(self, name: str) -> None:
        self._name, self._count = name, 0
        self._recent = deque[bool](maxlen=RECENT)
        """Whether each of the last results was a throttle."""
        self._suspects: dict[int, Suspects] = {}
        """The last two throttled records, by the number of the next request."""

    @property
    def are_rare(self) -> bool:
        return sum(self._recent) <= RARE

    def before(self, number: int) -> Suspects:
        """The records that were throttled right before this request."""
        return self._suspects.pop(number, ())

    def answered(self, suspects: Suspects) -> None:
        """The request after them was answered: their throttles were about the records, not about a limit."""
        self._recent.append(False)
        for each in suspects:
            each.throttles[self._name] = each.throttles.get(self._name, 0) + 1

    def add(self, state: RequestState) -> None:
        self._recent.append(True)
        self._count += 1
        state.throttled_by[self._name] = state.throttled_by.get(self._name, 0) + 1

    def suspect(self, state: RequestState, number: int, before: Suspects) -> None:
        """The next request shows whether this record is throttled alone."""
        self._suspects[number + 1] = (state, *before[:1])

    def known(self, state: RequestState, answers: int) -> Known:
        """What is known of a record that was just throttled, where the endpoint has answered this often."""
        return Known(
            throttles=state.throttles.get(self._name, 0) + 1,
            times_throttled=state.throttled_by[self._name],
            throttle_share=(self._count - state.times_throttled) / max(1, answers),
        )
