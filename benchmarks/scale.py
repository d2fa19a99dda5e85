"""What a record costs as there are more of them: 1,000 to a million, over a manifest of rows that share few images.

    python benchmarks/scale.py [--records 1000000] [--turns 1] [--minutes M] [--fresh]

The endpoint answers at once. For each number of records: time and CPU a record, peak memory, time from the start of the
process to its first request, the ledger, and how long the same line takes to its first new request when a row is added.
What was measured is kept, and a run is stopped every ten minutes and continued: the benchmark may be stopped too, and
goes on where it was. 10,000,000 take hours and 10 GB of disk.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from urllib.request import urlopen

from common import HERE, cache_dir, clean_environment, draw_jpegs, endpoint, rows_over
from harness import Measured

IMAGES, SIZE, QUALITY, SLOTS = 16, (320, 240), 70, 64
FEWEST = 1_000
SLICE_S = 600.0
TIMEOUT_S = 2 * SLICE_S


@dataclass(frozen=True, slots=True)
class Scale:
    """One number of records."""

    records: int
    turn: int
    load: float
    wall_us: float
    """A record, start-up left out."""
    cpu_us: float
    peak_mb: float
    first_s: float
    resume_s: float
    ledger_mb: float
    parts_mb: float


def requests(base_url: str) -> int:
    with urlopen(f"{base_url.removesuffix('/v1')}/stats", timeout=10) as response:  # noqa: S310 - loopback
        return int(json.load(response)["requests"])


def run(rows: Path, out: Path, base_url: str, longest_s: float = SLICE_S) -> tuple[Measured, float]:
    """What a run took, and when its first request had come (s since its process began)."""
    before, began = requests(base_url), time.perf_counter()
    command = [
        sys.executable,
        str(HERE / "ours.py"),
        str(rows),
        str(out),
        base_url,
        "--slots",
        str(SLOTS),
        "--no-dedup",
        "--max-time",
        str(longest_s),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environment()) as process:
        while requests(base_url) == before and process.poll() is None:
            time.sleep(0.01)
        first_s = time.perf_counter() - began
        said, _ = process.communicate(timeout=TIMEOUT_S)
    if process.returncode:
        raise SystemExit(f"the run ended with exit code {process.returncode}")
    return Measured(**json.loads(said.splitlines()[-1])), first_s


def megabytes(files: Sequence[Path]) -> float:
    return sum(file.stat().st_size for file in files) / 1e6


def measure(records: int, turn: int, images: Path, base_url: str, folder: Path, *, ends: float = inf) -> Scale | None:
    """One number of records, in slices; None where it is not done before `ends`. `folder` keeps what there is."""
    rows, out, kept = folder / "rows.jsonl", folder / "out", folder / "slices.jsonl"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows_over(images, records, rows)
        kept.touch()
    slices = [json.loads(line) for line in kept.read_text().splitlines()]
    while not slices or slices[-1]["images"] < records:
        left_s = min(SLICE_S, ends - time.monotonic())
        if left_s <= 0:
            return None
        load = os.getloadavg()[0]
        done, first_s = run(rows, out, base_url, left_s)
        if slices and done.images == slices[-1]["images"]:
            raise SystemExit(f"the run does not go on: {done.images:,} of {records:,} records were answered")
        slices.append({**asdict(done), "first_s": first_s, "load": load})
        with kept.open("a") as file:
            file.write(json.dumps(slices[-1]) + "\n")
        print(f"{done.images:,} of {records:,} records, {done.peak_mb:.0f} MB", flush=True)
    measured_mb = megabytes(list(out.glob("ledger.sqlite*"))), megabytes(list(out.glob("data/*.parquet")))
    rows_over(images, 1, rows, first=records)
    again, resume_s = run(rows, out, base_url)
    if again.images != records + 1:
        raise SystemExit(f"the added record was not answered: {again.images:,} answers")
    shutil.rmtree(folder)
    return Scale(
        records=records,
        turn=turn,
        load=slices[0]["load"],
        wall_us=1e6 * sum(one["wall_s"] for one in slices) / records,
        cpu_us=1e6 * sum(one["cpu_s"] for one in slices) / records,
        peak_mb=max(one["peak_mb"] for one in slices),
        first_s=slices[0]["first_s"],
        resume_s=resume_s,
        ledger_mb=measured_mb[0],
        parts_mb=measured_mb[1],
    )


def read(path: Path) -> list[Scale]:
    return [Scale(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def table(found: Sequence[Scale]) -> str:
    """Medians by number of records."""
    least, most = min(one.load for one in found), max(one.load for one in found)
    lines = [
        "## Scale\n",
        "A manifest of rows that share a few small images, an endpoint that answers at once, 64 slots",
        f"(`make bench-scale`; load of the machine {least:.1f} to {most:.1f}). Start-up is part of the time of a",
        "record, and weighs most where there are few.\n",
        "| records | turns | µs each | µs of CPU | peak MB | s to first request | s to resume | ledger MB | parts MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for records in sorted({one.records for one in found}):
        turns = [one for one in found if one.records == records]

        def median(name: str, of: Sequence[Scale] = turns) -> float:
            return float(statistics.median(getattr(one, name) for one in of))

        speed = f"{median('wall_us'):,.0f} | {median('cpu_us'):,.0f} | {median('peak_mb'):.0f}"
        waits = f"{median('first_s'):.2f} | {median('resume_s'):.2f}"
        disk = f"{median('ledger_mb'):.1f} | {median('parts_mb'):.1f}"
        lines.append(f"| {records:,} | {len(turns)} | {speed} | {waits} | {disk} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000, help="the most; powers of ten from 1,000 on")
    parser.add_argument("--fewest", type=int, default=FEWEST)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=inf, help="stop then; the next call goes on")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    given = parser.parse_args()
    kept = cache_dir(given.cache) / "scale.jsonl"
    if given.fresh:
        kept.unlink(missing_ok=True)
        for unfinished in cache_dir(given.cache).glob("scale-*"):
            shutil.rmtree(unfinished)
    images = draw_jpegs(cache_dir(given.cache) / "tiny", IMAGES, SIZE, QUALITY)
    ends = time.monotonic() + 60 * given.minutes
    with endpoint(1) as base_url:
        for turn in range(given.turns):
            records = given.fewest
            while records <= given.records:
                if not any((one.records, one.turn) == (records, turn) for one in read(kept)):
                    folder = cache_dir(given.cache) / f"scale-{records}-{turn}"
                    one = measure(records, turn, images, base_url, folder, ends=ends)
                    if one is None:
                        raise SystemExit("stopped; the same command goes on")
                    with kept.open("a") as file:
                        file.write(json.dumps(asdict(one)) + "\n")
                    print(f"{records:,} records: {one.wall_us:.0f} us each, {one.peak_mb:.0f} MB", flush=True)
                records *= 10
    written = table(read(kept))
    (cache_dir(given.cache) / "scale.md").write_text(written, encoding="utf-8")
    print(written)


if __name__ == "__main__":
    main()
