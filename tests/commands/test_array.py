"""Done when: eight shards as eight processes, two of them killed and started again, and `merge`, equal a single run."""

import signal
from pathlib import Path

import pipeline
from tests import warm
from tests.array import SHARDS, differences, draw_with_duplicates, shard_arguments
from tests.builders import ask
from tests.emulators import emulator
from tests.support import emulator_get

IMAGES = 60
KILLER = """
import os, signal
from itertools import count
asked = count()

def kill(row, record):
    if next(asked) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_eight_shards_equal_a_single_run() -> None:
    """Row by row; the merged dataset can be run again, and nothing is asked then."""
    draw_with_duplicates(Path("photos"), IMAGES, duplicates=5)
    Path("killer.py").write_text(KILLER)
    with emulator(["--fast"]) as url:
        ask("photos", url, out="single")
        for index in range(SHARDS):
            if index in {2, 5}:
                killed = warm.run(shard_arguments("photos", index, url, ["--hook", "killer:kill"]))
                assert killed.returncode == -signal.SIGKILL, killed.stderr
            done = warm.run(shard_arguments("photos", index, url))
            assert done.returncode == 0, done.stderr
        report = pipeline.merge([f"shard-{index}" for index in range(SHARDS)], out="all")
        assert (report.records, report.runs, report.missing_shards) == (IMAGES, SHARDS, ())
        assert differences(Path("single"), Path("all")) == []
        before = emulator_get(url, "stats")["requests"]
        assert ask("photos", url, out="all").asked == 0
        assert emulator_get(url, "stats")["requests"] == before
