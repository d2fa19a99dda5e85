"""Where a merge works: the folder `OUT/.merge`, which takes the place of what OUT holds when it is complete.

It begins as OUT is: its parts by hard links, and a copy of its ledger. Runs refuse as long as the folder is there, and
the next merge goes on with it. Readers of OUT meet the old parts, or all of the new ones.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pipeline import files
from pipeline.errors import InputError, OutInUseError
from pipeline.store import layout, outdir, parquet, swap
from pipeline.store.ledger.header import SUFFIXES
from pipeline.store.opening import LEDGER_NAME, MERGE_NAME

_BEGUN, _READY = "begun", "ready"
"""Files of the folder: it holds all that OUT held; it is complete, and the name of its set of parts."""


class MergePlace:
    """The folder of one merge. `ledger` and `data` in it are those of an output directory that no run holds."""

    def __init__(self, out: Path, step: Callable[[str], None]) -> None:
        self.out, self.folder = out, out / MERGE_NAME
        self.step = step

    @property
    def is_begun(self) -> bool:
        """Whether an interrupted merge left what it had joined."""
        return (self.folder / _BEGUN).is_file()

    @property
    def ledger(self) -> Path:
        """The ledger of what is joined."""
        return self.folder / LEDGER_NAME

    def begin(self, ledger: BinaryIO | None) -> None:
        """Make the folder as OUT is, unless an interrupted merge did. `ledger` is that of OUT, held and open."""
        if self.is_begun:
            parquet.remove_unfinished(self.folder / layout.DATA_NAME)
            return
        if (data := self.out / layout.DATA_NAME).is_symlink():
            raise InputError(f"{data} is a symbolic link, which cannot change places with a directory")
        self.discard()
        new = self.folder / layout.DATA_NAME
        new.mkdir(parents=True)
        for number in parquet.part_numbers(data) if data.is_dir() else ():
            _link(data / parquet.part_name(number), new / parquet.part_name(number))
        if ledger is not None:  # it was closed: its log is folded in
            files.copy(ledger, self.ledger)
        outdir.write_atomic(self.folder / _BEGUN, b"")
        parquet.sync_folder(self.out)
        self.step("begun")

    def discard(self) -> None:
        """Give up what was joined: OUT is as it was."""
        if self.folder.is_symlink() or self.folder.is_file():
            self.folder.unlink()
        elif self.folder.is_dir():
            shutil.rmtree(self.folder)

    def drop_strangers(self, parts: int) -> None:
        """Delete parts that a crash left without a mark in the ledger, which has this number of them."""
        data = self.folder / layout.DATA_NAME
        for number in parquet.part_numbers(data):
            if number >= parts:
                (data / parquet.part_name(number)).unlink()

    @property
    def is_ready(self) -> bool:
        """Whether all is joined, and only has to take its place."""
        return (self.folder / _READY).is_file()

    def name_set(self) -> bytes:
        """Give the parts a name that the old ones do not have."""
        data = self.folder / layout.DATA_NAME
        layout.name_set(data)
        return layout.set_name(data)

    def publish(self) -> None:
        """Make what was joined the contents of OUT. Every step may be done again."""
        if not self.is_ready:
            outdir.write_atomic(self.folder / _READY, layout.set_name(self.folder / layout.DATA_NAME))
            parquet.sync_folder(self.folder)
        self.step("ready")
        data, new, joined = self.out / layout.DATA_NAME, self.out / layout.NEW_NAME, self.folder / layout.DATA_NAME
        if joined.is_dir():
            shutil.rmtree(new, ignore_errors=True)
            joined.rename(new)
        layout.put_back(self.out)
        data.mkdir(exist_ok=True)
        if new.is_dir() and layout.set_name(data) != files.read(self.folder / _READY):
            layout.put_in_place(self.out, swap.exchange, self.step)
        if self.ledger.is_file():
            for suffix in SUFFIXES[1:]:
                (self.out / f"{LEDGER_NAME}{suffix}").unlink(missing_ok=True)
            self.ledger.replace(self.out / LEDGER_NAME)
            self.step("ledger-replaced")
        (self.out / outdir.STATUS_NAME).unlink(missing_ok=True)  # it describes the old one
        layout.clear(self.out, self.step)
        parquet.sync_folder(self.out)
        self.discard()
        parquet.sync_folder(self.out)
        self.step("published")


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold a directory against other merges, as long as it lasts."""
    descriptor = os.open(out, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise OutInUseError(f"{out}: another merge is at work on it. Wait for it; this one changed nothing") from error
    except OSError:
        pass  # its file system has no such lock (some network ones); the ledgers are locked all the same
    try:
        yield
    finally:
        os.close(descriptor)


def _link(part: Path, new: Path) -> None:
    """The same file under another name, or a copy of it. Parts are replaced and never written to."""
    try:
        os.link(part, new)
    except OSError:
        with part.open("rb") as file:
            files.copy(file, new)
