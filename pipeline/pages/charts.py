"""The geometry of charts: where bars begin and end, and which numbers stand at an axis. Templates draw them.

Horizontal places are percent of the chart's width, so that a chart fits a phone without its text becoming small;
vertical ones are pixels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, log10

_STEPS = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a whole, in a bar that is stacked."""

    name: str
    value: float
    share: float
    """Of the whole, from 0 to 1."""
    start: float
    """In percent; so `width`."""
    width: float
    fill: str
    """The end of a class `fill-…` of the stylesheet."""


def stacked(values: Iterable[tuple[str, float, str]]) -> list[Part]:
    """(name, value, fill) side by side; none where all are 0."""
    found = [one for one in values if one[1] > 0]
    total, at, parts = sum(value for _, value, _ in found), 0.0, list[Part]()
    for name, value, fill in found:
        share = value / total
        parts.append(Part(name, value, share, 100 * at, 100 * share, fill))
        at += share
    return parts


def width_of(value: float, most: float) -> float:
    """The length of a bar in percent; what is there is seen."""
    return 0.0 if value <= 0 or most <= 0 else max(0.4, 100 * min(1.0, value / most))


def round_up(most: float) -> float:
    """The end of an axis, a round number not below `most`."""
    if most <= 0:
        return 1.0
    unit = 10.0 ** floor(log10(most))
    return next(step * unit for step in _STEPS if step * unit >= most * (1 - 1e-9))


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time on an axis with gaps: seconds of the epoch, and percent."""

    began: float
    ended: float
    start: float
    width: float

    def at(self, time: float) -> float:
        """The place of a time, which is cut to the stretch."""
        inside = min(max(time, self.began), self.ended) - self.began
        return self.start + self.width * inside / max(1e-9, self.ended - self.began)


GAP = 1.2
"""Percent between two stretches of time."""


def stretches(times: Sequence[tuple[float, float]]) -> list[Stretch]:
    """(began, ended) beside each other, each as wide as it is long."""
    total, left = sum(ended - began for began, ended in times), 100 - GAP * (len(times) - 1)
    at, found = 0.0, list[Stretch]()
    for began, ended in times:
        width = left * (ended - began) / max(1e-9, total)
        found.append(Stretch(began, ended, at, width))
        at += width + GAP
    return found
