"""Runs on a Ray cluster whose parts are killed: `python -m tests.ray_cluster --images 20000` (`make ray`).

Worker processes, whole nodes and the driver are killed at random moments, and the driver is started again. The
emulator outlives all of them and is the witness: it counts what was answered and billed. The short form is in
tests/ray/test_cluster.py.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.emulator.child import child_emulator
from tests.clusters import RayCluster, cluster, kill, workers_at
from tests.support import ROOT, emulator_get
from tests.torture import draw, in_parts

SLOTS = 16
"""Requests in flight, all workers together."""
SEGMENT = 256
"""Answers that a dead worker may have had and not committed, beside those in flight."""
LONGEST_S = 3600.0


@dataclass
class Campaign:
    """One dataset, asked by drivers that come and go."""

    folder: Path
    url: str
    nodes: RayCluster
    images: int
    more: tuple[str, ...] = ()
    kills: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def start(self) -> "subprocess.Popen[str]":
        words = [
            *("-m", "pipeline", "run", "photos", "-o", "out", "--base-url", self.url, "--model", "gpt-4o", "-q"),
            *("--engine", "ray", "--set", f"engine.address={self.nodes.address}", "--concurrency", str(SLOTS)),
            *("--set", "output.seal_interval_s=0.5", *self.more),
        ]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
        return subprocess.Popen(
            [sys.executable, *words], cwd=self.folder, env=environ, text=True, stderr=subprocess.PIPE
        )

    def answered(self) -> int:
        return int(emulator_get(self.url, "stats")["requests"])

    def await_answers(self, process: "subprocess.Popen[str]", least: int, until: float) -> bool:
        """Until the emulator has answered this many requests; False where the driver ended before."""
        while process.poll() is None and time.monotonic() < until:
            if emulator_get(self.url, f"stats?requests={least}")["requests"] >= least:
                return True
        return False

    def strike(self, what: str, rng: random.Random, process: "subprocess.Popen[str]") -> None:
        """Kill a worker in the middle of a shard, a node with all its workers, or the driver."""
        if what == "driver":
            process.kill()
            process.communicate()
        elif what == "node" and self.nodes.nodes:
            self.nodes.kill_node(rng.choice(self.nodes.nodes))
            self.nodes.nodes.append(self.nodes.add_node(1))
        elif workers := workers_at(self.out / "shards"):
            kill(rng.choice(workers))
        else:
            return
        self.kills[what] += 1

    def check(self) -> list[str]:
        """What of the promises does not hold at the end; empty where all do."""
        names, billed = in_parts(self.out), emulator_get(self.url, "stats")["billed"]
        expected = sorted(path.name for path in (self.folder / "photos").iterdir())
        found = [*self.violations]
        if sorted(names) != expected:
            found.append(f"{len(names)} rows, {len(set(names))} of them different, for {len(expected)} images")
        if (self.out / "shards").exists():
            found.append("a complete run left its shards")
        if not 0 <= self.repaid <= self.bound:
            found.append(f"{self.repaid} answers were paid twice, and {self.bound} are allowed ({billed} billed)")
        return found

    @property
    def repaid(self) -> int:
        return int(emulator_get(self.url, "stats")["billed"]) - self.images

    @property
    def bound(self) -> int:
        """2 x requests in flight for each kill; a node and a driver take all workers with them, which share those."""
        return 2 * SLOTS * self.kills.total()


def run(campaign: Campaign, strikes: list[str], rng: random.Random, longest_s: float) -> list[str]:
    """Strikes at random moments, evenly over the work, and then to the end; what does not hold."""
    until = time.monotonic() + longest_s
    process = campaign.start()
    try:
        for number, what in enumerate(strikes):
            least = int(campaign.images * (number + rng.uniform(0.2, 0.8)) / (len(strikes) + 1))
            if not campaign.await_answers(process, least, until):
                break
            campaign.strike(what, rng, process)
            process = campaign.start() if process.poll() is not None else process
        _, error = process.communicate(timeout=max(1.0, until - time.monotonic()))
    finally:
        process.kill()
        process.communicate()
    if process.returncode != 0:
        campaign.violations.append(f"the last driver ended with {process.returncode}: {error[-500:]}")
    return campaign.check()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    strikes = [("worker", "node", "driver", "worker")[number % 4] for number in range(given.kills)]
    with (
        tempfile.TemporaryDirectory() as scratch,
        child_emulator(["--fast", "--latency-ms", "20"]) as url,
        cluster(0, 1, 1) as nodes,
    ):
        folder = Path(scratch)
        draw(folder / "photos", given.images)
        campaign = Campaign(folder, url, nodes, given.images, more=("--shards", "16"))
        found = run(campaign, strikes, rng, LONGEST_S)
        line = (
            f"{given.images} images, killed: {dict(campaign.kills)}, paid twice: {campaign.repaid} of {campaign.bound}"
        )
    print(line, *found[:20], sep="\n")  # noqa: T201 - its result
    sys.exit(bool(found or campaign.kills.total() < given.kills))


if __name__ == "__main__":
    main()
