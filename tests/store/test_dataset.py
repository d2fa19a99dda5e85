"""An output directory as a whole: committed is safe, one key is one row, and every reader can read it."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.config.run_config import RunConfig
from pipeline.config.sections import OutputConfig
from pipeline.errors import ErrorKind, InputError, OutInUseError, ResourceError
from pipeline.limits.budget import Amounts
from pipeline.locations import LocalFile
from pipeline.records import (
    Answer,
    BilledAttempt,
    Failure,
    Follower,
    ImageFacts,
    ImageRecord,
    Outcome,
    Status,
    Usage,
    record_key,
)
from pipeline.store import parquet
from pipeline.store.dataset import Dataset
from pipeline.store.ledger import sqlite
from pipeline.store.rerun import RerunPolicy
from tests import warm

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
CONFIG = RunConfig.model_validate({"request": {"model": "gpt-4o"}, "output": {"rows_per_part": 5}})
COLUMNS = [
    "id", "prompt_name", "image", "status", "caption", "flags", "model", "endpoint", "provider", "finish_reason",
    "request_id", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "total_tokens",
    "predicted_prompt_tokens", "token_rule", "cost_usd", "attempts", "latency_s", "width", "height", "sent_width",
    "sent_height", "sent_bytes", "sha256", "request_sha256", "duplicate_of", "error_kind", "error_message",
    "run_id", "config_hash", "asked_at", "answered_at", "record",
]  # fmt: skip


def open_out(
    out: Path, config: RunConfig = CONFIG, run_id: str = "night", failpoint: Callable[[str], None] = lambda _: None
) -> Dataset:
    return Dataset.open(out, config=config, run_id=run_id, now=lambda: NOON, failpoint=failpoint)


def record(name: str) -> ImageRecord:
    return ImageRecord(name, (LocalFile(name, f"/photos/{name}"),))


def answered(name: str, caption: str = "A quay.") -> Outcome:
    usage = Usage(prompt_tokens=765, cached_tokens=0, completion_tokens=12, reasoning_tokens=0, total_tokens=777)
    return Outcome(
        record=record(name),
        result=Answer(status=Status.OK, caption=caption, model="gpt-4o", usage=usage, latency_s=0.5),
        image_facts=(
            ImageFacts(
                width=4032,
                height=3024,
                sent_width=1024,
                sent_height=768,
                sent_bytes=9,
                source_bytes=99,
                sha256="ab",
            ),
        ),
        predicted_prompt_tokens=765,
        attempts=1,
        usage=usage,
        cost_usd=Decimal("0.0020325"),
        asked_at=NOON,
        answered_at=NOON,
    )


def failed(name: str, kind: ErrorKind = ErrorKind.TIMEOUT) -> Outcome:
    return Outcome(record=record(name), result=Failure(kind=kind, message="no answer"), attempts=6)


def rows_in(out: Path) -> list[tuple[str, str | None]]:
    """(id, caption) of every row of every part, in order."""
    rows: list[tuple[str, str | None]] = []
    for part in sorted((out / "data").glob("*.parquet")):
        table = pq.read_table(part)
        rows += zip(table["id"].to_pylist(), table["caption"].to_pylist(), strict=True)
    return rows


def parts_of(out: Path) -> list[list[str]]:
    """The ids in each part."""
    return [pq.read_table(part)["id"].to_pylist() for part in sorted((out / "data").glob("*.parquet"))]


def names(count: int, start: int = 0) -> list[str]:
    return [f"{number:03d}.jpg" for number in range(start, start + count)]


def test_a_run_leaves_a_whole_dataset(tmp_path: Path) -> None:
    """Proves that what is committed is in data/ after the end, in parts of the size asked for, each record once."""
    out = tmp_path / "deep" / "out"
    with open_out(out) as dataset:
        records = [record(name) for name in names(12)]
        assert dataset.missing(records) == [("caption",)] * 12
        dataset.commit([answered(name) for name in names(7)])
        dataset.commit([answered(name) for name in names(5, 7)])
        assert dataset.missing(records) == [()] * 12
        assert rows_in(out) == []
    assert parts_of(out) == [names(5), names(5, 5), names(2, 10)]
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.toml", "data", "ledger.sqlite"]


def test_an_answer_that_changed_before_it_was_shared(tmp_path: Path) -> None:
    """Proves that a row which was to share an answer that is another now is asked again, and leaves no older row: the
    parts hold as many rows as the ledger knows of records.
    """
    with open_out(tmp_path / "out") as dataset:
        dataset.commit([replace(answered(name), request_sha256="a" * 64) for name in ("leader", "follower")])
        dataset.seal()
        key, facts = record_key("leader", "caption"), answered("follower").facts
        assert facts is not None
        dataset.commit(
            [],
            followers=[
                Follower(
                    record=record("follower"), image_facts=(facts,), request_sha256="b" * 64, key=key, status=Status.OK
                )
            ],
        )
    with open_out(tmp_path / "out") as dataset:
        assert dataset.missing([record("leader"), record("follower")]) == [(), ("caption",)]
        assert [name for name, _ in rows_in(tmp_path / "out")] == ["leader"]
        dataset.commit([answered("follower")])
    assert [name for name, _ in rows_in(tmp_path / "out")] == ["leader", "follower"]


def test_followers_are_sealed_by_the_parts_of_their_leaders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However they come: a part with leaders is read about once, not once for each batch of followers."""
    leaders = [f"{number:02}" for number in range(40)]
    with open_out(tmp_path / "out") as dataset:
        for name in leaders:
            dataset.commit([replace(answered(name, f"of {name}"), request_sha256=name * 32)])
    read = Counter[int]()
    rows_of = parquet.rows_of

    def counted(folder: Path, number: int, *more: Any) -> Iterator[dict[str, object]]:
        read[number] += 1
        return rows_of(folder, number, *more)

    monkeypatch.setattr(sqlite, "ROWS_A_BATCH", 4)
    monkeypatch.setattr(parquet, "rows_of", counted)
    facts = answered("a").facts
    assert facts is not None
    with open_out(tmp_path / "out", CONFIG.model_copy(update={"output": OutputConfig(rows_per_part=100)})) as dataset:
        for number in range(80):
            name = leaders[number * 7 % 40]
            follower = Follower(
                record=record(f"follower {number}"),
                image_facts=(facts,),
                request_sha256=name * 32,
                key=record_key(name, "caption"),
                status=Status.OK,
            )
            dataset.commit([], followers=[follower])
    assert read.keys() == set(range(8))
    assert read.total() <= 8 + 80 / 4
    found = dict(rows_in(tmp_path / "out"))
    assert [found[f"follower {number}"] for number in range(80)] == [
        f"of {leaders[number * 7 % 40]}" for number in range(80)
    ]


