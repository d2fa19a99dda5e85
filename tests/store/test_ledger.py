"""The ledger: what is committed is there, whatever happens; a second opener is refused."""

import hashlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import InputError, OutInUseError, ResourceError
from pipeline.store.ledger.database import network_type
from pipeline.store.ledger.errors import HOLDER_NAME
from pipeline.store.ledger.protocol import BillRow, CommittedRow, Leader
from pipeline.store.ledger.schema import FORMAT
from pipeline.store.ledger.sqlite import SqliteLedger
from tests import warm

OK, TIMED_OUT = 1, 101
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqliteLedger]:
    with SqliteLedger(path) as opened:
        opened.begin_run("night", "hash", "all")
        yield opened


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def committed(number: int, text: str = "row", state: int = OK) -> CommittedRow:
    return CommittedRow(key(number), state, f"{text} {number}".encode())


def commit(ledger: SqliteLedger, *rows: CommittedRow, part: int = 0, bills: tuple[BillRow, ...] = ()) -> int:
    counts = {"requests": len(rows) + len(bills)}
    return ledger.commit(rows, new_parts=[part] * len(rows), counts=counts, bills=bills)


def child(code: str) -> subprocess.CompletedProcess[str]:
    """Another Python process that can import the package."""
    return warm.run(["-c", code])


def unsealed(ledger: SqliteLedger, part: int) -> list[bytes]:
    return [row for batch in ledger.unsealed_batches(part) for _, row, _ in batch]


def test_what_is_committed_is_kept(path: Path) -> None:
    """Proves that rows, states, totals and meta values are there after the ledger is opened again."""
    with SqliteLedger(path) as ledger:
        ledger.begin_run("night", "hash", "all")
        assert commit(ledger, committed(1), committed(2, state=TIMED_OUT)) == 2
        ledger.set_meta({"mark": b"\x00\xff"})
    with SqliteLedger(path) as ledger:
        assert set(ledger.find([key(1), key(2), key(3)])) == {key(1), key(2)}
        assert [record.state for record in ledger.find([key(1), key(2)]).values()] == [OK, TIMED_OUT]
        assert ledger.states() == {OK: 1, TIMED_OUT: 1}
        assert ledger.counts() == ledger.counts("night") == {"requests": 2}
        assert ledger.counts("another night") == {}
        assert (ledger.meta("mark"), ledger.meta("none")) == (b"\x00\xff", None)
        assert unsealed(ledger, 0) == [b"row 1", b"row 2"]


def test_many_keys_are_looked_up_at_once(ledger: SqliteLedger) -> None:
    """Proves that a lookup of more keys than one query takes finds exactly those that are committed."""
    commit(ledger, *(committed(number) for number in range(0, 4000, 2)))
    found = set(ledger.find([key(number) for number in range(4000)]))
    assert found == {key(number) for number in range(0, 4000, 2)}
    assert set(ledger.find([])) == set()


def test_a_record_asked_again_keeps_its_part(ledger: SqliteLedger) -> None:
    """Proves that new rows take the given parts in order, and that a known record goes where it lives."""
    commit(ledger, committed(1, state=TIMED_OUT), part=3)
    again = [committed(1, "again"), committed(2), committed(1, "once more"), committed(4)]
    new = ledger.commit(again, new_parts=[5, 6, 7, 8], counts={})
    assert new == 2
    assert ledger.states() == {OK: 3}
    assert ledger.next_part() == 3
    assert unsealed(ledger, 3) == [b"row 1", b"again 1", b"once more 1"]
    assert (unsealed(ledger, 5), unsealed(ledger, 6), unsealed(ledger, 7)) == ([b"row 2"], [b"row 4"], [])


