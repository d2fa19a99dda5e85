"""Pairs of an image and its text, with the columns that go along: what datasets for training hold."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from pipeline.errors import InputError
from pipeline.export.captions import Captions
from pipeline.export.names import Named, UnsafeNameError, check_names, unsafe_words
from pipeline.export.options import TAKEN
from pipeline.export.placing import image_name
from pipeline.export.report import Counts, Reason
from pipeline.export.rows import Rows
from pipeline.store.flattening import LABELS, flat_names, flattened, stored_name

OF_IMAGES: Final = ("id", "prompt_name", "image", "sha256", "run_id", "answered_at")


@dataclass(frozen=True, slots=True)
class Pair:
    """A row with its text."""

    row: dict[str, Any]
    text: str
    others: dict[str, Any]
    """The columns that go along: labels, and those that the options name."""


class Pairs:
    """The rows of an export that have a text."""

    def __init__(self, rows: Rows) -> None:
        """Raises InputError for a template that is none."""
        self._rows = rows
        self._captions = Captions(rows.options.template, rows.schema)
        wanted = [LABELS] if rows.options.columns is None else rows.options.columns
        if odd := {*wanted} & {*TAKEN, rows.options.text_column} - {"id"}:
            raise InputError(f"`columns=`: {min(odd)!r} has its place there already; leave it out")
        known = [name for name in wanted if stored_name(name) in rows.schema.names]
        self._others = flat_names(known, rows.schema)

    @property
    def others(self) -> list[pa.Field]:
        """The fields of the columns that go along."""
        nothing = pa.RecordBatch.from_pylist([], schema=self._rows.schema)
        return list(flattened(nothing, self._others).schema)

    def each(self, counts: Counts) -> Iterator[Pair]:
        """Those that have a text, in the order of the rows. Counts the others."""
        stored = [*OF_IMAGES, *self._captions.columns, *map(stored_name, self._others)]
        for row in self._rows.dicts(stored):
            text = self._captions(row)
            if text.strip():
                yield Pair(row, text, {name: _value(row, name) for name in self._others})
            else:
                counts.leave_out(Reason.NO_TEXT, row["id"])

    def check_names(self, *, reserved: Iterable[str], folds: bool) -> None:
        """Raises InputError where an image has no name below DEST, or two have the same."""
        check_names(self._named, reserved=reserved, folds=folds)

    def _named(self) -> Iterator[Named]:
        for pair in self.each(Counts()):
            try:
                yield image_name(pair.row, self._rows.options.relative_to), pair.row["id"]
            except UnsafeNameError as error:
                raise InputError(unsafe_words(pair.row["id"], error)) from None


def _value(row: dict[str, Any], name: str) -> Any:  # noqa: ANN401 - of any column
    """A column of a row, or the field of one: `labels.size.width`. A field may have a dot in its own name."""
    if name in row:
        return row[name]
    for at, char in enumerate(name):
        if char == "." and isinstance(inner := row.get(name[:at]), dict):
            return _value(inner, name[at + 1 :])
    return None
