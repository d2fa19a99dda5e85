"""OUT in a bucket: what goes up, in which order, and what an empty disk makes of it again."""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import obstore
import pandas as pd
import pytest
from obstore.store import MemoryStore

import pipeline
from pipeline.buckets import lease as leases
from pipeline.buckets import uploads
from pipeline.buckets.dataset import BucketDataset
from pipeline.buckets.lease import LOCK_NAME, Lock
from pipeline.cloud import bucket as buckets
from pipeline.cloud.bucket import Bucket
from pipeline.cloud.stores import ObjectAddress
from pipeline.config import extras
from pipeline.errors import BucketError, InputError, LeaseLostError, ResourceError
from pipeline.limits.budget import Amounts
from pipeline.store.dataset import Dataset
from tests import warm
from tests.bucket import Campaign, arguments, journaled, rows_in
from tests.buckets import environment, object_store
from tests.builders import ask
from tests.emulators import emulator
from tests.support import Command, MakeImage, emulator_get

OUT = "s3://bucket/out"
IMAGES = 20
PRICE = {"prices.models": [{"model": "*", "input_usd_per_mtok": "2.5", "output_usd_per_mtok": "10"}]}
FAST = {"output.seal_interval_s": 0.05, "output.rows_per_part": 7}


@pytest.fixture
def photos(make_image: MakeImage) -> str:
    for number in range(IMAGES):
        make_image(f"photos/{number:02}.jpg", 64, 48, seed=number)
    return "photos"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryStore:
    """A store in memory in the place of every bucket."""
    store = MemoryStore()
    monkeypatch.setattr(buckets, "open_bucket", lambda *_, **__: store)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(uploads, "EVERY_S", 0.0)
    return store


@pytest.fixture
def slow() -> Iterator[str]:
    with emulator(["--latency-ms", "20", "--jitter-ms", "20"]) as url:
        yield url


def contents(store: MemoryStore) -> dict[str, bytes]:
    names = [str(one["path"]) for chunk in store.list() for one in chunk]
    return {name: bytes(store.get(name).bytes()) for name in names}


def bucket_of(store: MemoryStore) -> Bucket:
    address = ObjectAddress.of(OUT)
    assert address is not None
    return Bucket(address, store=store)


def taken_by_another(store: MemoryStore) -> None:
    """Another run has taken the lease, worked, and given it back."""
    lock = Lock(fence=90, source="other", host="other", pid=1, machine="", until="", is_held=False)
    obstore.put(store, f"out/{LOCK_NAME}", lock.encoded())


