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
from pipeline.estimates.histogram import Moments
from pipeline.estimates.statistics import LEAST_PACE, Interval, Measured, Stratum, is_alike, seconds_per_image, total
from pipeline.limits.decision import TRANSIENT
from pipeline.records import Status
from pipeline.tokens.prompt import PromptShape
from pipeline.tokens.ranges import Range

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
    def of(cls, sizes: "array[int]", shape: PromptShape) -> "Population":
        packed = np.frombuffer(sizes, dtype=np.int64)
        positions = np.flatnonzero(packed)
        different, which = np.unique(packed[positions], return_inverse=True)
        tokens = [shape.tokens(size >> 32, size & 0xFFFFFFFF).expected for size in different.tolist()]
        return cls(positions, np.asarray(tokens, dtype=np.int64)[which])


class Bills:
    """What the images of a sample were billed, and what that says of all."""

    def __init__(
        self,
        population: Population,
        strata: Sequence[Stratum],
        rows: Sequence[Sequence[Row | None]],
        *,
        exact: bool,
        images: int | None = None,
        mixed: frozenset[str] = frozenset(),
    ) -> None:
        """`exact`: the model's rule is known, so that only the distance from it has to be measured.

        `images` are all that the population stands for: more than it has where some sizes are unknown. `mixed` are
        runs that answered other images, too: these rows do not show their pace.
        """
        self.grown = max(1.0, (images or 0) / max(1, len(population.predicted)))
        self.mixed = mixed
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

    def tokens(self, name: str) -> Range[int] | None:
        """Of a column of counts, over all images; None where an answer does not report it."""
        return _count(self._total(name, _known(name), unit=1.0), self._sum(name))

    def is_alike(self, name: str) -> bool:
        """Whether all answers have the same count, or the same distance from the prediction, and others are unknown."""
        return is_alike(self._measured(name, _known(name) if self.exact else 0.0) or (), unit=1.0)

    def spent_usd(self) -> Decimal | None:
        """What the answers cost that are here; None where none of them says."""
        costs = [row["cost_usd"] for group in self.rows for _, row in group if row["cost_usd"] is not None]
        return sum(costs, Decimal(0)) if costs else None

    def cost_usd(self, input_usd_per_mtok: Decimal | None) -> Range[Decimal] | None:
        """Of all images; what the predicted prompt costs is known, where the price is."""
        token_usd = float(input_usd_per_mtok or 0) / _MILLION
        found = self._total("cost_usd", token_usd, unit=token_usd)
        return None if found is None else money(found.at_least(self._sum("cost_usd")))

    def pace(self) -> Interval | str:
        """Seconds an image, by the run that answered most of them; or why there is none."""
        answered = [row for group in self.rows for _, row in group if isinstance(row["answered_at"], datetime)]
        runs = Counter(row["run_id"] for row in answered if row["run_id"] not in self.mixed)
        if not runs:
            return "nothing was asked anew"
        run_id, count = runs.most_common(1)[0]
        times = [row["answered_at"].timestamp() for row in answered if row["run_id"] == run_id]
        if count < LEAST_PACE:
            return f"too few answers for a pace ({LEAST_PACE} at least)"
        return seconds_per_image(times) or "all answers came at the same time"

    def _total(self, name: str, per_predicted: float, unit: float) -> Interval | None:
        """The sum over all images; `per_predicted` of each predicted prompt token is known beforehand."""
        known = per_predicted if self.exact else 0.0
        measured = self._measured(name, known)
        found = None if measured is None else total(measured, unit)
        if found is None:
            return None
        predicted = self._predicted(known)
        margin = predicted.high - predicted.expected
        found = found.shifted(predicted.expected)
        return Interval(found.expected, found.low - margin, found.high + margin)

    def _predicted(self, known: float) -> Interval:
        """What is known beforehand, over all images: exact, but for those without a size."""
        values = self.population.predicted
        if not known or self.grown <= 1:
            return Interval(*[known * float(values.sum())] * 3)
        moments = Moments(len(values), int(values.sum()), int((values * values).sum()))
        expected, half = moments.total * self.grown, moments.half_width(round(len(values) * self.grown))
        return Interval(known * expected, known * (expected - half), known * (expected + half))

    def _measured(self, name: str, known: float) -> list[Measured] | None:
        """What was billed beyond the prediction, stratum by stratum; None where an answer has no count."""
        measured: list[Measured] = []
        for stratum, group in zip(self.strata, self.rows, strict=True):
            values = [_value(row, name) for _, row in group]
            reported = [value for value in values if value is not None]
            if len(reported) < len(values):
                return None
            predicted = [float(self.population.predicted[index]) for index, _ in group]
            size = max(len(group), round(stratum.size * self.grown))
            measured.append((size, [v - known * x for v, x in zip(reported, predicted, strict=True)]))
        return measured

    def _sum(self, name: str) -> float:
        return sum(_value(row, name) or 0.0 for group in self.rows for _, row in group)


def joined(rows: Sequence[Row]) -> Row:
    """The rows of one image that was asked several prompts as one: what they took together."""
    if len(rows) == 1:
        return rows[0]
    found = dict(next((row for row in rows if not _is_whole(row)), rows[-1]))
    for name in ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cost_usd"):
        values = [row[name] for row in rows]
        found[name] = None if None in values else sum(values)
    return found


def _known(name: str) -> float:
    return 1.0 if name == "prompt_tokens" else 0.0


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


def _count(found: Interval | None, least: float) -> Range[int] | None:
    if found is None:
        return None
    bounded = found.at_least(least)
    # A margin that is nothing but rounding is none.
    return Range(round(bounded.expected), floor(bounded.low + 1e-6), ceil(bounded.high - 1e-6))


def money(found: Interval) -> Range[Decimal]:
    return Range(*(Decimal(amount).quantize(_NANO) for amount in (found.expected, found.low, found.high)))
