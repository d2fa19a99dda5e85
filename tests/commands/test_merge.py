"""The shards of an array as one dataset: every record once with the row that counts most, whatever ends the merge."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import pipeline
from pipeline.commands.merge import merge
from pipeline.commands.merged import MergeReport
from pipeline.config.run_config import RunConfig
from pipeline.errors import ErrorKind, InputError, OutInUseError, ResourceError, VisionBatchError
from pipeline.limits.budget import Amounts
from pipeline.limits.pauses import Paused
from pipeline.records import EMULATOR, Answer, BilledAttempt, Outcome, Status, Usage
from pipeline.store.dataset import Dataset
from pipeline.store.events import read_pauses
from pipeline.store.ledger.sqlite import SqliteLedger
from tests.store.test_dataset import CONFIG, NOON, answered, failed, names, open_out, record, rows_in
from tests.support import Command

PAUSED = Paused("https://h.example/v1", "throttled", NOON, NOON, 1, 2.5)
LATER = NOON + timedelta(hours=1)


def at(outcome: Outcome, when: datetime) -> Outcome:
    return replace(outcome, answered_at=when)


def shard(out: str, outcomes: Sequence[Outcome], config: RunConfig = CONFIG) -> Path:
    """An output directory with these rows, of a run of its own."""
    with open_out(Path(out), config, run_id=f"run-of-{Path(out).name}") as dataset:
        dataset.commit(outcomes)
        dataset.write_run({"out": out})
        dataset.end_run()
    return Path(out)


def joined(*outs: Path, out: str = "all", **more: Any) -> MergeReport:
    return merge(outs, Path(out), now=datetime.now(UTC), **more)


def captions(out: str = "all") -> dict[str, str | None]:
    """The caption of each record, which has one row."""
    rows = rows_in(Path(out))
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def totals(out: str = "all") -> Any:
    return pipeline.status(out)


# --- which row counts ---

RULES: list[tuple[Outcome, Outcome, str | None]] = [
    (answered("a", "old"), at(answered("a", "new"), LATER), "new"),
    (at(answered("a", "new"), LATER), answered("a", "old"), "new"),
    (answered("a", "first"), answered("a", "second"), "first"),
    (answered("a", "kept"), at(failed("a"), LATER), "kept"),
    (at(failed("a"), LATER), answered("a", "kept"), "kept"),
    (
        at(Outcome(record=record("a"), result=Answer(status=Status.REFUSED, caption="no"), attempts=1), NOON),
        at(failed("a"), LATER),
        "no",
    ),
    (at(failed("a", ErrorKind.TIMEOUT), LATER), failed("a", ErrorKind.CONNECTION), None),
]


def test_of_two_rows_one_counts() -> None:
    """An answer before a row without one, then the later, then the one that was there; sums by state follow."""
    ids = [f"{number}" for number in range(len(RULES))]
    pairs = [
        (replace(one, record=record(name)), replace(other, record=record(name)))
        for name, (one, other, _) in zip(ids, RULES, strict=True)
    ]
    first = shard("one", [*(one for one, _ in pairs), answered("b")])
    second = shard("other", [answered("c"), *(other for _, other in pairs)])
    report = joined(first, second)
    expected = dict(zip(ids, (caption for _, _, caption in RULES), strict=True))
    assert captions() == {**expected, "b": "A quay.", "c": "A quay."}
    assert (report.records, report.added, report.replaced, report.passed_over) == (9, 9, 2, 5)
    found = totals()
    assert found.damage == ()
    assert found.records == {"ok": 7, "refused": 1, "failed": 1}
    assert len(Path("all/failures.csv").read_text().splitlines()) == 3
    again = joined(first, second)
    assert (again.added, again.replaced, again.records) == (0, 0, 9)
    assert captions() == {**expected, "b": "A quay.", "c": "A quay."}


# --- what is carried along ---


def test_what_runs_did_is_carried_along(command: Command) -> None:
    """Rows of many parts, sums, open bills, a killed run's lease, summaries, reviews; nothing is counted twice."""
    first = shard("one", [answered(name) for name in names(12)])
    dataset = open_out(Path("other"), run_id="killed")
    dataset.commit([answered(name) for name in names(7, 12)])
    usage = Usage(prompt_tokens=100, completion_tokens=1)
    bill = BilledAttempt(record=record("open"), usage=usage, cost_usd=Decimal("0.5"), at=NOON)
    dataset.commit([answered("019.jpg")], [bill])
    dataset.lease(Amounts(nano_usd=5_000_000_000, requests=100))
    dataset.note_pauses([PAUSED])
    dataset.close(seal=False)  # as a kill leaves it: rows unsealed, a lease that is not settled
    (first / "reviews").mkdir()
    (first / "reviews" / "reviews-1.parquet").write_bytes(b"kept as it is")
    for out, runs in ((first, ["run-of-one"]), (Path("other"), ["killed"])):
        (out / "sources.json").write_text(json.dumps({"sources": [{"source": "p", "address": None, "runs": runs}]}))

    code, said, _ = command("merge", "one", "other", "-o", "all", "--json")
    assert code == 0
    report = json.loads(said)
    assert (report["records"], report["added"], report["runs"]) == (20, 20, 2)
    assert captions().keys() == set(names(20))
    found = totals()
    # 20 answers at 0.0020325, half a dollar of an open bill, and the rest of the lease of five dollars.
    assert found.cost_usd == Decimal("0.54065")
    assert found.cost_unknown_usd + found.cost_usd == Decimal("5.02439")
    assert (Path("all") / "reviews" / "reviews-1.parquet").read_bytes() == b"kept as it is"
    assert json.loads(Path("all/sources.json").read_text())["sources"][0]["runs"] == ["run-of-one", "killed"]
    assert [path.name for path in Path("all/runs").iterdir()] == ["run-of-one.json"]
    assert read_pauses(Path("all")) == [PAUSED]
    assert joined(first, Path("other")).added == 0
    assert totals().cost_usd == found.cost_usd
    assert totals().cost_unknown_usd == found.cost_unknown_usd
    with open_out(Path("all"), run_id="next") as dataset:
        assert dataset.missing([record(name) for name in [*names(20), "open"]]) == [()] * 20 + [("caption",)]
        dataset.commit([answered("open")])  # which takes the open bill over
    assert pq.read_table("all/data", filters=[("id", "=", "open")])["attempts"].to_pylist() == [2]


