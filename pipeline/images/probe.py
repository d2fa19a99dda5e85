"""The size of an image from the first kilobytes of its file; of millions, none is read whole.

Four kilobytes tell nearly all of them. Where a JPEG has its frame header later (behind thumbnails and profiles), and
where a WebP file says that its EXIF follows the pixels, the segments between are stepped over without being read. Of a
PNG file EXIF counts only where it stands before the pixels.
"""

import asyncio
import errno
import io
import os
import random
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp
from PIL import AvifImagePlugin, BmpImagePlugin, ImageFile, Jpeg2KImagePlugin, TiffImagePlugin
from yarl import URL

from pipeline.errors import ErrorKind, ResourceError
from pipeline.images.containers import Format, describe, exif, probe, sniff
from pipeline.images.containers.values import TURNED
from pipeline.limits.decision import backoff_s, is_worth_fetching_again, retry_after
from pipeline.records import Failure
from pipeline.redaction.redactor import one_line

HEAD_BYTES = 4096
REMOTE_BYTES = 1 << 16
MOST_REMOTE_BYTES = 1 << 20
"""What is asked for a second time, where the first 64 KB do not tell."""
TRIES = 3
HEADER_TIMEOUT_S = 15.0
"""Of one request for the beginning of a file."""
MOST_WAIT_S = 30.0
"""A host that asks for more is not waited for."""

_MOST_PARTS = 512
_STEP_BYTES = 64
_JPEG, _PNG, _EXIF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"Exif\0\0"
_APP1, _FILL = 0xE1, 0xFF
_NO_SEGMENT = frozenset({0xD8, 0xD9, 0xDA})
"""Start and end of the image, and the scan: behind these no frame header comes."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WEBP_HAS_EXIF = 0x08
_ORIENTATION = 0x0112
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})
_NO_FILE = frozenset({errno.ESPIPE, errno.ENXIO})
"""What a pipe, and a socket or a device without anything behind it, answers."""
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_TIMEOUT = aiohttp.ClientTimeout(total=HEADER_TIMEOUT_S)
_FROM_START = "bytes 0-"
_NO_RANGES = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        HTTPStatus.NOT_IMPLEMENTED,
    }
)
_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})

# Called directly, not through Image.open, which has a limit for bombs of its own.
_OTHERS: dict[Format, type[ImageFile.ImageFile]] = {
    Format.BMP: BmpImagePlugin.BmpImageFile,
    Format.TIFF: TiffImagePlugin.TiffImageFile,
    Format.AVIF: AvifImagePlugin.AvifImageFile,
    Format.JPEG2000: Jpeg2KImagePlugin.Jpeg2KImageFile,
}

Read = Callable[[int, int], bytes]
"""(offset, bytes wanted) -> as many bytes of the file as there are."""
Stored = tuple[int, int, int]
"""Width and height before any rotation, and EXIF's orientation (0 and 1: upright)."""


class ImageSize(NamedTuple):
    """Pixels, upright (after EXIF rotation), and the length of the file; None where a server did not tell it."""

    width: int
    height: int
    file_bytes: int | None


@dataclass(frozen=True, slots=True)
class SizeUnknown:
    """An address that told no size for a reason that passes, or not soon enough: a run may well send its image."""

    reason: str


