"""Two datasets row by row: which rows are about the same image, in which order they are shown, and on which side."""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.records import Status
from pipeline.viewer.parts import Snapshot, place

_COLUMNS: Final = ("id", "prompt_name", "status")
_ANSWERED_BY: Final = (Status.OK.value, Status.TRUNCATED.value)
_BETWEEN: Final = "\x00"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows of two snapshots with the same key, shuffled."""

    first: NDArray[np.int64]
    """Their places in one snapshot."""
    second: NDArray[np.int64]
    """In the other."""
    keys: pa.Array
    """`id`, and where a dataset has several prompts the name of the prompt behind a NUL."""

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True, slots=True)
class _Answered:
    keys: pa.Array
    places: NDArray[np.int64]


def pair(one: Snapshot, other: Snapshot, seed: int) -> Pairs:
    """Rows that are answered in both. Prompts pair by name; where each side has one only, whatever its name is.

    Raises InputError where no row pairs, ChangedError and ResourceError as reading does.
    """
    has_several = any(len(_prompts(snapshot)) > 1 for snapshot in (one, other))
    mine, theirs = (_answered(snapshot, has_several=has_several) for snapshot in (one, other))
    found = pc.index_in(mine.keys, value_set=theirs.keys)
    is_paired = pc.is_valid(found).to_numpy(zero_copy_only=False)
    if not is_paired.any():
        raise InputError("the two output directories have no id in common whose rows are both answered")
    order = np.random.default_rng(seed).permutation(int(is_paired.sum()))
    places = np.flatnonzero(is_paired)[order]
    matches = np.asarray(found.drop_null())[order]
    return Pairs(mine.places[places], theirs.places[matches], mine.keys.take(pa.array(places)))


def is_first(seed: int, key: str) -> bool:
    """Whether the answer of the first dataset is the one called A: by the row, so that no place gives it away."""
    return bool(hashlib.blake2b(f"{seed}{_BETWEEN}{key}".encode(), digest_size=1).digest()[0] & 1)


def _prompts(snapshot: Snapshot) -> set[str]:
    found: set[str] = set()
    for part in snapshot.parts:
        for table in part.tables(["prompt_name"]):
            found.update(pc.unique(table["prompt_name"]).to_pylist())
    return found


def _answered(snapshot: Snapshot, *, has_several: bool) -> _Answered:
    """The rows that may have text: to read all texts for that takes seconds."""
    keys: list[pa.Array] = []
    places: list[NDArray[np.int64]] = []
    for part in snapshot.parts:
        start = 0
        for table in part.tables(_COLUMNS):
            is_answered = pc.is_in(table["status"], pa.array(_ANSWERED_BY))
            (rows,) = np.nonzero(is_answered.to_numpy(zero_copy_only=False))
            kept = table.filter(is_answered)
            named = kept["id"]
            if has_several:
                named = pc.binary_join_element_wise(named, kept["prompt_name"], _BETWEEN)
            keys += named.chunks
            places.append(rows + place(part.number, start))
            start += table.num_rows
    joined = pa.concat_arrays(keys) if keys else pa.array([], pa.string())
    return _Answered(joined, np.concatenate(places) if places else np.empty(0, np.int64))
