"""Two datasets side by side, blind: the page gets two texts, A and B, and says which is better."""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.store.votes import Choice, Vote, VoteKey, Votes
from pipeline.viewer.gallery import Gallery
from pipeline.viewer.pairs import Pairs, is_first, pair
from pipeline.viewer.parts import ChangedError, Snapshot, rows_at
from pipeline.viewer.shown import labels_of, listed, names_in

Side = Literal["a", "b", "tie"]
_SHOWN: Final = ("id", "prompt_name", "image", "status", "caption", "labels", "answered_at", "width", "height")
_ALIKE: Final = 100
"""Pairs with equal texts, or without one, that are passed over in one go: it takes a second."""
_TRIES: Final = 5
_Z95: Final = 1.959964

_T = TypeVar("_T")
_Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the votes say."""

    this: int
    """Votes for the first output directory; so the others."""
    other: int
    tie: int
    replaced: int
    """Votes on answers that a run has replaced since: they do not count."""
    share: float | None
    """Of the votes that are no tie, how many prefer the first; None where there is none."""
    low: float | None
    """The 95% interval of this share, by Wilson; so `high`."""
    high: float | None


class Comparison:
    """Threads may share it."""

    def __init__(self, one: Gallery, other: Gallery, seed: int) -> None:
        """Raises InputError where no row of one pairs with a row of the other, ResourceError for damaged files."""
        if one.out.resolve() == other.out.resolve():
            raise InputError(f"{one.out}: an output directory cannot be compared with itself")
        self.one, self.other, self.seed = one, other, seed
        self._votes = Votes(one.out, other.out)
        self._lock = threading.Lock()
        self._paired()

    def _paired(self) -> Pairs:
        self._snapshots = self.one.snapshot(), self.other.snapshot()
        self._pairs = pair(*self._snapshots, self.seed)
        return self._pairs

    def _steadily(self, do: Callable[[], _T]) -> _T:
        """Again with new pairs, where a run has replaced parts."""
        with self._lock:
            for _ in range(_TRIES):
                try:
                    return do()
                except ChangedError:
                    self._paired()
            raise InputError("the parts are being replaced faster than they can be read; try again")

    def show(self, number: int | None, step: int) -> dict[str, object]:
        """The first pair from this one on (None: without a vote) with two texts that differ; step -1: backwards.

        Where it is not found at once, its number is None, and `next` says where to look on.
        """
        return self._steadily(lambda: self._show(number, step))

    def _show(self, number: int | None, step: int) -> dict[str, object]:
        votes = self._votes.newest()
        first = self._first_open(votes) if number is None else number
        total = len(self._pairs)
        end = max(-1, min(total, first + step * _ALIKE))
        for at in range(first, end, step):
            mine, theirs = self._rows(at, _SHOWN)
            if mine["caption"] and theirs["caption"] and mine["caption"] != theirs["caption"]:
                vote = votes.get(_vote_key(mine, theirs))
                is_a = self._is_a(mine, theirs)
                return {
                    "number": at,
                    "total": total,
                    "votes": len(votes),
                    "row": listed(int(self._pairs.first[at]), mine, None) | {"caption": None, "labels": []},
                    "texts": [_text(row) for row in ((mine, theirs) if is_a else (theirs, mine))],
                    "side": None if vote is None else _side_of(vote.choice, is_a=is_a),
                }
        return {"number": None, "next": end if 0 <= end < total else None, "total": total, "votes": len(votes)}

    def _first_open(self, votes: Mapping[VoteKey, Vote]) -> int:
        """The first pair that has no vote; the number of pairs where each has one."""
        voted = {(key[0], f"{key[0]}\x00{key[1]}")[self._has_prompts] for key in votes}
        is_open = pc.invert(pc.is_in(self._pairs.keys, value_set=pa.array(sorted(voted), pa.string())))
        found: int = pc.index(is_open, value=True).as_py()
        return len(self._pairs) if found < 0 else found

    @property
    def _has_prompts(self) -> bool:
        return len(self._pairs) > 0 and "\x00" in self._pairs.keys[0].as_py()

    def _rows(self, number: int, names: Iterable[str]) -> tuple[_Row, _Row]:
        if not 0 <= number < len(self._pairs):
            raise InputError(f"there is no pair {number}")
        wanted = list(names)
        places = int(self._pairs.first[number]), int(self._pairs.second[number])
        both = zip(self._snapshots, places, strict=True)
        mine, theirs = (rows_at(snapshot, [at], names_in(snapshot, wanted))[0] for snapshot, at in both)
        return mine, theirs

    def _is_a(self, mine: _Row, theirs: _Row) -> bool:
        return is_first(self.seed, f"{mine['id']}\x00{mine['prompt_name']}\x00{theirs['prompt_name']}")

    def vote(self, number: int, record: str, side: Side | None) -> None:
        """Save a vote on the pair of this number. Raises InputError where another record has the number by now."""
        self._steadily(lambda: self._vote(number, record, side))

    def _vote(self, number: int, record: str, side: Side | None) -> None:
        mine, theirs = self._rows(number, ("id", "prompt_name", "answered_at"))
        if mine["id"] != record:
            raise InputError("a run has changed the rows; reload the page")
        is_a = self._is_a(mine, theirs)
        self._votes.append(
            Vote(
                id=record,
                prompt_name=mine["prompt_name"],
                answered_at=mine["answered_at"],
                other=self._votes.other,
                other_prompt_name=theirs["prompt_name"],
                other_answered_at=theirs["answered_at"],
                choice=_choice_of(side, is_a=is_a),
                was_first=is_a,
                seed=self.seed,
                voted_at=self._votes.now(),
            )
        )

    def result(self) -> dict[str, object]:
        """Whose answers are better, by the votes so far: this says which dataset is which."""
        found = self._steadily(self._result)
        return asdict(found) | {"out": _described(self.one), "other_out": _described(self.other)}

    def _result(self) -> Result:
        votes = self._votes.newest()
        mine = _answers(self._snapshots[0], {key[0] for key in votes})
        theirs = _answers(self._snapshots[1], {key[0] for key in votes})
        counts: Counter[Choice | None] = Counter()
        for (record, prompt, other_prompt), vote in votes.items():
            stands = mine.get((record, prompt), _NO_ROW) == vote.answered_at
            stands = stands and theirs.get((record, other_prompt), _NO_ROW) == vote.other_answered_at
            counts[vote.choice if stands else None] += 1
        return result_of(this=counts["this"], other=counts["other"], tie=counts["tie"], replaced=counts[None])


_NO_ROW: Final = object()


def result_of(*, this: int, other: int, tie: int, replaced: int = 0) -> Result:
    """Of these numbers of votes."""
    decided = this + other
    if not decided:
        return Result(this=this, other=other, tie=tie, replaced=replaced, share=None, low=None, high=None)
    share = this / decided
    scale = 1 + _Z95**2 / decided
    centre = (share + _Z95**2 / (2 * decided)) / scale
    half = _Z95 * math.sqrt(share * (1 - share) / decided + _Z95**2 / (4 * decided**2)) / scale
    return Result(
        this=this,
        other=other,
        tie=tie,
        replaced=replaced,
        share=share,
        low=max(0.0, centre - half),
        high=min(1.0, centre + half),
    )


def _answers(snapshot: Snapshot, ids: set[str]) -> dict[tuple[str, str], datetime | None]:
    """When the rows of these records were answered."""
    wanted = pa.array(sorted(ids), pa.string())
    found: dict[tuple[str, str], datetime | None] = {}
    for part in snapshot.parts if ids else ():
        for table in part.tables(["id", "prompt_name", "answered_at"]):
            rows = table.filter(pc.is_in(table["id"], value_set=wanted)).to_pylist()
            found |= {(row["id"], row["prompt_name"]): row["answered_at"] for row in rows}
    return found


def _vote_key(mine: _Row, theirs: _Row) -> VoteKey:
    return mine["id"], mine["prompt_name"], theirs["prompt_name"]


def _text(row: _Row) -> dict[str, object]:
    return {"caption": row["caption"], "labels": labels_of(row.get("labels"))}


def _choice_of(side: Side | None, *, is_a: bool) -> Choice | None:
    if side is None or side == "tie":
        return side
    return "this" if (side == "a") == is_a else "other"


def _side_of(choice: Choice | None, *, is_a: bool) -> Side | None:
    if choice is None or choice == "tie":
        return choice
    return "a" if (choice == "this") == is_a else "b"


def _described(gallery: Gallery) -> dict[str, object]:
    models = [name for name, _ in gallery.facets().get("model", [])]
    return {"name": str(gallery.out), "models": models}
