"""Rows beside what people say of their present answers: for exports, reports, the viewer and `read(reviews=True)`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.store import reading
from pipeline.store.reviews import Key, Mark, Review, read_reviews

if TYPE_CHECKING:
    import pandas as pd

NEEDED: Final = ("id", "prompt_name", "answered_at")
"""The columns by which a row finds its review."""
_MARK: Final = "mark"


class Reviewed:
    """The newest reviews of one OUT."""

    def __init__(self, reviews: Mapping[Key, Review]) -> None:
        self._reviews = reviews
        self._ids = pa.array(sorted({name for name, _ in reviews}), pa.string())

    def __bool__(self) -> bool:
        return bool(self._reviews)

    def of(self, row: Mapping[str, Any]) -> Review | None:
        """The review of a row's present answer."""
        review = self._reviews.get((row["id"], row["prompt_name"]))
        return review if review is not None and review.applies_to(row["answered_at"]) else None

    def split(self, rows: pa.RecordBatch | pa.Table) -> tuple[dict[int, Review], dict[int, Review]]:
        """The reviews of these rows by place: those of their present answers, and those of answers that are gone."""
        present: dict[int, Review] = {}
        gone: dict[int, Review] = {}
        if not self._reviews:
            return present, gone
        places = pc.indices_nonzero(pc.fill_null(pc.is_in(rows["id"], self._ids), fill_value=False))
        for at, row in zip(places.to_pylist(), rows.select(NEEDED).take(places).to_pylist(), strict=True):
            review = self._reviews.get((row["id"], row["prompt_name"]))
            if review is not None:
                (present if review.applies_to(row["answered_at"]) else gone)[at] = review
        return present, gone

    def among(self, rows: pa.RecordBatch | pa.Table) -> dict[int, Review]:
        """The reviews of the present answers of these rows, by place."""
        return self.split(rows)[0]


def replaced_corrections(out: Path, run_id: str) -> int:
    """How many corrected captions are of answers that this run has replaced. Raises what `scan` raises."""
    reviews = {key: one for key, one in read_reviews(out).items() if one.caption is not None}
    if not reviews:
        return 0
    reviewed = Reviewed(reviews)
    found = 0
    for batch in reading.scan(out, [*NEEDED, "run_id"]):
        of_run = batch["run_id"].to_pylist()
        found += sum(of_run[at] == run_id for at in reviewed.split(batch)[1])
    return found


def read_reviewed(out: Path, columns: Sequence[str] | None = None, where: str | None = None) -> "pd.DataFrame":
    """`reading.read` with corrected captions in `caption`, and a column `mark`: good, bad, or null.

    Raises what `scan` raises, and ResourceError for a file of reviews that cannot be read.
    """
    named = None if columns is None else [columns] if isinstance(columns, str) else list(columns)
    more = () if named is None else tuple(name for name in NEEDED if name not in named)
    frame = reading.read(out, None if named is None else [*named, *more], where)
    if _MARK in frame.columns:  # of the manifest
        frame = frame.rename(columns={_MARK: f"record.{_MARK}"})
    reviewed = Reviewed(read_reviews(out))
    marks: list[Mark | None] = [None] * len(frame)
    captions = frame["caption"].tolist() if "caption" in frame.columns else None
    keys = pa.Table.from_pandas(frame[list(NEEDED)], preserve_index=False)
    for at, review in reviewed.among(keys).items():
        marks[at] = review.mark
        if captions is not None and review.caption is not None:
            captions[at] = review.caption
    if captions is not None and reviewed:
        frame["caption"] = captions
    frame = frame.drop(columns=list(more))
    frame[_MARK] = marks
    return frame
