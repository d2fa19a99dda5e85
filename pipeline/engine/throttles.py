"""Throttles at one endpoint: about its limits, or about a record that is throttled whenever it is sent.

A throttle counts against its record once the very next request is answered.
"""

from collections import deque
from itertools import islice

from pipeline.engine.stages import RequestState
from pipeline.limits.decision import Known

RARE, RECENT, FEW = 10, 100, 40
"""Throttles that are chance: of the last `RECENT` results where each states a wait, else of the last `FEW`. Without it
a server that throttles one request in twenty at random would be paced at what its first minutes granted.
"""
Suspects = tuple[RequestState, ...]
"""Records whose throttles came right before a request."""


class Throttles:
    """The throttles of one endpoint."""

    def __init__(self, name: str) -> None:
        self._name, self._count, self._in_row = name, 0, 0
        self._recent = deque[bool](maxlen=RECENT)
        """Whether each of the last results was a throttle."""
        self._suspects: dict[int, Suspects] = {}
        """The last two throttled records, by the number of the next request."""
        self._kept = deque[float]()
        """Until when the places of throttled requests are kept."""

    def are_rare(self, *, have_wait: bool) -> bool:
        """Whether so few of the last results were throttles that they may be chance."""
        return sum(islice(reversed(self._recent), RECENT if have_wait else FEW)) <= RARE

    @property
    def are_proven_rare(self) -> bool:
        """Whether that holds of `RECENT` results: then all go on after a pause, and no first one is waited for."""
        return len(self._recent) == RECENT and sum(self._recent) <= RARE

    def keep_place(self, until: float) -> None:
        """Keep the place of a throttled request until its answer would have come, unless it is a single one.

        A throttle comes sooner than an answer: another request at once would be throttled, too, and many more.
        """
        if self._in_row > 1:
            self._kept.append(until)

    def free_at(self, now: float, places: int) -> float:
        """When one of this many places is free, some of them kept."""
        while self._kept and self._kept[0] <= now:
            self._kept.popleft()
        return self._kept[0] if len(self._kept) >= places else now

    def before(self, number: int) -> Suspects:
        """The records that were throttled right before this request."""
        return self._suspects.pop(number, ())

    def answered(self, suspects: Suspects) -> None:
        """The request after them was answered: their throttles were about the records, not about a limit."""
        self._recent.append(False)
        self._in_row = 0
        for each in suspects:
            each.throttles[self._name] = each.throttles.get(self._name, 0) + 1

    def add(self, state: RequestState) -> None:
        self._recent.append(True)
        self._in_row += 1
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
