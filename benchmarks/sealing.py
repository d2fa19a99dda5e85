"""What sealing takes: rows that wait in a ledger become parts, in a process of their own.

`python benchmarks/sealing.py [--rows 50000] [--row-kb 0.3] [--waiting 22500]`: of the rows, the last `--waiting` ones
are not sealed yet when the measured process opens the output directory (default: all).
`--rows 1000 --row-kb 3000` is 3 GB of rows: it takes a few minutes, and twice that on the disk.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
from common import peak_mb
from outcomes import outcome

from pipeline.config.loading import load_config
from pipeline.records import Outcome
from pipeline.store.dataset import Dataset

BATCH_KB = 4_000
CONFIG = load_config(None, {"request.model": "gpt-4o"}, {})


def noisy(number: int, row_kb: float) -> Outcome:
    """A row of about `row_kb`, which no compression makes smaller."""
    return outcome(number, random.Random(number).randbytes(int(row_kb * 512)).hex())


def opened(out: Path) -> Dataset:
    return Dataset.open(out, config=CONFIG, run_id="first", now=lambda: datetime.now(UTC))


def prepare(out: Path, rows: int, row_kb: float, waiting: int) -> None:
    dataset = opened(out)
    batch = max(1, int(BATCH_KB / (row_kb + 1)))
    for start in range(0, rows, batch):
        stop = min(start + batch, rows)
        if start < rows - waiting <= stop:
            stop = rows - waiting
            dataset.commit([noisy(number, row_kb) for number in range(start, stop)])
            dataset.seal()
            start, stop = stop, min(start + batch, rows)  # noqa: PLW2901 - the rest of this batch waits
        dataset.commit([noisy(number, row_kb) for number in range(start, stop)])
    dataset.close(seal=False)


def seal(out: Path) -> None:
    before_mb, began = peak_mb(), time.perf_counter()
    opened(out).close()
    print(json.dumps({"before_mb": before_mb, "peak_mb": peak_mb(), "seconds": time.perf_counter() - began}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--row-kb", type=float, default=0.3)
    parser.add_argument("--waiting", type=int)
    parser.add_argument("--child", choices=["prepare", "seal"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    waiting = arguments.rows if arguments.waiting is None else arguments.waiting
    if arguments.child == "prepare":
        prepare(arguments.out, arguments.rows, arguments.row_kb, waiting)
    elif arguments.child == "seal":
        seal(arguments.out)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            measure(arguments.out or Path(scratch) / "out", sys.argv[1:])


def measure(out: Path, options: list[str]) -> None:
    command = [sys.executable, __file__, *options, "--out", str(out), "--child"]
    subprocess.run([*command, "prepare"], check=True)
    ledger_mb = (out / "ledger.sqlite").stat().st_size / 1e6
    environ = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}  # as the command has it
    done = subprocess.run([*command, "seal"], check=False, capture_output=True, text=True, env=environ)
    if done.returncode:
        raise SystemExit(f"ledger of {ledger_mb:,.0f} MB: {done.stderr.splitlines()[-1]}")
    told = json.loads(done.stdout)
    parts = sorted((out / "data").glob("*.parquet"))
    rows = [pq.read_metadata(part).num_rows for part in parts]
    print(
        f"ledger of {ledger_mb:,.0f} MB, sealed in {told['seconds']:.1f} s into parts of {rows} rows; "
        f"peak memory {told['peak_mb']:.0f} MB ({told['before_mb']:.0f} MB before)"
    )


if __name__ == "__main__":
    main()
