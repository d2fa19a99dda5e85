"""What happens at its time: outages, and how long an answer takes. Times are seconds since the emulator's start."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import isfinite

from pipeline.errors import InputError


class OutageKind(StrEnum):
    """What an outage looks like to a client."""

    UNAVAILABLE = "503"
    SERVER_ERROR = "500"
    RESET = "reset"
    """Open connections are reset at its beginning, and every request after that."""
    REFUSE = "refuse"
    """The same with a closed port: connections are refused."""


@dataclass(frozen=True, slots=True)
class Outage:
    """From `start_s` on, for `length_s` seconds."""

    start_s: float
    length_s: float

    @property
    def end_s(self) -> float:
        return self.start_s + self.length_s


@dataclass(frozen=True, slots=True)
class LatencyStep:
    """From `start_s` on an answer takes `latency_ms`."""

    start_s: float
    latency_ms: float


def parse_outages(settings: Iterable[str]) -> tuple[Outage, ...]:
    """`["60+30", "300+5"]`, each START+LENGTH in seconds. Raises InputError that names the setting."""
    return tuple(Outage(*_two_numbers(setting, "+", "outage", "START+LENGTH, e.g. 60+30")) for setting in settings)


def parse_latency_schedule(setting: str | None) -> tuple[LatencyStep, ...]:
    """`"0:200,60:1000"`, steps of SECONDS:MILLISECONDS. Raises InputError that names the step."""
    steps = (step for step in (setting or "").split(",") if step.strip())
    return tuple(
        LatencyStep(*_two_numbers(step, ":", "latency schedule", "SECONDS:MILLISECONDS, e.g. 60:1000"))
        for step in steps
    )


def check_outages(outages: Sequence[Outage]) -> None:
    """Raises InputError unless each begins after the end of the one before."""
    if any(outage.length_s == 0 for outage in outages):
        raise InputError("emulator: an outage must be longer than 0 seconds")
    if any(second.start_s <= first.end_s for first, second in pairwise(outages)):
        raise InputError("emulator: each outage must begin after the end of the one before")


def check_latency_schedule(steps: Sequence[LatencyStep]) -> None:
    """Raises InputError unless the steps follow each other in time."""
    if any(second.start_s <= first.start_s for first, second in pairwise(steps)):
        raise InputError("emulator: the steps of the latency schedule must follow each other in time")


def in_outage(outages: Sequence[Outage], elapsed_s: float) -> bool:
    """Whether one of the outages goes on."""
    return any(outage.start_s <= elapsed_s < outage.end_s for outage in outages)


def latency_at(steps: Sequence[LatencyStep], elapsed_s: float, otherwise_ms: float) -> float:
    """Milliseconds that an answer takes: those of the last step that has begun, `otherwise_ms` before the first."""
    begun = [step.latency_ms for step in steps if step.start_s <= elapsed_s]
    return begun[-1] if begun else otherwise_ms


def _two_numbers(setting: str, separator: str, name: str, expected: str) -> tuple[float, float]:
    first, _, second = setting.partition(separator)
    try:
        numbers = float(first), float(second)
    except ValueError:
        raise InputError(f"{name} {setting!r}: expected {expected}") from None
    if not all(isfinite(number) and number >= 0 for number in numbers):
        raise InputError(f"{name} {setting!r}: expected {expected}")
    return numbers
