"""Looks at the files of a ledger before SQLite does, which would change what it opens."""

import os
from pathlib import Path
from typing import BinaryIO

from pipeline import files
from pipeline.errors import InputError, ResourceError
from pipeline.store import unsaved
from pipeline.store.ledger.errors import damaged, other_format
from pipeline.store.ledger.schema import APPLICATION_ID, FORMAT, NEWER_FORMATS
from pipeline.store.salvage.database import unread_answers
from pipeline.store.salvage.wal import WalFrames, read_frames

SUFFIXES = ("", "-wal", "-shm", "-journal")
_CHECKED_BYTES = 16 << 20
"""A ledger up to this size is checked whole whenever it is opened (0.2 s); a larger one after a crash only."""

_HEADER_BYTES = 100
_VERSION_AT, _APPLICATION_AT = 60, 68
"""Source: https://www.sqlite.org/fileformat2.html, section 1.3 (the database header)."""


def check_files(path: Path) -> bool:
    """Check the names, the format and the log of a ledger. Returns whether all its pages should be checked.

    Answers behind the last commit of the log that can be read go to a file of unsaved answers. Raises InputError
    where a file is a link, or the ledger has another format; DamagedLedgerError where commits of the log cannot be
    read; ResourceError where the disk does not allow it.
    """
    check_plain(path)
    try:
        with files.held(path) as held:
            return False if held is None else _check_held(path, held)
    except (BlockingIOError, PermissionError):
        return False  # SQLite reports it
    except OSError as error:
        raise ResourceError(f"{error.filename or path}: {error.strerror or error}") from error


def _check_held(path: Path, held: BinaryIO) -> bool:
    log = _read_log(path)
    frames = read_frames(log) if log else None
    _check_format(path, held, log, frames)
    if frames is None:
        return held.seek(0, os.SEEK_END) <= _CHECKED_BYTES
    if frames.is_damaged:
        raise damaged(path, f"its write-ahead log from frame {frames.first_bad + 1} on")
    if frames.has_tail:
        _save_tail(path)
    return True


def check_format(path: Path) -> None:
    """Raise InputError where there is a ledger of another format; while a run holds it, it has the current one."""
    try:
        with files.held(path) as held:
            if held is not None:
                log = _read_log(path)
                _check_format(path, held, log, read_frames(log) if log else None)
    except OSError:
        return  # whatever opens it reports that


def check_held_format(path: Path, held: BinaryIO | None) -> None:
    """The same for a ledger that the caller holds."""
    if held is not None:
        log = _read_log(path)
        _check_format(path, held, log, read_frames(log) if log else None)


def _read_log(path: Path) -> bytes:
    log = path.with_name(f"{path.name}-wal")
    return log.read_bytes() if log.is_file() else b""


def _check_format(path: Path, held: BinaryIO, log: bytes, frames: WalFrames | None) -> None:
    """By the newest header: that of the last committed page 1 in the log, else that of the file."""
    held.seek(0)
    header = held.read(_HEADER_BYTES)
    for frame in frames.frames[: frames.readable] if frames is not None else ():
        if frame.page == 1:
            header = log[frame.at : frame.at + _HEADER_BYTES]
    version, application = (int.from_bytes(header[at : at + 4]) for at in (_VERSION_AT, _APPLICATION_AT))
    if application == APPLICATION_ID and version not in {0, FORMAT} and version <= FORMAT + NEWER_FORMATS:
        raise other_format(path, version)


def _save_tail(path: Path) -> None:
    """Save the answers in frames of a commit that a crash cut short: SQLite would drop them."""
    answers = [unsaved.UnsavedAnswer(answer.row, answer.leader) for answer in unread_answers(path)]
    if answers:
        unsaved.append(unsaved.new_path(path.parent, "log"), unsaved.by_run(answers, None))


def check_plain(path: Path) -> None:
    """Raise InputError where a file of this ledger is a link: SQLite would write to the target of the link."""
    for suffix in SUFFIXES:
        if files.is_odd(one := path.with_name(path.name + suffix)):
            raise InputError(
                f"{one} is a link or no plain file; a ledger is neither: move it away, or name another OUT"
            )
