"""Files inside an output directory: made anew and renamed into place, never written through a link.

OUT and `data/` themselves may be links. Any other link was put there by another program, and may lead
anywhere: a name is freed before it is used, or the command ends. `open_below` is for images that are confined.
"""

import errno
import fcntl
import os
import stat
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import ResourceError
from pipeline.locations import ConfinedFile, DocumentPage, EmbeddedImage, LocalFile, TarMember
from pipeline.records import ImageRecord, combined_stamp

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_HANDLES = frozenset({errno.EMFILE, errno.ENFILE})

_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC
_OLD = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MODE = 0o666
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Where SQLite locks a database (https://www.sqlite.org/src, os_unix.c): the pending byte, the reserved one, and 510.
_LOCK_START, _LOCK_BYTES = 0x40000000, 512


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Raise ResourceError (exit code 5), in one line, for what the operating system refuses."""
    try:
        yield
    except OSError as error:
        where = error.filename or out
        if error.errno in _FULL:
            hint = "Committed answers are safe: free some space and run the same command"
        elif error.errno in _NO_HANDLES:
            hint = "Raise the limit (ulimit -n 4096) or lower `limits.concurrency`; committed answers are safe"
        elif error.errno == errno.ENOENT:
            hint = "It is not there, or no longer: was it moved, deleted or unmounted?"
        else:
            hint = "Check that this path can be written; committed answers are safe"
        raise ResourceError(f"{where}: {error.strerror or error}. {hint}") from error


def create(path: Path) -> BinaryIO:
    """A new file of this name, open for writing; what has the name, a link too, is removed.

    Raises OSError where that is a directory, or the disk or the permissions do not allow it.
    """
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, _NEW, _MODE), "w+b")


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` as a whole. `durable` makes it survive a power cut, for the price of waiting for the disk."""
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        with create(unfinished) as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one that is raised
            unfinished.unlink(missing_ok=True)
        raise


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which replaces `path` when it is complete and on the disk; nothing changes where that fails."""
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        with create(unfinished) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: Path) -> bytes:
    """All of a plain file. Raises OSError where it is a link, a device or anything else."""
    with os.fdopen(os.open(path, os.O_RDONLY | _OLD), "rb") as file:
        _check_plain(path, os.fstat(file.fileno()))
        return file.read()


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a plain file, without their ends and the empty ones. Raises OSError as `read` does."""
    with os.fdopen(os.open(path, os.O_RDONLY | _OLD), "rb") as file:
        _check_plain(path, os.fstat(file.fileno()))
        yield from filter(None, (line.strip() for line in file))


def _check_plain(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a plain file", str(path))


def is_odd(path: Path) -> bool:
    """Whether there is something of this name that is no plain file: a link, a directory, a pipe."""
    try:
        return not stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def copy(source: BinaryIO, target: Path) -> None:
    """Copy an open file to `target`, which is there whole or not at all, and survives a power cut."""
    unfinished = target.with_name(f".{target.name}.tmp")
    source.seek(0)
    with create(unfinished) as file:
        while block := source.read(1 << 20):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(target)


CHANGED = "its file has changed since it was opened; run again to read it as it is now"

_IN_FILES = (LocalFile, ConfinedFile, TarMember, EmbeddedImage)

_OPEN: set[tuple[int, int]] = set()
"""Databases that this process has open. To close another descriptor of one would end SQLite's lock on it (fcntl(2))."""


def note_open(path: Path) -> tuple[int, int]:
    """Say that SQLite has this file open from now on, until `note_closed`."""
    found = path.stat()
    _OPEN.add(named := (found.st_dev, found.st_ino))
    return named


def note_closed(named: tuple[int, int]) -> None:
    _OPEN.discard(named)


@contextmanager
def held(path: Path) -> Iterator[BinaryIO | None]:
    """Lock a database as SQLite does, without SQLite, which would change a damaged one: the file, open for reading.

    None where there is no such file. Raises BlockingIOError where it is in use, by another process or by this one,
    PermissionError where it cannot be locked because it may not be written.
    """
    try:
        found = path.stat()
        if (found.st_dev, found.st_ino) in _OPEN:
            raise BlockingIOError(errno.EAGAIN, "in use", str(path))
        descriptor = os.open(path, os.O_RDWR | _OLD)
    except FileNotFoundError:
        yield None
        return
    with os.fdopen(descriptor, "r+b") as file:
        _check_plain(path, os.fstat(descriptor))
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_BYTES, _LOCK_START)
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EAGAIN}:
                raise BlockingIOError(error.errno, error.strerror, str(path)) from error
            raise
        yield file


def stamp_of(found: os.stat_result) -> int:
    """24 bits that change with the size or the time of a file."""
    return zlib.crc32(f"{found.st_size} {found.st_mtime_ns}".encode()) & 0xFFFFFF


Version = tuple[int, int, int, int]


def version_of(found: os.stat_result) -> Version:
    """What differs once a file is written or replaced, also where its size is the same and its time is set back."""
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class SteadyFile:
    """A file whose bytes are those that it had when it was opened: after a change of it there are none.

    Another file under its name is not this file. It is closed when nothing refers to this object any more.
    """

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)
        self.version = version_of(os.fstat(self.descriptor))

    def check(self) -> None:
        """Raise ValueError where it has changed. To be called after its bytes are read."""
        found = os.fstat(self.descriptor)
        *before, changed_ns = self.version
        *now, changes_ns = version_of(found)
        # To replace or delete it changes its last time, and leaves its bytes.
        if now != before or (changes_ns != changed_ns and found.st_nlink):
            raise ValueError(CHANGED)

    def part(self, offset: int, size: int) -> bytes:
        """These bytes of it. Raises OSError, and ValueError where it has changed, or ends before."""
        data = part_of(self.descriptor, offset, size)
        self.check()
        return data


class OutsideError(OSError):
    """A file is not below the folder to which images are confined."""


def open_below(path: str, below: str) -> int:
    """A descriptor of a file below a folder, which is named without links. Raises OutsideError for any other file.

    Links are followed first; what they lead to is then opened folder by folder without following any, so that one
    which is put there in between opens nothing.
    """
    real = os.path.realpath(path)
    folder = os.path.join(below, "")  # noqa: PTH118 - the path may be no UTF-8
    if not real.startswith(folder):
        raise OutsideError(
            f"it is {os.path.relpath(real, below)} from the folder of the source, and source.confine is on"
        )
    *folders, name = real.removeprefix(folder).split("/")
    descriptor = os.open(below, _FOLDER)
    try:
        for one in folders:
            inner = os.open(one, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        return os.open(name, _OLD, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def part_of(descriptor: int, offset: int, size: int) -> bytes:
    """`size` bytes of an open file from `offset` on. Raises OSError, and ValueError where it ends before."""
    data = os.pread(descriptor, size, offset)
    while len(data) < size:
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            raise ValueError(f"its file ends at byte {offset + len(data):,}, and the image at {offset + size:,}")
        data += more
    return data


def record_stamp(record: ImageRecord) -> int | None:
    """The stamp of a record's files as they are now; None where there are none."""
    files = (image.document if isinstance(image, DocumentPage) else image for image in record.images)
    return combined_stamp(file_stamp(file.path) if isinstance(file, _IN_FILES) else None for file in files)


def file_stamp(path: str) -> int | None:
    """The stamp of the file as it is now; None where there is none."""
    try:
        return stamp_of(os.stat(path))  # noqa: PTH116 - the path may be no UTF-8, and there may be millions
    except (OSError, ValueError):
        return None