def read_size(path: str) -> ImageSize | Failure:
    """The size of one local file, or why there is none. Blocks on the disk, never on a pipe or a device.

    Raises ResourceError where this process has no file handle or memory left.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return _read_open(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        return _os_failure(error)
    except ValueError:
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="the path holds characters that no file name has")


def read_sizes(paths: Iterable[str]) -> list[ImageSize | Failure]:
    """`read_size` of each, in order."""
    return [read_size(path) for path in paths]


def size_in(data: bytes) -> ImageSize | Failure:
    """The same of a whole file in memory."""
    return _size(data[:HEAD_BYTES], lambda at, count: data[at : at + count], len(data))


async def fetch_size(
    session: aiohttp.ClientSession,
    url: str,
    proxy: str | None = None,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    rand: Callable[[], float] = random.random,
) -> ImageSize | SizeUnknown | Failure:
    """The same of an address: its first 64 KB, and where these do not tell, its first megabyte.

    What fails for a passing reason is tried three times, as far apart as the host says, up to 30 s. A server that
    ignores the range is read as far and then left. `session` must carry no credentials: the host is anybody's.
    """
    for wanted in (REMOTE_BYTES, MOST_REMOTE_BYTES):
        head, failures = await _fetch(session, url, wanted, proxy), 1
        while isinstance(head, Failure):
            if not is_worth_fetching_again(head, 0, 1):
                return head
            wait_s = backoff_s(failures, rand()) if head.retry_after_s is None else head.retry_after_s
            if failures == TRIES or wait_s > MOST_WAIT_S:
                return SizeUnknown(head.message)
            await sleep(wait_s)
            head, failures = await _fetch(session, url, wanted, proxy), failures + 1
        data, total = head
        reach = _Reach(data)
        found = _size(data[:HEAD_BYTES], reach.read, total)
        if isinstance(found, ImageSize) or len(data) < wanted or not reach.is_passed:
            return found
    return SizeUnknown(f"its size stands behind the first {MOST_REMOTE_BYTES >> 20} MB")


class _Reach:
    """The beginning of a file, which notices where more of it was wanted."""

    def __init__(self, data: bytes) -> None:
        self._data, self.is_passed = data, False

    def read(self, at: int, count: int) -> bytes:
        self.is_passed = self.is_passed or at + count > len(self._data)
        return self._data[at : at + count]


def _read_open(descriptor: int) -> ImageSize | Failure:
    head = os.pread(descriptor, HEAD_BYTES, 0)
    return _size(head, lambda at, count: os.pread(descriptor, count, at), os.fstat(descriptor).st_size)


def _size(head: bytes, read: Read, file_bytes: int | None) -> ImageSize | Failure:
    if not head:
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="the file is empty")
    # Told apart here and not by `probe`, which looks at more than the size and takes three times as long.
    if head.startswith(_JPEG):
        found = _jpeg(head, read)
    elif head.startswith(_PNG):
        found = _png(head)
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        found = _webp(head, read)
    elif head.startswith(b"GIF8"):
        found = _probed(head)
    else:
        return _other(head, read, file_bytes)
    if found is None or not found[0] or not found[1]:
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="its header gives no size")
    width, height, orientation = found
    return ImageSize(height, width, file_bytes) if orientation >= TURNED else ImageSize(width, height, file_bytes)


def _jpeg(head: bytes, read: Read) -> Stored | None:
    """From segment to segment up to the frame header (ITU-T T.81, annex B)."""
    data, start, at, orientation = head, 0, 2, 0
    for _ in range(_MOST_PARTS):
        here = at - start
        if here + 10 > len(data):
            data, start, here = read(at, _STEP_BYTES), at, 0
            if len(data) < 10:  # noqa: PLR2004 - a frame header's size stands in its first nine bytes
                return None
        marker, length = data[here + 1], data[here + 2] << 8 | data[here + 3]
        if data[here] != 0xFF:  # noqa: PLR2004 - every marker begins so
            return None
        if marker in _FRAMES:
            height, width = data[here + 5] << 8 | data[here + 6], data[here + 7] << 8 | data[here + 8]
            return width, height, orientation
        if marker == _FILL:
            at += 1
            continue
        if marker in _NO_SEGMENT or length < 2:  # noqa: PLR2004 - the length counts its own two bytes
            return None
        end = at + 2 + length
        if marker == _APP1 and not orientation and data[here + 4 : here + 10] == _EXIF:
            inside = end - start <= len(data)
            orientation = exif.orientation(data[here + 10 : end - start] if inside else read(at + 10, length - 8))
        at = end
    return None


def _png(head: bytes) -> Stored | None:
    """IHDR is a PNG file's first chunk."""
    if head[12:16] != b"IHDR" or b"eXIf" in head:
        return _probed(head)
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"), 1


def _webp(head: bytes, read: Read) -> Stored | None:
    """By the first chunk (RFC 9649, 2.5 to 2.7); an extended file says there whether EXIF follows."""
    kind = head[12:16]
    if kind == b"VP8X" and len(head) >= 30:  # noqa: PLR2004 - where that chunk ends
        size = int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        return *size, _webp_orientation(read) if head[20] & _WEBP_HAS_EXIF else 1
    return _probed(head)


def _webp_orientation(read: Read) -> int:
    """Of the EXIF chunk, stepping over the pixels."""
    at = 30
    for _ in range(_MOST_PARTS):
        start = read(at, 8)
        if len(start) < 8:  # noqa: PLR2004 - a chunk's name and length
            break
        kind, size = struct.unpack("<4sI", start)
        if kind == b"EXIF":
            return exif.orientation(read(at + 8, size))
        at += 8 + size + size % 2
    return exif.UPRIGHT


def _probed(head: bytes) -> Stored | None:
    header = probe(head)
    return None if header is None else (header.width, header.height, header.orientation)


