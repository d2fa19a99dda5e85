"""An export in several files that goes on where it was interrupted: each file is whole, and says how far it goes."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from pipeline import files
from pipeline.export.names import MARKER
from pipeline.export.pairs import Pair, Pairs
from pipeline.export.report import Counts, Reason
from pipeline.export.rows import Rows
from pipeline.store.layout import DATA_NAME
from pipeline.store.reviews import REVIEWS_NAME


@dataclass(frozen=True, slots=True)
class Image:
    """An image with its text, as it goes into a file of the export."""

    number: int
    """Of the pair among all pairs, from 0, those without an image included."""
    pair: Pair
    name: str
    data: bytes


class Progress:
    """Which files of an export are complete, in the marker of its DEST."""

    def __init__(self, rows: Rows, dest: Path, pattern: str) -> None:
        """`pattern` is that of the files; those of an export of other rows are deleted. Raises OSError."""
        self._marker, self._rows = dest / MARKER, rows
        held: dict[str, Any] = orjson.loads(files.read(self._marker))
        self._state = {**held, "of": _fingerprint(rows)}
        if held.get("of") != self._state["of"]:
            for old in dest.glob(pattern):
                old.unlink()
            self._state |= {"files": 0, "pairs": 0, "rows": 0, "left_out": {}, "examples": {}}
        for reason, count in self._state["left_out"].items():
            rows.counts.left_out[Reason(reason)] += count
            rows.counts.examples.setdefault(Reason(reason), []).extend(self._state["examples"].get(reason, []))

    @property
    def files(self) -> int:
        """Those that are complete."""
        return int(self._state["files"])

    @property
    def pairs(self) -> int:
        """Those that the complete files are made of, left out ones included."""
        return int(self._state["pairs"])

    @property
    def rows(self) -> int:
        """Rows in the complete files."""
        return int(self._state["rows"])

    def complete(self, pairs: int, rows: int) -> None:
        """One file more is complete. Raises OSError."""
        counts = self._rows.counts
        left_out = {reason.value: count for reason, count in counts.left_out.items() if reason is not Reason.NO_TEXT}
        examples = {reason.value: ids for reason, ids in counts.examples.items() if reason.value in left_out}
        self._state |= {
            "files": self.files + 1, "pairs": pairs, "rows": self.rows + rows,
            "left_out": left_out, "examples": examples,
        }  # fmt: skip
        files.write_atomic(self._marker, orjson.dumps(self._state))


def remaining(pairs: Pairs, counts: Counts, done: int) -> Iterator[tuple[int, Pair]]:
    """The pairs that no complete file holds, numbered."""
    for number, pair in enumerate(pairs.each(counts)):
        if number >= done:
            yield number, pair


def _fingerprint(rows: Rows) -> str:
    """What changes where the rows of an export may have changed."""
    found = [repr(asdict(rows.options))]
    for folder in (DATA_NAME, REVIEWS_NAME):
        for path in sorted((rows.out / folder).glob("[!.]*.parquet")):
            stat = path.stat()
            found.append(f"{path.name} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(found).encode("utf-8", "surrogatepass")).hexdigest()
