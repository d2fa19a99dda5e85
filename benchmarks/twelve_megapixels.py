"""12-megapixel JPEGs, answered at once: a loop written by hand against vision-batch, side by side on this machine.

`python benchmarks/twelve_megapixels.py [--count 100] [--rounds 3] [--slots 64]`
takes about a minute, and 300 MB of cache.
"""

import argparse
import tempfile
from pathlib import Path

from common import check_all_answered, endpoint, interleaved, run_job, table
from photos12mp import photos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    folder = photos(arguments.count, arguments.cache)
    with tempfile.TemporaryDirectory() as scratch, endpoint(1, arguments.latency_ms) as base_url:
        out = (Path(scratch) / f"out-{number}" for number in range(2 * arguments.rounds))
        slots = ("--slots", arguments.slots)
        jobs = {
            "by hand": lambda: run_job("by_hand.py", folder, next(out), base_url, *slots),
            "vision-batch": lambda: run_job("ours.py", folder, next(out), base_url, *slots),
        }
        results = interleaved(jobs, arguments.rounds)
    check_all_answered(results, arguments.count)
    print(f"\n{arguments.count} JPEGs of 4032 x 3024, {arguments.slots} slots, medians of {arguments.rounds} rounds\n")
    print(table(results, "by hand"))


if __name__ == "__main__":
    main()
