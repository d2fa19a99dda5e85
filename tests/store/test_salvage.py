"""A damaged ledger read page by page, and what lies beside it: nothing that is undamaged is lost, nothing doubled."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.commands.rebuild import rebuild
from pipeline.errors import DamagedLedgerError, ErrorKind, InputError, ResourceError
from pipeline.records import Outcome
from pipeline.store import columns, schemas, unsaved
from pipeline.store.dataset import Dataset
from pipeline.store.ledger import transfer
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.rerun import RerunPolicy
from pipeline.store.salvage import parts
from pipeline.store.salvage.database import DatabaseFiles
from pipeline.store.salvage.records import BadPageError, values
from pipeline.store.salvage.rows import AnswerRow, RecordRow
from pipeline.store.salvage.wal import read_frames
from tests import warm
from tests.store.test_dataset import CONFIG, NOON, answered, failed, names, open_out, record, rows_in

LEDGER, LOG = "ledger.sqlite", "ledger.sqlite-wal"
PAGE, FRAME = 4096, 4120


def later(name: str, hours: int, caption: str = "later") -> Outcome:
    at = NOON + timedelta(hours=hours)
    return replace(answered(name, caption), asked_at=at, answered_at=at)


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """Ten sealed rows in two parts; four of them answered again, and six new ones, in five commits of the log."""
    made, out = tmp_path / "made", tmp_path / "out"
    with open_out(made) as dataset:
        dataset.commit([answered(name) for name in names(10)])
    dataset = open_out(made, run_id="next")
    dataset.commit([later(name, 1) for name in names(4)])
    for number in range(10, 14):
        dataset.commit([later(f"{number:03d}.jpg", 1, "new " * (5_000 if number == 11 else 1))])
    dataset.commit([later(name, 1, "last") for name in names(2, 14)])
    shutil.copytree(made, out)
    dataset.close()
    return out


ALL = names(16)


def captions(out: Path) -> dict[str, str]:
    return {name: str(caption).split()[0] for name, caption in rows_in(out)}


def expected() -> dict[str, str]:
    older = dict.fromkeys(names(6, 4), "A")
    return (
        older
        | dict.fromkeys(names(4), "later")
        | dict.fromkeys(names(4, 10), "new")
        | dict.fromkeys(names(2, 14), "last")
    )


def damage(file: Path, at: int, data: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(data)


def test_pages_tell_what_sql_tells(killed: Path) -> None:
    """Proves that of a whole ledger, log and long rows included, the pages give every answer and every record."""
    with DatabaseFiles(killed / LEDGER) as database:
        rows = [found.row for found in database.rows()]
        assert database.damage.pages == database.damage.frames == database.damage.entries == 0
    with closing(sqlite3.connect(killed / LEDGER)) as connection:
        answers = set(connection.execute("SELECT seq, key16, part, row, leader FROM answer"))
        records = set(connection.execute("SELECT key16, part, state, run, stamp, request FROM record"))
    assert {tuple(row) for row in rows if isinstance(row, AnswerRow)} >= answers
    assert len(answers) == 10
    assert {tuple(row) for row in rows if isinstance(row, RecordRow)} >= records


def test_checksums_are_those_of_sqlite(killed: Path) -> None:
    """Proves that every frame that SQLite wrote is sound, and that a flipped bit is found in exactly one."""
    log = bytearray((killed / LOG).read_bytes())
    frames = read_frames(bytes(log))
    assert frames.is_header_sound
    assert all(frame.is_sound for frame in frames.frames)
    assert frames.readable == len(frames.frames)
    assert not frames.is_damaged
    log[32 + 2 * FRAME + 900] ^= 1
    frames = read_frames(bytes(log))
    assert [number for number, frame in enumerate(frames.frames) if not frame.is_sound] == [2]
    assert frames.first_bad == 2
    assert frames.readable <= 2
    assert frames.is_damaged


@given(data=st.binary(max_size=80))
@settings(max_examples=300)
def test_bytes_that_are_no_record(data: bytes) -> None:
    """Proves that any bytes are columns or an error, and nothing else."""
    try:
        found = values(data)
    except BadPageError:
        return
    assert isinstance(found, list)


def test_a_log_is_not_cut_at_a_damaged_frame(killed: Path) -> None:
    """A damaged frame with commits behind it: a run refuses before it pays, and rebuild saves the frames behind it."""
    last = len(read_frames((killed / LOG).read_bytes()).frames) - 1
    damage(killed / LOG, 32 + FRAME, b"\xff" * 8)
    before = (killed / LOG).read_bytes()
    with pytest.raises(DamagedLedgerError, match=r"write-ahead log from frame 2 on.*vision-batch rebuild"):
        open_out(killed)
    assert (killed / LOG).read_bytes() == before
    report = rebuild(killed, now=lambda: NOON)
    assert last > 2
    assert (report.bad_frames, report.answers) == (1, 10)
    assert captions(killed) == expected()


def test_the_end_of_a_log_that_was_torn(killed: Path) -> None:
    """The last commit of the log is damaged, as a power cut may leave it: its answers are saved by the next run."""
    frames = read_frames((killed / LOG).read_bytes()).frames
    commits = [number for number, frame in enumerate(frames) if frame.is_commit]
    damage(killed / LOG, 32 + (commits[-2] + 1) * FRAME + 10, b"\xff")
    with open_out(killed, run_id="next") as dataset:
        assert dataset.missing([record(name) for name in ALL]) == [()] * 16
        assert dataset.taken.answers == 2
        assert dataset.totals().ok == 10 + 10
    assert captions(killed) == expected()
    assert unsaved.paths(killed) == []


@pytest.mark.parametrize("page", range(1, 16))
@pytest.mark.parametrize("folded", [True, False])
def test_one_page_of_zeros(killed: Path, page: int, folded: bool) -> None:  # noqa: FBT001
    """Whichever page is lost, with the log or without: what lies on others is there, and status never breaks off."""
    if folded:
        with closing(sqlite3.connect(killed / LEDGER)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            rows = {bytes(key): 0 for (key,) in connection.execute("SELECT key16 FROM answer")}
            assert len(rows) == 10
    if page * PAGE > (killed / LEDGER).stat().st_size:
        pytest.skip("the ledger has no such page")
    damage(killed / LEDGER, (page - 1) * PAGE, bytes(PAGE))
    report = rebuild(killed, now=lambda: NOON)
    there = captions(killed)
    assert set(names(10)) <= set(there)
    if not folded:
        assert there == expected()
    assert report.records == len(there)
    with open_out(killed, run_id="after") as dataset:
        missing = [
            name for name, is_missing in zip(ALL, dataset.missing(list(map(record, ALL))), strict=True) if is_missing
        ]
        assert set(missing) == set(ALL) - set(there)


STEPS = ("aside", "before-commit", "part-mended", "tmp-written", "set-aside", "rebuilt", "marked")


def steps_of(out: Path) -> list[str]:
    reached: list[str] = []
    rebuild(out, now=lambda: NOON, drop_unreadable=True, failpoint=reached.append)
    return reached


@pytest.mark.parametrize("broken", ["log", "part", "whole"])
def test_a_rebuild_may_end_anywhere(killed: Path, tmp_path: Path, broken: str) -> None:
    """Ended after each of its steps and done again, it comes to the same; no run starts on what is half done."""
    if broken == "log":
        damage(killed / LOG, 32 + FRAME, b"\xff" * 8)
    elif broken == "part":
        damage(killed / "data/part-00000.parquet", 40, bytes(300))
    shutil.copytree(killed, tmp_path / "whole")
    count = len(steps_of(tmp_path / "whole"))
    wanted = captions(tmp_path / "whole")
    for step in range(count):
        out = tmp_path / f"out{step}"
        shutil.copytree(killed, out)
        left = iter(range(step, -1, -1))

        def die(_: str, left: Iterator[int] = left) -> None:
            if next(left) == 0:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            rebuild(out, now=lambda: NOON, drop_unreadable=True, failpoint=die)
        if (out / ".rebuild").exists():
            with pytest.raises(ResourceError, match="vision-batch rebuild"):
                open_out(out)
        rebuild(out, now=lambda: NOON, drop_unreadable=True)
        assert captions(out) == wanted
        assert not (out / ".rebuild").exists()
        assert unsaved.paths(out) == []
        with open_out(out, run_id="after") as dataset:
            assert dataset.totals().ok == 20


def test_a_damaged_part_costs_no_answer_in_the_ledger(killed: Path) -> None:
    """With an unreadable part the unsealed answers of a healthy ledger stay; without the flag nothing changes."""
    damage(killed / "data/part-00000.parquet", 40, bytes(300))
    before = {path: path.read_bytes() for path in killed.rglob("*") if path.is_file()}
    with pytest.raises(ResourceError, match=r"5 of 5 rows cannot be read.*--drop-unreadable"):
        rebuild(killed, now=lambda: NOON)
    assert {path: path.read_bytes() for path in killed.rglob("*") if path.is_file()} == before
    report = rebuild(killed, now=lambda: NOON, drop_unreadable=True)
    assert (report.lost_rows, report.lost_row_groups, report.answers, report.lost_records) == (5, 1, 10, 1)
    assert captions(killed) == {name: caption for name, caption in expected().items() if name != "004.jpg"}


def test_a_part_without_its_end(killed: Path) -> None:
    """Where the footer is cut off or overwritten, the ledger's copy of it brings every row back."""
    part = killed / "data/part-00001.parquet"
    data = part.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    for broken in (data[:-20], data[: -8 - length] + bytes(length + 8)):
        part.write_bytes(broken)
        report = rebuild(killed, now=lambda: NOON)
        assert (report.lost_rows, len(report.unreadable), report.records) == (0, 1, 16)
        Path(report.unreadable[0]).unlink()
        assert captions(killed) == expected()
        data = part.read_bytes()
        length = int.from_bytes(data[-8:-4], "little")


