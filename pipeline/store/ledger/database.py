"""One SQLite file, held exclusively as long as it is open, which is also the lock against a second run.

All methods block and belong to one thread. With `synchronous=FULL` a commit that returned survives a power cut,
if the disk stores what it confirms (sqlite.org, "PRAGMA synchronous").
"""

import contextlib
import json
import os
import re
import socket
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import DamagedLedgerError, InputError, ResourceError
from pipeline.store.ledger.errors import HOLDER_NAME, damaged, other_format, translated
from pipeline.store.ledger.header import check_files
from pipeline.store.ledger.schema import APPLICATION_ID, FORMAT, NEWER_FORMATS, TABLE_NAMES, statements

ROWS_A_BATCH = 1_000
_LOCK_WAIT_S = 0.2
_CACHE_KIB = 16_384
_CHECKPOINT_PAGES = 4_000
_INCREMENTAL = 2
_KEYS_A_QUERY = 500
_NETWORK_TYPES = re.compile(r"nfs\d?|cifs|smb\w*|9p|afs|ceph|glusterfs|lustre|beegfs|gpfs|fuse\.\S+")

Do = Callable[[str, Iterable[tuple[object, ...]]], object]
"""Executes one statement for each of these tuples, within a transaction."""


class Database:
    """The open file. `network_type` names the network file system that it lies on; None for a local one."""

    def __init__(self, path: Path, failpoint: Callable[[str], None], *, check_all: bool = False) -> None:
        """Open or create, lock and check. `check_all` checks every page, whatever the size.

        Raises OutInUseError where another run holds it, InputError where the file is not ours, has another format or
        is a link, DamagedLedgerError where it is damaged, ResourceError where the disk does not allow it.
        """
        self.path = path
        self.network_type = network_type(path.parent)
        self._failpoint = failpoint
        self._is_damaged = False
        self._noted: tuple[int, int] | None = None
        self._holder = path.with_name(HOLDER_NAME)
        checks_pages = check_files(path) or check_all
        with translated(path):
            self._connection = sqlite3.connect(
                path, timeout=_LOCK_WAIT_S, isolation_level=None, check_same_thread=False
            )
        try:
            with translated(path):
                self._take_lock()
                self._noted = files.note_open(path)
                self._check_ours()
                if checks_pages:
                    self._check_pages()
                self._configure()
                self._create_tables()
            self._name_holder()
        except BaseException:
            self._release()
            raise

    def one(self, sql: str, *values: object) -> tuple[Any, ...] | None:
        """The first row of a query."""
        return next(iter(self.all(sql, *values)), None)

    def all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._errors():
            return self._connection.execute(sql, values).fetchall()

    def pragma(self, name: str) -> int:
        """A setting of SQLite that is a number."""
        found = self.one(f"PRAGMA {name}")
        return 0 if found is None else int(found[0])

    def chunks(self, sql: str, values: tuple[object, ...]) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a query, a thousand at a time."""
        with self._errors():
            cursor = self._connection.execute(sql, values)
            while found := cursor.fetchmany(ROWS_A_BATCH):
                yield found

    def up_to(self, most_bytes: int, column: int, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """The first rows of a query: until their values in this column take `most_bytes`, and one row more."""
        found: list[tuple[Any, ...]] = []
        size = 0
        with self._errors(), contextlib.closing(self._connection.execute(sql, values)) as cursor:
            for row in cursor:
                found.append(row)
                size += len(row[column])
                if size >= most_bytes:
                    break
        return found

    def by_key(self, columns: str, keys: list[bytes]) -> Iterator[tuple[Any, ...]]:
        """These columns of the records with these keys."""
        for start in range(0, len(keys), _KEYS_A_QUERY):
            some = keys[start : start + _KEYS_A_QUERY]
            marks = ", ".join("?" * len(some))
            # Column names are this package's own, never input.
            yield from self.all(f"SELECT {columns} FROM record WHERE key16 IN ({marks})", *some)  # noqa: S608

    @contextmanager
    def transaction(self) -> Iterator[Do]:
        """Commit everything that is executed within, or nothing where it raises."""
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.executemany
                self._failpoint("before-commit")
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def staged(self, places: Iterable[tuple[bytes, int]], do: Do) -> Iterator[None]:
        """(key, part) in a temporary table `place`, which SQLite keeps in a file of its own."""
        self._connection.execute("CREATE TEMP TABLE place (key16 BLOB NOT NULL, part INTEGER NOT NULL)")
        do("INSERT INTO place VALUES (?, ?)", places)
        yield
        self._connection.execute("DROP TABLE place")

    def execute(self, sql: str) -> Iterable[tuple[Any, ...]]:
        """One statement, as it is."""
        with self._errors():
            return self._connection.execute(sql)

    def close(self) -> None:
        """Fold the log into the file, shrink the file by the pages of sealed answers, and release the lock.

        Committed rows are safe without it.
        """
        with contextlib.suppress(OSError):
            self._holder.unlink(missing_ok=True)
        try:
            with contextlib.suppress(sqlite3.Error, ResourceError):
                if not self._is_damaged and self.pragma("freelist_count"):  # pages of a damaged file stay in place
                    # `execute` would end after one page: the statement has no columns to fetch.
                    self._connection.executescript("PRAGMA incremental_vacuum")
        finally:
            with translated(self.path):
                self._release()

    def _release(self) -> None:
        try:
            self._connection.close()
        finally:
            if self._noted is not None:
                files.note_closed(self._noted)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with translated(self.path):
                yield
        except DamagedLedgerError:
            self._is_damaged = True
            raise

    def _take_lock(self) -> None:
        run = self._connection.execute
        if self.pragma("auto_vacuum") != _INCREMENTAL:  # to set it again would write to a file that has it
            run("PRAGMA auto_vacuum = INCREMENTAL")  # takes effect in an empty file, and after a VACUUM
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("BEGIN EXCLUSIVE")
        run("COMMIT")

    def _check_ours(self) -> None:
        """Raises InputError for another program's file. `check_files` has refused other formats."""
        is_foreign = self.pragma("application_id") != APPLICATION_ID
        version = self.pragma("user_version")
        if (is_foreign or version > FORMAT + NEWER_FORMATS) and self._table_names() == TABLE_NAMES:
            raise damaged(self.path, "its header is not ours, and its tables are")
        if is_foreign and (version or self.one("SELECT 1 FROM sqlite_master")):
            raise InputError(f"{self.path}: this SQLite file was not made by vision-batch; use another OUT")
        if version not in {0, FORMAT}:
            raise other_format(self.path, version)

    def _table_names(self) -> frozenset[str]:
        return frozenset(name for (name,) in self.all("SELECT name FROM sqlite_master WHERE type = 'table'"))

    def _check_pages(self) -> None:
        found = self.one("PRAGMA integrity_check(1)")
        if found is None or found[0] != "ok":
            raise damaged(self.path, "nothing" if found is None else str(found[0]).replace("\n", " "))

    def _configure(self) -> None:
        run = self._connection.execute
        # A write-ahead log works on a file system of this machine only (sqlite.org, "Write-Ahead Logging").
        run(f"PRAGMA journal_mode = {'TRUNCATE' if self.network_type else 'WAL'}")
        run("PRAGMA synchronous = FULL")
        run(f"PRAGMA cache_size = -{_CACHE_KIB}")
        run(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")

    def _create_tables(self) -> None:
        if not self.pragma("user_version"):
            with self.transaction():
                for statement in statements():
                    self._connection.execute(statement)

    def _name_holder(self) -> None:
        # Beside the ledger: a database that is held exclusively cannot be read by others.
        held_by = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
        try:
            files.write_atomic(self._holder, held_by.encode(), durable=False)
        except OSError as error:
            raise ResourceError(f"{self._holder}: {error.strerror or error}") from error


def network_type(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The network file system that `folder` lies on (`nfs4`, `cifs`, `fuse.sshfs`), None where it is local.

    Linux lists it in `mounts` (proc(5)); elsewhere every folder counts as local.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    here = folder.resolve()
    found: tuple[int, int, str] = (-1, -1, "")
    for order, line in enumerate(lines):
        _, escaped, kind, *_options = line.split(" ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), escaped))
        if here.is_relative_to(point):
            # The deepest mount holds the folder, and of two on one point the later one.
            found = max(found, (len(point.parts), order, kind))
    return found[2] if _NETWORK_TYPES.fullmatch(found[2]) else None
