"""JPEGs of 1024 x 768 and about 75 KB, sent as they are and answered at once: what a request itself costs.

`python benchmarks/no_resize.py [--count 2000] [--rounds 3] [--slots 64]`
takes about a minute, and 150 MB of cache.
"""

import argparse
import tempfile
from pathlib import Path

from common import cache_dir, check_all_answered, draw_jpegs, endpoint, interleaved, run_job, table

SIZE = (1024, 768)
QUALITY = 45


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    count = arguments.count
    folder = draw_jpegs(cache_dir(arguments.cache) / f"small-{count}", count, SIZE, QUALITY)
    with tempfile.TemporaryDirectory() as scratch, endpoint(1, arguments.latency_ms) as base_url:
        out = (Path(scratch) / f"out-{number}" for number in range(2 * arguments.rounds))
        slots = ("--slots", arguments.slots)
        jobs = {
            "by hand": lambda: run_job("by_hand.py", folder, next(out), base_url, *slots, "--no-resize"),
            "vision-batch": lambda: run_job("ours.py", folder, next(out), base_url, *slots),
        }
        results = interleaved(jobs, arguments.rounds)
    check_all_answered(results, count)
    print(f"\n{count} JPEGs of 1024 x 768, {arguments.slots} slots, medians of {arguments.rounds} rounds\n")
    print(table(results, "by hand"))


if __name__ == "__main__":
    main()