def grouped(path: Path, rows: int = 2) -> None:
    pq.write_table(pq.read_table(path), path, row_group_size=rows, compression="zstd", write_page_checksum=True)


def column_range(path: Path, group: int, name: str) -> tuple[int, int]:
    metadata = pq.read_metadata(path)
    at = next(at for at in range(metadata.num_columns) if metadata.schema.column(at).path == name)
    chunk = metadata.row_group(group).column(at)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    return start, start + chunk.total_compressed_size


@pytest.mark.parametrize(("column", "lost"), [("caption", 2), ("id", 2), ("latency_s", 0), ("request_sha256", 0)])
def test_one_column_of_one_row_group(killed: Path, column: str, lost: int) -> None:
    """Damage to an answer costs the row group that it is in; damage to anything else a null, and it is said."""
    part = killed / "data/part-00001.parquet"
    grouped(part)
    start, end = column_range(part, 1, column)
    damage(part, end - 3, bytes(byte ^ 0xFF for byte in part.read_bytes()[end - 3 : end]))
    report = parts.report(part, schemas.schema())
    assert (report.rows, report.lost, report.groups) == (5 - lost, lost, 3)
    assert report.loses
    assert start < end
    assert report.null_columns == (() if lost else (column,))
    assert report.lost_ids == (("007.jpg", "008.jpg") if column == "caption" else ())
    done = rebuild(killed, now=lambda: NOON, drop_unreadable=True)
    assert (done.lost_rows, done.lost_ids, done.null_columns) == (lost, report.lost_ids, report.null_columns)
    assert done.records == 16 - lost


