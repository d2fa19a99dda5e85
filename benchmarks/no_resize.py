"""JPEGs of 1024 x 768 and about 75 KB, sent as they are and answered at once: what a request itself costs.

`python benchmarks/no_resize.py [--count 2000] [--rounds 3] [--slots 64]`
takes about a minute, and 150 MB of cache.
"""

import tempfile

from common import compare, endpoint, options, outs, run_job, small_jpegs


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    arguments = parser.parse_args()
    folder = small_jpegs(arguments)
    with tempfile.TemporaryDirectory() as scratch, endpoint(1, arguments.latency_ms) as base_url:
        out, slots = outs(scratch), ("--slots", arguments.slots)
        jobs = {
            "by hand": lambda: run_job("by_hand.py", folder, next(out), base_url, *slots, "--no-resize"),
            "vision-batch": lambda: run_job("ours.py", folder, next(out), base_url, *slots),
        }
        compare(jobs, arguments, "by hand")


if __name__ == "__main__":
    main()