@pytest.mark.parametrize("before", [Status.OK, Status.FAILED])
def test_a_follower_without_a_leader_keeps_its_own_answer(tmp_path: Path, before: Status) -> None:
    """Proves that a record whose leader has no row keeps the row that it has, where that answers the same request.

    A damaged ledger leads there: the record's own key is lost, and its answer is found under what the key became.
    """
    kept = before is Status.OK
    first = answered("a.jpg") if kept else failed("a.jpg")
    facts = answered("a.jpg").facts
    assert facts is not None
    lost = Follower(
        record=record("a.jpg"),
        image_facts=(facts,),
        request_sha256="a" * 64,
        key=record_key("damaged.jpg", "caption"),
        status=Status.OK,
    )
    with open_out(tmp_path / "out") as dataset:
        dataset.commit([replace(first, request_sha256="a" * 64), answered("b.jpg")])
        dataset.seal()
        row = pq.read_table(tmp_path / "out" / "data" / "part-00000.parquet").slice(0, 1)
        dataset.commit([], followers=[lost])
    with open_out(tmp_path / "out") as dataset:
        assert dataset.missing([record("a.jpg"), record("b.jpg")]) == [() if kept else ("caption",), ()]
        table = pq.read_table(tmp_path / "out" / "data" / "part-00000.parquet")
        assert table["id"].to_pylist() == (["b.jpg", "a.jpg"] if kept else ["b.jpg"])
        assert not kept or table.slice(1, 1).to_pylist() == row.to_pylist()