def test_a_part_that_lacks_a_column(killed: Path) -> None:
    """A run says so before it asks anything; rebuild takes its rows, with nulls, and says that, too."""
    part = killed / "data/part-00000.parquet"
    table = pq.read_table(part).drop_columns(["latency_s"])
    at = table.schema.names.index("attempts")
    pq.write_table(table.set_column(at, "attempts", table["attempts"].cast(pa.int64())), part)
    with pytest.raises(ResourceError, match=r"no column latency_s.*vision-batch rebuild"):
        open_out(killed)
    report = rebuild(killed, now=lambda: NOON)
    assert (report.null_columns, report.lost_rows, report.records) == (("latency_s",), 0, 16)
    with open_out(killed) as dataset:
        assert dataset.missing([record(name) for name in ALL]) == [()] * 16


def test_an_answer_that_is_no_json(killed: Path) -> None:
    """Bytes that SQLite cannot doubt, and no run writes: the run refuses, rebuild saves all but that answer."""
    with closing(sqlite3.connect(killed / LEDGER)) as connection, connection:
        connection.execute("UPDATE answer SET row = replace(row, '\"status\"', '\"st\tatus\"') WHERE seq = 7")
    with pytest.raises(DamagedLedgerError, match="vision-batch rebuild"):
        open_out(killed)
    report = rebuild(killed, now=lambda: NOON)
    assert report.lost_records == 1
    assert len(captions(killed)) == 15


