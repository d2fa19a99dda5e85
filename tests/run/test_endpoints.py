"""Whole runs with several endpoints, and endpoints that refuse everything, against emulators over loopback."""

import socket
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pandas as pd
import pytest

import pipeline
from pipeline import EndpointStoppedError
from pipeline.config.limits import LimitsConfig
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import EndpointConfig, RequestConfig
from pipeline.emulator.child import child_emulator
from pipeline.engine.stats import RunStats
from pipeline.run.job import Job
from pipeline.run.run import run_job
from tests.emulators import emulator
from tests.stub import stub
from tests.support import MakeImage, emulator_get

IMAGES = 40


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(IMAGES):
        make_image(f"photos/{number:02}.jpg", 64, 48, seed=number)
    return Path("photos").resolve()


def ask(source: Path, endpoints: list[dict[str, Any]], **more: Any) -> pipeline.RunSummary:
    settings = {"out": "out", "model": "gpt-4o", "quiet": True, "concurrency": IMAGES, **more}
    overrides = {"endpoints": endpoints, **settings.pop("overrides", {})}
    return pipeline.run(source, overrides=overrides, **settings)


def answered(url: str) -> int:
    return int(emulator_get(url, "stats")["answered"])


# ---------------------------------------------------------------- several


def test_two_endpoints_share_by_weight(photos: Path) -> None:
    """Weights 3 and 1, slots for all: thirty images and ten; every row says who answered it, each emulator agrees."""
    with emulator(["--latency-ms", "300"]) as one, emulator(["--latency-ms", "300"]) as other:
        summary = ask(photos, [{"base_url": one, "weight": 3}, {"base_url": other}])
        assert (summary.exit_code, summary.by_endpoint) == (0, {one: 30, other: 10})
        assert Counter(pd.read_parquet("out/data").endpoint) == {one: 30, other: 10}
        assert (answered(one), answered(other)) == (30, 10)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [((3, 1), [30, 10]), ((1, 1), [20, 20]), ((10, 1), [36, 4]), ((0.5, 1), [14, 26]), ((2, 1, 1), [20, 10, 10])],
)
def test_weights_are_shares_while_permits_are_free(photos: Path, weights: list[float], expected: list[int]) -> None:
    """Proves the exact number of requests at each of two or three servers, where none is ever full."""
    with ExitStack() as servers:
        started = [servers.enter_context(stub()) for _ in weights]
        endpoints = [{"base_url": one.base_url, "weight": weight} for one, weight in zip(started, weights, strict=True)]
        summary = ask(photos, endpoints, overrides={"request.dedup": False})
        assert [summary.by_endpoint[one.base_url] for one in started] == expected
        assert [sum(one.asked.values()) for one in started] == expected


def test_several_addresses_are_several_endpoints(photos: Path) -> None:
    """`--base-url` twice: half of the requests each."""
    with emulator(["--latency-ms", "300"]) as one, emulator(["--latency-ms", "300"]) as other:
        settings: Any = {"base_url": [one, other], "model": "gpt-4o", "concurrency": IMAGES, "quiet": True}
        assert pipeline.run(photos, out="out", **settings).by_endpoint == {one: 20, other: 20}