def test_pandas_sees_the_columns_of_the_contract(tmp_path: Path) -> None:
    """Proves names, order and types of every column as pandas reads them from the directory."""
    with open_out(tmp_path / "out") as dataset:
        dataset.commit([answered("a.jpg")])
    frame = pd.read_parquet(tmp_path / "out" / "data")
    assert list(frame.columns) == COLUMNS
    by_type: dict[str, list[str]] = {}
    for name, kind in frame.dtypes.items():
        by_type.setdefault(str(kind), []).append(str(name))
    assert by_type["int64"] == COLUMNS[11:17]
    assert by_type["int32"] == ["attempts", "width", "height", "sent_width", "sent_height", "sent_bytes"]
    assert by_type["float64"] == ["latency_s"]
    assert by_type["datetime64[us, UTC]"] == ["asked_at", "answered_at"]
    row = frame.iloc[0]
    assert (row["id"], row["status"], row["caption"]) == ("a.jpg", "ok", "A quay.")
    assert row["cost_usd"] == Decimal("0.002032500")
    assert row["asked_at"] == pd.Timestamp(NOON)
    assert list(row["flags"]) == []


def test_an_empty_dataset_has_columns_too(tmp_path: Path) -> None:
    """Proves that a reader who comes before the first answer meets all columns and no rows."""
    with open_out(tmp_path / "out"):
        frame = pd.read_parquet(tmp_path / "out" / "data")
    assert list(frame.columns) == COLUMNS
    assert len(frame) == 0
    assert pq.read_schema(tmp_path / "out" / "data" / "part-00000.parquet").metadata[b"vision_batch"] == b"1"


def load_with_datasets(out: Path, home: Path) -> dict[str, Any]:
    """What `datasets.load_dataset(OUT)` sees, in a process that cannot reach the network."""
    code = (
        "import datasets, json, sys; d = datasets.load_dataset(sys.argv[1]);"
        "print(json.dumps([list(d), len(d['train']), {k: str(v) for k, v in d['train'].features.items()},"
        " d['train']['caption'][:]]))"
    )
    environment = {**os.environ, "HF_HOME": str(home), "HF_DATASETS_CACHE": str(home), "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", code, str(out)], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    splits, rows, features, captions = json.loads(ended.stdout.splitlines()[-1])
    return {"splits": splits, "rows": rows, "features": features, "captions": captions}


def test_datasets_loads_the_directory(tmp_path: Path) -> None:
    """Proves that the card leads `datasets` to the parts, offline, with the same types.

    It refuses a dataset without any row, in words of its own.
    """
    out = tmp_path / "out"
    with open_out(out) as dataset:
        dataset.commit([answered(name, name) for name in names(7)])
    loaded = load_with_datasets(out, tmp_path / "home")
    assert (loaded["rows"], loaded["captions"]) == (7, names(7))
    assert (loaded["splits"], list(loaded["features"])) == (["train"], COLUMNS)
    assert loaded["features"]["cost_usd"] == "Value('decimal128(18, 9)')"
    assert loaded["features"]["asked_at"] == "Value('timestamp[us, tz=UTC]')"
    assert loaded["features"]["flags"] == "List(Value('string'))"


def test_all_choices_have_a_column_where_several_are_asked_for(tmp_path: Path) -> None:
    """Proves that `n` > 1 among the request's fields adds `captions`, and that it holds them."""
    config = RunConfig.model_validate({"request": {"model": "m", "extra": {"n": 2}}})
    several = Answer(status=Status.OK, caption="x", captions=("x", "y"))
    with open_out(tmp_path / "out", config) as dataset:
        dataset.commit([replace(answered("a"), result=several)])
    frame = pd.read_parquet(tmp_path / "out" / "data")
    assert list(frame["captions"][0]) == ["x", "y"]


