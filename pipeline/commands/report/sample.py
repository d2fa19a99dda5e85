"""Rows to show: drawn at random from each kind of row, so that a rare status, flag or label is seen too."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MOST_STRATA: Final = 64
"""Kinds of rows that are kept apart; what comes later counts as one more."""
LEAST: Final = 4
"""Rows of each kind that are shown, where it has as many."""
SEED: Final = 0

Stratum = tuple[str, ...]
OTHERS: Final[Stratum] = ("(others)",)


@dataclass(slots=True)
class _Drawn:
    """The rows of one kind with the smallest of random numbers."""

    rows: int = 0
    most: float = 1.0
    """A row with a larger number is not among them."""
    kept: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    """(random number, place in the dataset, row)"""


class Sample:
    """Draws at most `size` rows from batches, in memory that does not grow with their number."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.rows = 0
        self._random = np.random.default_rng(SEED)
        self._strata: dict[Stratum, _Drawn] = {}

    def add(self, table: pa.Table, kinds: Sequence[Sequence[str | None]]) -> None:
        """Rows, and for each of them what tells its kind: columns of text, null for none."""
        numbers = self._random.random(table.num_rows)
        for stratum, places in _by_stratum(kinds, table.num_rows):
            if stratum not in self._strata and len(self._strata) >= MOST_STRATA:
                stratum = OTHERS  # noqa: PLW2901 - one more than these
            drawn = self._strata.setdefault(stratum, _Drawn())
            drawn.rows += len(places)
            candidates = places[numbers[places] < drawn.most]
            if len(candidates) > self.size:
                candidates = candidates[np.argpartition(numbers[candidates], self.size)[: self.size]]
            found = table.take(pa.array(candidates)).to_pylist()
            placed = zip(candidates.tolist(), found, strict=True)
            drawn.kept += [(float(numbers[at]), self.rows + at, row) for at, row in placed]
            self._trim(drawn)
        self.rows += table.num_rows

    def _trim(self, drawn: _Drawn) -> None:
        if len(drawn.kept) > self.size:
            drawn.kept = sorted(drawn.kept, key=lambda one: one[0])[: self.size]
            drawn.most = drawn.kept[-1][0] if drawn.kept else 0.0

    def drawn(self) -> list[dict[str, Any]]:
        """The rows in the order of the dataset: some of each kind, the others by how many rows a kind has."""
        strata = [drawn for drawn in self._strata.values() if drawn.kept]
        seats = seats_of([drawn.rows for drawn in strata], [len(drawn.kept) for drawn in strata], self.size)
        chosen = [
            (place, row)
            for drawn, count in zip(strata, seats, strict=True)
            for _, place, row in sorted(drawn.kept, key=lambda one: one[0])[:count]
        ]
        return [row for _, row in sorted(chosen, key=lambda one: one[0])]


def seats_of(rows: Sequence[int], available: Sequence[int], size: int) -> list[int]:
    """How many of `size` each kind gets: a few each, then by its rows, never more than are available."""
    seats = [0] * len(rows)
    for _ in range(LEAST):
        for at in sorted(range(len(rows)), key=lambda at: rows[at]):
            if seats[at] < available[at] and sum(seats) < size:
                seats[at] += 1
    while (left := size - sum(seats)) > 0:
        open_ones = [at for at in range(len(rows)) if seats[at] < available[at]]
        if not open_ones:
            break
        total = sum(rows[at] for at in open_ones)
        before = sum(seats)
        for at in open_ones:
            seats[at] = min(available[at], seats[at] + left * rows[at] // total)
        if sum(seats) == before:  # shares below one
            for at in sorted(open_ones, key=lambda at: -rows[at])[:left]:
                seats[at] += 1
    return seats


def _by_stratum(kinds: Sequence[Sequence[str | None]], rows: int) -> list[tuple[Stratum, npt.NDArray[np.int64]]]:
    """The places of the rows of each kind."""
    names: dict[Stratum, int] = {}
    codes = np.fromiter(
        (names.setdefault(tuple(one or "" for one in each), len(names)) for each in zip(*kinds, strict=True)),
        np.int64,
        rows,
    )
    return [(stratum, np.flatnonzero(codes == code)) for stratum, code in names.items()]
