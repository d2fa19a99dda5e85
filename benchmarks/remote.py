"""The same JPEGs from a folder, a bucket and a list of addresses, answered at once: what fetching costs.

`python benchmarks/remote.py [--count 2000] [--rounds 3] [--slots 64]`
takes about a minute, and 150 MB of cache. Server, endpoint and run share the cores of this machine.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from common import Measured, compare, endpoint, options, outs, run_job, server, small_jpegs


@contextmanager
def objects(folder: Path) -> Iterator[str]:
    """The files of a folder as a bucket -> its address, which the environment names too."""
    with server("objects.py", str(folder)) as url:
        os.environ.update(AWS_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="none", AWS_SECRET_ACCESS_KEY="none")  # noqa: S106 - none
        yield url


def main() -> None:
    arguments = options(__doc__).parse_args()
    folder = small_jpegs(arguments)
    with tempfile.TemporaryDirectory() as scratch, endpoint(1) as base_url, objects(folder) as url:
        addresses = Path(scratch) / "list.txt"
        addresses.write_text("".join(f"{url}/bucket/{path.name}\n" for path in sorted(folder.iterdir())))
        sources = {"folder": str(folder), "s3://": "s3://bucket/", "http://": str(addresses)}
        out = outs(scratch)

        def ask(source: str) -> Measured:
            return run_job("ours.py", source, next(out), base_url, "--slots", arguments.slots, "--allow-private-hosts")

        compare({name: partial(ask, source) for name, source in sources.items()}, arguments, "folder")


if __name__ == "__main__":
    main()