def test_only_what_failed_for_a_transient_reason_is_asked_again(tmp_path: Path) -> None:
    """Proves which records the next run asks, and that their rows are replaced inside their own parts."""
    out = tmp_path / "out"
    transient, final = failed("001.jpg"), failed("002.jpg", ErrorKind.IMAGE_TRUNCATED)
    with open_out(out) as dataset:
        dataset.commit([answered("000.jpg"), transient, final, *map(answered, names(4, 3))])
    with open_out(out, run_id="next") as dataset:
        asked = [name for name in names(8) if dataset.missing([record(name)]) == [("caption",)]]
        assert asked == ["001.jpg", "007.jpg"]
        assert dataset.states()[Status.FAILED, ErrorKind.TIMEOUT] == 1
        dataset.commit([answered(name, "second night") for name in asked])
        assert dataset.states() == {
            (Status.OK, None): 7,
            (Status.FAILED, ErrorKind.IMAGE_TRUNCATED): 1,
        }
    assert parts_of(out) == [["000.jpg", "002.jpg", "003.jpg", "004.jpg", "001.jpg"], names(3, 5)]
    assert dict(rows_in(out))["001.jpg"] == "second night"


def test_totals_count_answers_tokens_and_money_exactly(tmp_path: Path) -> None:
    """Proves the totals of a run and of all runs, over a reopening, to the last nano-dollar."""
    out = tmp_path / "out"
    with open_out(out) as dataset:
        dataset.commit([answered("a"), failed("b")])
        dataset.end_run()
    with open_out(out, run_id="next") as dataset:
        dataset.commit([answered("b"), replace(answered("c"), cost_usd=None)])
        run, total = dataset.run_totals(), dataset.totals()
    assert (run.records, run.ok, run.requests, run.prompt_tokens, run.unpriced) == (2, 2, 2, 1530, 1)
    assert run.cost_usd == Decimal("0.0020325")
    assert (total.records, total.ok, total.failed, total.requests) == (4, 3, 1, 9)
    assert total.cost_usd == Decimal("0.004065")


def test_a_billed_attempt_is_counted_once(tmp_path: Path) -> None:
    """Proves that tokens billed without an answer are committed at once and not counted again with the row."""
    usage = Usage(prompt_tokens=765, completion_tokens=0, total_tokens=765)
    attempt = BilledAttempt(record=record("a"), at=NOON, usage=usage, cost_usd=Decimal("0.5"))
    whole = answered("a")
    whole = replace(
        whole, attempts=2, usage=whole.usage + usage, cost_usd=Decimal("0.5020325")
    )  # as the engine sums it up
    with open_out(tmp_path / "out") as dataset:
        dataset.commit([], [attempt])
        before = dataset.totals()
        assert (before.records, before.requests, before.prompt_tokens) == (0, 1, 765)
        assert before.cost_usd == Decimal("0.5")
        dataset.commit([whole])
        after = dataset.totals()
        assert (after.records, after.requests, after.prompt_tokens) == (1, 2, 1530)
        assert after.cost_usd == Decimal("0.5020325")


def test_what_a_killed_run_paid_is_in_the_row(tmp_path: Path) -> None:
    """Proves that an attempt billed before a kill is added to the row of the run that gets the answer."""
    out = tmp_path / "out"
    usage = Usage(prompt_tokens=2**70, completion_tokens=3)
    attempt = BilledAttempt(record=record("a"), at=NOON, usage=usage, cost_usd=Decimal("0.25"))
    with open_out(out) as dataset:
        dataset.commit([], [attempt])
        dataset.commit([], [replace(attempt, usage=Usage(prompt_tokens=1), cost_usd=None)])
    with open_out(out) as dataset:
        assert dataset.missing([record("a")]) == [("caption",)]
        dataset.commit([answered("a")])
        totals = dataset.totals()
    frame = pd.read_parquet(out / "data")
    assert (frame["attempts"][0], frame["completion_tokens"][0]) == (3, 15)
    assert frame["cost_usd"][0] == totals.cost_usd == Decimal("0.2520325")
    assert totals.requests == 3


@pytest.mark.parametrize("existing", ["file", "folder", "link"])
def test_what_is_not_ours_is_not_touched(tmp_path: Path, existing: str) -> None:
    """Proves that a file, or a directory with anything else in it, is refused and left exactly as it was."""
    out = tmp_path / "out"
    if existing == "file":
        out.write_text("precious")
    else:
        (tmp_path / "theirs").mkdir()
        (tmp_path / "theirs" / "thesis.txt").write_text("precious")
        out.symlink_to(tmp_path / "theirs")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="out is"):
        open_out(out)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_with_only_housekeeping_files_counts_as_empty(tmp_path: Path) -> None:
    """Proves that what Finder and git leave behind does not stop a run."""
    (tmp_path / ".DS_Store").write_bytes(b"")
    with open_out(tmp_path) as dataset:
        dataset.commit([answered("a")])
    assert rows_in(tmp_path) == [("a", "A quay.")]


