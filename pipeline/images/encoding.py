"""Pixels -> JPEG, through a file in memory.

Pillow's encoder holds the interpreter lock while it writes to a Python object and lets go of it while it
writes to a file descriptor, so each thread keeps one for itself.
"""

import os
import tempfile
import threading
from pathlib import Path

from PIL import Image

MAX_JPEG_SIDE = 65_500
"""Pixels; the libjpeg limit (JPEG_MAX_DIMENSION)."""
_KEPT_BYTES = 4_000_000


def encode_jpeg(picture: Image.Image, quality: int) -> bytes:
    """Baseline JPEG, 4:2:0, without metadata. `picture` is L or RGB and has an empty `info`."""
    return _file().encoded(picture, quality)


class _MemoryFile:
    """As much of a file as Pillow's encoder asks for: written from its beginning again and again."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._descriptor = _anonymous_file()

    def encoded(self, picture: Image.Image, quality: int) -> bytes:
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        picture.save(self, "JPEG", quality=quality)  # type: ignore[arg-type]  # a file as far as Pillow uses it
        length = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        data = os.pread(self._descriptor, length, 0)
        if length > _KEPT_BYTES:
            os.ftruncate(self._descriptor, 0)
        return data

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: bytes) -> int:
        return os.write(self._descriptor, data)

    def flush(self) -> None:
        """Nothing is held back."""

    def __del__(self) -> None:
        os.close(self._descriptor)


_PER_THREAD = threading.local()


def _file() -> _MemoryFile:
    """The file of this thread. A forked process makes its own, since it would share the position in this one."""
    file: _MemoryFile | None = getattr(_PER_THREAD, "file", None)
    if file is None or file.process != os.getpid():
        file = _PER_THREAD.file = _MemoryFile()
    return file


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("image")
    descriptor, name = tempfile.mkstemp()
    Path(name).unlink()
    return descriptor
