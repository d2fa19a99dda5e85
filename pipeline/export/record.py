"""What exports have written into texts that others may write too: so that none is added twice.

`OUT/exports/texts.sqlite` holds the text of each file, and no more than a transaction of it is in memory. A text is
noted after it is written; after a crash in between the file itself shows that it is there.
"""

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pipeline import files
from pipeline.errors import ResourceError
from pipeline.store.outdir import check_folder

FOLDER_NAME: Final = "exports"
_FILE_NAME: Final = "texts.sqlite"
_ROWS: Final = 1_000
"""Of a transaction."""


class TextRecord:
    """Opened for one export; closed as a context manager."""

    def __init__(self, out: Path, *, is_needed: bool) -> None:
        """Without `is_needed` an OUT that may not be written is no fault: then nothing is noted.

        Raises ResourceError and OSError.
        """
        folder = out / FOLDER_NAME
        try:
            check_folder(folder)
            folder.mkdir(exist_ok=True)
            self._database = _opened(folder / _FILE_NAME)
        except (OSError, sqlite3.Error) as error:
            if is_needed:
                raise ResourceError(
                    f"{folder}: what is added to texts cannot be noted there ({error}), and would be added twice by "
                    "another export. Make it writable, or overwrite the texts (`if_exists=overwrite`)"
                ) from None
            self._database = _opened(":memory:")
        self._pending = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        with suppress(sqlite3.Error) if error else files.disk_errors(Path(_FILE_NAME)):
            self._database.commit()
        self._database.close()

    def text(self, path: Path, prompt_name: str) -> str | None:
        """What an export has written into a file; None where none has."""
        found = self._database.execute(
            "SELECT text FROM texts WHERE path = ? AND prompt_name = ?", (_key(path), prompt_name)
        ).fetchone()
        return None if found is None else str(found[0])

    def note(self, path: Path, prompt_name: str, text: str) -> None:
        """Remember a text that is in its file. Raises ResourceError."""
        try:
            self._database.execute("INSERT OR REPLACE INTO texts VALUES (?, ?, ?)", (_key(path), prompt_name, text))
            self._pending += 1
            if self._pending >= _ROWS:
                self._database.commit()
                self._pending = 0
        except sqlite3.Error as error:
            raise ResourceError(f"{FOLDER_NAME}/{_FILE_NAME}: {error}; free some space and export again") from error


def _opened(path: Path | str) -> sqlite3.Connection:
    if isinstance(path, Path) and files.is_odd(path):
        raise OSError("texts.sqlite is a link or no plain file")
    database = sqlite3.connect(path, timeout=30)
    database.execute(
        "CREATE TABLE IF NOT EXISTS texts (path BLOB, prompt_name TEXT, text TEXT, PRIMARY KEY (path, prompt_name)) "
        "WITHOUT ROWID"
    )
    return database


def _key(path: Path) -> bytes:
    return os.fsencode(os.path.abspath(path))  # noqa: PTH100 - links stay
