"""12-megapixel JPEGs, answered at once: a loop written by hand against vision-batch, side by side on this machine.

`python benchmarks/twelve_megapixels.py [--count 100] [--rounds 3] [--slots 64]`
takes about a minute, and 300 MB of cache.
"""

import tempfile

from common import compare, endpoint, options, outs, run_job
from photos12mp import SIZE, photos


def main() -> None:
    parser = options(__doc__, count=100)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    arguments = parser.parse_args()
    folder = photos(arguments.count, arguments.cache)
    with tempfile.TemporaryDirectory() as scratch, endpoint(1, arguments.latency_ms) as base_url:
        out, slots = outs(scratch), ("--slots", arguments.slots)
        jobs = {
            "by hand": lambda: run_job("by_hand.py", folder, next(out), base_url, *slots),
            "vision-batch": lambda: run_job("ours.py", folder, next(out), base_url, *slots),
        }
        compare(jobs, arguments, "by hand", SIZE)


if __name__ == "__main__":
    main()
