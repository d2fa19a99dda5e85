"""Output directories that are damaged at random: `python -m tests.damages --cases 200` (`make damages`); short in
test_damages.

Real runs against a server on this machine make one output directory with rows that are sealed, rows that wait in the
ledger (in its log, and in the database itself), and rows that were asked twice. Each case copies it, damages some
bytes of some files, and notes which pages, frames and row groups it touched. What lies on the others has to be there
after `rebuild`, no command may end with exit code 70, and a last run has to answer the rest, each record once.
"""

import argparse
import contextlib
import io
import json
import random
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from pipeline.cli import app
from tests.stub import Reply, Stub, answer, stub

IMAGES, SEALED, ROWS_A_PART, ROWS_A_GROUP = 30, 24, 8, 3
WIDTHS = range(16, 16 + IMAGES)
SNAPSHOT_AT = 16
"""Answers of the second run when its files are copied, as a kill would leave them."""
LEDGER, LOG = "ledger.sqlite", "ledger.sqlite-wal"
PAGE, LOG_HEADER, FRAME_HEADER = 4096, 32, 24
ORDERS = (
    ("rebuild", "run"), ("status", "rebuild", "run"), ("run", "rebuild", "run"), ("compact", "rebuild", "run"),
    ("rebuild", "rebuild", "run"),
)  # fmt: skip
EXIT_CODES = frozenset({0, 1, 2, 5})

Place = tuple[str, int]
"""A page, a frame or a row group: the file and the number in it."""


class Version(NamedTuple):
    """One row of a record, and where it lies."""

    id: str
    answered_at: datetime
    row: dict[str, Any]
    places: frozenset[Place]


@dataclass
class Report:
    """What a campaign counted over all its cases."""

    cases: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    versions: int = 0
    """Rows on undamaged pages, frames and row groups, over all cases."""
    touched: int = 0
    asked_again: int = 0
    violations: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        return [
            f"cases {self.cases}: {', '.join(f'{name} {count}' for name, count in sorted(self.kinds.items()))}",
            f"exit codes: {', '.join(f'{name} {count}' for name, count in sorted(self.exits.items()))}",
            f"rows on undamaged places {self.versions}, on damaged ones {self.touched}",
            f"asked again {self.asked_again}; violations {len(self.violations)}",
            *self.violations,
        ]


def reply_of(width: int, times: int) -> Reply:
    """What the server says of an image: another text each time, and of every fifth image one of more than a page."""
    body = answer(width)
    text = f"{width} pixels wide, asked {times} times"
    body["choices"][0]["message"]["content"] = text + (", " + "again " * 1_200 if width % 5 == 0 else "")
    return Reply(200, body)


