"""Runs into a bucket, killed and wiped again and again: `python -m tests.bucket --kills 20` (`make bucket`).

After every SIGKILL the state directory is deleted, as a machine without a lasting disk leaves it, and the same command
runs again. The store is moto's server, and the emulator counts what was billed. What the bucket holds at a kill is
never asked again: its rows stay, request id and all. No key stands twice, and what is paid twice is what had not
reached the bucket. The short form is in tests/cloud/test_out_in_bucket.py.
"""

import argparse
import io
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Event, Thread
from typing import Any

import orjson
import pandas as pd
import pyarrow.parquet as pq

from pipeline.buckets.journal import Segment, in_order
from pipeline.cloud.bucket import Bucket
from pipeline.cloud.stores import ObjectAddress
from pipeline.emulator.child import child_emulator
from pipeline.store.unsaved import UnsavedAnswer
from tests.buckets import environment, object_store
from tests.support import ROOT, emulator_get, ends_within
from tests.torture import draw

SLOTS = 16
OUT = "s3://bucket/out"
EARLY, BEGINS_S = 0.2, 30.0
"""The share of kills while a run begins, and the longest that this may take."""


@dataclass
class Report:
    """What a campaign counted over all its runs."""

    kills: int = 0
    records: int = 0
    rows: int = 0
    billed: int = 0
    sealed: list[int] = field(default_factory=list)
    """Rows in the bucket at each kill."""
    lost: int = 0
    """Billed by a killed run, and neither in a part nor in the journal."""
    reads: int = 0
    """By pandas, meanwhile."""
    violations: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        return [
            f"kills {self.kills}, records {self.records}, rows {self.rows}, billed {self.billed}",
            f"rows in the bucket at the kills: {self.sealed}",
            f"paid twice {self.billed - self.rows}, had not reached the bucket at a kill {self.lost}",
            f"read by pandas {self.reads} times meanwhile",
            *self.violations,
        ]


def arguments(photos: str, state: Path, url: str, more: Sequence[str] = ()) -> list[str]:
    """One run, after the name of Python."""
    return [
        *("-m", "pipeline", "run", photos, "-o", OUT, "--state", str(state), "--base-url", url, "-q"),
        *("--model", "gpt-4o", "--concurrency", str(SLOTS), "--set", "output.rows_per_part=97"),
        *("--set", "output.seal_interval_s=0.2", *more),
    ]


def rows_in(bucket: Bucket) -> dict[str, Any]:
    """The request ids of all rows in the parts, by id. Raises AssertionError where a key stands twice."""
    found: list[tuple[str, Any]] = []
    for name in bucket.versions("data"):
        got = bucket.read(name)
        assert got is not None
        table = pq.read_table(io.BytesIO(got[0]), columns=["id", "request_id"])
        found += zip(table["id"].to_pylist(), table["request_id"].to_pylist(), strict=True)
    rows = dict(found)
    assert len(rows) == len(found), "a key stands twice"
    return rows


def journaled(bucket: Bucket) -> set[str]:
    """The ids of the rows in the journal."""
    answers: list[UnsavedAnswer] = []
    for name in in_order(list(bucket.versions("journal"))):
        got = bucket.read(name)
        if got is not None:
            answers += Segment.decoded(got[0], name).answers
    return {str(orjson.loads(answer.row)["id"]) for answer in answers}