def test_sealed_rows_leave_and_records_stay(ledger: SqliteLedger) -> None:
    """Proves that marking lets go of exactly the rows that were read for that part."""
    commit(ledger, committed(1), committed(2))
    commit(ledger, committed(3), part=1)
    (batch,) = ledger.unsealed_batches(0)
    commit(ledger, committed(1, "later"))
    ledger.mark_sealed(0, batch[-1][0], rows=2)
    assert unsealed(ledger, 0) == [b"later 1"]
    assert unsealed(ledger, 1) == [b"row 3"]
    assert ledger.meta("parts") == b"1"
    ledger.mark_sealed(0, 99, rows=2)
    ledger.mark_sealed(1, 99, rows=1)
    assert ledger.next_part() is None
    assert ledger.meta("parts") == b"2"
    assert set(ledger.find([key(1), key(2), key(3)])) == {key(1), key(2), key(3)}


def test_pending_rows_come_in_bounded_batches(ledger: SqliteLedger) -> None:
    """Proves that a large backlog is not read at once, and arrives whole and in order."""
    commit(ledger, *(committed(number) for number in range(2500)))
    assert [len(batch) for batch in ledger.unsealed_batches(0)] == [1000, 1000, 500]
    assert unsealed(ledger, 0) == [f"row {number}".encode() for number in range(2500)]


def test_pending_batches_are_bounded_in_bytes(ledger: SqliteLedger) -> None:
    """Proves that rows of a megabyte are read four at a time, and one that is larger than a batch alone."""
    sizes = [1 << 20] * 6 + [9 << 20] + [1]
    commit(ledger, *(CommittedRow(key(number), OK, b"x" * size) for number, size in enumerate(sizes)))
    assert [len(batch) for batch in ledger.unsealed_batches(0)] == [4, 3, 1]
    assert list(map(len, unsealed(ledger, 0))) == sizes


def test_rows_of_parts_are_counted(path: Path) -> None:
    """Proves that a part's rows are stored when it is sealed, and read again after the ledger is opened anew."""
    with SqliteLedger(path) as ledger:
        ledger.begin_run("night", "hash", "all")
        commit(ledger, committed(1), committed(2))
        commit(ledger, committed(3), part=1)
        assert (ledger.part_rows(), ledger.unsealed_parts()) == ({}, {0, 1})
        ledger.mark_sealed(0, 99, rows=2)
        ledger.mark_sealed(1, 99, rows=1)
        assert (ledger.part_rows(), ledger.unsealed_parts()) == ({0: 2, 1: 1}, set())
    with SqliteLedger(path) as ledger:
        assert ledger.part_rows() == {0: 2, 1: 1}


