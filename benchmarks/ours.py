"""vision-batch itself, through the Python call that a user would write; ledger and Parquet included."""

import argparse
from pathlib import Path

from common import PROMPT, measured

import pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("out", type=Path)
    parser.add_argument("base_url")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--allow-private-hosts", action="store_true")
    arguments = parser.parse_args()

    def job() -> None:
        pipeline.run(
            arguments.source,
            out=arguments.out,
            base_url=arguments.base_url,
            model="gpt-4o",
            prompt=PROMPT,
            concurrency=arguments.slots,
            quiet=True,
            allow_private_hosts=arguments.allow_private_hosts,
        )

    def answered() -> int:
        from pyarrow import dataset as ds  # noqa: PLC0415 - not part of what is measured

        rows = ds.dataset(arguments.out / "data")
        return int(rows.count_rows(filter=ds.field("status") == "ok"))

    measured(job, answered)


if __name__ == "__main__":
    main()
