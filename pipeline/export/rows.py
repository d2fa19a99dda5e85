"""The rows that an export writes: selected, with the reviews of people applied, a bounded batch at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.export.options import ExportChoices
from pipeline.export.report import Counts
from pipeline.export.runs import until
from pipeline.store.flattening import flat_names, flattened, stored_name
from pipeline.store.reading import scan, schema_of
from pipeline.store.reviewed import NEEDED, Reviewed
from pipeline.store.reviews import Key, read_reviews

_OF_REVIEWS: Final = (*NEEDED, "caption")
_GOOD, _BAD = "good", "bad"


class Rows:
    """The selected rows of an output directory. Each pass reads them anew; one batch is in memory at a time."""

    def __init__(self, out: Path, options: ExportChoices) -> None:
        """Raises InputError where there is no output directory, and for a column or a run that is unknown."""
        self.out, self.options = out, options
        self.counts = Counts()
        self.marked_bad: dict[Key, None] = {}
        """Rows that are left out because a person marked their answers bad."""
        self.corrected: dict[Key, None] = {}
        """Rows with a caption that a person corrected."""
        self.outdated: dict[Key, None] = {}
        """Rows whose corrected caption is of an earlier answer."""
        self.schema = schema_of(out)
        self._names = self.schema.names if options.columns is None else list(options.columns)
        known = flat_names(self.schema.names, self.schema)
        if unknown := [name for name in self._names if not flat_names([name], self.schema)]:
            raise InputError(f"no column {unknown[0]!r}; known: {', '.join(known)}")
        self._check_prompt(options.prompt_name)
        self._until = None if options.since is None else until(out, options.since)
        self._reviews = Reviewed({} if options.reviews == "ignore" else read_reviews(out))
        next(iter(scan(out, [], options.where)), None)  # what is wrong with `where` is found before anything is written

    def _check_prompt(self, name: str | None) -> None:
        """Raises InputError for a prompt that OUT has no row of: else a slip is an export without rows."""
        if name is None:
            return
        batches = scan(self.out, ["prompt_name"], None)
        known = sorted({one for batch in batches for one in pc.unique(batch["prompt_name"]).to_pylist()})
        if known and name not in known:
            raise InputError(f"{self.out} has no rows of a prompt {name!r}; known: {', '.join(known)}")

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Batches of the wanted columns, labels as columns of their own (`labels.x`)."""
        names = self.names
        stored = list(dict.fromkeys(map(stored_name, names)))
        for batch in self._selected(stored):
            yield flattened(batch.select(stored), names)

    @property
    def names(self) -> list[str]:
        """The wanted columns, once they are flat."""
        return flat_names(self._names, self.schema)

    @property
    def flat_schema(self) -> pa.Schema:
        """The wanted columns with their types."""
        return flattened(pa.RecordBatch.from_pylist([], schema=self.schema), self.names).schema

    def dicts(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The rows one by one, with these columns as they are stored; those that OUT does not have are left out."""
        stored = [name for name in dict.fromkeys(columns) if name in self.schema.names]
        for batch in self._selected(stored):
            yield from batch.select(stored).to_pylist()

    def prompt_names(self) -> list[str]:
        """Of the selected rows, in the order of the alphabet: that of rows is another in each run."""
        found: set[str] = set()
        for batch in self._selected(["prompt_name"]):
            found |= {*pc.unique(batch["prompt_name"]).to_pylist()}
        return sorted(found)

    def _selected(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        options = self.options
        also = {
            "status": options.status is not None,
            "flags": bool(options.exclude_flags),
            "prompt_name": options.prompt_name is not None,
            "run_id": self._until is not None,
            **{name: bool(self._reviews) or options.reviews == _GOOD for name in _OF_REVIEWS},
        }
        needed = list(dict.fromkeys([*columns, *(name for name, is_needed in also.items() if is_needed)]))
        for batch in scan(self.out, needed, options.where):
            found = self._of(batch)
            if found.num_rows:
                yield found

    def _of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        options = self.options
        if options.prompt_name is not None:
            batch = batch.filter(pc.equal(batch["prompt_name"], options.prompt_name))
        if self._until is not None:
            batch = batch.filter(pc.invert(pc.is_in(batch["run_id"], pa.array(sorted(self._until), pa.string()))))
        keep = self._answered(batch)
        if self._reviews or options.reviews == _GOOD:
            batch, keep = self._as_reviewed(batch, keep)
        return batch.filter(keep)

    def _answered(self, batch: pa.RecordBatch) -> pa.Array:
        """Which rows have one of the wanted statuses, and none of the flags that are left out."""
        options = self.options
        keep = pa.array([True] * batch.num_rows, pa.bool_())
        if options.status is not None:
            keep = pc.is_in(batch["status"], pa.array(options.status, pa.string()))
        if options.exclude_flags:
            unwanted = set(options.exclude_flags)
            flags = [unwanted.isdisjoint(flags or ()) for flags in batch["flags"].to_pylist()]
            keep = pc.and_(keep, pa.array(flags, pa.bool_()))
        return keep

    def _as_reviewed(self, batch: pa.RecordBatch, keep: pa.Array) -> tuple[pa.RecordBatch, pa.Array]:
        """The rows with corrected captions, whatever their status, and without those that were marked bad."""
        reviews, gone = self._reviews.split(batch)
        self.outdated |= dict.fromkeys(review.key for review in gone.values() if review.caption is not None)
        kept, captions = keep.to_pylist(), batch["caption"].to_pylist() if reviews else []
        for at, review in reviews.items():
            if review.caption is not None:
                captions[at], kept[at] = review.caption, True
                self.corrected[review.key] = None
            elif review.mark == _BAD and kept[at]:
                kept[at] = False
                self.marked_bad[review.key] = None
        if self.options.reviews == _GOOD:
            good = {at for at, review in reviews.items() if review.mark == _GOOD or review.caption is not None}
            kept = [keeps and at in good for at, keeps in enumerate(kept)]
        if reviews:
            at = batch.schema.get_field_index("caption")
            batch = batch.set_column(at, "caption", pa.array(captions, pa.string()))
        return batch, pa.array(kept, pa.bool_())
