"""Even parts: every row once at every moment, whatever ends the process, and the ledger knows where each one is."""

import json
import secrets
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from threading import Condition, Event, Thread

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.commands.compact import CompactReport, Supply, compact, is_even
from pipeline.commands.rebuild import rebuild
from pipeline.config.run_config import RunConfig
from pipeline.errors import InputError, OutInUseError, ResourceError
from pipeline.records import record_key
from pipeline.store import parquet, swap
from pipeline.store.dataset import Dataset
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.rerun import RerunPolicy
from tests import warm
from tests.store.test_dataset import answered, names, open_out, parts_of, record, rows_in
from tests.support import unprivileged

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def sized(rows_per_part: int) -> RunConfig:
    return RunConfig.model_validate({"request": {"model": "gpt-4o"}, "output": {"rows_per_part": rows_per_part}})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Nine records: seven in parts of two, two that wait in the ledger, and one that waits to be replaced."""
    path = tmp_path / "out"
    with open_out(path, sized(2)) as dataset:
        dataset.commit([answered(name) for name in names(7)])
    dataset = open_out(path, sized(2))
    dataset.commit([answered("001.jpg", "again"), *(answered(name) for name in names(2, 7))])
    dataset.close(seal=False)
    assert parts_of(path) == [names(2), names(2, 2), names(2, 4), names(1, 6)]
    return path


def files_in(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in (out / "data").iterdir()}


def assert_whole(out: Path, ids: list[str]) -> None:
    """Every row is there once, the ledger says of each which part it is in, and nothing lies about."""
    assert sorted(name for name, _ in rows_in(out)) == ids
    assert not {".data-new", ".data-old"} & {path.name for path in out.iterdir()}
    found = {
        record_key(name, "caption"): int(part.stem.removeprefix("part-"))
        for part in (out / "data").glob("*.parquet")
        for name in pq.read_table(part)["id"].to_pylist()
    }
    with SqliteLedger(out / "ledger.sqlite") as ledger:
        assert ledger.parts_of(list(found)) == found
        assert ledger.next_part() is None


def go_on(out: Path, rows_per_part: int, ids: list[str]) -> None:
    """The next run asks nothing again, replaces a row in its own part, and fills the last part with new ones."""
    with open_out(out, sized(rows_per_part), run_id="next") as dataset:
        assert dataset.missing([record(name) for name in ids]) == [()] * len(ids)
        before = parts_of(out)
        (place,) = [part for part, some in enumerate(before) if ids[2] in some]
        dataset.commit([answered(ids[2], "later"), answered("new.jpg")])
    after = parts_of(out)
    assert set(after[place]) - {"new.jpg"} == set(before[place])
    assert dict(rows_in(out))[ids[2]] == "later"
    assert "new.jpg" in after[-1]
    assert len(after) == len(before) + (len(before[-1]) == rows_per_part)
    assert_whole(out, sorted([*ids, "new.jpg"]))


def test_parts_become_even(out: Path) -> None:
    """Proves sizes, order, schema and report, that what waited is in, and that the next run goes on from there."""
    before = pq.read_schema(out / "data" / "part-00000.parquet")
    report = compact(out, rows_per_part=4)
    expected = ["000.jpg", "001.jpg", *names(7, 2)]
    assert parts_of(out) == [expected[:4], expected[4:8], expected[8:]]
    assert dict(rows_in(out))["001.jpg"] == "again"
    assert (report.records, report.parts_before, report.parts_after) == (9, 5, 3)
    assert report.as_dict()["bytes_after"] == sum(path.stat().st_size for path in (out / "data").glob("*.parquet"))
    after = pq.read_schema(next((out / "data").glob("*.parquet")))
    assert after.equals(before, check_metadata=True)
    assert after.metadata[b"vision_batch"] == b"1"
    assert len(pd.read_parquet(out / "data")) == 9
    assert_whole(out, names(9))
    go_on(out, 4, names(9))


def test_the_size_is_the_configurations_and_even_parts_stay(out: Path) -> None:
    """Proves that without a size the last run's counts, and that a second time not one part is touched."""
    compact(out)
    assert [len(part) for part in parts_of(out)] == [2, 2, 2, 2, 1]
    inodes = {path.name: path.stat().st_ino for path in (out / "data").iterdir()}
    report = compact(out)
    assert {path.name: path.stat().st_ino for path in (out / "data").iterdir()} == inodes
    assert (report.parts_before, report.parts_after, report.records) == (5, 5, 9)


