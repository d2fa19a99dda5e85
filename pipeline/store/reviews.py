"""What people say of answers: `OUT/reviews/*.parquet`, which no run reads or writes.

A review is of one answer. The newest review of a row counts; it no longer applies once the row has another answer.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import pyarrow as pa

from pipeline import files
from pipeline.errors import InputError, ResourceError
from pipeline.files import Version
from pipeline.store.appended import AppendedRows, files_in, rows_in
from pipeline.store.layout import DATA_NAME
from pipeline.store.reading import scan

if TYPE_CHECKING:
    import pandas as pd

REVIEWS_NAME: Final = "reviews"
SCHEMA: Final = pa.schema(
    {
        "id": pa.string(),
        "prompt_name": pa.string(),
        "answered_at": pa.timestamp("us", tz="UTC"),
        "mark": pa.string(),
        "caption": pa.string(),
        "reviewed_at": pa.timestamp("us", tz="UTC"),
    }
)
_TICK = timedelta(microseconds=1)

Key = tuple[str, str]
"""`id` and `prompt_name`."""
Mark = Literal["good", "bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A mark, a corrected caption, or both; one with neither takes back what was said before."""

    id: str
    prompt_name: str
    answered_at: datetime | None
    """Of the answer that was reviewed, as its row has it."""
    mark: Mark | None = None
    caption: str | None = None
    """In place of the answer's; None where it is not corrected."""
    reviewed_at: datetime

    @property
    def key(self) -> Key:
        return self.id, self.prompt_name

    @property
    def says_nothing(self) -> bool:
        return self.mark is None and self.caption is None

    def applies_to(self, answered_at: datetime | None) -> bool:
        """Whether a row of this review's key still has the answer that was reviewed."""
        return self.answered_at == answered_at


class ReviewFolder:
    """The reviews of one OUT; files that have not changed are read once. Threads may share it."""

    def __init__(self, out: Path) -> None:
        self._folder = out / REVIEWS_NAME
        self._files: dict[Path, tuple[Version, list[Review]]] = {}
        self._lock = threading.Lock()
        self._newest: dict[Key, Review] = {}

    def read(self) -> Mapping[Key, Review]:
        """The newest review of each row that has one. Raises ResourceError for a file that cannot be read."""
        with self._lock:
            if self._look():
                newest: dict[Key, Review] = {}
                for review in self.all():
                    held = newest.get(review.key)
                    if held is None or held.reviewed_at <= review.reviewed_at:
                        newest[review.key] = review
                self._newest = {key: review for key, review in newest.items() if not review.says_nothing}
            return self._newest

    def all(self) -> Iterator[Review]:
        """Every review that was read, file by file in the order of their names."""
        for _, reviews in self._files.values():
            yield from reviews

    def _look(self) -> bool:
        """Read what is new. Whether anything is."""
        found: dict[Path, tuple[Version, list[Review]]] = {}
        for path in files_in(self._folder):
            with suppress(FileNotFoundError):  # it was moved away just now
                version = files.version_of(path.stat())
                known = self._files.get(path)
                is_known = known is not None and known[0] == version
                found[path] = known if known is not None and is_known else (version, _read(path))
        is_new = [(path, one[0]) for path, one in found.items()] != [
            (path, one[0]) for path, one in self._files.items()
        ]
        self._files = found
        return is_new


def read_reviews(out: Path) -> Mapping[Key, Review]:
    """The newest review of each row that has one. Raises ResourceError for a file that cannot be read."""
    return ReviewFolder(out).read()


def reviews_frame(out: Path) -> "pd.DataFrame":
    """The newest reviews, ordered by id, and whether each still applies. Raises what `scan` raises."""
    found = read_reviews(out)
    answers: dict[Key, datetime | None] = {}
    for batch in scan(out, ["id", "prompt_name", "answered_at"]) if found or not (out / DATA_NAME).is_dir() else ():
        for row in batch.to_pylist():
            if (key := (row["id"], row["prompt_name"])) in found:
                answers[key] = row["answered_at"]
    rows = [
        asdict(review) | {"applies": key in answers and review.applies_to(answers[key])}
        for key, review in sorted(found.items())
    ]
    columns = SCHEMA.append(pa.field("applies", pa.bool_()))
    return cast("pd.DataFrame", pa.Table.from_pylist(rows, schema=columns).to_pandas())


class ReviewWriter:
    """Appends reviews to one OUT. Threads may share it."""

    def __init__(self, out: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Raises InputError where there is no output directory; nothing is written yet."""
        if not (out / DATA_NAME).is_dir():
            raise InputError(f"{out}: no vision-batch output here (there is no {out / DATA_NAME})")
        self._now, self._lock = now, threading.Lock()
        self._rows = AppendedRows(out / REVIEWS_NAME, SCHEMA)
        before = ReviewFolder(out)
        before.read()
        self._last = max((one.reviewed_at for one in before.all()), default=datetime.min.replace(tzinfo=UTC))

    def append(
        self, key: Key, answered_at: datetime | None, *, mark: Mark | None = None, caption: str | None = None
    ) -> Review:
        """Save a review, which is newer than all before it. It is on the disk when this returns.

        Raises ResourceError where it cannot be written.
        """
        with self._lock:
            reviewed_at = max(self._now(), self._last + _TICK)  # the clock may have been set back
            review = Review(
                id=key[0],
                prompt_name=key[1],
                answered_at=answered_at,
                mark=mark,
                caption=caption,
                reviewed_at=reviewed_at,
            )
            self._rows.append(asdict(review), reviewed_at)
            self._last = reviewed_at
            return review


def _read(path: Path) -> list[Review]:
    return [_review(row, path) for row in rows_in(path, SCHEMA)]


def _review(row: Mapping[str, Any], path: Path) -> Review:
    if row["id"] is None or row["prompt_name"] is None or row["reviewed_at"] is None:
        raise ResourceError(f"{path}: a review has no id, prompt_name or reviewed_at. Move the file away")
    if row["mark"] not in {None, "good", "bad"}:
        raise ResourceError(f"{path}: the mark {row['mark']!r} is neither good nor bad. Move the file away")
    return Review(**row)
