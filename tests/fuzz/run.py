"""Damaged files of every format, decoded in processes that may die: `python -m tests.fuzz.run --files 20000`.

Each file is prepared as a run prepares it. What counts: a picture, a failure with its kind, an exception (a bug), a
process that died (a crash), one that did not answer for `TIME_S` seconds (a hang), and memory over the bound.
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.seeds import MAKERS
from tests.support import ROOT

TIME_S = 60.0
"""For one file of some kilobytes, on a machine that does other work as well; alone none takes a second."""
COMMON = ("JPEG", "PNG", "GIF", "WebP", "BMP", "TIFF", "AVIF", "HEIC", "JPEG2000")


@dataclass(slots=True)
class Campaign:
    """What became of the files of one format."""

    kind: str
    ends: Counter[str] = field(default_factory=Counter)
    bugs: list[tuple[int, str]] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)
    peak_mb: float = 0.0

    def take(self, line: dict[str, Any]) -> None:
        self.ends.update(line["ends"])
        self.bugs += [(number, what) for number, what in line["bugs"]]
        self.slowest = max(self.slowest, (line["slowest"][0], line["slowest"][1]))
        self.peak_mb = max(self.peak_mb, line["peak"])

    def __str__(self) -> str:
        ends = ", ".join(f"{count:,} {end}" for end, count in self.ends.most_common())
        slow = f"slowest {self.slowest[0]:.2f} s (file {self.slowest[1]})"
        bugs = "".join(f"\n  file {number}: {what}" for number, what in self.bugs[:50])
        total = f"{self.kind}: {self.ends.total():,} files: {ends}"
        return f"{total}; peak {self.peak_mb:.0f} MB; {slow}; {len(self.bugs)} bugs{bugs}"


def campaign(kind: str, files: int, first: int = 0) -> Campaign:
    """Runs workers one after the other until all files are done; one that dies or hangs costs its file."""
    found, start = Campaign(kind), first
    with tempfile.NamedTemporaryFile() as place:
        place.write(bytes(16))
        place.flush()
        while start < first + files:
            start = _one(found, start, first + files, Path(place.name))
    return found


def _one(found: Campaign, start: int, end: int, place: Path) -> int:
    """The number of the next file."""
    place.write_bytes(struct.pack("<qd", start, time.monotonic() + 60))
    command = [sys.executable, "-m", "tests.fuzz.worker", found.kind, str(start), str(end), str(place)]
    with tempfile.TemporaryFile() as out:
        with subprocess.Popen(command, cwd=ROOT, stdout=out, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
            hung = _watch(process, place)
        out.seek(0)
        lines = [json.loads(line) for line in out.read().splitlines() if line.endswith(b"}")]
    number, _ = struct.unpack("<qd", place.read_bytes())
    if lines:
        found.take(lines[-1])
    if process.returncode == 0:
        return end
    what = "hang" if hung else f"crash ({process.returncode})"
    found.ends[what] += 1
    found.bugs.append((number, what))
    return int(number) + 1


def _watch(process: "subprocess.Popen[bytes]", place: Path) -> bool:
    """Waits for the end; True where a file took too long, and the process was killed."""
    while True:
        _, began = struct.unpack("<qd", place.read_bytes())
        try:
            process.wait(max(0.0, began + TIME_S - time.monotonic()))
        except subprocess.TimeoutExpired:
            if struct.unpack("<qd", place.read_bytes())[1] == began:
                process.kill()
                return True
        else:
            return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000, help="of each format")
    parser.add_argument("--first", type=int, default=0, help="the number of the first file")
    parser.add_argument("kinds", nargs="*", default=list(MAKERS), help=", ".join(MAKERS))
    wanted = parser.parse_args()
    is_clean = True
    for kind in wanted.kinds:
        found = campaign(kind, wanted.files, wanted.first)
        print(found, flush=True)  # noqa: T201 - the report
        is_clean = is_clean and not found.bugs
    raise SystemExit(not is_clean)


if __name__ == "__main__":
    main()
