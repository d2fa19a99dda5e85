"""Opens an image where it lies on this machine: a file, a `data:` URL, an image of the calling program.

Remote images come through `images.fetch`. A new kind of location is a class in `records` and an opener here.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from pipeline.errors import ErrorKind, ResourceError
from pipeline.files import CHANGED, OutsideError, file_stamp, open_below, part_of, stamp_of, version_of
from pipeline.formatting import printable
from pipeline.http.data_urls import decode_data_url
from pipeline.locations import (
    ConfinedFile,
    DataUrl,
    EmbeddedImage,
    InMemoryImage,
    LocalFile,
    Location,
    TarMember,
)
from pipeline.records import Failure

_CHUNK_BYTES: Final = 1 << 16
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
_NO_FILE: Final = frozenset({errno.ESPIPE, errno.ENXIO})
"""What reading from an offset gives for a pipe, and for a socket or a device without anything behind it."""
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


@dataclass(frozen=True, slots=True)
class OpenImage:
    """An image that is open: nothing of it is in memory yet."""

    size_bytes: int
    """Memory that reading it takes."""
    read: Callable[[], bytes | Failure]
    """The whole image, or why there is none. Called once."""
    stamp: int | None = None
    """24 bits that change with a file's size or time, taken before it is read; None where it is no file."""
    close: Callable[[], None] = lambda: None


@contextmanager
def opened(location: Location, max_bytes: int) -> Iterator[OpenImage | Failure]:
    """Open one image that is not remote. More than `max_bytes` are not read. Never blocks on a pipe or a device.

    Raises ResourceError where this process has no file handle or memory left, which is no image's fault.
    """
    image = _OPENERS[type(location)](location, max_bytes)
    if isinstance(image, Failure):
        yield image
        return
    try:
        yield image
    finally:
        image.close()


def read_image(location: Location, max_bytes: int) -> bytes | Failure:
    """The whole image at once. Raises ResourceError as `opened` does."""
    with opened(location, max_bytes) as image:
        return image if isinstance(image, Failure) else image.read()


def open_file(path: str) -> int | Failure:
    """A descriptor of the file, for the caller to close. Raises ResourceError as `opened` does."""
    try:
        return os.open(path, _FLAGS)
    except OSError as error:
        return os_failure(error)
    except ValueError:
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="the path holds characters that no file name has")


def open_confined(location: ConfinedFile) -> int | Failure:
    """The same of a file that has to be below a folder."""
    try:
        return open_below(location.path, location.below)
    except OutsideError as error:
        return Failure(kind=ErrorKind.IMAGE_FORBIDDEN, message=printable(str(error)))
    except OSError as error:
        return os_failure(error)
    except ValueError:
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="the path holds characters that no file name has")


def os_failure(error: OSError) -> Failure:
    """Why a file cannot be opened or read. Raises ResourceError as `opened` does."""
    if error.errno in _EXHAUSTED:
        raise ResourceError(
            f"cannot open any more files ({error.strerror}): raise the limit (ulimit -n 4096) "
            "or lower `limits.concurrency`"
        ) from None
    if error.errno in _MISSING:
        return Failure(kind=ErrorKind.IMAGE_MISSING, message="no such file")
    if error.errno == errno.ENAMETOOLONG:
        message = "the path is longer than one can be; an image in base64 begins with data:image/jpeg;base64,"
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=message)
    if error.errno in _NO_FILE:
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="not a file but a pipe or a device")
    return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=f"cannot be read: {error.strerror or error}")


def too_large(size: int | None, max_bytes: int) -> Failure:
    """An image of `size` bytes (None: unknown, and more than allowed) is not read."""
    much = "more bytes" if size is None else f"{size:,} bytes"
    message = f"{much}, where at most {max_bytes:,} are read (images.max_file_mb)"
    return Failure(kind=ErrorKind.IMAGE_TOO_LARGE, message=message)


