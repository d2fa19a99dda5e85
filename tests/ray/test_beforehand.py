"""What a run on a cluster refuses before it begins, and what another run finds of one that was killed."""

from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.config.run_config import RunConfig
from pipeline.limits.budget import Amounts
from pipeline.ray import cluster
from pipeline.ray.plan import Plan, ShardsFolder
from pipeline.records import record_key
from pipeline.store.answered import answered_keys
from pipeline.store.rerun import RerunPolicy
from tests.builders import ask
from tests.emulators import emulator
from tests.support import Command, MakeImage, emulator_get

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"shard": "0/2"}, "`source.shard` and `engine.kind=ray` do not go together"),
    ({"limit": 3}, "`limit=` and"),
    ({"only": ["a"]}, "`only=` and"),
    ({"sample": 3}, "`sample=` and"),
    ({"source": [{"id": "a", "image": "a.jpg"}]}, "records in memory"),
    ({"out": "s3://bucket/out"}, "a file system that every node sees"),
]


@pytest.mark.parametrize(("more", "words"), REFUSED)
def test_what_a_cluster_does_not_take_is_said_in_one_line(
    more: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = more.pop("source", "photos")
    with pytest.raises(pipeline.InputError, match=words):
        ask(source, "http://127.0.0.1:9/v1", engine="ray", **more)
    assert list(tmp_path.iterdir()) == []


def test_without_ray_one_line_says_how_to_get_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "has_ray_extra", lambda: False)
    code, _, error = command("run", "photos", "-o", "out", "--engine", "ray", "--model", "m")
    assert (code, error.count("\n")) == (2, 1)
    assert 'pip install "vision-batch[ray]"' in error
    assert "--engine" in error


def test_a_local_run_joins_what_a_killed_run_on_a_cluster_left(
    make_image: MakeImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards, done and not, and a plan: nothing that they answered is asked again, and no other run touches them."""
    monkeypatch.chdir(tmp_path)
    for number in range(9):
        make_image(f"photos/{number}.jpg", 60, 40, seed=number)
    out = tmp_path / "out"
    with emulator() as url:
        ask("photos", url, limit=2)
        config = RunConfig.model_validate({"request": {"model": "gpt-4o"}})
        answered = answered_keys(out, config, RerunPolicy())
        assert answered.holds([record_key(f"{number}.jpg", "caption") for number in (0, 1, 2)]) == [True, True, False]
        assert len(answered_keys(out, config, RerunPolicy(refresh=True))) == 0
        with pytest.raises(pipeline.InputError, match="for other words about rows"):
            answered_keys(out, config, RerunPolicy(retry_where="cost_usd > 1"))
        plan = Plan(config.config_hash(), RerunPolicy().describe(), "photos", 3, Amounts(0, 0, 0))
        with ShardsFolder.held(out) as folder:
            folder.begin(plan, answered)
            with pytest.raises(pipeline.OutInUseError, match="a run on a cluster is at work"):
                ask("photos", url)
            for index in (0, 1):
                ask("photos", url, out=folder.shard(index), shard=f"{index}/3", divide_limits=False)
        before = emulator_get(url, "stats")["requests"]
        with ShardsFolder.held(out) as folder:
            assert folder.plan == plan
            assert folder.undone() == [0, 1, 2]
            folder.merge({0: 1})
            assert folder.undone() == [1, 2]
            assert folder.begun() == [1]
            folder.merge({1: 0}, partial=True)
            assert folder.begun() == [1]
        there = pipeline.status(out)
        summary = ask("photos", url)
        assert emulator_get(url, "stats")["requests"] - before == summary.asked == 9 - summary.skipped
        assert summary.skipped >= sum(there.records.values()) > 2
    assert not (out / "shards").exists()
    assert sorted(pipeline.read(out)["id"]) == [f"{number}.jpg" for number in range(9)]
