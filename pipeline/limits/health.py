"""Is it the request itself that is wrong? Told from how the answers of many records ended."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pipeline.errors import ErrorKind

FIRST = 20
"""A run whose first results are all alike bad ends after this many; without it a wrong request is paid for longer."""
SOONER: Final[Mapping[str, int]] = {ErrorKind.REASONING_EXHAUSTED: 5}
"""First records alike that are enough: answers that have no room come to it each time, and each is billed whole."""
WINDOW = 200
"""Results that an error rate is of; in fewer, chance would end a run."""
_WAYS_OUT: Final[Mapping[str, str]] = {
    ErrorKind.REASONING_EXHAUSTED: "give them more room with `request.reasoning_allowance=16000`, or less to think "
    "about with a lower `request.reasoning_effort`",
    ErrorKind.HOOK_FAILED: "check the hook",
}


@dataclass(slots=True)
class Health:
    """The last endings of records that reached the endpoint; None stands for a good answer."""

    max_error_rate: float = 0.5
    has_answers: bool = False
    """The same question has been answered well before: the first records prove nothing against it."""
    _seen: int = 0
    _last: deque[str | None] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def add(self, kind: str | None) -> str | None:
        """Count one ending. Returns the kind that too many of them share, else None."""
        self._seen += 1
        self._last.append(kind)
        if kind is None or self._seen < min(FIRST, *SOONER.values()):
            return None
        alike, count = Counter(self._last).most_common(1)[0]
        if alike is None:
            return None
        if self._seen == count == SOONER.get(alike, FIRST) and not self.has_answers:
            return alike
        return alike if self._seen >= WINDOW and count > self.max_error_rate * WINDOW else None


def way_out(alike: str) -> str:
    """What mends an ending that many records share."""
    return _WAYS_OUT.get(alike, "check the prompt and the model")