def test_each_endpoint_has_its_own_key_and_name_of_the_model(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two keys; each server accepts one of them, and a server that calls the model otherwise: all are answered."""
    monkeypatch.setenv("ONE_KEY", "sk-the-first-one")
    monkeypatch.setenv("OTHER_KEY", "sk-the-other-one")
    with (
        emulator(["--api-key", "sk-the-first-one", "--models", "gpt-4o", "--latency-ms", "100"]) as one,
        emulator(["--api-key", "sk-the-other-one", "--models", "gpt-4o-here", "--latency-ms", "100"]) as other,
    ):
        summary = ask(
            photos,
            [
                {"base_url": one, "api_key_env": "ONE_KEY"},
                {"base_url": other, "api_key_env": "OTHER_KEY", "model": "gpt-4o-here"},
            ],
        )
        assert (summary.exit_code, summary.by_endpoint) == (0, {one: 20, other: 20})
        models = {
            url: {sent["body"]["model"] for sent in emulator_get(url, "requests?last=50")} for url in (one, other)
        }
        assert models == {one: {"gpt-4o"}, other: {"gpt-4o-here"}}
        rows = pd.read_parquet("out/data")
        assert len(rows[["endpoint", "model"]].drop_duplicates()) == 2


def test_an_endpoint_that_is_away_is_done_without(photos: Path) -> None:
    """One of two refuses all connections: the other answers every image, and no record fails by it."""
    away = ["--outage", "0+600", "--outage-kind", "503"]
    with emulator(["--latency-ms", "50"]) as one, emulator(away) as other:
        summary = ask(photos, [{"base_url": one}, {"base_url": other}], overrides={"request.max_failures": 1})
        assert (summary.exit_code, summary.by_status) == (0, {"ok": IMAGES})
        assert set(pd.read_parquet("out/data").endpoint) == {one}
        assert (answered(one), answered(other)) == (IMAGES, 0)


def test_an_endpoint_dies_in_the_middle(photos: Path) -> None:
    """Once the second has answered, its process ends: all images are answered, each row by whom it says."""
    with emulator(["--latency-ms", "50"]) as one, ExitStack() as dying:
        other = dying.enter_context(child_emulator(["--latency-ms", "50"]))
        config = RunConfig(
            endpoints=(EndpointConfig(base_url=one), EndpointConfig(base_url=other)),
            request=RequestConfig(model="gpt-4o"),
            limits=LimitsConfig(concurrency=2),
        )

        def show(stats: RunStats) -> None:
            if stats.asked >= 8:
                dying.close()

        job = Job(sources=[str(photos)], out=Path("out"), config=config)
        summary = anyio.run(run_job, job, show)
        rows = pd.read_parquet("out/data")
        assert (summary.exit_code, set(rows.status), len(rows)) == (0, {"ok"}, IMAGES)
        by_whom = Counter(rows.endpoint)
        assert by_whom[one] == answered(one)
        assert 0 < by_whom[other] < IMAGES / 2
        assert sum(summary.by_endpoint.values()) == summary.requests == rows.attempts.sum()


def test_one_endpoint_without_credit(photos: Path) -> None:
    """Its account is empty from the start: the run goes on with the other, and ends well."""
    spent = ["--fault", "insufficient_quota=1"]
    with emulator() as one, emulator(spent) as other:
        summary = ask(photos, [{"base_url": other}, {"base_url": one}], concurrency=4)
        assert (summary.exit_code, summary.by_status) == (0, {"ok": IMAGES})
        assert answered(one) == IMAGES
        assert emulator_get(other, "stats")["requests"] <= 4


def test_all_endpoints_refuse(photos: Path) -> None:
    """The message names both, each with its own reason, on one line."""
    with emulator(["--fault", "insufficient_quota=1"]) as one, emulator(["--fault", "bad_key=1"]) as other:
        with pytest.raises(EndpointStoppedError) as caught:
            ask(photos, [{"base_url": one}, {"base_url": other}], concurrency=4)
        words = str(caught.value)
        assert f"{one}: " in words
        assert f"{other}: " in words
        assert "\n" not in words


# ---------------------------------------------------------------- one that refuses


def refused(source: Path, url: str, **more: Any) -> str:
    """Exit code 4 within fifteen seconds, no row -> the one line that says why."""
    began = time.monotonic()
    with pytest.raises(EndpointStoppedError) as caught:
        pipeline.run(source, out="out", base_url=url, quiet=True, **{"model": "gpt-4o", **more})
    assert time.monotonic() - began < 15
    assert caught.value.exit_code == 4
    assert isinstance(caught.value.summary, pipeline.RunSummary)
    assert caught.value.summary.asked == len(pd.read_parquet("out/data")) == 0
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_wrong_key(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider's words, the variable that holds the key, and never the key."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-and-secret")
    with emulator(["--api-key", "sk-right"]) as url:
        words = refused(photos, url)
        assert "`endpoint.api_key_env`" in words
        assert "sk-wrong-and-secret" not in words
        assert emulator_get(url, "stats")["answered"] == 0


def test_a_spent_quota(photos: Path) -> None:
    """Not waited for like a rate limit: the account has no credit left."""
    with emulator(["--fault", "insufficient_quota=1"]) as url:
        assert "no credit" in refused(photos, url)


def test_an_unknown_model(photos: Path) -> None:
    """Named, with the options that choose model and address."""
    with emulator() as url:
        words = refused(photos, url, model="unknown-x")
        assert "unknown-x" in words
        assert "`request.model`" in words


def test_a_dead_host(photos: Path) -> None:
    """A closed port, never reached in this run: with the default patience, within fifteen seconds."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    words = refused(photos, f"http://127.0.0.1:{port}/v1")
    assert f"127.0.0.1:{port}" in words
    assert "`endpoint.base_url`" in words


def test_what_was_answered_before_is_kept(photos: Path) -> None:
    """The key is refused in the middle: exit 4, every answer that was billed is a row, and the next run goes on."""
    with emulator(["--fault", "bad_key=0.1", "--seed", "2", "--latency-ms", "20"]) as url:
        with pytest.raises(EndpointStoppedError) as caught:
            pipeline.run(photos, out="out", base_url=url, model="gpt-4o", quiet=True, concurrency=2)
        assert isinstance(caught.value.summary, pipeline.RunSummary)
        assert 0 < caught.value.summary.asked == answered(url) == len(pd.read_parquet("out/data")) < IMAGES
    with emulator() as url:
        rest = pipeline.run(photos, out="out", base_url=url, model="gpt-4o", quiet=True)
        assert (rest.exit_code, rest.asked) == (0, IMAGES - caught.value.summary.asked)
