"""vision-batch itself, through the Python call that a user would write; ledger and Parquet included."""

import argparse
from contextlib import suppress
from pathlib import Path

from harness import MAX_TOKENS, MODEL, PROMPT, measured

import pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("out", type=Path)
    parser.add_argument("base_url")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--rpm", type=int)
    parser.add_argument("--no-resize", action="store_true", help="for other clients; this one sees it itself")
    parser.add_argument("--no-dedup", action="store_true")
    parser.add_argument("--max-time", type=float, help="seconds until the run stops; the same command continues it")
    parser.add_argument("--allow-private-hosts", action="store_true")
    arguments = parser.parse_args()
    limits = {} if arguments.rpm is None else {"rpm": arguments.rpm}

    run = pipeline.run  # the first use of a name imports what it needs

    def work() -> None:
        with suppress(pipeline.BudgetReachedError):  # the time is up
            run(
                arguments.source,
                out=arguments.out,
                base_url=arguments.base_url,
                model=MODEL,
                prompt=PROMPT,
                max_tokens=MAX_TOKENS,
                concurrency=arguments.slots,
                dedup=not arguments.no_dedup,
                quiet=True,
                allow_private_hosts=arguments.allow_private_hosts,
                max_time=arguments.max_time,
                **limits,
            )

    def answered() -> int:
        from pyarrow import dataset as ds  # noqa: PLC0415 - not part of what is measured

        rows = ds.dataset(arguments.out / "data")
        return int(rows.count_rows(filter=ds.field("status") == "ok"))

    measured(work, answered, packages=("aiohttp", "Pillow"))


if __name__ == "__main__":
    main()
