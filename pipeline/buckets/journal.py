"""The journal of an OUT in a bucket: small objects that are written once, and from which the ledger is made anew.

A segment holds what Parquet does not: the runs and their totals, bills without a row, the lease of the budget, pauses,
and the rows that are committed and not in a part yet. The last segment's history counts; rows count from all of them.

A segment goes up before the parts that it covers. So a machine may vanish at any moment: what the parts hold is
counted, and what is counted and not in a part is in a row of a segment, or was paid and is lost.
"""

import gzip
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pipeline.errors import ResourceError
from pipeline.store.ledger import transfer
from pipeline.store.ledger.protocol import UnsealedRecord
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.ledger.transfer import History
from pipeline.store.unsaved import UnsavedAnswer

JOURNAL_NAME: Final = "journal"
_NAME: Final = re.compile(r"journal/(\d{8,})-(\d{8,})\.json\.gz")
_FORMAT: Final = 1
_QUICK: Final = 3
"""The level of gzip."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What one object of the journal holds."""

    history: History
    schema: bytes
    """The columns of OUT, as the ledger stores them."""
    answers: Sequence[UnsavedAnswer] = ()

    def encoded(self) -> bytes:
        past = self.history
        values = {
            "format": _FORMAT,
            "schema": _text(self.schema),
            "meta": {name: _text(value) for name, value in past.meta.items()},
            **{name: [list(map(_plain, row)) for row in getattr(past, name)] for name in _TABLES},
            "answers": [
                {"row": orjson.Fragment(one.row), "leader": _plain(one.leader), "stamp": one.stamp}
                for one in self.answers
            ],
        }
        return gzip.compress(orjson.dumps(values), _QUICK)

    @classmethod
    def decoded(cls, data: bytes, named: str) -> "Segment":
        """Raises ResourceError, which names it, for anything else."""
        try:
            values: dict[str, Any] = orjson.loads(gzip.decompress(data))
            if values["format"] != _FORMAT:
                raise ResourceError(f"{named} was written by another version of vision-batch: use that one, or upgrade")
            tables = {name: [tuple(map(_value, row)) for row in values[name]] for name in _TABLES}
            meta = {name: b64decode(value) for name, value in values["meta"].items()}
            answers = [
                UnsavedAnswer(orjson.dumps(one["row"]), _value(one["leader"]), one["stamp"])
                for one in values["answers"]
            ]
            history = History(meta, tables["runs"], tables["totals"], tables["attempts"], tables["events"])
            return cls(history, b64decode(values["schema"]), answers)
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ResourceError(f"{named} is damaged ({type(error).__name__}: {error})") from error


_TABLES: Final = ("runs", "totals", "attempts", "events")
_BYTES: Final = "base64"


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _plain(value: object) -> object:
    """A value of SQLite as JSON has it."""
    return {_BYTES: _text(value)} if isinstance(value, bytes) else value


def _value(plain: Any) -> Any:  # noqa: ANN401 - of JSON
    return b64decode(plain[_BYTES]) if isinstance(plain, dict) else plain


def capture(ledger: SqliteLedger, since: int) -> tuple[Segment, int]:
    """What the next segment is to hold: rows behind the place `since`; and the place of the last of them."""
    history = transfer.history(ledger)
    if history is None:
        raise ResourceError(f"{ledger.path}: no run has begun")
    rows = transfer.unsealed_since(ledger, since)
    answers = tuple(answer_of(row) for _, row in rows)
    return Segment(history, ledger.meta("schema") or b"", answers), rows[-1][0] if rows else since


def answer_of(row: UnsealedRecord) -> UnsavedAnswer:
    """An unsealed row of a ledger, as another ledger takes it in."""
    return UnsavedAnswer(row.row, row.leader, None if row.stamp is None else row.stamp & 0xFFFFFF)


def segment_name(fence: int, number: int) -> str:
    return f"{JOURNAL_NAME}/{fence:08d}-{number:08d}.json.gz"


def place_of(name: str) -> tuple[int, int] | None:
    """The fence and the number of a segment, by its name; None for any other object."""
    found = _NAME.fullmatch(name)
    return None if found is None else (int(found[1]), int(found[2]))


def in_order(names: Sequence[str]) -> list[str]:
    """The segments among these objects, oldest first."""
    places = {name: place for name in names if (place := place_of(name)) is not None}
    return sorted(places, key=places.__getitem__)
