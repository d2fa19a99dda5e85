"""Sums over all rows, by status, kind of error, model and size: from one pass, a batch at a time."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.estimates.histogram import CLASSES_MP

EXAMPLES: Final = 3
"""Of each kind of error, with messages that differ."""
MOST_VALUES: Final = 1_000
"""Different values of a label that are counted; those that come later count as others."""
_LOOKED_AT: Final = 50
_GROUPS: Final = ("status", "error_kind", "model", "size_class")
_COUNTS: Final = {"priced": "cost_usd", "billed": "prompt_tokens", "singles": "single_billed"}
_SUMS: Final = (
    *("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "cost_usd", "attempts"),
    *("single_billed", "single_predicted", "shared"),
)
_COLUMNS_OF_SUMS: Final = {
    "rows": "count_all",
    **{name: f"{column}_count" for name, column in _COUNTS.items()},
    **{name: f"{name}_sum" for name in _SUMS},
}
"""The fields of `Sums`, and the columns that Arrow gives them."""


@dataclass(slots=True)
class Sums:
    """What some rows come to."""

    rows: int = 0
    priced: int = 0
    """Rows with a cost."""
    billed: int = 0
    """Rows with prompt tokens."""
    singles: int = 0
    """Rows that took one request and have both a bill and a prediction: they say how far the prediction is right."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    single_billed: int = 0
    single_predicted: int = 0
    attempts: int = 0
    shared: int = 0
    """Rows that share the answer of another."""
    cost_usd: Decimal = Decimal(0)

    def add(self, other: "Sums") -> None:
        for name in Sums.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class Example:
    """A row without a good answer."""

    id: str
    message: str


@dataclass(slots=True)
class Values:
    """The values of one label, counted; of numbers also their sum and ends."""

    counts: Counter[str] = field(default_factory=Counter)
    others: int = 0
    numbers: int = 0
    total: float = 0.0
    least: float | None = None
    most: float | None = None

    def count(self, values: pa.Array) -> None:
        for one in pc.value_counts(values.drop_null()).to_pylist():
            name = _value_name(one["values"])
            if name in self.counts or len(self.counts) < MOST_VALUES:
                self.counts[name] += one["counts"]
            else:
                self.others += one["counts"]

    def measure(self, values: pa.Array) -> None:
        ends, found = pc.min_max(values).as_py(), len(values) - values.null_count
        if found:
            self.numbers += found
            self.total += float(pc.sum(values).as_py())
            self.least = ends["min"] if self.least is None else min(self.least, ends["min"])
            self.most = ends["max"] if self.most is None else max(self.most, ends["max"])


