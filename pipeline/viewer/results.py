"""The rows that fulfil a query, found part by part in a thread of their own: the first are there before the last."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.store.reviews import Key, Review
from pipeline.viewer.matching import Keys, Matcher
from pipeline.viewer.parts import ChangedError, Part, Snapshot, place
from pipeline.viewer.query import Query

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Found:
    """Some places of a result, and how far the search has come."""

    places: tuple[int, ...]
    found: int
    """Rows so far."""
    looked: int
    """Rows of the dataset that were looked at so far."""
    is_complete: bool


class Results:
    """One query applied to one snapshot."""

    def __init__(self, snapshot: Snapshot, query: Query, reviews: Mapping[Key, Review]) -> None:
        """Begins to search. Raises InputError for a condition that cannot be applied."""
        self.snapshot, self.query = snapshot, query
        self._matcher = Matcher(query, snapshot.columns, reviews)
        self._changed = threading.Condition()
        self._of_parts: list[tuple[int, Rows | None, int]] = []
        """Number of a part, the rows of it that were found (None: all) and their number."""
        self._ordered: Rows | None = None
        self._found = self._looked = 0
        self._is_complete = self._is_stopped = False
        self._error: Exception | None = None
        threading.Thread(target=self._search, name="search", daemon=True).start()

    def stop(self) -> None:
        """Search no further."""
        self._is_stopped = True

    def at(self, first: int, count: int, wait_s: float) -> Found:
        """The places of `count` rows from `first` on; fewer where they are not found within `wait_s`.

        Raises ChangedError where a part was replaced meanwhile, and ResourceError where one cannot be read.
        """
        end = time.monotonic() + wait_s
        with self._changed:
            while not (self._is_complete or self._error or (self._is_in_order and self._found >= first + count)):
                if (left := end - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
            if self._error is not None:
                raise self._error
            places = self._places(first, count)
            return Found(places, self._found, self._looked, self._is_complete)

    @property
    def _is_in_order(self) -> bool:
        return not self.query.order

    def _places(self, first: int, count: int) -> tuple[int, ...]:
        if not self._is_in_order:
            return () if self._ordered is None else tuple(self._ordered[first : first + count].tolist())
        found: list[int] = []
        start = 0
        for number, rows, size in self._of_parts:
            low, high = max(0, first - start), min(size, first + count - start)
            if low < high:
                inside = range(low, high) if rows is None else rows[low:high].tolist()
                found += [place(number, row) for row in inside]
            start += size
        return tuple(found)

    def _search(self) -> None:
        keys: list[Keys] = []
        try:
            for part in self.snapshot.parts:
                self._search_part(part, keys)
                if self._is_stopped:
                    raise ChangedError  # noqa: TRY301 - a request that still waits searches anew
            self._order(keys)
        except Exception as error:  # noqa: BLE001 - of whatever kind it is, it is raised where the rows are asked for
            self._error = error
        finally:
            with self._changed:
                self._is_complete = True
                self._changed.notify_all()

    def _search_part(self, part: Part, keys: list[Keys]) -> None:
        if not self._matcher.names:
            self._add(part, None, part.rows)
            return
        rows: list[Rows] = []
        start = 0
        for table in part.tables(self._matcher.names):
            mask = self._matcher.mask(table)
            rows.append(np.flatnonzero(mask) + start)
            start += table.num_rows
            if (found := self._matcher.keys(table)) is not None:
                keys.append(found[mask])
            if self._is_stopped:
                return
        joined = np.concatenate(rows) if rows else np.empty(0, np.int64)
        self._add(part, joined, len(joined))

    def _add(self, part: Part, rows: Rows | None, count: int) -> None:
        with self._changed:
            self._of_parts.append((part.number, rows, count))
            self._found += count
            self._looked += part.rows
            self._changed.notify_all()

    def _order(self, keys: Sequence[Keys]) -> None:
        if self._is_in_order:
            return
        every = [rows + place(number, 0) for number, rows, _ in self._of_parts if rows is not None]
        places = np.concatenate(every) if every else np.empty(0, np.int64)
        self._ordered = places[np.argsort(np.concatenate(keys), kind="stable")] if keys else places