def test_another_configuration_is_refused_with_the_difference(tmp_path: Path) -> None:
    """Proves that answers to another question are not mixed in, that the refusal says which fields differ,
    and that what does not change the question (endpoint, limits, part size) does not disown a dataset.
    """
    out = tmp_path / "out"
    with open_out(out) as dataset:
        dataset.commit([answered("a")])
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    other = RunConfig.model_validate({"request": {"model": "gpt-4o-mini", "max_tokens": 5}})
    with pytest.raises(InputError) as caught:
        open_out(out, other)
    lines = str(caught.value).splitlines()
    assert lines[1:3] == ['  model: "gpt-4o" -> "gpt-4o-mini"', "  max_tokens: 300 -> 5"]
    assert "  another OUT, or the same settings as before" in lines
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    travelled = {"endpoint": {"base_url": "http://elsewhere/v1"}, "request": {"model": "gpt-4o"}}
    open_out(out, RunConfig.model_validate(travelled)).close()


def test_a_secret_that_differs_is_not_shown(tmp_path: Path) -> None:
    """Proves that neither refusal nor ledger repeats a value that could be a secret."""
    out = tmp_path / "out"

    def config(key: str) -> RunConfig:
        return RunConfig.model_validate({"request": {"model": "m", "extra": {"api_key": key}}})

    open_out(out, config("hunter2")).close()
    with pytest.raises(InputError, match="may be a secret") as caught:
        open_out(out, config("hunter3"))
    assert "hunter" not in str(caught.value)
    assert all(b"hunter" not in path.read_bytes() for path in out.rglob("*") if path.is_file())


def test_a_second_run_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    """Proves that OUT in use is exit code 2 with host and pid, and that the first run goes on unharmed."""
    with open_out(tmp_path / "out") as dataset:
        dataset.commit([answered("a")])
        with pytest.raises(OutInUseError, match=f"{socket.gethostname()}, pid {os.getpid()}") as caught:
            open_out(tmp_path / "out")
        assert caught.value.exit_code == 2
        dataset.commit([answered("b")])
    assert rows_in(tmp_path / "out") == [("a", "A quay."), ("b", "A quay.")]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place without write permission")
def test_a_place_that_cannot_be_written_is_a_lost_resource() -> None:
    """Proves that a directory which cannot be made is exit code 5 and names the path."""
    with pytest.raises(ResourceError, match="/proc/out") as caught:
        open_out(Path("/proc/out"))
    assert caught.value.exit_code == 5


def test_a_part_that_is_gone_is_noticed(tmp_path: Path) -> None:
    """Proves that a run does not go on as if deleted answers were still there."""
    out = tmp_path / "out"
    with open_out(out) as dataset:
        dataset.commit([answered(name) for name in names(12)])
    (out / "data" / "part-00001.parquet").unlink()
    with pytest.raises(ResourceError, match=r"part-00001\.parquet is gone.*1 of 3 parts.*rebuild"):
        open_out(out)


def test_a_ledger_that_is_gone_or_damaged_is_noticed(tmp_path: Path) -> None:
    """Proves that parts without a readable ledger are neither overwritten nor asked again, and the way out."""
    out = tmp_path / "out"
    with open_out(out) as dataset:
        dataset.commit([answered("a")])
    (out / "ledger.sqlite").write_bytes(b"not a ledger")
    with pytest.raises(ResourceError, match="vision-batch rebuild"):
        open_out(out)
    (out / "ledger.sqlite").unlink()
    with pytest.raises(ResourceError, match=r"ledger\.sqlite is gone.*vision-batch rebuild"):
        open_out(out)
    assert rows_in(out) == [("a", "A quay.")]


