"""An array of shards beside one run: `python -m tests.array --images 20000 --kills 16` (`make array`).

Eight shards run as eight processes on one endpoint. Some are killed and started again; then `merge` joins them. The
result equals that of a single run row by row, apart from times, the ids of runs and requests, and the bills of
duplicates, which different shards ask each for itself. The short form is in tests/commands/test_array.py.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.emulator.child import child_emulator
from tests.support import ROOT, emulator_get, ends_within
from tests.torture import draw

SHARDS = 8
MOST_TRIES = 4
"""For each kill, to find a shard that is still at work."""
LONGEST_S = 1200
VARYING = ["asked_at", "answered_at", "latency_s", "run_id", "request_id"]
"""What differs between any two runs."""
BILLED = [
    "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "total_tokens", "cost_usd", "attempts",
    "duplicate_of", "predicted_prompt_tokens", "token_rule",
]  # fmt: skip
"""What a record that shares an answer has otherwise than one that was asked."""


def arguments(source: str, out: str, url: str, more: Sequence[str] = ()) -> list[str]:
    """One run, after the name of Python."""
    return [
        *("-m", "pipeline", "run", source, "-o", out, "--base-url", url, "--model", "gpt-4o", "-q"),
        *("--set", "output.rows_per_part=97", "--set", "output.seal_interval_s=0.2", *more),
    ]


def shard_arguments(source: str, index: int, url: str, more: Sequence[str] = ()) -> list[str]:
    return arguments(source, f"shard-{index}", url, ["--shard", f"{index}/{SHARDS}", "--concurrency", "32", *more])


def draw_with_duplicates(folder: Path, count: int, duplicates: int) -> None:
    """Pictures, the last ones copies of the first ones."""
    draw(folder, count - duplicates)
    for number in range(duplicates):
        shutil.copy(folder / f"{number:05}.jpg", folder / f"{count - duplicates + number:05}.jpg")


def differences(single: Path, merged: Path) -> list[str]:
    """What of the rows differs, and should not."""
    one, other = (
        pd.read_parquet(out / "data", dtype_backend="pyarrow").sort_values("id").reset_index(drop=True)
        for out in (single, merged)
    )
    if list(one["id"]) != list(other["id"]):
        return [f"{len(one)} rows, and {len(other)}"]
    has_copies = one["sha256"].duplicated(keep=False)
    found = []
    for name in (name for name in one.columns if name not in VARYING):
        for left, right, is_copy in zip(one[name].map(repr), other[name].map(repr), has_copies, strict=True):
            if left != right and not (is_copy and name in BILLED):
                found.append(f"{name}: {left} and {right}")
    return found


def _start(folder: Path, words: Sequence[str]) -> "subprocess.Popen[bytes]":
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, *words], cwd=folder, env=environ)


def _run_array(folder: Path, url: str, kills: int, rng: random.Random) -> int:
    """All shards to their end; the number of kills."""
    processes = [_start(folder, shard_arguments("photos", index, url)) for index in range(SHARDS)]
    done = 0
    for _ in range(MOST_TRIES * kills):
        if done == kills:
            break
        index = rng.randrange(SHARDS)
        if not ends_within(processes[index], rng.uniform(0.2, 1.0)):
            processes[index].kill()
            processes[index].wait()
            processes[index] = _start(folder, shard_arguments("photos", index, url))
            done += 1
    for index, process in enumerate(processes):
        assert process.wait(LONGEST_S) == 0, f"shard {index} ended with {process.returncode}"
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, child_emulator(["--fast", "--latency-ms", "20"]) as url:
        folder = Path(scratch)
        draw_with_duplicates(folder / "photos", given.images, given.images // 100)
        assert _start(folder, arguments("photos", "single", url)).wait() == 0
        kills = _run_array(folder, url, given.kills, random.Random(given.seed))
        shards = [f"shard-{index}" for index in range(SHARDS)]
        assert _start(folder, ["-m", "pipeline", "merge", *shards, "-o", "all"]).wait() == 0
        found = differences(folder / "single", folder / "all")
        before = emulator_get(url, "stats")["requests"]
        assert _start(folder, arguments("photos", "all", url)).wait() == 0
        again = emulator_get(url, "stats")["requests"] - before
    print(*found[:20], f"{given.images} images, {kills} kills, {len(found)} differences, {again} asked again", sep="\n")  # noqa: T201 - its result
    sys.exit(bool(found or again or kills < given.kills))


if __name__ == "__main__":
    main()
