"""What one record costs, stage by stage, in microseconds: the same run with more and more of its real parts.

    python benchmarks/stages.py [--records 2000] [--turns 5]

`engine`: prepared requests, an endpoint that answers at once within the process, nothing kept. Then files are read and
prepared, then requests go over HTTP, then ledger and parts are written. The cost of a stage is the difference to the
run before. Each run takes N and 5 N records in one process: what a run costs once cancels out.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from unittest.mock import patch

from common import SMALL, SMALL_QUALITY, cache_dir, draw_jpegs, endpoint, last_line, rows_over
from harness import MODEL, PROMPT
from outcomes import USAGE

import pipeline
from pipeline.endpoints.client import EndpointClient
from pipeline.records import Answer, Failure, FetchedImages, ImageRecord, PreparedRequest, Status
from pipeline.run.prepare import Preparer
from pipeline.store.dataset import Dataset

STAGES = ("engine", "preparation", "HTTP", "ledger and parts")
IMAGES, SHARE = 16, 5
ANSWER = Answer(status=Status.OK, caption="A landscape with hills under a clear sky.", model=MODEL, usage=USAGE)


async def at_once(_: EndpointClient, __: PreparedRequest) -> Answer:
    await asyncio.sleep(0)  # no endpoint answers without the loop
    return ANSWER


def forget(*_: object) -> int:
    return 0


@contextlib.contextmanager
def real_up_to(stage: str) -> Iterator[None]:
    """Parts of the later stages are replaced by ones that do nothing."""
    first: list[PreparedRequest] = []
    prepare, lock = Preparer.__call__, Lock()

    def prepared(
        self: Preparer, record: ImageRecord, fetched: FetchedImages, names: Sequence[str]
    ) -> Sequence[PreparedRequest] | Failure:
        with lock:
            if not first:
                found = prepare(self, record, fetched, names)
                if isinstance(found, Failure):
                    return found
                first.extend(found)
        return [replace(request, record=record) for request in first]

    with contextlib.ExitStack() as replaced:
        index = STAGES.index(stage)
        if index < 1:
            replaced.enter_context(patch.object(Preparer, "undecoded", prepared))
        if index < 2:
            replaced.enter_context(patch.object(EndpointClient, "ask", at_once))
        if index < 3:
            for name in ("commit", "seal", "seal_part"):
                replaced.enter_context(patch.object(Dataset, name, forget))
        yield


def costs(folder: Path, base_url: str, records: int, scratch: Path) -> tuple[float, float, float]:
    """Of one run, in seconds: CPU of the process, CPU of the thread that runs the loop, and wall."""
    rows = rows_over(folder, records, scratch / f"{records}.jsonl")
    began = time.process_time(), time.thread_time(), time.perf_counter()
    pipeline.run(
        rows, out=scratch / f"out-{records}", base_url=base_url, model=MODEL, prompt=PROMPT, concurrency=64,
        dedup=False, quiet=True,
    )  # fmt: skip
    return time.process_time() - began[0], time.thread_time() - began[1], time.perf_counter() - began[2]


def child(stage: str, folder: Path, base_url: str, records: int) -> None:
    with real_up_to(stage), tempfile.TemporaryDirectory() as scratch:
        costs(folder, base_url, 64, Path(scratch))  # imports, first uses
        few, many = (costs(folder, base_url, number, Path(scratch)) for number in (records, SHARE * records))
        each = [1e6 * (most - least) / ((SHARE - 1) * records) for least, most in zip(few, many, strict=True)]
        print(json.dumps(each))


def table(found: dict[str, list[list[float]]], load: float) -> str:
    """Medians; each row but the last is what its stage adds."""
    sums = {stage: [statistics.median(values) for values in zip(*turns, strict=True)] for stage, turns in found.items()}
    turns = len(next(iter(found.values())))
    lines = [
        "## Cost of a record by stage\n",
        "Microseconds of CPU a record, JPEGs of 75 KB sent as they are, 64 slots: what each stage adds to the run",
        f"without it (`python benchmarks/stages.py`; medians of {turns} turns, load of the machine {load:.1f}).\n",
        "| stage | µs, all threads | µs, thread of the loop | µs, wall |",
        "|---|---|---|---|",
    ]
    before = [0.0, 0.0, 0.0]
    for stage in STAGES:
        added = [now - then for now, then in zip(sums[stage], before, strict=True)]
        lines.append("| " + " | ".join([stage, *(f"{value:,.0f}" for value in added)]) + " |")
        before = sums[stage]
    lines.append("| all of it | " + " | ".join(f"{value:,.0f}" for value in before) + " |\n")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=500, help="a run takes as many, and another one five times so")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--child", nargs=3, metavar=("STAGE", "FOLDER", "URL"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child[0], Path(given.child[1]), given.child[2], given.records)
        return
    folder = draw_jpegs(cache_dir(given.cache) / f"small-{IMAGES}", IMAGES, SMALL, SMALL_QUALITY)
    found: dict[str, list[list[float]]] = {stage: [] for stage in STAGES}
    load = os.getloadavg()[0]
    with endpoint(1) as base_url:
        for turn in range(given.turns):
            for stage in STAGES[turn % len(STAGES) :] + STAGES[: turn % len(STAGES)]:
                words = ("--records", given.records, "--child", stage, folder, base_url)
                found[stage].append(last_line(Path(__file__).name, *words))
                print(f"turn {turn + 1}, {stage}: {found[stage][-1][0]:.0f} us a record", flush=True)
    written = table(found, load)
    (cache_dir(given.cache) / "stages.md").write_text(written, encoding="utf-8")
    print(written)


if __name__ == "__main__":
    main()
