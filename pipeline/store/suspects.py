"""Which records are being decoded now, in a small file of OUT that outlives the process.

A decoder that crashes ends the process, and one that hangs makes its user end it. The next run finds in the file what
was being decoded then: the suspects, which it decodes in processes of their own.
"""

import mmap
import os
import threading
from pathlib import Path
from typing import Final, Self

from pipeline import files
from pipeline.files import disk_errors
from pipeline.records import record_key

JOURNAL_NAME: Final = ".decoding"
_KEY_BYTES: Final = 16
_FREE: Final = bytes(_KEY_BYTES)
_BYTES: Final = 1 << 16
"""Of the file: more places than there are threads. It is mapped: a write lets no other thread take the interpreter."""


class Suspects:
    """The file of one run: a place for each thread that decodes, and one for each suspect."""

    def __init__(self, out: Path) -> None:
        """Read what an earlier run left. Raises ResourceError where the file cannot be made anew."""
        self._path = out / JOURNAL_NAME
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._places: list[bytes] = sorted(_left(self._path))
        self._suspects = set(self._places)
        with disk_errors(out):
            files.write_atomic(self._path, b"".join(self._places).ljust(_BYTES, b"\0"), durable=False)
            descriptor = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self._file = mmap.mmap(descriptor, _BYTES)
            finally:
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the file, unless a thread still decodes: it may stand still for ever."""
        with self._lock:
            self._file.close()
            if not any(place != _FREE for place in self._places):
                self._path.unlink(missing_ok=True)

    def has(self, record_id: str) -> bool:
        """Whether it is a suspect."""
        return bool(self._suspects) and _key(record_id) in self._suspects

    def begin(self, record_id: str) -> bool:
        """The calling thread decodes the images of a record from now on. Returns whether it is a suspect."""
        key = _key(record_id)
        at = getattr(self._thread, "at", None)
        if at is None:
            with self._lock:
                at = self._thread.at = len(self._places)
                self._places.append(_FREE)
        self._write(at, key)
        return key in self._suspects

    def end(self, record_id: str) -> None:
        """It came to an end, good or bad."""
        self._write(self._thread.at, _FREE)
        if self.has(record_id):
            key = _key(record_id)
            with self._lock:
                places = [at for at, place in enumerate(self._places) if place == key]
            for at in places:
                self._write(at, _FREE)

    def add(self, record_id: str) -> None:
        """The thread that decodes it stands still."""
        self._suspects.add(_key(record_id))

    def _write(self, at: int, key: bytes) -> None:
        with self._lock:
            self._places[at] = key
            if not self._file.closed and (at + 1) * _KEY_BYTES <= _BYTES:
                self._file[at * _KEY_BYTES : (at + 1) * _KEY_BYTES] = key


def _left(path: Path) -> set[bytes]:
    try:
        data = files.read(path) if path.lstat().st_size == _BYTES else b""
    except OSError:
        return set()
    return {data[at : at + _KEY_BYTES] for at in range(0, len(data) - _KEY_BYTES + 1, _KEY_BYTES)} - {_FREE}


def _key(record_id: str) -> bytes:
    return record_key(record_id, "")