class Reader(Thread):
    """Reads the dataset with pandas, again and again, while runs come and go."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ends, self.reads, self.violations = Event(), 0, list[str]()

    def run(self) -> None:
        while not self.ends.wait(0.05):
            try:
                rows = pd.read_parquet(f"{OUT}/data")
            except FileNotFoundError:  # before the first upload
                if self.reads:
                    self.violations.append("the parts were gone for a moment")
                continue
            except (OSError, ValueError) as error:
                self.violations.append(f"pandas could not read: {error}")
                continue
            self.reads += 1
            if not rows.id.is_unique:
                self.violations.append("pandas met a key twice")


class Campaign:
    """Kills and wipes until there were enough, and then one run to its end."""

    def __init__(self, scratch: Path, *, kills: int, images: int, seed: int) -> None:
        self.scratch, self.kills, self.random = scratch, kills, random.Random(seed)
        self.report = Report(records=images)
        self.state = scratch / "state"
        self.sealed: dict[str, Any] = {}
        self.safe: set[str] = set()
        draw(scratch / "photos", images)

    @cached_property
    def bucket(self) -> Bucket:
        address = ObjectAddress.of(OUT)
        assert address is not None
        return Bucket(address)

    def run(self, store: str, url: str, longest_s: float) -> Report:
        environ = {**os.environ, **environment(store), "PYTHONPATH": str(ROOT)}
        os.environ.update(environment(store))
        bucket = self.bucket
        before, deadline = 0, time.monotonic() + longest_s
        while time.monotonic() < deadline:
            done = self.start(url, environ, longest_s, is_killed=self.report.kills < self.kills)
            if done is None:
                before = self._after_kill(bucket, url, before)
                continue
            code, stderr = done
            if code:
                self.report.violations.append(f"a run ended with {code}: {stderr[-400:]}")
            break
        self._compare(rows_in(bucket))
        self.report.rows = len(self.sealed)
        self.report.billed = emulator_get(url, "stats")["billed"]
        if self.report.rows != self.report.records:
            self.report.violations.append(f"{self.report.rows} rows for {self.report.records} records")
        if self.report.billed - self.report.rows > self.report.lost:
            self.report.violations.append("more was paid twice than had not reached the bucket")
        return self.report

    def start(self, url: str, environ: dict[str, str], longest_s: float, *, is_killed: bool) -> tuple[int, str] | None:
        """One run to its end: its exit code and what it said. None where it was killed before."""
        line = [sys.executable, *arguments("photos", self.state, url)]
        process = subprocess.Popen(line, cwd=self.scratch, env=environ, stderr=subprocess.PIPE, text=True)
        if is_killed and self._kill(process, url):
            return None
        _, stderr = process.communicate(timeout=longest_s)
        return process.returncode, stderr

    def _kill(self, process: "subprocess.Popen[str]", url: str) -> bool:
        """At a random moment, mostly while it asks. Whether it was still there."""
        asked, until = emulator_get(url, "stats")["requests"], time.monotonic() + BEGINS_S
        waits = self.random.random() > EARLY
        while waits and process.poll() is None and time.monotonic() < until:
            if emulator_get(url, f"stats?requests={asked + 1}")["requests"] > asked:
                break
        if ends_within(process, self.random.uniform(0.05, 3.0)):
            return False
        process.kill()
        process.communicate()
        return True

    def _after_kill(self, bucket: Bucket, url: str, before: int) -> int:
        """Compare, wipe, and count what had not reached the bucket: what is billed until now."""
        until = time.monotonic() + BEGINS_S
        while emulator_get(url, "stats?in_flight=0")["in_flight"] and time.monotonic() < until:
            pass  # requests that the emulator still answers, and bills
        rows = rows_in(bucket)
        self._compare(rows)
        safe, billed = set(rows) | journaled(bucket), emulator_get(url, "stats")["billed"]
        self.report.kills += 1
        self.report.sealed.append(len(rows))
        self.report.lost += max(0, billed - before - len(safe - self.safe))
        self.safe = safe
        shutil.rmtree(self.state, ignore_errors=True)
        return int(billed)

    def _compare(self, rows: dict[str, Any]) -> None:
        changed = [name for name, request in self.sealed.items() if rows.get(name) != request]
        if changed:
            self.report.violations.append(f"asked again although the bucket held it: {changed[:5]}")
        self.sealed = rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-minutes", type=float, default=15)
    given = parser.parse_args()
    faults = ["--fault", "500=0.02", "--fault", "disconnect=0.01"]
    with (
        tempfile.TemporaryDirectory() as scratch,
        object_store({}) as store,
        child_emulator(["--fast", "--latency-ms", "100", "--jitter-ms", "60", *faults]) as url,
    ):
        campaign = Campaign(Path(scratch), kills=given.kills, images=given.images, seed=given.seed)
        os.environ.update(environment(store))
        reader = Reader()
        reader.start()
        report = campaign.run(store, url, 60 * given.max_minutes)
        reader.ends.set()
        reader.join()
        report.reads = reader.reads
        report.violations += reader.violations[:5]
    print("\n".join(report.lines()))  # noqa: T201 - its result
    sys.exit(bool(report.violations) or report.kills < given.kills)


if __name__ == "__main__":
    main()