def test_smaller_parts_later_begin_a_new_one(tmp_path: Path) -> None:
    """Proves that another part size takes effect from the next part on, without a gap in the numbers."""
    out = tmp_path / "out"
    with open_out(out) as dataset:
        dataset.commit([answered(name) for name in names(4)])
    smaller = RunConfig.model_validate({"request": {"model": "gpt-4o"}, "output": {"rows_per_part": 2}})
    with open_out(out, smaller) as dataset:
        dataset.commit([answered(name) for name in names(3, 4)])
    assert parts_of(out) == [names(4), names(2, 4), names(1, 6)]


def test_new_and_known_records_mixed_fill_parts_exactly(tmp_path: Path) -> None:
    """Proves that a record asked again takes no room of a new one, also within one commit."""
    out = tmp_path / "out"
    with open_out(out) as dataset:
        dataset.commit([answered(name) for name in names(4)])
        dataset.seal()
        dataset.commit([answered(name, "again") for name in ["000.jpg", "004.jpg", "001.jpg", "005.jpg", "005.jpg"]])
    assert parts_of(out) == [["002.jpg", "003.jpg", "000.jpg", "004.jpg", "001.jpg"], ["005.jpg"]]


def test_status_and_run_files_are_written(tmp_path: Path) -> None:
    """Proves where the run's own reports go."""
    with open_out(tmp_path / "out") as dataset:
        dataset.write_status({"done": 1})
        dataset.write_run({"exit_code": 0})
    assert json.loads((tmp_path / "out" / "status.json").read_text()) == {"done": 1}
    assert json.loads((tmp_path / "out" / "runs" / "night.json").read_text()) == {"exit_code": 0, "earlier": []}


def test_after_a_lost_resource_nothing_is_sealed_and_nothing_lost(tmp_path: Path) -> None:
    """Proves that a full disk ends in a released directory, and that what was committed is sealed next time."""
    out = tmp_path / "out"

    def run() -> None:
        with open_out(out) as dataset:
            dataset.commit([answered("a")])
            raise ResourceError("the disk is full")

    with pytest.raises(ResourceError, match="full"):
        run()
    assert rows_in(out) == []
    open_out(out).close()
    assert rows_in(out) == [("a", "A quay.")]


STEPS_OF_MAKING = [
    "folder-made", "before-commit", "ledger-made", "declared", "tmp-written", "tmp-synced", "renamed",
    "folder-synced", "first-part-marked", "described",
]  # fmt: skip
STEPS_OF_WORK = [
    "rows-built", "before-commit", "committed", "tmp-written", "tmp-synced", "renamed", "folder-synced", "marked",
]  # fmt: skip

CRASHING = """
import os, sys
from pathlib import Path
from tests.store.test_dataset import *
out, step, skip = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
armed = sys.argv[4] == "making"

def failpoint(reached):
    global skip
    if armed and reached == step:
        if skip == 0:
            os._exit(9)
        skip -= 1

dataset = open_out(out, failpoint=failpoint)
armed = True
for name in names(7):
    dataset.commit([answered(name)])
    print(name, flush=True)
dataset.seal()
dataset.commit([answered(name, "again") for name in ("001.jpg", "006.jpg", "007.jpg")])
print("again", flush=True)
dataset.seal()
print("sealed", flush=True)
os._exit(8)
"""


def crash(out: Path, step: str, skip: int, when: str) -> list[str]:
    """Work in another process that ends itself at a step; what it had committed until then."""
    ended = warm.run(["-c", CRASHING, out, step, str(skip), when], imports=["tests.store.test_dataset"])
    assert (ended.returncode, ended.stderr) == (9, "")
    return ended.stdout.split()


@pytest.mark.parametrize("step", STEPS_OF_MAKING)
def test_a_crash_while_the_directory_is_made_is_repaired(tmp_path: Path, step: str) -> None:
    """Proves that after the process ended at any step of making OUT, the same command simply goes on."""
    out = tmp_path / "out"
    assert crash(out, step, 0, "making") == []
    with open_out(out) as dataset:
        dataset.commit([answered("a")])
    assert rows_in(out) == [("a", "A quay.")]
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.toml", "data", "ledger.sqlite"]


class _Ended(BaseException):
    """The process is gone."""


class _FullDisk:
    """A ledger whose commits fail while `is_full`."""

    is_full = False

    def __call__(self, step: str) -> None:
        if self.is_full and step == "before-commit":
            raise ResourceError("no space left")


