"""What the images of a paid sample were billed, and what that says of all the images of a source."""

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ErrorKind
from pipeline.policy.retry import TRANSIENT
from pipeline.policy.sampling import Interval, Measured, Stratum, seconds_per_image, total
from pipeline.policy.spans import Span
from pipeline.policy.tallies import Question
from pipeline.records import Status

COLUMNS = (
    "id", "prompt_name", "status", "error_kind", "duplicate_of", "prompt_tokens", "completion_tokens",
    "reasoning_tokens", "cost_usd", "run_id", "answered_at",
)  # fmt: skip
Row = Mapping[str, Any]
"""These columns of a row of `data/`."""
_MILLION = 1_000_000
_NANO = Decimal("1e-9")


@dataclass(frozen=True, slots=True)
class Population:
    """The readable images of a source: their positions in it, and what is predicted of each."""

    positions: NDArray[np.int64]
    predicted: NDArray[np.int64]

    @classmethod
    def of(cls, sizes: "array[int]", question: Question) -> "Population":
        packed = np.frombuffer(sizes, dtype=np.int64)
        positions = np.flatnonzero(packed)
        different, which = np.unique(packed[positions], return_inverse=True)
        tokens = [question.tokens(size >> 32, size & 0xFFFFFFFF).expected for size in different.tolist()]
        return cls(positions, np.asarray(tokens, dtype=np.int64)[which])


class Bills:
    """What the images of a sample were billed, and what that says of all."""

    def __init__(
        self, population: Population, strata: Sequence[Stratum], rows: Sequence[Sequence[Row | None]], *, exact: bool
    ) -> None:
        """`exact`: the model's rule is known, so that only the distance from it has to be measured."""
        self.population, self.strata, self.exact = population, strata, exact
        self.rows = [
            [
                (index, row)
                for index, row in zip(stratum.chosen, group, strict=True)
                if row is not None and _is_whole(row)
            ]
            for stratum, group in zip(strata, rows, strict=True)
        ]
        self.asked = sum(map(len, rows))
        self.answered = sum(map(len, self.rows))

    def tokens(self, name: str) -> Span[int] | None:
        """Of a column of counts, over all images; None where an answer does not tell."""
        return _count(self._total(name, 1 if name == "prompt_tokens" else 0), self._sum(name))

    def cost_usd(self, input_usd_per_mtok: Decimal | None) -> Span[Decimal] | None:
        """Of all images; what the predicted prompt costs is known, where the price is."""
        found = self._total("cost_usd", float(input_usd_per_mtok or 0) / _MILLION)
        return None if found is None else money(found.at_least(self._sum("cost_usd")))

    def pace(self) -> Interval | None:
        """Seconds an image, by the run that answered most of them."""
        runs = Counter(row["run_id"] for group in self.rows for _, row in group if row["answered_at"])
        if not runs:
            return None
        run_id = runs.most_common(1)[0][0]
        times = [row["answered_at"] for group in self.rows for _, row in group if row["run_id"] == run_id]
        return seconds_per_image([moment.timestamp() for moment in times if isinstance(moment, datetime)])

    def _total(self, name: str, per_predicted: float) -> Interval | None:
        """The sum over all images; `per_predicted` of each predicted prompt token is known beforehand."""
        known = per_predicted if self.exact else 0.0
        measured: list[Measured] = []
        for stratum, group in zip(self.strata, self.rows, strict=True):
            values = [_value(row, name) for _, row in group]
            told = [value for value in values if value is not None]
            if len(told) < len(values):
                return None
            predicted = [float(self.population.predicted[index]) for index, _ in group]
            measured.append((stratum.size, [v - known * x for v, x in zip(told, predicted, strict=True)]))
        found = total(measured)
        return None if found is None else found.shifted(known * float(self.population.predicted.sum()))

    def _sum(self, name: str) -> float:
        return sum(_value(row, name) or 0.0 for group in self.rows for _, row in group)


def _is_whole(row: Row) -> bool:
    """Whether the row says what its image costs: not where another one paid, or where it will be asked again."""
    passing = row["status"] == Status.FAILED and ErrorKind(row["error_kind"]) in TRANSIENT
    return row["duplicate_of"] is None and not passing


def _value(row: Row, name: str) -> float | None:
    """What failed for good and has no bill, costs nothing; an answer without a count is not known."""
    value = row[name]
    if value is None:
        return 0.0 if row["status"] == Status.FAILED else None
    return float(value)


def _count(found: Interval | None, least: float) -> Span[int] | None:
    if found is None:
        return None
    bounded = found.at_least(least)
    # A margin that is nothing but rounding is none.
    return Span(round(bounded.expected), floor(bounded.low + 1e-6), ceil(bounded.high - 1e-6))


def money(found: Interval) -> Span[Decimal]:
    return Span(*(Decimal(amount).quantize(_NANO) for amount in (found.expected, found.low, found.high)))