def test_a_merged_dataset_grows() -> None:
    """Shards that grew, a run on the merged OUT, another shard: each merge takes what is new and nothing else."""
    first, second = shard("one", [answered(name) for name in names(3)]), shard("other", [failed("x")])
    joined(first)
    with open_out(Path("all"), run_id="between") as dataset:
        dataset.commit([at(answered("x", "in the merged one"), LATER), at(answered("000.jpg", "again"), LATER)])
        dataset.end_run()
    with open_out(first, run_id="second-night") as dataset:
        dataset.commit([answered("003.jpg"), at(answered("001.jpg", "later"), LATER)])
        dataset.end_run()
    report = joined(first, second)
    assert (report.added, report.replaced) == (1, 1)
    expected = {"000.jpg": "again", "001.jpg": "later", "002.jpg": "A quay.", "003.jpg": "A quay."}
    assert captions() == {**expected, "x": "in the merged one"}
    assert totals().requests == 3 + 2 + 2 + 6
    assert joined(Path("all"), second, out="of-merged").records == 5
    assert totals("of-merged").requests == 3 + 2 + 2 + 6


def test_several_configurations_are_kept_apart(command: Command) -> None:
    """Refused with the lines that differ; with `keep` the rows say which one they are of."""
    other = CONFIG.model_copy(update={"request": CONFIG.request.model_copy(update={"prompt": "What is it?"})})
    shard("one", [answered("a")])
    shard("other", [answered("b")], other)
    code, _, said = command("merge", "one", "other", "-o", "all")
    assert code == 2
    assert "What is it?" in said
    assert "--on-config-change keep" in said
    assert not Path("all").exists()
    assert command("merge", "one", "other", "-o", "all", "--on-config-change", "keep")[0] == 0
    hashes = set(pq.read_table("all/data")["config_hash"].to_pylist())
    assert hashes == {CONFIG.config_hash(), other.config_hash()}
    assert all(name in Path("all/README.md").read_text() for name in hashes)
    assert command("merge", "one", "other", "-o", "all", "--on-config-change", "refresh")[0] == 2
    with open_out(Path("all"), run_id="next") as dataset:
        assert dataset.own_config_hash == CONFIG.config_hash()


