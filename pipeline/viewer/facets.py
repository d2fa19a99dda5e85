"""How many rows have each value of a column that can be chosen from: statuses, flags, prompts, labels."""

from collections import Counter
from collections.abc import Iterator
from threading import Lock
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.store.flattening import flat_names, flattened, stored_name
from pipeline.viewer.parts import Part, Snapshot
from pipeline.viewer.query import CHOICES, RUN

MOST_VALUES: Final = 40
"""A column with more values is no choice: it is searched."""
_MOST_COUNTED = 400

Facets = dict[str, list[tuple[str, int]]]
"""For each column the values, the most frequent first, and the rows that have each; of runs the newest first."""
_Counts = dict[str, Counter[str]]


class FacetCounter:
    """Counts each part once. Threads may share it."""

    def __init__(self) -> None:
        self._of_part: dict[Part, _Counts] = {}
        self._lock = Lock()

    def count(self, snapshot: Snapshot) -> Facets:
        """Raises ChangedError, ResourceError."""
        names = list(_names(snapshot.columns))
        with self._lock:
            self._of_part = {part: self._of_part.get(part) or _counted(part, names) for part in snapshot.parts}
            each = list(self._of_part.values())
        found: Facets = {}
        for name in names:
            total: Counter[str] = Counter()
            for counts in each:
                total.update(counts[name])
            if name == RUN and total:  # its values begin with their time
                found[name] = sorted(total.items(), reverse=True)[:MOST_VALUES]
            elif 0 < len(total) <= MOST_VALUES:
                found[name] = sorted(total.items(), key=lambda one: (-one[1], one[0]))
        return found


def _names(columns: pa.Schema) -> Iterator[str]:
    yield from (name for name in CHOICES if name in columns.names)
    if "labels" in columns.names and pa.types.is_struct(columns.field("labels").type):
        yield from flat_names(["labels"], columns)


def _counted(part: Part, names: list[str]) -> _Counts:
    counts: _Counts = {name: Counter() for name in names}
    open_names = list(names)
    for table in part.tables(list(dict.fromkeys(map(stored_name, names)))):
        for batch in table.to_batches():
            flat = flattened(batch, names)
            for name in list(open_names):
                counts[name].update(_values(flat[name]))
                if len(counts[name]) > _MOST_COUNTED and name != RUN:  # free text, which is searched
                    open_names.remove(name)
    return counts


def _values(column: pa.Array) -> dict[str, int]:
    """Values that are text, whole numbers or truth, as texts, and how often each stands there; lists by their items."""
    if pa.types.is_list(column.type):
        column = column.flatten()
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        return {}
    counted = pc.value_counts(column.drop_null().cast(pa.string()))
    return {one["values"]: one["counts"] for one in counted.to_pylist()}
