"""Answers that the ledger could not take, in files `OUT/.unsaved-*.jsonl`: the next command that opens OUT takes them.

One line is one commit that failed, or one answer that was found in a damaged ledger. A line that was cut off by a
full disk or a crash is passed over.
"""

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from pipeline import files

_ANSWERS_A_LINE = 1_000
PREFIX = ".unsaved-"
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class UnsavedAnswer:
    """A row as the ledger would hold it."""

    row: bytes
    leader: bytes | None = None
    stamp: int | None = None
    is_last: bool = False
    """Whether it is known to be newer than any other row of its record; else their times decide."""


@dataclass(frozen=True, slots=True)
class UnsavedBatch:
    """What belongs into one commit."""

    run_id: str
    answers: tuple[UnsavedAnswer, ...]
    counts: Mapping[str, int] | None = field(default_factory=dict)
    """What it adds to the totals; nothing where they count it already, None where only the rows tell."""
    bills: tuple[tuple[bytes, str, bytes], ...] = ()
    """(key, when, bill) of attempts without an answer."""


def new_path(out: Path, named: str) -> Path:
    """A file that is not there yet; `named` says whose answers it holds."""
    return out / f"{PREFIX}{named}-{secrets.token_hex(3)}.jsonl"


def paths(out: Path) -> list[Path]:
    """The files that wait in `out`; links and directories of such a name are none."""
    return sorted(path for path in out.glob(f"{PREFIX}*.jsonl") if path.is_file() and not path.is_symlink())


def append(path: Path, batches: Iterable[UnsavedBatch]) -> int:
    """Add lines, and wait until the disk has them; the number of answers. Raises OSError."""
    answers = 0
    with os.fdopen(os.open(path, _APPEND, 0o666), "wb") as file:
        for batch in batches:
            file.write(_line(batch))
            answers += len(batch.answers)
        file.flush()
        os.fsync(file.fileno())
    return answers


def _line(batch: UnsavedBatch) -> bytes:
    answers = [
        {
            "row": orjson.Fragment(one.row),
            "leader": None if one.leader is None else one.leader.hex(),
            "stamp": one.stamp,
            "is_last": one.is_last,
        }
        for one in batch.answers
    ]
    bills = [(key.hex(), at, orjson.Fragment(bill)) for key, at, bill in batch.bills]
    line = {
        "run_id": batch.run_id,
        "answers": answers,
        "counts": None if batch.counts is None else dict(batch.counts),
        "bills": bills,
    }
    return b"\n" + orjson.dumps(line)  # first the end of a line that may have been cut off


def read(path: Path) -> Iterator[UnsavedBatch]:
    """The lines of one file that are whole."""
    for line in files.lines(path):
        try:
            yield _batch(orjson.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


def _batch(line: dict[str, object]) -> UnsavedBatch:
    told = _Line(**line)  # type: ignore[arg-type] # what does not fit is raised where it is used
    answers = tuple(
        UnsavedAnswer(
            row=orjson.dumps(one["row"]),
            leader=None if one["leader"] is None else bytes.fromhex(str(one["leader"])),
            stamp=one["stamp"] if isinstance(one["stamp"], int) else None,
            is_last=one["is_last"] is True,
        )
        for one in told.answers
    )
    bills = tuple((bytes.fromhex(key), at, orjson.dumps(bill)) for key, at, bill in told.bills)
    counts = None if told.counts is None else {name: int(value) for name, value in told.counts.items()}
    return UnsavedBatch(told.run_id, answers, counts, bills)


def by_run(answers: Iterable[UnsavedAnswer], counts: Mapping[str, int] | None) -> Iterator[UnsavedBatch]:
    """Answers in batches of one run each, a thousand at most."""
    open_batches: dict[str, list[UnsavedAnswer]] = {}
    for answer in answers:
        run_id = str(orjson.loads(answer.row).get("run_id", ""))
        batch = open_batches.setdefault(run_id, [])
        batch.append(answer)
        if len(batch) == _ANSWERS_A_LINE:
            yield UnsavedBatch(run_id, tuple(open_batches.pop(run_id)), counts)
    for run_id, batch in open_batches.items():
        yield UnsavedBatch(run_id, tuple(batch), counts)


@dataclass(frozen=True, slots=True)
class _Line:
    run_id: str
    answers: list[dict[str, object]]
    counts: dict[str, int] | None
    bills: list[tuple[str, str, object]]
