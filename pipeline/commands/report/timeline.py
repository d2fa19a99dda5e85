"""Rows over time: counted in short intervals, which become longer as more time is covered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FIRST_S: Final = 0.25
MOST_BINS: Final = 2_048
"""Intervals with rows that are kept apart; beyond it two become one."""
COLUMNS: Final = 110
"""Of a chart, at most."""
GAP_COLUMNS: Final = 8
GAP_S: Final = 60.0
"""A time without rows and pauses that is longer than both is no part of the chart."""
FASTEST_S: Final = 0.001
BUCKETS: Final = 320
"""Of latencies, each 5 % longer than the one before: from a millisecond to an hour and more."""
_GROWTH: Final = 1.05
_MICROSECONDS: Final = 1_000_000

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pause:
    """Sending to an endpoint paused, `times` times in close succession. Times are seconds of the epoch."""

    began: float
    ended: float
    reason: str
    endpoint: str
    times: int
    seconds: float
    """In which nothing was sent."""


@dataclass(frozen=True, slots=True)
class Column:
    """One interval of a chart. Times are seconds of the epoch."""

    began: float
    good: int
    bad: int
    median_s: float | None
    p95_s: float | None


@dataclass(frozen=True, slots=True)
class Session:
    """A time in which rows arrived, without a long gap; its columns are of `Chart.width_s`, some without rows."""

    began: float
    ended: float
    columns: tuple[Column, ...]
    pauses: tuple[Pause, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """All of OUT over time."""

    width_s: float
    sessions: tuple[Session, ...]


class Timeline:
    """Counts rows by the time of their answer, in memory that does not grow with them."""

    def __init__(self) -> None:
        self.width_s = FIRST_S
        self.latencies = np.zeros(BUCKETS, np.int64)
        """All latencies, by bucket."""
        self.rows = 0
        self._bins: dict[int, Integers] = {}

    def add(self, answered_us: Integers, is_good: npt.NDArray[np.bool_], latency_s: Floats) -> None:
        """Rows: when they were answered (microseconds), whether well, and the latency (NaN: unknown)."""
        if not len(answered_us):
            return
        self.rows += len(answered_us)
        bins = answered_us // round(self.width_s * _MICROSECONDS)
        unique, at = np.unique(bins, return_inverse=True)
        counts = np.zeros((len(unique), BUCKETS + 2), np.int64)
        np.add.at(counts, (at, np.where(is_good, 0, 1)), 1)
        has_latency = latency_s > 0  # false for NaN
        buckets = bucket_of(latency_s[has_latency])
        np.add.at(counts, (at[has_latency], 2 + buckets), 1)
        self.latencies += np.bincount(buckets, minlength=BUCKETS)
        for name, row in zip(unique.tolist(), counts, strict=True):
            self._bins[name] = self._bins[name] + row if name in self._bins else row
        while len(self._bins) > MOST_BINS:
            self.width_s, self._bins = self.width_s * 2, _halved(self._bins)

    def chart(self, pauses: Sequence[Pause] = ()) -> Chart | None:
        """At most `COLUMNS` columns, and those of the gaps left out; None without rows."""
        if not self._bins:
            return None
        width, bins = self.width_s, self._bins
        while True:
            stretches = _stretches(bins, pauses, width)
            if sum(last - first + 1 for first, last in stretches) <= COLUMNS:
                return Chart(width, tuple(_session(stretch, bins, pauses, width) for stretch in stretches))
            width, bins = width * 2, _halved(bins)


def bucket_of(latency_s: Floats) -> Integers:
    """The bucket of each latency."""
    raw = np.log(np.maximum(latency_s, FASTEST_S) / FASTEST_S) / np.log(_GROWTH)
    buckets: Integers = np.minimum(raw.astype(np.int64), BUCKETS - 1)
    return buckets


def quantile(buckets: Integers, share: float) -> float | None:
    """The latency below which this share lies, to a few percent; None without any."""
    total = int(buckets.sum())
    if not total:
        return None
    below = np.cumsum(buckets)
    at = int(np.searchsorted(below, share * total))
    inside = (share * total - (below[at] - buckets[at])) / buckets[at]
    return float(FASTEST_S * _GROWTH ** (at + inside))


def _halved(bins: dict[int, Integers]) -> dict[int, Integers]:
    """Two neighbours become one."""
    found: dict[int, Integers] = {}
    for name, row in bins.items():
        found[name // 2] = found[name // 2] + row if name // 2 in found else row
    return found


def _stretches(bins: Iterable[int], pauses: Sequence[Pause], width: float) -> list[tuple[int, int]]:
    """First and last interval of each time with rows or pauses, without long gaps."""
    rows = [(name, name) for name in bins]
    rows += [(int(pause.began // width), int(pause.ended // width)) for pause in pauses]
    found: list[tuple[int, int]] = []
    for first, last in sorted(rows):
        if found and first - found[-1][1] <= max(GAP_COLUMNS, GAP_S / width):
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def _session(stretch: tuple[int, int], bins: dict[int, Integers], pauses: Sequence[Pause], width: float) -> Session:
    first, last = stretch
    began, ended = first * width, (last + 1) * width
    inside = tuple(pause for pause in pauses if pause.ended >= began and pause.began <= ended)
    return Session(began, ended, tuple(_column(name, bins.get(name), width) for name in range(first, last + 1)), inside)


def _column(name: int, row: Integers | None, width: float) -> Column:
    if row is None:
        return Column(name * width, 0, 0, None, None)
    latencies = row[2:]
    return Column(name * width, int(row[0]), int(row[1]), quantile(latencies, 0.5), quantile(latencies, 0.95))