def test_a_ledger_that_is_damaged_while_it_is_read(killed: Path) -> None:
    """A state that does not exist is damage, not a bug of ours."""
    open_out(killed).close()
    with closing(sqlite3.connect(killed / LEDGER)) as connection, connection:
        connection.execute("UPDATE record SET state = 255")
    policy = RerunPolicy(retry_failed=True)
    with (
        Dataset.open(killed, config=CONFIG, run_id="after", now=lambda: NOON, policy=policy) as dataset,
        pytest.raises(DamagedLedgerError, match="its records"),
    ):
        dataset.missing([record("000.jpg")])


@pytest.mark.parametrize("place", [b"CREATE TABLE attempt", b"attempt_key"])
def test_a_schema_that_is_no_text(killed: Path, place: bytes) -> None:
    """SQLite repeats the damaged schema in its message, which Python cannot decode: damage too, and mended."""
    open_out(killed).close()
    damage(killed / LEDGER, (killed / LEDGER).read_bytes().index(place) + len(place) - 3, b"\x91")
    with pytest.raises(DamagedLedgerError, match="vision-batch rebuild"):
        open_out(killed)
    assert rebuild(killed, now=lambda: NOON).records == 16


@pytest.mark.parametrize(("name", "why"), [("config_hash", "its configuration"), ("rehearsal", "the emulator's")])
def test_a_setting_that_is_damaged(killed: Path, name: str, why: str) -> None:
    """A hash that none of OUT's configurations has is damage, not another configuration; a rehearsal is yes or no."""
    open_out(killed).close()
    with closing(sqlite3.connect(killed / LEDGER)) as connection, connection:
        connection.execute("UPDATE meta SET value = CAST('x' || substr(value, 2) AS BLOB) WHERE name = ?", (name,))
    with pytest.raises(DamagedLedgerError, match=why):
        open_out(killed)
    assert rebuild(killed, now=lambda: NOON).records == 16
    with open_out(killed) as dataset:
        assert dataset.missing([record(name) for name in names(16)]) == [()] * 16


def test_bugs_stay_bugs(killed: Path) -> None:
    """An error of ours while the ledger is sound is not called damage."""

    def fail(step: str) -> None:
        if step == "tmp-written":
            raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        open_out(killed, failpoint=fail)


def test_a_header_that_is_not_ours(killed: Path) -> None:
    """A version from the future in a ledger with our tables is damage; one with other tables is left alone."""
    open_out(killed).close()
    damage(killed / LEDGER, 60, (999).to_bytes(4))
    with pytest.raises(DamagedLedgerError, match="vision-batch rebuild"):
        open_out(killed)
    assert rebuild(killed, now=lambda: NOON).records == 16
    with closing(sqlite3.connect(killed / LEDGER)) as connection, connection:
        connection.execute("PRAGMA user_version = 999")
        connection.execute("CREATE TABLE of_the_future (a)")
    for command in (lambda: open_out(killed), lambda: rebuild(killed, now=lambda: NOON)):
        with pytest.raises(InputError, match="newer vision-batch"):
            command()


def test_a_ledger_without_parts(killed: Path) -> None:
    """Where `data/` is gone the answers that waited make a dataset again."""
    shutil.rmtree(killed / "data")
    report = rebuild(killed, now=lambda: NOON)
    assert (report.parts, report.answers, report.records) == (0, 10, 10)
    assert len(rows_in(killed)) == 10


def batch(outcomes: list[Outcome], counts: dict[str, int] | None) -> unsaved.UnsavedBatch:
    with_row = [orjson.dumps({**row, "record": None}, default=str) for row in map(row_of, outcomes)]
    return unsaved.UnsavedBatch("night", tuple(map(unsaved.UnsavedAnswer, with_row)), counts)