def test_names_of_parts_do_not_grow(out: Path) -> None:
    """Proves that a new part never bears an old one's name, and that numbers begin at 0 again as soon as they may."""
    seen: list[list[int]] = []
    for rows_per_part in (4, 9, 3, 2):
        compact(out, rows_per_part=rows_per_part)
        seen.append(parquet.part_numbers(out / "data"))
        assert_whole(out, names(9))
    assert seen == [[5, 6, 7], [0], [1, 2, 3], [4, 5, 6, 7, 8]]
    go_on(out, 2, names(9))


@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("rows_per_part", [1, 3, 5, 1000])
def test_small_datasets(tmp_path: Path, rows: int, rows_per_part: int) -> None:
    """Proves that no rows, one part, and a size beyond all of them work, and that pandas reads what is there."""
    with open_out(tmp_path / "out", sized(5)) as dataset:
        dataset.commit([answered(name) for name in names(rows)])
    compact(tmp_path / "out", rows_per_part=rows_per_part)
    assert [name for part in parts_of(tmp_path / "out") for name in part] == names(rows)
    assert max(map(len, parts_of(tmp_path / "out"))) == min(rows, rows_per_part)
    assert len(pd.read_parquet(tmp_path / "out" / "data")) == rows
    assert_whole(tmp_path / "out", names(rows))


def test_gaps_in_the_numbers(out: Path) -> None:
    """Proves that parts which were given up with a rebuild are no obstacle, and that their records stay missing."""
    Dataset.open(out, config=sized(2), run_id="r", now=lambda: NOON).close()
    (out / "data" / "part-00001.parquet").unlink()
    (out / "data" / "part-00000.parquet").unlink()
    rebuild(out, now=lambda: NOON)
    compact(out, rows_per_part=3)
    assert parts_of(out) == [names(3, 4), names(2, 7)]
    assert parquet.part_numbers(out / "data") == [0, 1]
    assert_whole(out, names(5, 4))
    with open_out(out, sized(3)) as dataset:
        assert dataset.missing([record(name) for name in names(9)]) == [("caption",)] * 4 + [()] * 5
        dataset.commit([answered(name) for name in names(4)])
    assert_whole(out, names(9))


@given(sizes=st.lists(st.integers(0, 7), max_size=6), limit=st.integers(1, 9))
def test_even_cuts_anywhere(sizes: list[int], limit: int) -> None:
    """Proves that any tables are cut into `limit` rows each and a rest, in the same order."""
    numbers = iter(range(100))
    tables = [pa.table({"n": pa.array([next(numbers) for _ in range(size)], pa.int64())}) for size in sizes]
    supply, found = Supply(tables), []
    while not supply.is_empty:
        found.append([n for table in supply.take(limit) for n in table["n"].to_pylist()])
    assert [n for some in found for n in some] == list(range(sum(sizes)))
    assert not found or is_even([len(some) for some in found], limit)


CRASHING = """
import os, sys
from pathlib import Path
from pipeline.commands.compact import compact
from pipeline.store import swap
out, step, skip, is_renamed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "True"

def failpoint(reached):
    global skip
    if reached == step:
        if skip == 0:
            os._exit(9)
        skip -= 1

compact(out, rows_per_part=4, failpoint=failpoint, exchange=(lambda *_: False) if is_renamed else swap.exchange)
"""
WRITE = ["tmp-written", "tmp-synced", "renamed", "folder-synced"]
SEALED = [*WRITE, "before-commit", "marked"] * 3
STEPS = [
    *SEALED, *WRITE * 3, "new-written", "set-aside", "swapped", "swap-synced", "before-commit",
    "before-commit", "relocated",
    *["part-removed"] * 5, "old-removed", "vacuumed",
]  # fmt: skip
CRASHES = [(step, STEPS[:at].count(step)) for at, step in enumerate(STEPS) if at >= len(SEALED)]


def test_the_steps_are_all_there_are(out: Path) -> None:
    """Proves that the test of crashes below ends the process at every step that there is."""
    steps: list[str] = []
    compact(out, rows_per_part=4, failpoint=steps.append, exchange=lambda *_: False)
    assert steps == STEPS


@pytest.mark.parametrize(
    ("step", "skip", "is_renamed"),
    [
        *((step, skip, True) for step, skip in CRASHES),
        *((step, skip, False) for step, skip in CRASHES if step not in {*WRITE, "set-aside"}),
    ],
)
def test_a_crash_at_any_step_is_repaired(out: Path, step: str, skip: int, *, is_renamed: bool) -> None:
    """Proves that after the process ended anywhere, with directories exchanged and with two renames, the next run
    and the next `compact` each find every row once, and go on.
    """
    arguments = [str(out), step, str(skip), str(is_renamed)]
    ended = warm.run(["-c", CRASHING, *arguments])
    assert (ended.returncode, ended.stderr) == (9, "")
    assert sorted(name for name, _ in rows_in(out)) == ([] if step == "set-aside" else names(9))
    copy = out.with_name("copy")
    shutil.copytree(out, copy)
    go_on(out, 4, names(9))
    compact(copy, rows_per_part=4)
    assert [len(part) for part in parts_of(copy)] == [4, 4, 1]
    go_on(copy, 4, names(9))


