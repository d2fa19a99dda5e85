"""The same JPEGs from a folder, a bucket and a list of addresses, answered at once: what fetching costs.

`python benchmarks/remote.py [--count 2000] [--rounds 3] [--slots 64]`
takes about a minute, and 150 MB of cache. Server, endpoint and run share the cores of this machine.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from common import HERE, Measured, cache_dir, check_all_answered, draw_jpegs, endpoint, interleaved, run_job, table

SIZE = (1024, 768)
QUALITY = 45


@contextmanager
def objects(folder: Path) -> Iterator[str]:
    """The files of a folder as a bucket -> its address, which the environment names too."""
    command = [sys.executable, str(HERE / "objects.py"), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both are pipes")
        url = process.stdout.readline().strip()
        os.environ.update(AWS_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="none", AWS_SECRET_ACCESS_KEY="none")  # noqa: S106 - none
        try:
            yield url
        finally:
            process.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    count = arguments.count
    folder = draw_jpegs(cache_dir(arguments.cache) / f"small-{count}", count, SIZE, QUALITY)
    with tempfile.TemporaryDirectory() as scratch, endpoint(1, 0.0) as base_url, objects(folder) as url:
        addresses = Path(scratch) / "list.txt"
        addresses.write_text("".join(f"{url}/bucket/{path.name}\n" for path in sorted(folder.iterdir())))
        sources = {"folder": str(folder), "s3://": "s3://bucket/", "http://": str(addresses)}
        out = (Path(scratch) / f"out-{number}" for number in range(len(sources) * arguments.rounds))

        def ask(source: str) -> Measured:
            return run_job("ours.py", source, next(out), base_url, "--slots", arguments.slots, "--allow-private-hosts")

        jobs = {name: partial(ask, source) for name, source in sources.items()}
        results = interleaved(jobs, arguments.rounds)
    check_all_answered(results, count)
    print(f"\n{count} JPEGs of 1024 x 768, {arguments.slots} slots, medians of {arguments.rounds} rounds\n")
    print(table(results, "folder"))


if __name__ == "__main__":
    main()