def test_a_full_disk_loses_no_answer(tmp_path: Path) -> None:
    """A record is asked again, and fails while the ledger takes nothing: the answer from before stays, as always."""
    disk, out, policy = _FullDisk(), tmp_path / "out", RerunPolicy(refresh=True)
    with open_out(out) as dataset:
        dataset.commit([answered("a.jpg", "paid for")])
        dataset.end_run()
    how: dict[str, Any] = {"config": CONFIG, "run_id": "later", "now": lambda: NOON, "policy": policy}
    dataset = Dataset.open(out, **how, failpoint=disk)
    disk.is_full = True
    later = NOON + timedelta(hours=1)
    timeout = Failure(kind=ErrorKind.TIMEOUT, message="no answer", usage=None)
    with pytest.raises(ResourceError, match=r"\.unsaved-"):
        dataset.commit([replace(answered("a.jpg"), result=timeout, asked_at=later, answered_at=later)])
    dataset.close(seal=False)
    with open_out(out, run_id="last") as dataset:
        assert (dataset.taken.answers, dataset.taken.older) == (0, 1)
    assert pd.read_parquet(out / "data").caption.tolist() == ["paid for"]


@pytest.mark.parametrize("frees", [False, True])
def test_what_is_saved_beside_the_ledger_is_billed_once(tmp_path: Path, *, frees: bool) -> None:
    """The lease covers it: it is unknown only until the answer is taken in, also where the disk has room again."""
    disk, out = _FullDisk(), tmp_path / "out"
    dataset = open_out(out, failpoint=disk)
    dataset.lease(Amounts(nano_usd=10_000_000))
    disk.is_full = True
    with pytest.raises(ResourceError):
        dataset.commit([replace(answered("a.jpg"), cost_usd=Decimal("0.002"))])
    disk.is_full = not frees
    with suppress(ResourceError):
        dataset.settle_lease()
    disk.is_full = False
    dataset.close(seal=False)
    with open_out(out, run_id="last") as dataset:
        totals = dataset.totals()
    assert (totals.cost_usd, totals.spent_usd) == (Decimal("0.002"), Decimal("0.01"))


@dataclass
class _EndsAt:
    """A failpoint that ends the process at the commit behind `left` others."""

    left: int

    def __call__(self, reached: str) -> None:
        if reached == "before-commit":
            self.left -= 1
            if self.left < 0:
                raise _Ended


def test_a_configuration_changes_whole_or_not_at_all(tmp_path: Path) -> None:
    """Proves that a run of another configuration may end at any commit of its beginning, and that the next goes on."""
    other = RunConfig.model_validate({"request": {"model": "gpt-4o", "prompt": "Why?"}})
    policy = RerunPolicy(on_config_change="refresh")
    for commits in range(9):
        out = tmp_path / f"out{commits}"
        with open_out(out) as dataset:
            dataset.commit([answered("a")])
        how: Any = {"config": other, "run_id": "next", "now": lambda: NOON, "policy": policy}
        try:
            Dataset.open(out, **how, failpoint=_EndsAt(commits)).close()
            break
        except _Ended:
            with Dataset.open(out, **how) as dataset:
                assert dataset.missing([record("a")]) == [("caption",)]
    assert 2 < commits < 8


@pytest.mark.parametrize(
    ("step", "skip"),
    [
        *((step, 0) for step in STEPS_OF_WORK),
        ("committed", 7),
        *((step, skip) for step in STEPS_OF_WORK[3:] for skip in (1, 3)),
    ],
)
def test_a_crash_at_any_step_loses_and_doubles_nothing(tmp_path: Path, step: str, skip: int) -> None:
    """Proves that after the process ended at any step of commit and seal, every part is readable at once, each
    committed answer is there exactly once after the next start, and none of them would be asked again.
    """
    out = tmp_path / "out"
    told = crash(out, step, skip, "work")
    ids = [name for name, _ in rows_in(out)]
    assert len(ids) == len(set(ids))
    with open_out(out) as dataset:
        stored = [name for name in names(9) if not dataset.missing([record(name)])[0]]
        rows = rows_in(out)
        assert sorted(name for name, _ in rows) == stored
        assert set(stored) >= set(told) - {"again"}
        again = {name for name, caption in rows if caption == "again"}
        assert again in ({"001.jpg", "006.jpg", "007.jpg"}, set())
        assert again or "again" not in told
        dataset.commit([answered(name, "later") for name in names(9) if name not in stored])
    assert sorted(name for name, _ in rows_in(out)) == names(9)
    assert [len(part) for part in parts_of(out)] == [5, 4]