class RowSums:
    """Adds up the rows of OUT."""

    def __init__(self) -> None:
        self.flags: Counter[str] = Counter()
        self.labels: dict[str, Values] = {}
        self.prompts: Counter[str] = Counter()
        self.examples: dict[str, dict[str, Example]] = {}
        """By kind of error, then by message."""
        self._groups: dict[tuple[Any, ...], Sums] = {}

    def add(self, table: pa.Table) -> None:
        """A batch of rows."""
        self._add_groups(table)
        self._add_examples(table)
        self.flags.update(_counted(_flattened(table["flags"])))
        self.prompts.update(_counted(table["prompt_name"]))
        if "labels" in table.column_names and pa.types.is_struct(table["labels"].type):
            self._add_labels(table["labels"].combine_chunks())

    def by(self, name: str) -> dict[Any, Sums]:
        """The sums by one of status, error_kind, model and size_class; the largest first."""
        found: dict[Any, Sums] = {}
        for key, sums in self._groups.items():
            found.setdefault(key[_GROUPS.index(name)], Sums()).add(sums)
        return dict(sorted(found.items(), key=lambda item: -item[1].rows))

    @property
    def all(self) -> Sums:
        total = Sums()
        for sums in self._groups.values():
            total.add(sums)
        return total

    def _add_groups(self, table: pa.Table) -> None:
        is_single = pc.and_kleene(
            pc.equal(table["attempts"], 1),
            pc.and_kleene(pc.is_valid(table["prompt_tokens"]), pc.greater(table["predicted_prompt_tokens"], 0)),
        )
        none, is_own = pa.scalar(None, pa.int64()), pc.is_null(table["duplicate_of"])
        wide = table.select([name for name in (*_GROUPS, *_SUMS) if name in table.column_names])
        for name in ("cost_usd", "prompt_tokens"):  # a row that shares an answer has no bill
            own = pc.if_else(is_own, table[name], pa.scalar(None, table[name].type))
            wide = wide.set_column(wide.column_names.index(name), name, own)
        wide = wide.append_column("shared", pc.cast(pc.invert(is_own), pa.int64()))
        wide = wide.append_column("size_class", size_classes(table["width"], table["height"]))
        wide = wide.append_column("single_billed", pc.if_else(is_single, table["prompt_tokens"], none))
        wide = wide.append_column("single_predicted", pc.if_else(is_single, table["predicted_prompt_tokens"], none))
        counts = [*((column, "count") for column in _COUNTS.values()), ([], "count_all")]
        grouped = wide.group_by(list(_GROUPS)).aggregate([*((name, "sum") for name in _SUMS), *counts])
        for row in grouped.to_pylist():
            sums = self._groups.setdefault(tuple(row[name] for name in _GROUPS), Sums())
            for name, column in _COLUMNS_OF_SUMS.items():
                setattr(sums, name, getattr(sums, name) + (row[column] or 0))

    def _add_examples(self, table: pa.Table) -> None:
        kinds = table["error_kind"]
        if kinds.null_count == len(kinds):
            return
        for kind in pc.unique(kinds.drop_null()).to_pylist():
            found = self.examples.setdefault(kind, {})
            if len(found) >= EXAMPLES:
                continue
            places = pc.indices_nonzero(pc.fill_null(pc.equal(kinds, kind), fill_value=pa.scalar(value=False)))
            rows = table.select(["id", "error_message"]).take(places[:_LOOKED_AT]).to_pylist()
            for row in rows:
                message = row["error_message"] or ""
                if len(found) < EXAMPLES:
                    found.setdefault(message, Example(row["id"], message))

    def _add_labels(self, labels: pa.StructArray) -> None:
        for place in range(labels.type.num_fields):
            name, values = labels.type.field(place).name, pc.struct_field(labels, [place])
            kept = self.labels.setdefault(name, Values())
            if _is_list(values.type):
                values = pc.list_flatten(values)
            if pa.types.is_boolean(values.type) or _is_text(values.type):
                kept.count(values)
            elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
                kept.measure(values)
                if pa.types.is_integer(values.type):
                    kept.count(values)


def size_classes(width: pa.ChunkedArray, height: pa.ChunkedArray) -> pa.ChunkedArray:
    """The place of each image's size among `CLASSES_MP`; null where it is unknown."""
    pixels = pc.multiply(pc.cast(width, pa.int64()), pc.cast(height, pa.int64()))
    place = pc.multiply(pixels, 0)
    for end in CLASSES_MP:
        place = pc.add(place, pc.cast(pc.greater(pixels, int(end * 1_000_000)), pa.int64()))
    return place


def _flattened(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.list_flatten(values)


def _counted(values: pa.ChunkedArray) -> Mapping[str, int]:
    return {one["values"]: one["counts"] for one in pc.value_counts(values.drop_null()).to_pylist()}


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _value_name(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def top(counts: Mapping[str, int], most: int) -> Iterator[tuple[str, int]]:
    """The most frequent, and behind them what the others come to, under no name."""
    ordered: Sequence[tuple[str, int]] = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    yield from ordered[:most]
    if rest := sum(count for _, count in ordered[most:]):
        yield "", rest