def _other(head: bytes, read: Read, file_bytes: int | None) -> ImageSize | Failure:
    """Formats that endpoints do not accept, and that are converted: by Pillow."""
    kind = sniff(head)
    if kind is None:
        hint = "; HEIC is not read yet, convert it to JPEG" if "HEIC" in describe(head) else ""
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message=f"this is {describe(head)}{hint}")
    try:
        with _OTHERS[kind](io.BufferedReader(_Window(read, file_bytes or MOST_REMOTE_BYTES))) as image:
            # Pillow gives the size of a TIFF file upright.
            turned = kind is not Format.TIFF and image.getexif().get(_ORIENTATION, 1) in range(TURNED, 9)
            width, height = (image.height, image.width) if turned else image.size
    except Exception as error:  # noqa: BLE001 - Pillow's plugins raise whatever their parsers stumble over
        return Failure(
            kind=ErrorKind.IMAGE_UNREADABLE, message=f"the {kind} has no readable header: {one_line(str(error))}"
        )
    return ImageSize(width, height, file_bytes)


class _Window(io.RawIOBase):
    """What Pillow reads from: only the bytes that it asks for."""

    def __init__(self, read: Read, size: int) -> None:
        self._read, self._size, self._at = read, size, 0

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - the type of buffers has no name before Python 3.12
        view = memoryview(buffer)
        data = self._read(self._at, len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at


def _os_failure(error: OSError) -> Failure:
    if error.errno in _EXHAUSTED:
        raise ResourceError(f"cannot open any more files: {error.strerror}") from None
    if error.errno in _MISSING:
        return Failure(kind=ErrorKind.IMAGE_MISSING, message="no such file")
    if error.errno in _NO_FILE:
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="not a file but a pipe or a device")
    return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=f"cannot be read: {error.strerror or error}")


async def _fetch(
    session: aiohttp.ClientSession, url: str, wanted: int, proxy: str | None
) -> tuple[bytes, int | None] | Failure:
    """One attempt at the first `wanted` bytes of an address, and its whole length where that is told.

    A server that refuses ranges, or gives another one, is asked without: a run will fetch the image from it as well.
    """
    if url.partition("://")[0].lower() not in {"http", "https"}:
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="only http and https are fetched")
    found = await _fetch_once(session, url, wanted, proxy, {"Range": f"bytes=0-{wanted - 1}"})
    if isinstance(found, Failure) and found.status in _NO_RANGES:
        return await _fetch_once(session, url, wanted, proxy, {})
    return found


async def _fetch_once(
    session: aiohttp.ClientSession, url: str, wanted: int, proxy: str | None, headers: dict[str, str]
) -> tuple[bytes, int | None] | Failure:
    headers = {**headers, "Accept-Encoding": "identity"}
    try:
        # An address that is already quoted is asked for as it is: a signature covers every character.
        target = URL(url, encoded=url.isascii() and " " not in url)
        async with session.get(target, headers=headers, proxy=proxy, timeout=_TIMEOUT) as response:
            if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                return _refusal(response)
            if not response.headers.get("Content-Range", _FROM_START).strip().startswith(_FROM_START):
                return _refusal(response, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return await _head(response, wanted), _length(response)
    except (aiohttp.InvalidURL, ValueError):
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="not a valid address")
    except TimeoutError:
        return Failure(kind=ErrorKind.FETCH_FAILED, message="no answer in time")
    except (aiohttp.ClientError, OSError) as error:
        # The name of the class: the words may repeat the address with its signature.
        return Failure(kind=ErrorKind.FETCH_FAILED, message=f"the connection failed ({type(error).__name__})")


def _refusal(response: aiohttp.ClientResponse, meant: HTTPStatus | None = None) -> Failure:
    status = response.status if meant is None else int(meant)
    kind = ErrorKind.IMAGE_MISSING if status in _GONE else ErrorKind.FETCH_FAILED
    return Failure(kind=kind, message=f"HTTP {status}", status=status, retry_after_s=retry_after(response.headers))


async def _head(response: aiohttp.ClientResponse, wanted: int) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) >= wanted:
            if response.status != HTTPStatus.PARTIAL_CONTENT:
                response.close()  # the rest is not read
            break
    return bytes(data[:wanted])


def _length(response: aiohttp.ClientResponse) -> int | None:
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        told = response.headers.get("Content-Range", "").rpartition("/")[2]
        return int(told) if told.isascii() and told.isdecimal() else None
    return response.content_length
