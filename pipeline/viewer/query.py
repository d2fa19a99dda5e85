"""What a page of the gallery asks for: a search, filters and an order, read from the address of the request."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.store.filters import to_arrow
from pipeline.store.flattening import flat_names

Marked = Literal["good", "bad", "corrected", "reviewed", "open"]
MARKED: Final[tuple[Marked, ...]] = ("good", "bad", "corrected", "reviewed", "open")
ORDERS: Final = {
    "": None,
    "cost": ("cost_usd", True),
    "-cost": ("cost_usd", False),
    "latency": ("latency_s", True),
    "-latency": ("latency_s", False),
    "-answered": ("answered_at", False),
}
"""The column of each order, and whether it ascends."""
RUN: Final = "run_id"
CHOICES: Final = ("status", "prompt_name", RUN, "error_kind", "flags", "model")
_WORD = re.compile(r'"([^"]+)"|(\S+)')
_MOST_CHARS = 1_000

_One = TypeVar("_One", bound=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Rows that fulfil all of it. Equal queries have equal answers."""

    words: tuple[str, ...] = ()
    """Each stands in the caption or in the id, in any case of letters."""
    choices: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """For a column, or a label, values: a row has one of them."""
    marked: tuple[Marked, ...] = ()
    where: str | None = None
    order: str = ""

    @property
    def takes_all(self) -> bool:
        return self == Query(order=self.order)

    @property
    def reads_reviews(self) -> bool:
        """Whether a review may change which rows fulfil it."""
        return bool(self.words or self.marked)


def is_choice(name: str, columns: pa.Schema) -> bool:
    """Whether rows can be filtered by the values of this column, or of this label."""
    if name.startswith("labels."):
        return "labels" in columns.names and flat_names([name], columns) == [name]
    return name in CHOICES and name in columns.names


def query_of(asked: Iterable[tuple[str, str]], columns: pa.Schema) -> Query:
    """From the parameters of an address. Raises InputError for one that cannot be read."""
    words: list[str] = []
    marked: list[Marked] = []
    choices: dict[str, list[str]] = {}
    where, order = None, ""
    for name, value in asked:
        if len(value) > _MOST_CHARS:
            raise InputError(f"{name}: more than {_MOST_CHARS:,} characters")
        if name == "q":
            found = _WORD.findall(unicodedata.normalize("NFC", value))
            words += [quoted or word.strip('"') for quoted, word in found]
        elif name == "mark":
            marked.append(_one_of(name, value, MARKED))
        elif name == "order":
            order = _one_of(name, value, tuple(ORDERS))
        elif name == "where" and value.strip():
            to_arrow(value, columns)
            where = value
        elif is_choice(name, columns):
            choices.setdefault(name, []).append(value)
    named = tuple((name, tuple(sorted(set(values)))) for name, values in sorted(choices.items()))
    distinct = tuple(dict.fromkeys(word.casefold() for word in words if word))
    return Query(words=distinct, choices=named, marked=tuple(sorted(set(marked))), where=where, order=order)


def _one_of(name: str, value: str, known: Sequence[_One]) -> _One:
    for one in known:
        if value == one:
            return one
    raise InputError(f"{name}: {value!r} is none of {', '.join(filter(None, known))}")