# --- what is refused ---


def damaged_part(out: Path) -> None:
    (part,) = (out / "data").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-20])


def damaged_ledger(out: Path) -> None:
    data = bytearray((out / "ledger.sqlite").read_bytes())
    data[8192:] = os.urandom(len(data) - 8192)
    (out / "ledger.sqlite").write_bytes(data)


def rehearsed(out: Path) -> None:
    shutil.rmtree(out)
    with Dataset.open(out, config=CONFIG, run_id="r", now=lambda: NOON, endpoint=EMULATOR) as dataset:
        dataset.commit([answered("r")])


def with_choices(out: Path) -> None:
    shutil.rmtree(out)
    request = CONFIG.request.model_copy(update={"n": 2})
    shard(str(out), [answered("r")], CONFIG.model_copy(update={"request": request}))


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (damaged_part, 5, "vision-batch rebuild other"),
        (damaged_ledger, 5, "vision-batch rebuild other"),
        (rehearsed, 2, "a rehearsal"),
        (shutil.rmtree, 2, "no vision-batch output here"),
        (with_choices, 2, "another configuration"),
        (lambda out: (out / ".rebuild").mkdir(), 5, "a rebuild was interrupted"),
    ],
)
def test_what_does_not_fit_is_refused(command: Command, spoil: Callable[[Path], None], code: int, words: str) -> None:
    """One clear line, and no OUT is left behind."""
    shard("one", [answered("a")])
    spoil(shard("other", [answered("b")]))
    found, _, said = command("merge", "one", "other", "-o", "all")
    assert found == code, said
    assert words in said
    assert not Path("all").exists()


def test_places_that_cannot_be(command: Command) -> None:
    """OUT among the sources or within one, another program's directory, a shard's; a shard in use; an OUT in use."""
    one, other = shard("one", [answered("a")]), shard("other", [answered("b")])
    Path("photos").mkdir()
    Path("photos/a.txt").write_text("mine")
    sharded = CONFIG.model_copy(update={"source": CONFIG.source.model_copy(update={"shard": "3/8"})})
    shard("third", [answered("c")], sharded)
    for place, words in (("one", "is one of"), ("one/all", "lies in one"), ("photos", "not made by"), ("third", "3/8")):
        code, _, said = command("merge", "one", "other", "-o", place)
        assert code == 2
        assert words in said
    assert not Path("one/all").exists()
    with open_out(other, run_id="running"), pytest.raises(OutInUseError, match="other is in use"):
        joined(one, other)
    joined(one)
    with open_out(Path("all"), run_id="running"), pytest.raises(OutInUseError, match="all is in use"):
        joined(one, other)
    assert captions() == {"a": "A quay."}


def test_the_shards_that_are_missing_are_named(command: Command) -> None:
    """By what each OUT says that it is a shard of."""
    for index in (0, 2):
        source = CONFIG.source.model_copy(update={"shard": f"{index}/4"})
        shard(f"s{index}", [answered(f"{index}")], CONFIG.model_copy(update={"source": source}))
    assert "not merged yet: 2 shards (1/4, 3/4)" in command("merge", "s0", "s2", "-o", "all")[1]
    assert "shard" not in Path("all/config.toml").read_text()
    with open_out(Path("all"), run_id="whole") as dataset:
        assert dataset.missing([record("0"), record("1")]) == [(), ("caption",)]