def row_of(outcome: Outcome) -> dict[str, object]:
    origin = columns.RowOrigin(endpoint="e", run_id="night", config_hash=CONFIG.config_hash())
    return columns.row_of(outcome, origin, columns.of_schema(schemas.schema().names))


def test_files_beside_the_ledger_are_taken_once(tmp_path: Path) -> None:
    """Newer answers are taken and older ones passed over; a file that is met again is not counted twice."""
    out = tmp_path / "out"
    with open_out(out) as dataset:
        dataset.commit([answered(name) for name in names(4)])
    path = unsaved.new_path(out, "test")
    unsaved.append(
        path, [batch([later("000.jpg", -1, "older"), later("001.jpg", 1, "newer")], {"requests": 2, "ok": 2})]
    )
    unsaved.append(path, [batch([failed("008.jpg", ErrorKind.IMAGE_MISSING), later("009.jpg", 1, "new")], None)])
    with path.open("ab") as file:
        file.write(b'\n{"run_id": "night", "answers": [{"row": {"id')
    before = path.read_bytes()

    def die(step: str) -> None:
        if step == "renamed":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_out(out, run_id="next", failpoint=die)
    assert path.read_bytes() == before
    with open_out(out, run_id="next") as dataset:
        assert dataset.totals().requests == 4 + 2 + 7
        assert dataset.totals().ok == 4 + 2 + 1
    assert dict(rows_in(out)) == {
        "000.jpg": "A quay.", "001.jpg": "newer", "002.jpg": "A quay.", "003.jpg": "A quay.", "008.jpg": None,
        "009.jpg": "new",
    }  # fmt: skip
    assert unsaved.paths(out) == []


def test_an_answer_that_no_part_can_hold(tmp_path: Path) -> None:
    """A row of the wrong kinds is set aside with its file; the others are taken."""
    out = tmp_path / "out"
    open_out(out).close()
    wrong = {**row_of(later("000.jpg", 1)), "attempts": "many"}
    path = unsaved.new_path(out, "test")
    answers = [unsaved.UnsavedAnswer(orjson.dumps(row, default=str)) for row in (wrong, row_of(later("001.jpg", 1)))]
    unsaved.append(path, [unsaved.UnsavedBatch("night", tuple(answers), None)])
    with open_out(out) as dataset:
        assert (dataset.taken.answers, dataset.taken.unreadable) == (1, 1)
    assert [name for name, _ in rows_in(out)] == ["001.jpg"]
    assert [path.name for path in out.glob(".unreadable-*")] == [f".unreadable-{path.name.removeprefix('.')}"]


def test_stamps_survive(killed: Path) -> None:
    """Files that have not changed since are not asked again by --refresh-changed after a rebuild."""
    with open_out(killed) as dataset:
        dataset.commit([replace(answered("000.jpg"), image_facts=(replace(answered("0").image_facts[0], stamp=5),))])
    rebuild(killed, now=lambda: NOON)
    with SqliteLedger(killed / LEDGER) as ledger:
        keys = [key for key, *_ in transfer.records(ledger)]
        stamps = [stored.stamp for stored in ledger.find(keys).values()]
    assert sorted(stamps, key=str) == [5, *[None] * 15]


def test_a_running_process_is_not_disturbed(killed: Path) -> None:
    """While OUT is open, in this process or another, a rebuild changes nothing, and the lock stays where it is."""
    with open_out(killed) as dataset:
        before = sorted(killed.iterdir())
        command: Callable[[], object]
        for command in (lambda: rebuild(killed, now=lambda: NOON), lambda: open_out(killed)):
            with pytest.raises(InputError, match="in use"):
                command()
        assert sorted(killed.iterdir()) == before
        dataset.commit([answered("020.jpg")])


TRY = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0.1)
try:
    connection.execute("BEGIN IMMEDIATE")
    print("open")
except sqlite3.OperationalError as error:
    print(error)
"""


def test_a_rebuild_holds_out(killed: Path) -> None:
    """Until its last step another process cannot open the old ledger."""
    said: set[str] = set()

    def look(step: str) -> None:
        if step in {"aside", "set-aside"}:
            said.add(warm.run(["-c", TRY, killed / LEDGER]).stdout.strip())

    rebuild(killed, now=lambda: NOON, failpoint=look)
    assert said == {"database is locked"}
