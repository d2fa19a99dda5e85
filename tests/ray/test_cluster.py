"""A run on a real Ray cluster whose worker is killed; long: `python -m tests.ray_cluster --images 20000`."""

import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

import pipeline
from tests.builders import ask
from tests.clusters import cluster, kill, needs_ray, workers_at
from tests.emulators import emulator
from tests.ray_cluster import SLOTS
from tests.support import emulator_get
from tests.torture import draw, in_parts

IMAGES, LONGEST_S = 100, 120.0


class Killer(threading.Thread):
    """Kills the first worker that is in the middle of a shard."""

    def __init__(self, shards: Path, url: str) -> None:
        super().__init__(daemon=True)
        self.shards, self.url = shards, url
        self.killed: list[int] = []

    def run(self) -> None:
        until = time.monotonic() + LONGEST_S
        while not self.killed and time.monotonic() < until:
            with suppress(OSError):
                self._look()
        for process in self.killed:
            kill(process)

    def _look(self) -> None:
        if emulator_get(self.url, f"stats?requests={IMAGES // 5 + 1}")["requests"] > IMAGES // 5:
            self.killed = workers_at(self.shards)[:1]


@pytest.mark.timeout(300)  # Ray itself takes half a minute to start where all cores are busy
def test_a_run_whose_worker_is_killed_ends_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_ray()
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "photos", IMAGES)
    with emulator(["--latency-ms", "200"]) as url, cluster(0, 1) as nodes:
        killer = Killer(tmp_path / "out" / "shards", url)
        killer.start()
        on_ray = {"engine": "ray", "overrides": {"engine.address": nodes.address}}
        summary = ask("photos", url, concurrency=SLOTS, shards=2, max_requests=IMAGES + 2 * SLOTS, **on_ray)
        billed = emulator_get(url, "stats")["billed"]
        assert killer.killed
        assert 0 <= billed - IMAGES <= 2 * SLOTS
        assert (summary.exit_code, summary.images, summary.skipped + summary.asked) == (0, IMAGES, IMAGES)
        assert ask("photos", url, **on_ray).skipped == IMAGES  # starts no shard
        assert ask("photos", url).skipped == IMAGES
        assert emulator_get(url, "stats")["billed"] == billed
    assert sorted(in_parts(tmp_path / "out")) == sorted(path.name for path in (tmp_path / "photos").iterdir())
    assert not (tmp_path / "out" / "shards").exists()
    status = pipeline.status("out")
    assert (status.state, status.records) == ("done", {"ok": IMAGES})
