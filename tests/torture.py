"""Runs that are killed again and again: `python -m tests.torture --kills 200` (`make torture`); short in test_torture.

`--task ocr` and `--task ofr` do the same with another task, `--pdf whole` and `--pdf pages` with PDFs.

The emulator outlives the runs and is the witness: it counts what was answered and billed. After every kill the
parts are readable, no key stands twice, and whatever the ledger held is still there.
"""

import argparse
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from tests import warm
from tests.emulators import emulator
from tests.pdfs import pdf
from tests.support import emulator_get

SLOTS = 16
FAULTS = ("500=0.02", "disconnect=0.01", "error_in_200=0.01")
"""Only such as bill nothing: every billed answer beyond the rows was paid twice."""


@dataclass
class Report:
    """What a campaign counted over all its runs."""

    kills: int = 0
    runs: int = 0
    records: int = 0
    answers: int = 0
    requests: int = 0
    billed: int = 0
    lost: int = 0
    duplicated: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def repaid(self) -> int:
        return self.billed - self.answers

    def lines(self) -> list[str]:
        bound = f"allowed: kills x 2 x slots = {self.kills * 2 * SLOTS}"
        return [
            f"kills {self.kills}, complete runs {self.runs}, slots {SLOTS}",
            f"records {self.records}, answers {self.answers}, requests {self.requests}, billed {self.billed}",
            f"re-paid {self.repaid} ({bound}), lost: {self.lost}, duplicated: {self.duplicated}",
            *self.violations,
        ]


def draw(folder: Path, count: int) -> None:
    """Small JPEGs, all different, which are sent as they are."""
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(folder / f"{number:05}.jpg")


def draw_documents(folder: Path, count: int) -> None:
    """PDFs of `PAGES` pages, all different."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05}.pdf").write_bytes(pdf(PAGES, text=f"document {number}"))


PAGES = 3
_EARLY, _BEGINS_S = 0.2, 30.0
"""The share of kills while a run begins, and the longest that this may take."""
MODELS = {"caption": "gpt-4o", "ocr": "mistral-ocr-latest", "ofr": "ofr"}
"""By task."""


def start(photos: Path, out: Path, url: str, task: str, more: Sequence[str] = ()) -> warm.Running:
    words = [
        *("-m", "pipeline", "run", str(photos), "-o", str(out), "--base-url", url, "-q"),
        *("--task", task, "--model", MODELS[task], "--concurrency", str(SLOTS), "--max-failed", "100%"),
        *("--set", "output.rows_per_part=97", "--set", "output.seal_interval_s=0.1", *more),
    ]
    return warm.Running(words, cwd=photos.parent, env=os.environ)


def in_parts(out: Path) -> list[str]:
    parts = sorted((out / "data").glob("part-*.parquet")) if (out / "data").is_dir() else []
    return [name for part in parts for name in pq.read_table(part, columns=["id"])["id"].to_pylist()]


def in_ledger(out: Path) -> dict[bytes, int]:
    """key16 -> state, from a copy: the original is left as the kill left it."""
    if not (out / "ledger.sqlite").exists():
        return {}
    with tempfile.TemporaryDirectory() as scratch:
        for file in out.glob("ledger.sqlite*"):
            shutil.copy(file, scratch)
        connection = sqlite3.connect(Path(scratch) / "ledger.sqlite")
        try:
            return dict(connection.execute("SELECT key16, state FROM record"))
        except sqlite3.OperationalError:  # killed before there were tables
            return {}
        finally:
            connection.close()


class Campaign:
    """Kills until there were enough, over as many runs as that takes."""

    def __init__(
        self, scratch: Path, *, kills: int, images: int, seed: int, task: str = "caption", mode: str | None = None
    ) -> None:
        """With a `mode` there are `images` PDFs, sent in this way."""
        self.scratch, self.kills, self.task = scratch, kills, task
        self.more = () if mode is None else ("--pdf", mode)
        self.random = random.Random(seed)
        self.report = Report()
        self.photos = scratch / "photos"
        (draw if mode is None else draw_documents)(self.photos, images)
        files = sorted(path.name for path in self.photos.iterdir())
        self.ids = sorted(f"{file}#page={page}" for file in files for page in range(1, PAGES + 1))
        self.ids = self.ids if mode == "pages" else files

    def run(self, deadline: float) -> Report:
        while self.report.kills < self.kills and time.monotonic() < deadline:
            faults = [word for fault in FAULTS for word in ("--fault", fault)]
            seed = str(self.report.runs)
            with emulator(["--fast", "--latency-ms", "20", "--jitter-ms", "20", "--seed", seed, *faults]) as url:
                self._until_complete(self.scratch / f"out{self.report.runs}", url, deadline)
        return self.report

    def _until_complete(self, out: Path, url: str, deadline: float) -> None:
        held: dict[bytes, int] = {}
        while time.monotonic() < deadline:
            process = start(self.photos, out, url, self.task, self.more)
            enough = self.report.kills >= self.kills
            try:
                if not enough:
                    self._await_answers(process, url)
                _, stderr = process.communicate(timeout=120 if enough else self.random.uniform(0.0, 1.2))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                self.report.kills += 1
                held = self._after_kill(out, held)
                continue
            if process.returncode != 0:
                self.report.violations.append(f"a run ended with {process.returncode}: {stderr[-300:]}")
            self._at_the_end(out, held, emulator_get(url, "stats"))
            return

    def _await_answers(self, process: warm.Running, url: str) -> None:
        """Until the run asks, mostly: on a busy machine it may be killed again and again before it has begun."""
        before, until = emulator_get(url, "stats")["requests"], time.monotonic() + _BEGINS_S
        if self.random.random() < _EARLY:
            return
        while process.poll() is None and time.monotonic() < until:
            if emulator_get(url, f"stats?requests={before + 1}")["requests"] > before:
                return

    def _after_kill(self, out: Path, held: dict[bytes, int]) -> dict[bytes, int]:
        names, now = in_parts(out), in_ledger(out)
        self.report.duplicated += len(names) - len(set(names))
        self.report.lost += len(set(held) - set(now))
        self.report.lost += max(0, len(names) - len(now))
        return now

    def _at_the_end(self, out: Path, held: dict[bytes, int], stats: dict[str, int]) -> None:
        self._after_kill(out, held)
        names = in_parts(out)
        if sorted(names) != self.ids:
            self.report.violations.append(f"{out.name}: {len(names)} rows for {len(self.ids)} records")
        self.report.runs += 1
        self.report.records += len(self.ids)
        self.report.answers += len(names)
        self.report.requests += stats["requests"]
        self.report.billed += stats["billed"]


def has_held(report: Report) -> bool:
    """Whether every promise held; what did not is added to the report."""
    if report.lost or report.duplicated:
        report.violations.append("answers were lost or doubled")
    if not 0 <= report.repaid <= report.kills * 2 * SLOTS:
        report.violations.append(f"{report.repaid} answers were paid twice")
    return not report.violations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--task", choices=MODELS, default="caption")
    parser.add_argument("--pdf", choices=["whole", "pages"])
    parser.add_argument("--max-minutes", type=float, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        numbers = {"kills": arguments.kills, "images": arguments.images, "seed": arguments.seed}
        campaign = Campaign(Path(scratch), **numbers, task=arguments.task, mode=arguments.pdf)
        report = campaign.run(time.monotonic() + 60 * arguments.max_minutes)
    holds = has_held(report)
    print("\n".join(report.lines()))  # noqa: T201 - its result
    sys.exit(not holds or report.kills < arguments.kills)


if __name__ == "__main__":
    main()
