"""Which of two answers a person found better, without knowing whose they are: `OUT/comparisons/*.parquet`."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa

from pipeline.store.appended import AppendedRows, files_in, rows_in

COMPARISONS_NAME: Final = "comparisons"
SCHEMA: Final = pa.schema(
    {
        "id": pa.string(),
        "prompt_name": pa.string(),
        "answered_at": pa.timestamp("us", tz="UTC"),
        "other": pa.string(),
        "other_prompt_name": pa.string(),
        "other_answered_at": pa.timestamp("us", tz="UTC"),
        "choice": pa.string(),
        "was_first": pa.bool_(),
        "seed": pa.int64(),
        "voted_at": pa.timestamp("us", tz="UTC"),
    }
)
Choice = Literal["this", "other", "tie"]
VoteKey = tuple[str, str, str]
"""`id`, `prompt_name` and `other_prompt_name`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One vote on two answers about one image."""

    id: str
    prompt_name: str
    answered_at: datetime | None
    other: str
    """The other output directory, as an absolute path."""
    other_prompt_name: str
    other_answered_at: datetime | None
    choice: Choice | None
    """Which answer is better: of this output directory, or of the other; None takes back an earlier vote."""
    was_first: bool
    """Whether this output directory's answer was the one called A."""
    seed: int
    voted_at: datetime

    @property
    def key(self) -> VoteKey:
        return self.id, self.prompt_name, self.other_prompt_name


class Votes:
    """The votes on one OUT and one other, the newest of each pair. Threads may share it."""

    def __init__(self, out: Path, other: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Raises ResourceError where votes cannot be read."""
        self.other = str(other.resolve())
        self._now, self._lock = now, threading.Lock()
        self._rows = AppendedRows(out / COMPARISONS_NAME, SCHEMA)
        read = [Vote(**row) for path in files_in(out / COMPARISONS_NAME) for row in rows_in(path, SCHEMA)]
        mine = sorted((vote for vote in read if vote.other == self.other), key=lambda vote: vote.voted_at)
        self._newest = {vote.key: vote for vote in mine}

    def newest(self) -> Mapping[VoteKey, Vote]:
        """The votes that stand."""
        with self._lock:
            return {key: vote for key, vote in self._newest.items() if vote.choice is not None}

    def append(self, vote: Vote) -> None:
        """Save a vote. It is on the disk when this returns. Raises ResourceError where it cannot be written."""
        with self._lock:
            self._rows.append(asdict(vote), vote.voted_at)
            self._newest[vote.key] = vote

    def now(self) -> datetime:
        return self._now()