def _open_local_file(location: LocalFile | ConfinedFile, max_bytes: int) -> OpenImage | Failure:
    descriptor = open_confined(location) if isinstance(location, ConfinedFile) else open_file(location.path)
    if isinstance(descriptor, Failure):
        return descriptor
    found = os.fstat(descriptor)
    flaw = _flaw(found, max_bytes)
    if flaw is not None:
        os.close(descriptor)
        return flaw
    size = found.st_size
    return OpenImage(
        size_bytes=size,
        stamp=stamp_of(found),
        read=lambda: _read(descriptor, size, max_bytes),
        close=lambda: os.close(descriptor),
    )


def _flaw(found: os.stat_result, max_bytes: int) -> Failure | None:
    if not stat.S_ISREG(found.st_mode):
        what = "a directory" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=f"not a file but {what}")
    return too_large(found.st_size, max_bytes) if found.st_size > max_bytes else None


def _read(descriptor: int, size: int, max_bytes: int) -> bytes | Failure:
    try:
        # One byte more than the size shows the end in one call, and a file that has grown meanwhile.
        data = os.read(descriptor, size + 1)
        while len(data) != size:
            more = os.read(descriptor, _CHUNK_BYTES)
            if not more:
                break
            data += more
            if len(data) > max_bytes:
                return too_large(len(data), max_bytes)
    except OSError as error:
        return os_failure(error)
    return data or Failure(kind=ErrorKind.IMAGE_EMPTY, message="the file is empty")


def _open_tar_member(location: TarMember, max_bytes: int) -> OpenImage | Failure:
    if location.size > max_bytes:
        return too_large(location.size, max_bytes)
    descriptor = open_file(location.path)
    if isinstance(descriptor, Failure):
        return descriptor
    found = os.fstat(descriptor)

    def read() -> bytes:
        data = part_of(descriptor, location.offset, location.size)
        if location.version is not None and version_of(os.fstat(descriptor)) != location.version:
            raise ValueError(CHANGED)
        return data

    return OpenImage(
        size_bytes=location.size,
        stamp=stamp_of(found),
        read=lambda: _embedded(read),
        close=lambda: os.close(descriptor),
    )


def _open_embedded(location: EmbeddedImage, max_bytes: int) -> OpenImage | Failure:
    stamp = file_stamp(location.path)
    if location.size is not None:
        if location.size > max_bytes:
            return too_large(location.size, max_bytes)
        return OpenImage(location.size, lambda: _embedded(location.read), stamp)
    data = _limited(_embedded(location.read), max_bytes)
    return data if isinstance(data, Failure) else OpenImage(len(data), lambda: data, stamp)


def _embedded(read: Callable[[], bytes]) -> bytes | Failure:
    try:
        data = read()
    except OSError as error:
        return os_failure(error)
    except ValueError as error:
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=f"cannot be read: {error}")
    return data or Failure(kind=ErrorKind.IMAGE_EMPTY, message="the image is empty")


def _open_data_url(location: DataUrl, max_bytes: int) -> OpenImage:
    return OpenImage(len(location.url), lambda: _limited(decode_data_url(location.url), max_bytes))


def _open_in_memory(location: InMemoryImage, max_bytes: int) -> OpenImage:
    return OpenImage(location.size_bytes, lambda: _limited(_read_object(location), max_bytes))


def _read_object(location: InMemoryImage) -> bytes | Failure:
    try:
        return location.read()
    except Exception as error:  # noqa: BLE001 - the caller's object may raise anything; the run goes on with the others
        message = f"the image object cannot be read: {type(error).__name__}: {error}"
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=" ".join(message.split())[:300])


def _limited(data: bytes | Failure, max_bytes: int) -> bytes | Failure:
    return too_large(len(data), max_bytes) if isinstance(data, bytes) and len(data) > max_bytes else data


_OPENERS: Final[dict[type, Callable[[Any, int], OpenImage | Failure]]] = {
    LocalFile: _open_local_file,
    ConfinedFile: _open_local_file,
    DataUrl: _open_data_url,
    InMemoryImage: _open_in_memory,
    TarMember: _open_tar_member,
    EmbeddedImage: _open_embedded,
}
"""How each kind of location is opened; those that are not here are remote."""
