"""Where a rebuild works: the folder `OUT/.rebuild`, and a copy of the old ledger, which is kept.

The folder lies in OUT from the first step to the last: runs refuse as long as it is there, and the next rebuild goes
on from the copy that it names.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from pipeline import files
from pipeline.store import parquet
from pipeline.store.ledger.errors import in_use
from pipeline.store.ledger.header import SUFFIXES
from pipeline.store.opening import LEDGER_NAME, REBUILD_NAME

_ASIDE_NAME, NEW_NAME, OLD_NAME, ANSWERS_NAME = "aside", "new", "old", "answers.jsonl"


def ledger_files(path: Path) -> list[Path]:
    """The files that a ledger may consist of; what SQLite shares between processes holds nothing."""
    return [path.with_name(path.name + suffix) for suffix in SUFFIXES if suffix != "-shm"]


@contextmanager
def held(path: Path) -> Iterator[BinaryIO | None]:
    """Refuse while a run holds OUT, and hold it ourselves, without SQLite, which would change a damaged ledger.

    The open file is the only one to read the ledger by: to close another one would end the lock (fcntl(2)).
    """
    try:
        with files.held(path) as file:
            yield file
    except BlockingIOError as error:
        raise in_use(path) from error


class Work:
    """The folder `.rebuild`, and the copy of the old ledger."""

    def __init__(self, out: Path, now: datetime, ledger: BinaryIO | None) -> None:
        self._ledger = ledger
        self.folder = out / REBUILD_NAME
        self.is_changed = False
        """Whether anything else in OUT was: then the next rebuild has to go on with it."""
        self._out, self._made_now = out, False
        self.aside = self._begun_aside() or out / f"{LEDGER_NAME}.damaged-{now:%Y%m%dT%H%M%S}"

    def _begun_aside(self) -> Path | None:
        """The copy that a rebuild which was cut off made."""
        with suppress(OSError, ValueError):
            name = files.read(self.folder / _ASIDE_NAME).decode()
            if name.startswith(f"{LEDGER_NAME}.damaged-") and "/" not in name:
                self.is_changed = True
                return self._out / name
        return None

    def begin(self) -> None:
        if self.folder.is_symlink() or self.folder.is_file():
            self.folder.unlink()
        self.folder.mkdir(exist_ok=True)
        for name in (NEW_NAME, OLD_NAME):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
        (self.folder / ANSWERS_NAME).unlink(missing_ok=True)
        if not self.is_changed:
            self._copy_aside()

    def _copy_aside(self) -> None:
        while any(map(os.path.lexists, ledger_files(self.aside))):  # of another rebuild in the same second
            self.aside = self.aside.with_name(f"{self.aside.name}.1")
        self._made_now = True
        for old, new in zip(ledger_files(self._out / LEDGER_NAME), ledger_files(self.aside), strict=True):
            if old == self._out / LEDGER_NAME:
                if self._ledger is not None:
                    files.copy(self._ledger, new)
            elif old.exists():
                with old.open("rb") as file:
                    files.copy(file, new)
        files.write_atomic(self.folder / _ASIDE_NAME, self.aside.name.encode())
        parquet.sync_folder(self._out)

    def end(self) -> None:
        """All is done, or nothing was."""
        shutil.rmtree(self.folder)
        if not self.is_changed and self._made_now:
            for file in ledger_files(self.aside):
                file.unlink(missing_ok=True)


@contextmanager
def workplace(out: Path, now: datetime, ledger: BinaryIO | None) -> Iterator[Work]:
    """The folder, as long as a rebuild is at work; `ledger` is the old one, held and open."""
    work = Work(out, now, ledger)
    try:
        work.begin()
        yield work
    except BaseException:
        if not work.is_changed:
            with suppress(OSError):
                work.end()
        raise
    work.end()
