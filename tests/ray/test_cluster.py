"""A run on a real Ray cluster whose parts are killed; long: `python -m tests.ray_cluster --images 20000`."""

import json
import random
from pathlib import Path

import pipeline
from tests.builders import ask
from tests.clusters import cluster, needs_ray
from tests.emulators import emulator
from tests.ray_cluster import Campaign, run
from tests.support import emulator_get
from tests.torture import draw

IMAGES = 120


def test_a_run_whose_worker_and_driver_are_killed_ends_like_any_other(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    needs_ray()
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "photos", IMAGES)
    with emulator(["--latency-ms", "100"]) as url, cluster(0, 1) as nodes:
        campaign = Campaign(tmp_path, url, nodes, IMAGES, more=("--shards", "2"))
        assert run(campaign, ["worker", "driver"], random.Random(1), 90) == []
        assert campaign.kills == {"worker": 1, "driver": 1}
        billed = emulator_get(url, "stats")["billed"]
        summary = ask("photos", url)
        assert (summary.asked, summary.skipped, emulator_get(url, "stats")["billed"]) == (0, IMAGES, billed)
    status = pipeline.status("out")
    assert (status.state, status.records) == ("done", {"ok": IMAGES})
    assert json.loads(Path("out/status.json").read_text("utf-8"))["images"] == IMAGES