def draw(folder: Path) -> None:
    folder.mkdir()
    for width in WIDTHS:
        pixels = np.random.default_rng(width).integers(0, 255, (8, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{width}.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")


class Workplace:
    """A folder of images, a server, and the command."""

    def __init__(self, scratch: Path, server: Stub) -> None:
        self.scratch, self.server = scratch, server
        self.photos = scratch / "photos"
        draw(self.photos)

    def command(self, name: str, out: Path, *more: str) -> tuple[int, str]:
        words = [name, str(out), *more]
        if name == "run":
            words = [
                *("run", str(self.photos), "-o", str(out), "--base-url", self.server.base_url, "--model", "gpt-4o"),
                *("-q", "--concurrency", "4", "--max-failed", "100%", "--set", f"output.rows_per_part={ROWS_A_PART}"),
                *("--set", "output.seal_interval_s=3600", *more),
            ]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = app.exit_code(words)
        return code, said.getvalue()

    def must(self, name: str, out: Path, *more: str) -> None:
        code, said = self.command(name, out, *more)
        assert code in {0, 1}, f"{name}: {code} {said}"

    def build(self) -> dict[str, Path]:
        """Output directories as kills leave them: the answers that wait in the log, in the database, and none."""
        whole, killed, folded = (self.scratch / name for name in ("whole", "killed", "folded"))
        self.must("run", whole, "--limit", str(SEALED))
        in_groups(whole / "data")
        self.must("rebuild", whole)
        answers = Counter[int]()

        def decide(width: int) -> Reply:
            answers[width] += 1
            if answers.total() == SNAPSHOT_AT:
                shutil.copytree(whole, killed)
            return reply_of(width, self.server.asked[width])

        self.server.decide = decide
        self.must("run", whole, "--refresh")
        self.server.decide = lambda width: reply_of(width, self.server.asked[width])
        shutil.copytree(killed, folded)
        with contextlib.closing(sqlite3.connect(folded / LEDGER)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (folded / LOG).unlink(missing_ok=True)
        in_groups(whole / "data")
        self.must("rebuild", whole)
        for out in (whole, killed, folded):
            for aside in out.glob(f"{LEDGER}.damaged-*"):
                aside.unlink()
        return {"sealed": whole, "killed": killed, "folded": folded}


def in_groups(data: Path) -> None:
    """The same parts in several row groups, with checksums, as large parts have them."""
    for part in sorted(data.glob("part-*.parquet")):
        table = pq.read_table(part)
        pq.write_table(table, part, row_group_size=ROWS_A_GROUP, compression="zstd", write_page_checksum=True)


def versions(out: Path) -> list[Version]:
    """Every row in the parts and in the ledger, and what it lies on; SQLite itself says where."""
    found = []
    for part in sorted((out / "data").glob("part-*.parquet")):
        with pq.ParquetFile(part) as file:
            for group in range(file.num_row_groups):
                places = frozenset({(f"data/{part.name}", group)})
                found += [version(row, places) for row in file.read_row_group(group).to_pylist()]
    with tempfile.TemporaryDirectory() as copy:
        for name in (LEDGER, LOG):
            if (out / name).exists():
                shutil.copy(out / name, copy)
        with contextlib.closing(sqlite3.connect(Path(copy) / LEDGER)) as connection:
            rows = connection.execute("SELECT row FROM answer WHERE leader IS NULL ORDER BY seq").fetchall()
            assert connection.execute("SELECT count(*) FROM answer").fetchone()[0] == len(rows)
            pages = pages_of_rows(connection)
        frames = newest_frames(out / LOG)
    for (row,), on in zip(rows, pages, strict=True):
        places = frozenset((LOG, frames[page]) if page in frames else (LEDGER, page) for page in on)
        found.append(version(json.loads(row), places))
    return found


def version(row: dict[str, Any], places: frozenset[Place]) -> Version:
    at = row["answered_at"]
    answered_at = datetime.fromisoformat(at) if isinstance(at, str) else at
    return Version(row["id"], answered_at or datetime.fromisoformat("0001-01-01T00:00:00+00:00"), row, places)


def pages_of_rows(connection: sqlite3.Connection) -> list[set[int]]:
    """For each row of `answer`, in order, the pages that it lies on (sqlite.org/dbstat.html)."""
    stat = connection.execute("SELECT path, pageno, pagetype, ncell FROM dbstat WHERE name = 'answer' ORDER BY path")
    leaves: list[tuple[str, int, int]] = []
    overflow: dict[tuple[str, int], set[int]] = {}
    for path, page, kind, cells in stat:
        if kind == "leaf":
            leaves.append((path, page, cells))
        elif kind == "overflow":
            leaf, _, cell = path.partition("+")[0].rpartition("/")
            overflow.setdefault((f"{leaf}/", int(cell, 16)), set()).add(page)
    return [{page} | overflow.get((path, cell), set()) for path, page, cells in sorted(leaves) for cell in range(cells)]


def newest_frames(log: Path) -> dict[int, int]:
    """Page -> number of its last frame, from 0, of a log that was never begun anew."""
    data = log.read_bytes() if log.exists() else b""
    starts = range(LOG_HEADER, len(data) - PAGE - FRAME_HEADER + 1, PAGE + FRAME_HEADER)
    assert len({data[at + 8 : at + 16] for at in starts}) <= 1
    commits = [number for number, at in enumerate(starts) if any(data[at + 4 : at + 8])]
    last = commits[-1] if commits else -1
    return {int.from_bytes(data[at : at + 4]): number for number, at in enumerate(starts) if number <= last}


class Damager:
    """Damages one output directory, and notes what it touched."""

    def __init__(self, out: Path, chance: random.Random) -> None:
        self.out, self.random = out, chance
        self.touched: set[Place] = set()
        self.groups = {part.name: group_ranges(part) for part in sorted((out / "data").glob("part-*.parquet"))}
        self.lost_footers: set[str] = set()

    def damage(self) -> str:
        """One to three damages; what was done."""
        done = [self._one() for _ in range(self.random.choice((1, 1, 1, 2, 3)))]
        if any(name in {LEDGER, LOG} for name, _ in self.touched) or any(word.startswith("ledger") for word in done):
            for part in self.lost_footers:  # their copies may be lost, too
                self.touched.update((f"data/{part}", group) for group in range(len(self.groups[part])))
        return " + ".join(done)

    def _one(self) -> str:
        parts = [f"data/{name}" for name in self.groups]
        names = [LEDGER, LEDGER, LEDGER, LOG, LOG, *parts, "data/.layout", "status.json"]
        there = [name for name in names if (self.out / name).is_file() and (self.out / name).stat().st_size]
        name = self.random.choice(there)
        how = self.random.choice(
            (self.flip, self.flip, self.flip, self.zero, self.cut, self.swap, self.head, self.remove)
        )
        how(self.out / name, name)
        return f"{Path(name).name.split('-0')[0]}:{how.__name__}"

    def flip(self, file: Path, name: str) -> None:
        for at in self.random.choices(range(file.stat().st_size), k=self.random.choice((1, 3, 30))):
            self._write(file, name, at, bytes([self._byte(file, at) ^ self.random.randrange(1, 256)]))

    def zero(self, file: Path, name: str) -> None:
        at = self.random.randrange(-(-file.stat().st_size // PAGE)) * PAGE
        self._write(file, name, at, bytes(min(PAGE, file.stat().st_size - at)))

    def cut(self, file: Path, name: str) -> None:
        size = file.stat().st_size
        at = self.random.randrange(size)
        self._touch(name, at, size)
        with file.open("r+b") as opened:
            opened.truncate(at)

    def swap(self, file: Path, name: str) -> None:
        pages = file.stat().st_size // PAGE
        if pages:
            one, two = (self.random.randrange(pages) * PAGE for _ in range(2))
            data = file.read_bytes()
            self._write(file, name, one, data[two : two + PAGE])
            self._write(file, name, two, data[one : one + PAGE])

    def head(self, file: Path, name: str) -> None:
        self._write(file, name, 0, self.random.randbytes(min(self.random.choice((16, 100)), file.stat().st_size)))

    def remove(self, file: Path, name: str) -> None:
        self._touch(name, 0, file.stat().st_size)
        file.unlink()

    def _byte(self, file: Path, at: int) -> int:
        with file.open("rb") as opened:
            opened.seek(at)
            return opened.read(1)[0]

    def _write(self, file: Path, name: str, at: int, data: bytes) -> None:
        self._touch(name, at, at + len(data))
        with file.open("r+b") as opened:
            opened.seek(at)
            opened.write(data)

    def _touch(self, name: str, start: int, end: int) -> None:
        """These bytes of a file are no longer what they were."""
        if name == LEDGER:
            self.touched.update((name, page) for page in range(start // PAGE + 1, -(-end // PAGE) + 1))
        elif name == LOG:
            stride = PAGE + FRAME_HEADER
            first, last = (max(0, at - LOG_HEADER) // stride for at in (start, end - 1))
            self.touched.update((name, frame) for frame in range(first, last + 1) if end > LOG_HEADER)
        elif (ranges := self.groups.get(Path(name).name)) is not None:
            self.touched.update((name, at) for at, (first, last) in enumerate(ranges) if start < last and end > first)
            if end > ranges[-1][1]:
                self.lost_footers.add(Path(name).name)


def group_ranges(part: Path) -> list[tuple[int, int]]:
    """Where the bytes of each row group begin and end."""
    metadata = pq.read_metadata(part)
    ranges = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = [group.column(at) for at in range(group.num_columns)]
        starts = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks]
        ends = [at + chunk.total_compressed_size for at, chunk in zip(starts, chunks, strict=True)]
        ranges.append((min(starts), max(ends)))
    return ranges


class Campaign:
    """Cases until there were enough."""

    def __init__(self, scratch: Path, *, seed: int) -> None:
        self.scratch, self.seed = scratch, seed
        self.report = Report()

    def run(self, cases: int, show: Callable[[str], None] = lambda _: None) -> Report:
        with stub() as server:
            server.decide = lambda width: reply_of(width, server.asked[width])
            workplace = Workplace(self.scratch, server)
            bases = {name: (out, versions(out)) for name, out in workplace.build().items()}
            for case in range(cases):
                self._case(
                    workplace, bases, random.Random(self.seed * 1_000_003 + case), f"case {self.seed}/{case}", show
                )
        return self.report

    def _case(
        self,
        workplace: Workplace,
        bases: dict[str, tuple[Path, list[Version]]],
        chance: random.Random,
        named: str,
        show: Callable[[str], None],
    ) -> None:
        base, (made, before) = chance.choice(sorted(bases.items()))
        out = self.scratch / "out"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out)
        damager = Damager(out, chance)
        kind = damager.damage()
        order = chance.choice(ORDERS)
        named = f"{named} ({base}; {kind}; {', '.join(order)})"
        show(named)
        safe = [one for one in before if damager.touched.isdisjoint(one.places)]
        self.report.cases += 1
        self.report.kinds.update(kind.split(" + "))
        self.report.versions += len(safe)
        self.report.touched += len(before) - len(safe)
        self.report.violations += [f"{named}: {wrong}" for wrong in self._wrong(workplace, out, order, newest(safe))]

    def _wrong(
        self, workplace: Workplace, out: Path, order: tuple[str, ...], safe: dict[str, Version]
    ) -> Iterator[str]:
        asked = Counter(workplace.server.asked)
        for at, name in enumerate(order):
            code, said = workplace.command(name, out)
            self.report.exits[f"{name} {code}"] += 1
            if name == "rebuild" and code == 5:
                code, said = workplace.command(name, out, "--drop-unreadable")
                self.report.exits[f"{name} --drop-unreadable {code}"] += 1
            if code not in EXIT_CODES or (name == "rebuild" and code) or (at + 1 == len(order) and code not in {0, 1}):
                yield f"{name} ended with {code}: {said}{details(said)}"
            if name == "rebuild" and not code:
                yield from missing(out, safe)
        again = workplace.server.asked - asked
        self.report.asked_again += again.total()
        yield from (f"{one} was safe, and was asked again" for one in safe if again[width_of(one)])
        yield from unfinished(out)


def newest(rows: list[Version]) -> dict[str, Version]:
    """Of each record the row that was answered last."""
    return {one.id: one for one in sorted(rows, key=lambda one: one.answered_at)}


def width_of(name: str) -> int:
    return int(Path(name).stem) if Path(name).stem.isdecimal() else 0


def rows_in(out: Path) -> list[Version]:
    rows = [row for part in sorted((out / "data").glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]
    return [version(row, frozenset()) for row in rows]


def missing(out: Path, safe: dict[str, Version]) -> Iterator[str]:
    """What was safe, and is gone, older than it was, or not what it was."""
    there = {one.id: one for one in rows_in(out)}
    for name, before in safe.items():
        now = there.get(name)
        if now is None:
            yield f"{name} is lost"
        elif now.answered_at < before.answered_at:
            yield f"{name} is an older row"
        elif now.answered_at == before.answered_at and any(
            now.row[column] != before.row[column] for column in ("caption", "status", "model", "total_tokens")
        ):
            yield f"{name} is not what it was"


def unfinished(out: Path) -> Iterator[str]:
    """After the last run every image has one row."""
    try:
        count = Counter(one.id for one in rows_in(out))
    except OSError as error:
        yield f"the last run left a part that cannot be read: {error}"
        return
    wanted = {f"{width}.jpg" for width in WIDTHS} | {"broken.jpg"}
    if set(count) != wanted or count.total() != len(wanted):
        yield f"the last run left {sorted(wanted ^ set(count))}, twice {[name for name in count if count[name] > 1]}"


def details(said: str) -> str:
    """What a bug of ours wrote into its file."""
    name = said.strip().rpartition("Details: ")[2]
    return f"\n{Path(name).read_text()}" if "Details: " in said else ""


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-v", "--verbose", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report = Campaign(Path(scratch), seed=asked.seed).run(asked.cases, tell if asked.verbose else lambda _: None)
    sys.stdout.write("\n".join([*report.lines(), ""]))
    sys.exit(bool(report.violations))


if __name__ == "__main__":
    main()