class CrashError(BaseException):
    """Stands for the end of the process, inside one."""


class CommittingMachine(RuleBasedStateMachine):
    """Any sequence of keeping, sealing, crashing and reopening, against a dict of what must be there."""

    @initialize(rows_per_part=st.integers(1, 4))
    def begin(self, rows_per_part: int) -> None:
        self.folder = TemporaryDirectory()
        self.out = Path(self.folder.name) / "out"
        self.config = RunConfig.model_validate({"output": {"rows_per_part": rows_per_part}})
        self.limit = rows_per_part
        self.model: dict[str, tuple[str, str | None]] = {}
        self.dying: str | None = None
        self.open()

    def failpoint(self, step: str) -> None:
        if step == self.dying:
            raise CrashError

    def open(self) -> None:
        self.dying = None
        self.dataset = open_out(self.out, self.config, failpoint=self.failpoint)

    def die_in(self, step: str, act: Callable[[], object]) -> bool:
        """Do it, ending at `step`; whether it came that far. The lock goes, as it does with a process."""
        self.dying = step
        try:
            act()
        except CrashError:
            self.dataset._ledger.close()
            self.open()
            return True
        self.dying = None
        return False

    def outcomes(self, asked: Iterable[tuple[int, str | None]]) -> list[Outcome]:
        return [failed(f"{n}") if text is None else answered(f"{n}", text) for n, text in asked]

    def remember(self, asked: Iterable[tuple[int, str | None]]) -> None:
        for number, text in asked:
            self.model[f"{number}"] = ("failed" if text is None else "ok", text)

    batches = st.lists(st.tuples(st.integers(0, 11), st.none() | st.sampled_from(["x", "y", "z"])), max_size=6)

    @rule(asked=batches)
    def keep(self, asked: list[tuple[int, str | None]]) -> None:
        self.dataset.commit(self.outcomes(asked))
        self.remember(asked)

    @rule()
    def seal(self) -> None:
        self.dataset.seal()

    @rule()
    def seal_one_part(self) -> None:
        self.dataset.seal_part()

    @rule()
    def end_and_begin_again(self) -> None:
        self.dataset.close()
        self.open()

    @rule(asked=batches, step=st.sampled_from(["rows-built", "before-commit", "committed"]))
    def die_keeping(self, asked: list[tuple[int, str | None]], step: str) -> None:
        died = self.die_in(step, lambda: self.dataset.commit(self.outcomes(asked)))
        if not died or step == "committed":
            self.remember(asked)

    @rule(step=st.sampled_from([*STEPS_OF_WORK[3:], "before-commit"]))
    def die_sealing(self, step: str) -> None:
        self.die_in(step, self.dataset.seal)

    @precondition(lambda self: hasattr(self, "dataset"))
    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        asked = [record(f"{number}") for number in range(12)]
        again = [name for name, (status, _) in self.model.items() if status == "failed"]
        missing = {r.id for r, is_missing in zip(asked, self.dataset.missing(asked), strict=True) if is_missing}
        assert missing == {r.id for r in asked if r.id not in self.model or r.id in again}
        in_parts = [name for name, _ in rows_in(self.out)]
        assert len(in_parts) == len(set(in_parts))
        assert set(in_parts) <= set(self.model)
        assert sum(self.dataset.states().values()) == len(self.model)

    def teardown(self) -> None:
        if not hasattr(self, "dataset"):
            return
        with self.folder:
            self.check_the_end()

    def check_the_end(self) -> None:
        self.dataset.close()
        assert dict(rows_in(self.out)) == {name: caption for name, (_, caption) in self.model.items()}
        sizes = [len(part) for part in parts_of(self.out)]
        assert all(size == self.limit for size in sizes[:-1])
        assert sizes[-1] <= self.limit


CommittingMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestCommitting = CommittingMachine.TestCase