def request(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def answered(number: int, to: int, state: int = OK) -> CommittedRow:
    return CommittedRow(key(number), state, b"row", request_sha256=request(to), shareable=state == OK)


def test_a_leader_was_answered_for_the_same_request(ledger: SqliteLedger) -> None:
    """Proves that the present answer counts: not that to another request, nor one that cannot be shared."""
    commit(ledger, answered(1, to=7), answered(2, to=8, state=TIMED_OUT))
    assert list(ledger.leaders(request(7))) == [Leader(key(1), OK, ledger.run)]
    assert list(ledger.leaders(request(8))) == []
    assert list(ledger.leaders(request(9))) == []
    commit(ledger, answered(1, to=9))
    assert list(ledger.leaders(request(7))) == []
    assert list(ledger.leaders(request(9))) == [Leader(key(1), OK, ledger.run)]


def test_a_run_goes_on_until_it_ends(path: Path) -> None:
    """Proves that an interrupted run keeps its id, unless it is asked for something else."""
    with SqliteLedger(path) as ledger:
        assert ledger.begin_run("a", "hash", "all") == "a"
    with SqliteLedger(path) as ledger:
        assert ledger.begin_run("b", "hash", "all") == "a"
        ledger.end_run()
        assert ledger.begin_run("c", "hash", "all") == "c"
        assert ledger.begin_run("d", "hash", "retry") == "d"
        assert ledger.begin_run("e", "other", "retry") == "e"
        assert ledger.runs_with("hash") == {1, 2, 3}


def test_what_is_forgotten_was_never_asked(ledger: SqliteLedger) -> None:
    """Proves that a record forgotten when its part is sealed has neither row nor state."""
    commit(ledger, committed(1), committed(2))
    ledger.mark_sealed(0, 99, rows=1, forgotten=[key(1)])
    assert set(ledger.find([key(1), key(2)])) == {key(2)}
    assert (ledger.states(), unsealed(ledger, 0)) == ({OK: 1}, [])


def test_bills_end_with_the_row(ledger: SqliteLedger) -> None:
    """Proves that a billed attempt without an answer stays until the row of its record includes it."""
    commit(ledger, bills=(BillRow(key(1), "noon", b"1"), BillRow(key(2), "noon", b"2")))
    assert list(ledger.bills()) == [BillRow(key(1), "noon", b"1"), BillRow(key(2), "noon", b"2")]
    commit(ledger, committed(1), bills=(BillRow(key(1), "one", b"3"),))
    assert list(ledger.bills()) == [BillRow(key(2), "noon", b"2")]
    assert ledger.counts() == {"requests": 4}


def test_a_commit_is_all_or_nothing(path: Path) -> None:
    """Proves that what fails before its commit leaves no trace, and that the ledger goes on working."""
    failing = True

    def failpoint(step: str) -> None:
        if failing and step == "before-commit":
            raise KeyboardInterrupt

    with SqliteLedger(path) as ledger:
        commit(ledger, committed(1))
    failing = False
    with SqliteLedger(path, failpoint) as ledger:
        failing = True
        with pytest.raises(KeyboardInterrupt):
            commit(ledger, committed(1, "lost"), committed(2), bills=(BillRow(key(3), "noon", b""),))
        failing = False
        assert set(ledger.find([key(1), key(2)])) == {key(1)}
        assert (ledger.counts(), ledger.states(), list(ledger.bills())) == ({"requests": 1}, {OK: 1}, [])
        assert commit(ledger, committed(2)) == 1


def test_a_second_opener_learns_who_holds_it(path: Path, ledger: SqliteLedger) -> None:
    """Proves that a ledger in use is refused with host and pid, and that the refused one disturbs nothing."""
    with pytest.raises(OutInUseError, match=f"host {socket.gethostname()}, pid {os.getpid()}"):
        SqliteLedger(path)
    assert commit(ledger, committed(1)) == 1
    with pytest.raises(OutInUseError):
        SqliteLedger(path)


def test_another_process_is_refused_too(path: Path, ledger: SqliteLedger) -> None:
    """Proves that the lock holds between processes, also without the file that names the holder."""
    (path.parent / HOLDER_NAME).unlink()
    ended = child(
        "from pathlib import Path; from pipeline.store.ledger.sqlite import SqliteLedger;"
        f"SqliteLedger(Path({str(path)!r}))"
    )
    assert "OutInUseError" in ended.stderr
    assert "it does not say which" in ended.stderr


def test_the_lock_ends_with_its_holder(path: Path) -> None:
    """Proves that a holder that died in the middle of a transaction does not lock anybody out."""
    ended = child(f"""
import os
from pathlib import Path
from pipeline.store.ledger.protocol import CommittedRow
from pipeline.store.ledger.sqlite import SqliteLedger
armed = False
ledger = SqliteLedger(Path({str(path)!r}), lambda step: os._exit(9) if armed else None)
armed = True
ledger.commit([CommittedRow(bytes(16), 1, b"")], new_parts=[0], counts={{}})
""")
    assert (ended.returncode, ended.stderr) == (9, "")
    assert json.loads((path.parent / HOLDER_NAME).read_text())["pid"] != os.getpid()
    with SqliteLedger(path) as ledger:
        assert set(ledger.find([bytes(16)])) == set()
    assert not (path.parent / HOLDER_NAME).exists()


def test_commits_wait_for_the_disk(path: Path) -> None:
    """Proves the settings that the promise rests on: write-ahead log, fully synchronous, exclusive."""
    with SqliteLedger(path) as ledger:
        settings = [ledger.database.one(f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "locking_mode")]
    assert settings == [("wal",), (2,), ("exclusive",)]


def test_a_network_file_system_gets_a_rollback_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that there the journal is truncated instead, that the lock still holds, and that data moves over."""
    with SqliteLedger(path) as ledger:
        commit(ledger, committed(1))
    monkeypatch.setattr("pipeline.store.ledger.database.network_type", lambda _: "nfs4")
    with SqliteLedger(path) as ledger:
        assert ledger.database.network_type == "nfs4"
        assert ledger.database.one("PRAGMA journal_mode") == ("truncate",)
        assert set(ledger.find([key(1)])) == {key(1)}
        with pytest.raises(OutInUseError):
            SqliteLedger(path)


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/", None),
        ("/home/x", None),
        ("/net", "nfs4"),
        ("/net/deep/er", "nfs4"),
        ("/network", None),
        ("/net/local disk/x", None),
        ("/mnt/c", "9p"),
        ("/ssh", "fuse.sshfs"),
        ("/twice", "cifs"),
    ],
)
def test_the_deepest_and_latest_mount_tells_the_file_system(tmp_path: Path, folder: str, expected: str | None) -> None:
    """Proves how /proc/self/mounts is read, escaped spaces and mounts over mounts included."""
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/vda / ext4 rw 0 0\nserver:/x /net nfs4 rw 0 0\n/dev/vdb /net/local\\040disk xfs rw 0 0\n"
        "C:\\134 /mnt/c 9p rw 0 0\nu@h: /ssh fuse.sshfs rw 0 0\n/dev/vdc /twice ext4 rw 0 0\n//h/s /twice cifs rw 0 0\n"
    )
    assert network_type(Path(folder), mounts) == expected
    assert network_type(Path(folder), tmp_path / "none") is None


def test_an_earlier_format_is_refused(path: Path) -> None:
    """Proves that a ledger of an earlier format ends in one line, and that no byte of it changes."""
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("CREATE TABLE record (key16 BLOB PRIMARY KEY, part INTEGER NOT NULL) WITHOUT ROWID")
        connection.execute("PRAGMA application_id = 0x56426174")
        connection.execute(f"PRAGMA user_version = {FORMAT - 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match=f"earlier version of vision-batch .ledger format {FORMAT - 1}.*another OUT"):
        SqliteLedger(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_earlier_format_in_the_log_is_refused(path: Path, tmp_path: Path) -> None:
    """Proves that the format is read from a log that is not folded into the file yet, and nothing changes."""
    killed = tmp_path / "killed"
    killed.mkdir()
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA application_id = 0x56426174")
        connection.execute("PRAGMA user_version = 1")
        for name in (path.name, f"{path.name}-wal"):
            (killed / name).write_bytes((tmp_path / name).read_bytes())
    connection.close()
    before = {file.name: file.read_bytes() for file in killed.iterdir()}
    with pytest.raises(InputError, match="earlier version"):
        SqliteLedger(killed / path.name)
    assert {file.name: file.read_bytes() for file in killed.iterdir()} == before


def test_ten_million_records_would_stay_under_half_a_gigabyte(path: Path) -> None:
    """Proves what a sealed record and its request take: 40,000 of them, sealed and closed, in bytes a record."""
    count = 40_000
    with SqliteLedger(path) as ledger:
        ledger.begin_run("a", "hash", "all")
        for start in range(0, count, 1000):
            rows = [
                replace(answered(n, to=n), stamp=n * 419 % (1 << 24), row=b"x" * 600)
                for n in range(start, start + 1000)
            ]
            ledger.commit(rows, new_parts=[start // 10_000] * 1000, counts={})
        while (part := ledger.next_part()) is not None:
            ledger.mark_sealed(part, 10**9, rows=10_000)
    assert path.stat().st_size / count < 54
    assert len(b"".join(_prefixes(path))) == 8 * count


def _prefixes(path: Path) -> list[bytes]:
    with SqliteLedger(path) as ledger:
        return list(ledger.settled_prefixes([OK]))


def test_a_newer_ledger_is_refused(path: Path) -> None:
    """Proves that a version which this one does not know is left alone, with the way out."""
    SqliteLedger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    with pytest.raises(InputError, match="newer vision-batch"):
        SqliteLedger(path)


def test_a_foreign_database_is_refused(path: Path) -> None:
    """Proves that a foreign SQLite file is neither taken over nor changed."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="not made by vision-batch"):
        SqliteLedger(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_names_the_way_back(path: Path) -> None:
    """Proves that a ledger overwritten with something else ends in one line with path and `rebuild`."""
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(ResourceError, match="vision-batch rebuild") as caught:
        SqliteLedger(path)
    assert str(path) in str(caught.value)
    assert not (path.parent / HOLDER_NAME).exists()


def test_damaged_pages_name_the_way_back(path: Path) -> None:
    """Proves that a ledger damaged in the middle is noticed where it is read, not taken for empty."""
    with SqliteLedger(path) as ledger:
        commit(ledger, *(committed(number) for number in range(2000)))
    damaged = bytearray(path.read_bytes())
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    path.write_bytes(damaged)
    with pytest.raises(ResourceError, match="vision-batch rebuild"):
        SqliteLedger(path).find([key(1)])


def test_a_folder_that_is_gone_is_a_lost_resource(tmp_path: Path) -> None:
    """Proves that a ledger which cannot be created is exit code 5 and names its path."""
    with pytest.raises(ResourceError, match=r"none/ledger\.sqlite"):
        SqliteLedger(tmp_path / "none" / "ledger.sqlite")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX")
def test_a_full_disk_keeps_what_is_committed(path: Path) -> None:
    """Proves that a write which the system refuses is a ResourceError, and that nothing committed is lost by it."""
    code = f"""
import resource, signal
from pathlib import Path
from pipeline.store.ledger.protocol import CommittedRow
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.errors import ResourceError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger = SqliteLedger(Path({str(path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
number = 0
try:
    while True:
        row = CommittedRow(number.to_bytes(16, "big"), 1, bytes(20_000))
        ledger.commit([row], new_parts=[0], counts={{}})
        number += 1
except ResourceError as error:
    print(number)
    assert "Committed answers are safe" in str(error), error
"""
    ended = child(code)
    assert (ended.returncode, ended.stderr) == (0, "")
    number = int(ended.stdout)
    assert number > 0
    with SqliteLedger(path) as ledger:
        assert set(ledger.find([key(n) for n in range(number + 1)])) == {key(n) for n in range(number)}


def test_a_bug_stays_what_it_is(ledger: SqliteLedger) -> None:
    """Proves that only lost resources are translated: an error of ours is not disguised as one."""
    with pytest.raises(sqlite3.IntegrityError):
        ledger.commit(
            [CommittedRow(key(1), None, b"")],  # type: ignore[arg-type]  # the bug under test
            new_parts=[0],
            counts={},
        )


def test_a_damaged_hash_makes_no_leader(ledger: SqliteLedger) -> None:
    """Proves that an answer whose request's hash was damaged is committed, and found under no request."""
    damaged = [request(7)[:-1] + "r", "r" + request(7)[1:], request(7)[:-1], ""]
    commit(ledger, *(replace(answered(at, to=7), request_sha256=text) for at, text in enumerate(damaged)))
    assert len(unsealed(ledger, 0)) == len(damaged)
    assert list(ledger.leaders(request(7))) == []
