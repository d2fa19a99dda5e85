"""How long one request may take before it counts as lost: a timeout that follows the observed latency."""

from collections import deque
from dataclasses import dataclass, field

WINDOW = 200
FEW, ENOUGH = 5, 20
TIMES = 4.0
"""As slow as this many times the slowest of twenty answers is no slow answer any more."""
QUANTILE = 0.95


@dataclass(slots=True)
class AdaptiveTimeout:
    """Between `least_s` and `most_s`; the most until enough answers are known."""

    least_s: float
    most_s: float
    _latencies: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _added: int = 0
    _usual_s: float | None = None

    def add(self, latency_s: float) -> None:
        """An answer took so long."""
        self._latencies.append(latency_s)
        self._added += 1
        if self._added == FEW or self._added % ENOUGH == 0:
            ordered = sorted(self._latencies)
            self._usual_s = ordered[int(QUANTILE * (len(ordered) - 1))]

    def timeout_s(self, timeouts: int) -> float:
        """For a record's next request; each of its own that took too long doubles it, since it may be slow."""
        if self._usual_s is None:
            return self.most_s
        return min(self.most_s, max(self.least_s, TIMES * self._usual_s) * 2.0 ** min(timeouts, 10))