def test_a_wiped_disk(photos: str, endpoint: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real server: rows for pandas, a resume from nothing with totals and budget, and commands that read."""
    with object_store({}) as url:
        for name, value in environment(url).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(Path("cache").absolute()))
        said: list[str] = []
        shown: dict[str, Any] = {"quiet": False, "on_note": said.append}
        first = ask(photos, endpoint, out=OUT, state="state", limit=16, overrides={**FAST, **PRICE}, **shown)
        assert (first.out, first.by_status) == (OUT, {"ok": 16})
        assert f"state of {OUT}: state" in said[0]
        assert sorted(pd.read_parquet(f"{OUT}/data").id) == [f"{number:02}.jpg" for number in range(16)]
        shutil.rmtree("state")
        second = ask(photos, endpoint, out=f"{OUT}/", state="other", max_cost_total=10, overrides={**FAST, **PRICE})
        assert (second.asked, second.skipped) == (4, 16)
        frame = pipeline.read(OUT)
        assert len(frame) == frame.id.nunique() == len(pd.read_parquet(f"{OUT}/data")) == IMAGES
        status = pipeline.status(OUT)
        assert (status.out, status.state, status.done, status.runs, status.damage) == (OUT, "done", IMAGES, 2, ())
        assert float(frame.cost_usd.sum()) == pytest.approx(float(status.cost_usd or 0))
        assert command("export", OUT, "--to", "jsonl", "rows.jsonl")[0] == 0
        assert len(Path("rows.jsonl").read_text().splitlines()) == IMAGES
        assert command("report", OUT)[0] == 0
        assert Path("report.html").exists()
        assert command("status", OUT, "--check", "--verify")[0] == 0
        dry = command("run", photos, "-o", OUT, "--model", "gpt-4o", "--dry-run")
        assert dry[:2] == (0, "nothing to ask: OUT holds an answer for every image\n")
        assert pipeline.merge([OUT], out="here").records == IMAGES
        with pytest.raises(pipeline.BudgetReachedError):
            ask(photos, endpoint, out=OUT, state="third", max_cost_total=0.0001, refresh=True, overrides=PRICE)
        code, _, error = command("compact", OUT)
        assert (code, error.count("\n"), f"merge {OUT} -o DIR" in error) == (2, 1, True)


class Forked(Campaign):
    """The campaign with processes that start warm, and are killed as soon as more rows are in the bucket."""

    def start(self, url: str, environ: dict[str, str], longest_s: float, *, is_killed: bool) -> tuple[int, str] | None:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(warm.run, arguments("photos", self.state, url), cwd=self.scratch, env=environ)
            before = len(self.bucket.versions("data"))
            while is_killed and not wait([running], 0.2).done:
                if len(self.bucket.versions("data")) > max(1, before):  # the first one is empty
                    lock = self.bucket.read(LOCK_NAME)
                    os.kill(Lock.decoded((lock or (b"",))[0]).pid, signal.SIGKILL)
                    break
            done = running.result(longest_s)
        return None if done.returncode == -signal.SIGKILL else (done.returncode, done.stderr)


def test_killed_and_wiped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL, an empty disk, the same command, and again: what the bucket held is never asked again."""
    with object_store({}) as store, emulator(["--latency-ms", "400"]) as url:
        for name, value in environment(store).items():
            monkeypatch.setenv(name, value)
        report = Forked(tmp_path, kills=2, images=100, seed=1).run(store, url, 60)
    assert (report.violations, report.kills) == ([], 2)
    assert 0 < report.sealed[0] < report.sealed[1]


def test_every_write_leaves_a_whole_dataset(
    photos: str, memory: MemoryStore, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that vanishes after any write: from what the bucket holds then, a run asks for what is missing only.

    A row that is in a part is never asked again, and no key stands twice, at any moment.
    """
    moments: list[dict[str, bytes]] = []

    with monkeypatch.context() as patch:
        for name in ("create", "write", "write_file", "delete"):
            real = getattr(Bucket, name)

            def method(self: Bucket, *args: Any, real: Any = real) -> Any:
                done = real(self, *args)
                moments.append(contents(memory))
                return done

            patch.setattr(Bucket, name, method)
        before = emulator_get(slow, "stats")["billed"]
        ask(photos, slow, out=OUT, state="state", concurrency=4, overrides={**FAST, **PRICE}, max_cost=1)
        assert emulator_get(slow, "stats")["billed"] == before + IMAGES
    assert len(moments) > 12
    whole = {row["id"]: row["request_id"] for row in pipeline.read(OUT).to_dict("records")}
    for moment in moments[:: len(moments) // 3]:
        for name in contents(memory):
            obstore.delete(memory, name)
        for name, data in moment.items():
            obstore.put(memory, name, data)
        sealed = rows_in(bucket_of(memory))
        assert sealed.items() <= whole.items()
        taken_by_another(memory)
        summary = ask(photos, slow, out=OUT, state="again", overrides={**FAST, **PRICE})
        assert summary.asked <= IMAGES - len(sealed)
        rows = rows_in(bucket_of(memory))
        assert len(rows) == IMAGES
        assert sealed.items() <= rows.items()
        assert pipeline.status(OUT).damage == ()
        shutil.rmtree("again")


def test_rows_that_are_in_no_part(photos: str, memory: MemoryStore, slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal brings back committed rows that were not sealed: none of them is asked again, and all are counted."""
    moments: list[dict[str, bytes]] = []
    commit = Dataset.commit

    def committed(self: Any, *args: Any) -> None:
        commit(self, *args)
        self.lease(Amounts(0))
        moments.append(contents(memory))

    with monkeypatch.context() as patch:
        patch.setattr(BucketDataset, "commit", committed, raising=False)
        ask(photos, slow, out=OUT, state="state", concurrency=2, overrides={"output.seal_interval_s": 60})
    moment = moments[len(moments) // 2]
    for name in contents(memory):
        obstore.delete(memory, name)
    for name, data in moment.items():
        obstore.put(memory, name, data)
    held = journaled(bucket_of(memory))
    assert (rows_in(bucket_of(memory)), 2 < len(held) < IMAGES) == ({}, True)
    taken_by_another(memory)
    assert ask(photos, slow, out=OUT, state="again").asked == IMAGES - len(held)
    assert emulator_get(slow, "stats")["billed"] == 2 * IMAGES - len(held)
    assert pipeline.status(OUT).requests == IMAGES == len(pipeline.read(OUT))


def test_uploads_that_fail(photos: str, memory: MemoryStore, slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run stops with one line and exit code 5; nothing that was paid is lost, and the same command goes on."""
    monkeypatch.setattr(uploads, "WAITS_S", (0.05,))
    monkeypatch.setattr(uploads, "TRIES_S", 0.2)
    tries = []

    def fails(self: Bucket, name: str, *_: object) -> None:
        if "part-00001" in name:
            tries.append(name)
            raise BucketError(f"{self.named(name)}: the store answers: HTTP 503 (SlowDown)")
        real(self, name, *_)  # type: ignore[arg-type]

    real = Bucket.write_file
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "write_file", fails)
        with pytest.raises(BucketError) as raised:
            ask(photos, slow, out=OUT, state="state", concurrency=2, overrides=FAST)
    assert (1 < len(tries) < 6, raised.value.exit_code, len(raised.value.args)) == (True, 5, 1)
    assert str(raised.value) == (
        "s3://bucket/out/data/part-00001.parquet: the store answers: HTTP 503 (SlowDown). Answers that are not in the "
        "bucket yet are in state: the same command with this state directory goes on"
    )
    assert raised.value.summary is not None
    ask(photos, slow, out=OUT, state="state", overrides=FAST)
    assert emulator_get(slow, "stats")["billed"] == IMAGES == len(rows_in(bucket_of(memory)))


def test_a_lease_that_is_stolen(photos: str, memory: MemoryStore, slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run uploads nothing more, and says so; what it had paid for comes in with its next run."""
    monkeypatch.setattr(leases, "SAFE_S", -1.0)
    left: list[dict[str, bytes]] = []

    def steal(progress: pipeline.RunProgress) -> None:
        if not left and progress.done:
            taken_by_another(memory)
            left.append(contents(memory))

    with pytest.raises(LeaseLostError, match=r"taken over by another run \(host other, pid 1\)") as raised:
        ask(photos, slow, out=OUT, state="state", concurrency=2, overrides=FAST, on_progress=steal)
    assert raised.value.exit_code == 5
    assert contents(memory) == left[0]
    paid = emulator_get(slow, "stats")["billed"]
    assert len(rows_in(bucket_of(memory))) <= paid <= IMAGES
    ask(photos, slow, out=OUT, state="state", overrides=FAST)
    assert emulator_get(slow, "stats")["billed"] == IMAGES == len(rows_in(bucket_of(memory)))
    assert pipeline.status(OUT).damage == ()


def test_a_second_writer(photos: str, memory: MemoryStore, slow: str, command: Command) -> None:
    """Exit code 2 and one line that names host, pid and time; the first run is unharmed."""
    found: list[tuple[int, str, str]] = []

    def second(progress: pipeline.RunProgress) -> None:
        if not found:
            words = ("run", photos, "-o", OUT, "--state", "second", "--model", "gpt-4o", "--base-url", slow)
            found.append(command(*words))

    assert ask(photos, slow, out=OUT, state="state", on_progress=second).by_status == {"ok": IMAGES}
    code, _, error = found[0]
    assert (code, error.count("\n")) == (2, 1)
    assert re.search(r"in use by another run \(host \S+, pid \d+; its lease lasts until 20", error)


def test_addresses_and_states_that_are_none(photos: str, memory: MemoryStore, endpoint: str, command: Command) -> None:
    """One line each, and nothing is sent."""
    Path("taken").mkdir()
    Path("taken/file").touch()
    obstore.put(memory, "foreign/cat.jpg", b"x")
    obstore.put(memory, "parts/data/part-00000.parquet", b"x")
    obstore.put(memory, "parts/config.toml", b"")
    ask(photos, endpoint, out=OUT, state="state", limit=1)
    for out, state, words in (
        ("s3:///out", None, "no bucket; write s3://BUCKET/PREFIX"),
        ("s3://bucket/a//b", None, "no part of a prefix may be empty"),
        ("s3://bucket/foreign", None, "is not empty and was not made by vision-batch (it holds 'cat.jpg')"),
        ("s3://bucket/parts", None, "holds nothing, and there are parts"),
        (OUT, "taken", "taken is not empty, and is no state directory"),
        ("s3://bucket/two", "state", "state is the state directory of s3://bucket/out, not of s3://bucket/two"),
        ("out", "state", "is for an OUT in a bucket"),
    ):
        with pytest.raises((InputError, ResourceError)) as raised:
            ask(photos, endpoint, out=out, state=state)
        assert words in str(raised.value)
    with pytest.raises(InputError, match=r"^s3://bucket/out belongs to another configuration"):
        ask(photos, endpoint, out=OUT, state="state", prompt="Another one.")
    assert command("status", "s3://bucket/none")[2].endswith("no vision-batch output here (there is no journal)\n")
    code, _, said = command("run", photos, "-o", "out", "--state", "x", "--model", "gpt-4o", "--base-url", endpoint)
    assert (code, said.count("\n"), "--state x is for an OUT in a bucket" in said) == (2, 1, True)


def test_an_emptied_bucket(photos: str, memory: MemoryStore, endpoint: str) -> None:
    """It begins anew, and what lies in the state directory is put aside and named."""
    ask(photos, endpoint, out=OUT, state="state")
    for name in contents(memory):
        obstore.delete(memory, name)
    said: list[str] = []
    assert ask(photos, endpoint, out=OUT, state="state", quiet=False, on_note=said.append).asked == IMAGES
    aside = next(Path("state").glob("out.aside-*"))
    assert f"note: {OUT} holds nothing; what an earlier run there has left here is in {aside}" in said
    assert len(pipeline.read(aside)) == IMAGES


def test_a_damaged_journal(photos: str, memory: MemoryStore, endpoint: str) -> None:
    """One line that names the object; an object of another version too."""
    ask(photos, endpoint, out=OUT, state="state")
    name = next(name for name in contents(memory) if "/journal/" in name)
    obstore.put(memory, name, b"x")
    with pytest.raises(ResourceError, match=rf"s3://bucket/{name} is damaged"):
        ask(photos, endpoint, out=OUT, state="other")


def test_without_the_extra(photos: str, endpoint: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    extras.has_cloud_extra.cache_clear()
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    try:
        code, _, said = command("run", photos, "-o", OUT, "--model", "gpt-4o", "--base-url", endpoint)
        assert (code, said.count("\n"), "pip install 'vision-batch[cloud]'" in said) == (2, 1, True)
    finally:
        extras.has_cloud_extra.cache_clear()
