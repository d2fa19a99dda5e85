"""A long run against an endpoint that fails in every way at once: `python -m tests.soak --records 20000`.

Every record must be answered, none may lose an attempt to a rate limit, memory must stay flat, and the requests that
the emulator counted must be the attempts that the ledger holds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.emulator.child import child_emulator
from tests.support import emulator_get, ends_within

ROOT = Path(__file__).parents[1]
FAULTS = {"429": 0.04, "429_no_retry_after": 0.01, "500": 0.03, "disconnect": 0.01, "broken_json": 0.01, "stall": 0.01}
IMAGES = 24
ROWS_PER_PART = 2_000
"""A part is rewritten whole as long as it grows: its size, and not that of the dataset, is what memory follows."""


@dataclass(frozen=True, slots=True)
class Soaked:
    """What a soak came to."""

    records: int
    by_status: dict[str, int]
    requests: int
    attempts: int
    rate_limited: int
    most_failures: int
    """Requests of one record, 429s left out, beyond its last."""
    first_mb: float
    """The most resident memory in the second quarter, and in the last."""
    last_mb: float
    seconds: float

    def problems(self) -> list[str]:
        """What must not be."""
        found = []
        if self.by_status != {"ok": self.records}:
            found.append(f"not all answered: {self.by_status}")
        if self.requests != self.attempts:
            found.append(f"the emulator counted {self.requests} requests, the ledger {self.attempts}")
        if self.last_mb > 1.1 * self.first_mb:
            found.append(f"memory grew from {self.first_mb:.0f} to {self.last_mb:.0f} MB")
        return found


def draw(folder: Path, records: int) -> Path:
    """A manifest over a few images."""
    folder.mkdir(parents=True)
    for number in range(IMAGES):
        pixels = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((320, 240)).save(folder / f"{number}.jpg", quality=80)
    rows = folder / "rows.jsonl"
    lines = (json.dumps({"id": f"{number:06d}", "image": f"{number % IMAGES}.jpg"}) for number in range(records))
    rows.write_text("\n".join(lines), encoding="utf-8")
    return rows


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def soak(records: int, work: Path, *, latency_ms: int = 50, seed: int = 1, concurrency: str = "auto") -> Soaked:
    """Run it, and look from outside."""
    rows, out = draw(work / "images", records), work / "out"
    faults = [word for name, rate in FAULTS.items() for word in ("--fault", f"{name}={rate}")]
    emulator = ["--fast", "--latency-ms", str(latency_ms), "--seed", str(seed), *faults]
    with child_emulator([*emulator, "--jitter-ms", "50"]) as url:
        command = [
            *(sys.executable, "-m", "pipeline", "run", str(rows), "-o", str(out), "--base-url", url, "--no-dedup"),
            *("--model", "gpt-4o", "--prompt", "What is this?", "--json", "-q", "--concurrency", concurrency),
            *("--set", "limits.straggler_s=2", "--set", f"output.rows_per_part={ROWS_PER_PART}"),
        ]
        began = time.monotonic()
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ}) as process:
            first_mb, last_mb = _watch(process, out / "status.json", records)
            summary = json.loads(process.communicate()[0])
        seconds = time.monotonic() - began
        stats = emulator_get(url, "stats")
    frame = pd.read_parquet(out / "data")
    return Soaked(
        records=records,
        by_status={str(status): int(count) for status, count in frame.status.value_counts().items()},
        requests=stats["requests"],
        attempts=int(frame.attempts.sum()),
        rate_limited=summary["rate_limited"],
        most_failures=int(frame.attempts.max()) - 1,
        first_mb=first_mb,
        last_mb=last_mb,
        seconds=seconds,
    )


def _watch(process: "subprocess.Popen[str]", status: Path, records: int) -> tuple[float, float]:
    """The most resident memory in the second quarter, when all is warm, and in the last one."""
    first_mb = last_mb = 0.0
    while not ends_within(process, 0.2):
        try:
            done = json.loads(status.read_text(encoding="utf-8"))["asked"]
            now_mb = resident_mb(process.pid)
        except (OSError, ValueError, KeyError, StopIteration):
            continue
        if records / 4 < done <= records / 2:
            first_mb = max(first_mb, now_mb)
        elif done > 3 * records / 4:
            last_mb = max(last_mb, now_mb)
    return first_mb, last_mb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--concurrency", default="64", help="auto may go on growing, and memory with it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soaked = soak(options.records, Path(folder), seed=options.seed, concurrency=options.concurrency)
    sys.stdout.write(f"{soaked}\n")
    problems = soaked.problems()
    verdict = "\n".join(problems) or "every record answered, every request accounted for, memory flat"
    sys.stdout.write(f"{verdict}\n")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
