"""The times that an emulator lives by, injected."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

Clock = Callable[[], int]
Sleep = Callable[[float], Coroutine[Any, Any, None]]
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Timing:
    """`clock_ns` is monotonic and `wall_ns` Unix time, both in nanoseconds; `sleep` waits seconds."""

    clock_ns: Clock
    wall_ns: Clock
    sleep: Sleep
    started_ns: int

    @classmethod
    def starting(cls, clock_ns: Clock, wall_ns: Clock, sleep: Sleep) -> "Timing":
        """The emulator starts now."""
        return cls(clock_ns, wall_ns, sleep, clock_ns())

    def elapsed_s(self, now_ns: int) -> float:
        """Seconds since the start."""
        return (now_ns - self.started_ns) / _SECOND_NS

    def second(self, now_ns: int) -> int:
        """Whole seconds since the start."""
        return (now_ns - self.started_ns) // _SECOND_NS
