"""Which rows of a table fulfil a query, and by what they are ordered."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.store.expression import columns_in
from pipeline.store.filters import to_arrow
from pipeline.store.flattening import flattened, stored_name
from pipeline.store.reviewed import NEEDED, Reviewed
from pipeline.store.reviews import Key, Review
from pipeline.viewer.query import ORDERS, Marked, Query

Mask = NDArray[np.bool_]
Keys = NDArray[np.float64]
_SAYS: Mapping[Marked, Callable[[Review | None], bool]] = {
    "good": lambda review: review is not None and review.mark == "good",
    "bad": lambda review: review is not None and review.mark == "bad",
    "corrected": lambda review: review is not None and review.caption is not None,
    "reviewed": lambda review: review is not None,
    "open": lambda review: review is None,
}


class Matcher:
    """Applies one query to tables with the columns `names`."""

    def __init__(self, query: Query, columns: pa.Schema, reviews: Mapping[Key, Review]) -> None:
        """`columns`: those of the parts. Raises InputError for a condition that cannot be applied to them."""
        self._query, self._columns, self._reviewed = query, columns, Reviewed(reviews)
        self._order = ORDERS[query.order]
        self._condition = None if query.where is None else to_arrow(query.where, columns)
        self.names = self._needed()

    def _needed(self) -> list[str]:
        names = [stored_name(name) for name, _ in self._query.choices]
        names += [] if self._order is None else [self._order[0]]
        names += [] if self._query.where is None else sorted(columns_in(self._query.where))
        names += ["caption"] if self._query.words else []
        names += NEEDED if self._query.reads_reviews else ()
        return list(dict.fromkeys(names))

    def mask(self, table: pa.Table) -> Mask:
        """Which rows fulfil the query."""
        found = np.ones(table.num_rows, bool)
        for name, values in self._query.choices:
            found &= _holds(_column(table, name), values)
        if self._condition is not None:
            found &= _where(table, self._condition)
        if self._query.words and found.any():
            found &= self._has_words(table)
        return found & self._is_marked(table) if self._query.marked else found

    def keys(self, table: pa.Table) -> Keys | None:
        """What the rows are ordered by, the smallest first; infinite where unknown. None: they stay as they are."""
        if self._order is None:
            return None
        name, ascends = self._order
        column = table[name]
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        values = column.cast(pa.float64()).fill_null(np.nan).to_numpy()
        return np.where(np.isnan(values), np.inf, values if ascends else -values)

    def _has_words(self, table: pa.Table) -> Mask:
        found = np.ones(table.num_rows, bool)
        for word in self._query.words:
            stands = (pc.match_substring(table[name], word, ignore_case=True) for name in ("caption", "id"))
            found &= np.logical_or.reduce([_bools(one) for one in stands])
        for at, review in self._reviewed.among(table).items():
            if review.caption is not None:
                texts = review.caption.casefold(), review.id.casefold()
                found[at] = all(any(word in text for text in texts) for word in self._query.words)
        return found

    def _is_marked(self, table: pa.Table) -> Mask:
        says = [_SAYS[one] for one in self._query.marked]
        found = np.full(table.num_rows, any(one(None) for one in says))
        for at, review in self._reviewed.among(table).items():
            found[at] = any(one(review) for one in says)
        return found


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name in table.column_names:
        return table[name]
    stored = stored_name(name)
    batches = [flattened(batch, [name]) for batch in table.select([stored]).to_batches()]
    return pa.chunked_array([batch.column(0) for batch in batches])


def _holds(column: pa.ChunkedArray, values: Sequence[str]) -> Mask:
    """Whether each row has one of the values; of a list, whether one of its items is."""
    kind = column.type
    if not pa.types.is_list(kind):
        return _bools(pc.is_in(column, _values(values, kind)))
    found, start = np.zeros(len(column), bool), 0
    for chunk in column.chunks:
        parents = pc.list_parent_indices(chunk).to_numpy(zero_copy_only=False)
        items = _bools(pc.is_in(chunk.flatten(), _values(values, kind.value_type)))
        found[parents[items] + start] = True
        start += len(chunk)
    return found


def _values(texts: Sequence[str], kind: pa.DataType) -> pa.Array:
    """Texts as values of a column; those that none can have are left out."""
    found: list[Any] = []
    for text in texts:
        try:
            found += pa.array([text]).cast(kind).to_pylist()
        except (pa.ArrowException, ValueError):
            continue
    return pa.array(found, kind)


def _where(table: pa.Table, condition: pc.Expression) -> Mask:
    numbered = table.append_column("", pa.array(np.arange(table.num_rows)))
    found = np.zeros(table.num_rows, bool)
    found[numbered.filter(condition)[""].to_numpy()] = True
    return found


def _bools(column: pa.ChunkedArray | pa.Array) -> Mask:
    """Without nulls: what is unknown is false."""
    found: Mask = pc.fill_null(column, fill_value=False).to_numpy(zero_copy_only=False).astype(bool)
    return found
