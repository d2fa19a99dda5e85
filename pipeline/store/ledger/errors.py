"""The one place where SQLite's errors become ours."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import files
from pipeline.errors import DamagedLedgerError, InputError, OutInUseError, ResourceError, VisionBatchError
from pipeline.store.ledger.schema import FORMAT

HOLDER_NAME = ".lock-holder.json"


def damaged(path: Path, why: object) -> DamagedLedgerError:
    """The error for a ledger that cannot be read, with the way out."""
    return DamagedLedgerError(
        f"{path}: the ledger is damaged ({why}). `vision-batch rebuild {path.parent}` makes a new one from the answers "
        "in data/ and from everything that can still be read of it"
    )


def other_format(path: Path, found: int) -> InputError:
    """The error for a ledger that an earlier or a newer version made."""
    if found > FORMAT:
        return InputError(
            f"{path.parent} was made by a newer vision-batch (ledger format {found}, this version reads {FORMAT}). "
            "Upgrade vision-batch, or use another OUT. Nothing was changed"
        )
    return InputError(
        f"{path.parent} was made by an earlier version of vision-batch (ledger format {found}, this version reads "
        f"{FORMAT}). Continue with that version, or use another OUT; the answers in data/ stay readable. "
        "Nothing was changed"
    )


def in_use(path: Path) -> OutInUseError:
    """The error for an OUT that another run holds."""
    return OutInUseError(
        f"{path.parent} is in use by another run ({_holder_of(path)}). Wait for it or stop it; this one changed nothing"
    )


def _holder_of(path: Path) -> str:
    try:
        held_by = json.loads(files.read(path.with_name(HOLDER_NAME)))
        return f"host {held_by['host']}, pid {held_by['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it does not say which"


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise our error for one of SQLite's. An error that comes from a bug stays what it is."""
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite's own message repeats a damaged text, and Python decodes it strictly
        raise damaged(path, "its schema holds bytes that are no text") from error
    except sqlite3.Error as error:
        ours = _explained(error, path)
        if ours is None:
            raise
        raise ours from error


def _explained(error: sqlite3.Error, path: Path) -> VisionBatchError | None:
    # Extended codes hold the primary one in their lowest byte (sqlite.org, "Result and Error Codes").
    code = getattr(error, "sqlite_errorcode", -1) & 0xFF
    if _is_bug(error) or code == sqlite3.SQLITE_MISUSE:
        return None
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return in_use(path)
        case sqlite3.SQLITE_FULL:
            why = "the disk is full. Committed answers are safe: free some space and run the same command"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            why = f"cannot be written ({error}). Check its owner and permissions"
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_NOLFS | sqlite3.SQLITE_PROTOCOL:
            why = (
                f"the disk does not read or write ({error}; full, over quota, or failing?). "
                "Committed answers are safe: repair the disk and run the same command"
            )
        case _:  # all statements are our own: one that cannot be executed means that the file is damaged
            return damaged(path, error)
    return ResourceError(f"{path}: {why}")


def _is_bug(error: sqlite3.Error) -> bool:
    return isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError) or (
        getattr(error, "sqlite_errorname", "") == "SQLITE_CONSTRAINT_NOTNULL"
    )