def test_columns_that_only_some_have(tmp_path: Path) -> None:
    """A shard whose records have several images brings the column; an OUT without it is not changed."""
    one = shard("one", [answered("a")])
    other = Path("other")
    with Dataset.open(other, config=CONFIG, run_id="r", now=lambda: NOON, has_several=True) as dataset:
        dataset.commit([answered("b")])
    joined(one, out="small")
    with pytest.raises(InputError, match="without the column `images`"):
        joined(other, out="small")
    assert captions("small").keys() == {"a"}
    assert joined(one, other).records == 2
    assert "images" in pq.read_schema(next(Path("all/data").glob("*.parquet"))).names


# --- what ends a merge ---


class KilledError(Exception):
    """Stands for the end of the process."""


def sources() -> list[Path]:
    one = shard("one", [answered(name) for name in names(7)])
    return [one, shard("other", [at(answered("003.jpg", "later"), LATER), answered("new")])]


OLD_STOPS = ("begun", "part-taken", "marked", "swapped", "ledger-replaced")
NEW_STOPS = ("tmp-written", "part-taken", "ready")
"""The last time at which each of these steps is done; EVERY_STEP in the environment stops at all of them."""


def test_an_interrupted_merge_is_continued() -> None:
    """After each step: a run refuses or finds the old OUT whole, readers meet all rows or the old, the same goes on."""
    one, other = sources()
    joined(one, out="before")
    expected = {**dict.fromkeys(names(7), "A quay."), "003.jpg": "later", "new": "A quay."}
    steps: list[str] = []
    shutil.copytree("before", "all")
    joined(one, other, failpoint=steps.append)
    for is_new, wanted in ((False, OLD_STOPS), (True, NEW_STOPS)):
        last = [len(steps) - 1 - steps[::-1].index(name) for name in wanted]
        for stop in range(len(steps)) if "EVERY_STEP" in os.environ else last:
            shutil.rmtree("all")
            if not is_new:
                shutil.copytree("before", "all")
            done: list[str] = []

            def kill(name: str, done: list[str] = done, stop: int = stop) -> None:
                done.append(name)
                if len(done) - 1 == stop:
                    raise KilledError

            try:
                joined(one, other, failpoint=kill)
            except KilledError:
                is_published = not Path("all/.merge").exists()
                if not is_published:
                    with pytest.raises(ResourceError, match="merge into it"):
                        open_out(Path("all"), run_id="next")
                    with pytest.raises(ResourceError, match="merge into it"):
                        pipeline.rebuild("all")
                seen = captions() if Path("all/data").is_dir() else {}
                assert seen in ({}, dict.fromkeys(names(7), "A quay."), expected)
            report = joined(one, other)
            assert captions() == expected, done[-1]
            assert report.records == 8
            assert sorted({path.name for path in Path("all").iterdir()} - {"reviews"}) == [
                "README.md", "config.toml", "data", "ledger.sqlite", "runs",
            ]  # fmt: skip
            assert totals().damage == ()
            assert totals().requests == 9


def test_a_full_disk_ends_a_merge_with_5() -> None:
    """In one line; what was joined is not lost, and a damaged source can be mended in between."""
    one, other = sources()
    taken = 0

    def full(step: str) -> None:
        nonlocal taken
        taken += step == "part-taken"
        if taken == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "all/.merge/data/.part-00001.parquet.tmp")

    with pytest.raises(VisionBatchError, match="free some space and run the same command") as raised:
        joined(one, other, failpoint=full)
    assert raised.value.exit_code == 5
    assert Path("all/.merge").is_dir()
    steps: list[str] = []
    assert joined(one, other, failpoint=steps.append).records == 8
    assert steps.count("part-taken") < 3
    with SqliteLedger(Path("all/ledger.sqlite")) as ledger:
        assert ledger.meta("marks") is None