def test_a_rebuild_after_a_crash(out: Path) -> None:
    """Proves that `rebuild` too puts back what was between two names, and takes no row from both sets of parts."""
    for is_renamed in (True, False):
        arguments = [str(out), "set-aside" if is_renamed else "swapped", "0", str(is_renamed)]
        ended = warm.run(["-c", CRASHING, *arguments])
        assert ended.returncode == 9
        assert rebuild(out, now=lambda: NOON).records == 9
        assert_whole(out, names(9))
    go_on(out, 4, names(9))


def test_a_set_without_its_name_is_put_right(out: Path, tmp_path: Path) -> None:
    """Proves that parts put back from an older copy, which has no dotted file, are found again record by record, and
    that one which the copy lacks is noticed.
    """
    Dataset.open(out, config=sized(2), run_id="r", now=lambda: NOON).close()
    shutil.copytree(out / "data", out.with_name("copy"))
    compact(out, rows_per_part=4)
    shutil.rmtree(out / "data")
    shutil.copytree(out.with_name("copy"), out / "data")
    lost = (out / "data" / "part-00003.parquet").rename(tmp_path / "lost")
    with pytest.raises(ResourceError, match=r"hold 7 rows.*9 records"):
        open_out(out, sized(2))
    lost.rename(out / "data" / "part-00003.parquet")
    go_on(out, 2, names(9))


def test_readers_meet_the_old_parts_or_the_new(out: Path) -> None:
    """Proves that a reader who reads all the time, at least twice after every step, sees every row once; only the
    read that the exchange fell into may be told that a part is gone.
    """
    reads: list[list[str] | None] = []
    read, is_over = Condition(), Event()

    def keep_reading() -> None:
        while not is_over.is_set():
            found = read_all(out / "data")
            with read:
                reads.append(found)
                read.notify()

    def wait_for_two(step: str) -> None:
        with read:
            enough = len(reads) + 2
            assert read.wait_for(lambda: len(reads) >= enough, timeout=60), step

    Dataset.open(out, config=sized(2), run_id="r", now=lambda: NOON).close()
    reader = Thread(target=keep_reading)
    reader.start()
    try:
        compact(out, rows_per_part=4, failpoint=wait_for_two)
    finally:
        is_over.set()
        reader.join()
    assert all(found == names(9) for found in reads if found is not None)
    assert reads.count(None) <= 1
    assert len(reads) >= 2 * (len(CRASHES) - 1)


def read_all(folder: Path) -> list[str] | None:
    """List the parts, then open each: the ids, or None where one is gone in between."""
    try:
        tables = [pq.read_table(part, columns=["id"]) for part in folder.glob("*.parquet")]
    except FileNotFoundError:
        return None
    return sorted(name for table in tables for name in table["id"].to_pylist())


