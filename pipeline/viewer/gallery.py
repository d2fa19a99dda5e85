"""One output directory as it is looked at: its parts, results that are kept for their pages, and reviews."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, NoReturn, TypeVar

from pipeline.errors import InputError
from pipeline.records import EMULATOR
from pipeline.store.reviews import Key, Mark, Review, ReviewFolder, ReviewWriter
from pipeline.viewer.facets import FacetCounter, Facets
from pipeline.viewer.parts import ChangedError, Snapshot, find, look, place, rows_at
from pipeline.viewer.query import Query, query_of
from pipeline.viewer.results import Found, Results
from pipeline.viewer.shown import IN_LIST, listed, names_in, ticks, whole

ROWS_A_PAGE: Final = 50
WAIT_S: Final = 1.0
"""The longest that a page waits for a search: it is shown as far as it goes, and asked for again."""
_KEPT: Final = 8
_TRIES: Final = 20
_A_BATCH: Final = 4_096
_LONGEST_S: Final = 600.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a result."""

    results: str
    """The name of the result: the next page of the same rows is asked for by it."""
    rows: list[dict[str, object]]
    found: Found
    total: int


class Gallery:
    """Threads may share it."""

    def __init__(self, out: Path) -> None:
        """Raises InputError where there is no output directory, ResourceError where a part cannot be read."""
        self.out = out
        self._snapshot = look(out)
        self._reviews = ReviewFolder(out)
        self._writer = ReviewWriter(out)
        self._results: OrderedDict[str, Results] = OrderedDict()
        self._facets = FacetCounter()
        self._lock = threading.Lock()
        self.reviewed: set[Key] = set()
        """Rows with a review that was saved since it was opened."""

    def snapshot(self) -> Snapshot:
        """The parts as they are now."""
        with self._lock:
            self._snapshot = look(self.out, self._snapshot)
            return self._snapshot

    def facets(self) -> Facets:
        """What rows can be filtered by."""
        return self._steadily(lambda: self._facets.count(self.snapshot()))

    def page(self, asked: list[tuple[str, str]], results: str | None, number: int) -> Page:
        """A page, counted from 0. Raises InputError for a query that cannot be read."""
        return self._steadily(lambda: self._page(query_of(asked, self.snapshot().columns), results, number))

    def _page(self, query: Query, name: str | None, number: int) -> Page:
        name, results = self._results_of(query, name)
        try:
            found = results.at(number * ROWS_A_PAGE, ROWS_A_PAGE, WAIT_S)
            snapshot = results.snapshot
            rows = rows_at(snapshot, found.places, names_in(snapshot, IN_LIST))
        except ChangedError:
            self._forget(name)
            raise
        reviews = self._reviews.read()
        shown = [listed(at, row, _review(reviews, row)) for at, row in zip(found.places, rows, strict=True)]
        return Page(name, shown, found, snapshot.rows)

    def prompts(self) -> list[str]:
        """The names of the prompts that rows have."""
        return [name for name, _ in self.facets().get("prompt_name", [])]

    def is_rehearsal(self) -> bool:
        """Whether the emulator has answered: it does so for all rows of an output directory, or for none."""
        return self._steadily(lambda: self._is_rehearsal(self.snapshot()))

    @staticmethod
    def _is_rehearsal(snapshot: Snapshot) -> bool:
        first = [place(part.number, 0) for part in snapshot.parts if part.rows][:1]
        return any(row["endpoint"] == EMULATOR for row in rows_at(snapshot, first, ["endpoint"]))

    def _results_of(self, query: Query, name: str | None) -> tuple[str, Results]:
        """Those of this name, or new ones: pages of one result stay as they are while rows are marked."""
        with self._lock:
            kept = self._results.get(name or "")
            if name is not None and kept is not None and kept.query == query:
                self._results.move_to_end(name)
                return name, kept
        snapshot = self.snapshot()
        made = Results(snapshot, query, self._reviews.read())
        with self._lock:
            self._results[name := token_hex(8)] = made
            while len(self._results) > _KEPT:
                self._results.popitem(last=False)[1].stop()
            return name, made

    def _forget(self, name: str) -> None:
        with self._lock:
            self._results.pop(name, None)

    def _steadily(self, do: Callable[[], _T]) -> _T:
        """Again, where a run replaces parts meanwhile."""
        for _ in range(_TRIES - 1):
            try:
                return do()
            except ChangedError:
                continue
        try:
            return do()
        except ChangedError:
            raise InputError("the parts are being replaced faster than they can be read; try again") from None

    def row(self, key: Key, at: int) -> dict[str, object]:
        """All of one row, which was last seen at `at`. Raises InputError where there is none."""
        found_at, row = self.find(key, at)
        return whole(found_at, row, _review(self._reviews.read(), row))

    def find(self, key: Key, at: int) -> tuple[int, dict[str, Any]]:
        """The place and the columns of a row, which was last seen at `at`. Raises InputError where there is none."""
        return self._steadily(lambda: find(self.snapshot(), key, at)) or _gone(key, self.out)

    def review(self, key: Key, at: int, answered_at: int | None, mark: Mark | None, caption: str | None) -> Review:
        """Save what is said of the answer of this time. Raises InputError where the row has another answer by now."""
        _, row = self.find(key, at)
        if ticks(row["answered_at"]) != answered_at:
            raise InputError("a run has replaced this answer; look at the new one first")
        said = None if caption is None or caption == row["caption"] else caption
        if said is not None and not said.strip():
            raise InputError("a caption cannot be empty: mark the answer as bad instead")
        saved = self._writer.append(key, row["answered_at"], mark=mark, caption=said)
        self.reviewed.add(key)
        return saved

    def keys(self, asked: list[tuple[str, str]], results: str | None) -> Iterator[Key]:
        """The keys of all rows of a result."""
        _, found = self._results_of(query_of(asked, self.snapshot().columns), results)
        number = 0
        while places := found.at(number, _A_BATCH, _LONGEST_S).places:
            yield from (
                (row["id"], row["prompt_name"]) for row in rows_at(found.snapshot, places, ["id", "prompt_name"])
            )
            number += len(places)


def _gone(key: Key, out: Path) -> NoReturn:
    raise InputError(f"{key[0]}: this row is no longer in {out}")


def _review(reviews: Mapping[Key, Review], row: Mapping[str, Any]) -> Review | None:
    review = reviews.get((row["id"], row["prompt_name"]))
    return review if review is not None and review.applies_to(row["answered_at"]) else None