def test_a_reader_who_comes_late_gets_an_error(out: Path) -> None:
    """Proves that parts listed before and opened after are an error and not a mixture, and that open ones go on."""
    Dataset.open(out, config=sized(2), run_id="r", now=lambda: NOON).close()
    listed = ds.dataset(out / "data")
    with pq.ParquetFile(out / "data" / "part-00001.parquet") as opened:
        compact(out, rows_per_part=4)
        assert opened.read(["id"])["id"].to_pylist() == names(2, 2)
    with pytest.raises(FileNotFoundError):
        listed.to_table()


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
from pipeline.cli.app import main
sys.argv = ["vision-batch", "compact", sys.argv[1], "--rows-per-part", "12"]
main()
"""


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    """Proves that where the new parts have no room, that is one line and exit code 5, and all is as it was."""
    out = tmp_path / "out"
    with open_out(out, sized(2)) as dataset:
        for name in names(12):
            dataset.commit([answered(name, secrets.token_hex(100_000))])
            dataset.seal()
    before = files_in(out)
    ended = warm.run(["-c", FULL, out])
    assert ended.returncode == 5, ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "free some space" in ended.stderr
    assert files_in(out) == before
    assert_whole(out, names(12))
    go_on(out, 2, names(12))


def test_the_ledger_shrinks(out: Path) -> None:
    """Proves that the file has given back, once it is closed, what records in no order left free in its pages."""
    with open_out(out, sized(2000)) as dataset:
        for start in range(9, 5009, 500):
            dataset.commit([answered(name) for name in names(500, start)])
    before = (out / "ledger.sqlite").stat().st_size
    report = compact(out, rows_per_part=2000)
    after = (out / "ledger.sqlite").stat().st_size
    assert (report.ledger_bytes_before, report.ledger_bytes_after) == (before, after)
    assert after < before
    with SqliteLedger(out / "ledger.sqlite") as ledger:
        assert ledger.database.pragma("page_count") * ledger.database.pragma("page_size") == after


def test_an_interrupted_run_goes_on_as_the_same(out: Path) -> None:
    """Proves that `compact` between a stopped refresh and its resume does not make the refresh begin anew."""

    def refresh() -> Dataset:
        return Dataset.open(
            out, config=sized(2), run_id="refreshing", now=lambda: NOON, policy=RerunPolicy.parse(refresh=True)
        )

    with refresh() as dataset:
        dataset.commit([answered("000.jpg", "anew")])
    compact(out, rows_per_part=4)
    with refresh() as dataset:
        assert dataset.run_id == "refreshing"
        assert dataset.missing([record(name) for name in names(3)]) == [(), ("caption",), ("caption",)]


def test_files_of_others_stay(out: Path) -> None:
    """Proves that files among the parts which are none of ours are there afterwards, with their content."""
    (out / "data" / "notes.txt").write_text("precious")
    (out / "data" / "more").mkdir()
    (out / "data" / "more" / "deep.txt").write_text("too")
    compact(out, rows_per_part=4)
    assert (out / "data" / "notes.txt").read_text() == "precious"
    assert (out / "data" / "more" / "deep.txt").read_text() == "too"


def test_what_cannot_be_compacted(out: Path, tmp_path: Path) -> None:
    """Proves that each mistake is one clear line and changes nothing."""
    with pytest.raises(InputError, match="no vision-batch output here"):
        compact(tmp_path / "nowhere")
    with pytest.raises(InputError, match="takes 1 or more"):
        compact(out, rows_per_part=0)
    with open_out(out, sized(2)), pytest.raises(OutInUseError, match="in use"):
        compact(out, rows_per_part=4)
    before = files_in(out)
    part = out / "data" / "part-00002.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(ResourceError, match=r"part-00002\.parquet.*rebuild .*out --drop-unreadable"):
        compact(out, rows_per_part=4)
    part.write_bytes(before["data/part-00002.parquet"])
    (out / "data" / "part-00001.parquet").write_bytes(before["data/part-00004.parquet"])
    with pytest.raises(ResourceError, match=r"part-00001\.parquet has 1 rows, and 2 were written.*rebuild"):
        compact(out, rows_per_part=4)
    (out / "data" / "part-00001.parquet").write_bytes(before["data/part-00001.parquet"])
    (out / "data").rename(out / "elsewhere")
    (out / "data").symlink_to("elsewhere")
    with pytest.raises(InputError, match="symbolic link"):
        compact(out, rows_per_part=4)
    assert files_in(out) == before


def test_a_place_that_cannot_be_written(out: Path) -> None:
    """Proves that an OUT which may only be read is exit code 5 and one line."""
    open_out(out, sized(2)).close()
    before = files_in(out)
    shutil.copytree(out, out.parent / "rehearsal")
    out.parent.chmod(0o755)
    out.chmod(0o555)
    (out / "ledger.sqlite").chmod(0o444)
    compacted = [("compact", place, "--rows-per-part", "4") for place in ("rehearsal", "/proc/self", "out")]
    ended = unprivileged(*compacted[-1], cwd=out.parent, rehearsals=compacted[:-1])
    out.chmod(0o755)
    assert ended.returncode == 5, ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "cannot be written" in ended.stderr
    assert files_in(out) == before


@pytest.mark.skipif(sys.platform not in {"linux", "darwin"}, reason="no such call elsewhere")
def test_directories_change_places(tmp_path: Path) -> None:
    """Proves that the system's own call is used here, that it exchanges, and that other errors are not hidden."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert swap.exchange(tmp_path / "a", tmp_path / "b")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        swap.exchange(tmp_path / "nowhere", tmp_path / "b")


def test_the_command_line(out: Path) -> None:
    """Proves the command with a size and as JSON."""
    command = ["-m", "pipeline", "compact", str(out), "--rows-per-part", "4"]
    said = warm.run(command).stdout
    assert "9 records in 3 parts (before: 5)" in said
    told = warm.run([*command, "--json"]).stdout
    assert set(json.loads(told)) == set(CompactReport.__dataclass_fields__)
