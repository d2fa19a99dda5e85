"""The size of an image from the first kilobytes of its file; of millions, none is read whole.

Four kilobytes are enough for nearly all of them. Where a JPEG has its frame header later (behind thumbnails and
profiles), and where a WebP file says that its EXIF follows the pixels, the segments between are stepped over without
being read. Of a PNG file EXIF counts only where it stands before the pixels.
"""

import io
import os
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

from pipeline.config.extras import has_video_extra
from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind
from pipeline.images.containers import Format, exif, probe, sniff
from pipeline.images.containers.heif import heif_facts
from pipeline.images.containers.jpeg import FRAMES, coding_not_read
from pipeline.images.containers.tiff import first_page, with_first_page
from pipeline.images.containers.values import TURNED, Read
from pipeline.images.containers.video import VideoFormat, video_format
from pipeline.images.flaws import coded_otherwise, flaw_in_words, flaw_of_type
from pipeline.images.frame_counts import frame_count
from pipeline.images.locate import open_file, os_failure
from pipeline.images.readers import READERS, WITH_EXIF
from pipeline.images.sampling import ONE, Sampling
from pipeline.images.unpacking import Part, not_read, part_of
from pipeline.locations import TarMember
from pipeline.pdf.structure import is_pdf
from pipeline.records import Failure
from pipeline.redaction.redactor import one_line

HEAD_BYTES = 4096
MOST_REMOTE_BYTES = 1 << 20
"""The most that is fetched of a remote image whose first bytes do not hold its size."""

_MOST_PARTS = 512
_STEP_BYTES = 64
_JPEG, _PNG, _EXIF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"Exif\0\0"
_APP1, _FILL = 0xE1, 0xFF
_NO_SEGMENT = frozenset({0xD8, 0xD9, 0xDA})
"""Start and end of the image, and the scan: behind these no frame header comes."""
_WEBP_HAS_EXIF = 0x08
_ORIENTATION = 0x0112
Stored = tuple[int, int, int]
"""Width and height before any rotation, and EXIF's orientation (0 and 1: upright)."""


class ImageSize(NamedTuple):
    """Pixels, upright (after EXIF rotation), and the length of the file; None where a server does not state it.

    Of a video before its rotation.
    """

    width: int
    height: int
    file_bytes: int | None
    frames: int = 1
    """Images of this size that are sent of the file."""


class WholeDocument(NamedTuple):
    """A PDF, which has no size in pixels: what it takes is unknown before it is sent."""

    file_bytes: int | None


Sized = ImageSize | WholeDocument | Failure


def read_size(path: str, sampling: Sampling = ONE) -> Sized:
    """The size of one local file, or why there is none. Blocks on the disk, never on a pipe or a device.

    Raises ResourceError where this process has no file handle or memory left.
    """
    descriptor = open_file(path)
    if isinstance(descriptor, Failure):
        return descriptor
    try:
        return _read_open(descriptor, sampling)
    except OSError as error:
        return os_failure(error)
    finally:
        os.close(descriptor)


def read_sizes(paths: Iterable[str], sampling: Sampling = ONE) -> list[Sized]:
    """`read_size` of each, in order."""
    return [read_size(path, sampling) for path in paths]


def size_in_tar(member: TarMember, sampling: Sampling = ONE) -> Sized:
    """The same of an image in a tar: the beginning of the member is read."""
    descriptor = open_file(member.path)
    if isinstance(descriptor, Failure):
        return descriptor

    def read(at: int, count: int) -> bytes:
        return os.pread(descriptor, max(0, min(count, member.size - at)), member.offset + at)

    try:
        return size_from(read(0, HEAD_BYTES), read, member.size, sampling)
    except OSError as error:
        return os_failure(error)
    finally:
        os.close(descriptor)


def size_in(data: bytes, sampling: Sampling = ONE) -> Sized:
    """The same of a whole file in memory."""
    return size_from(data[:HEAD_BYTES], lambda at, count: data[at : at + count], len(data), sampling)


def _read_open(descriptor: int, sampling: Sampling) -> Sized:
    head = os.pread(descriptor, HEAD_BYTES, 0)
    size = os.fstat(descriptor).st_size
    return size_from(head, lambda at, count: os.pread(descriptor, count, at), size, sampling)


def size_from(head: bytes, read: Read, file_bytes: int | None, sampling: Sampling = ONE) -> Sized:
    """By the first `HEAD_BYTES` of a file; `read` gives what lies behind them."""
    found = _size_from(head, read, file_bytes, sampling)
    if sampling.frames > 1 and isinstance(found, ImageSize) and found.frames == 1:
        return found._replace(frames=frame_count(head, read, file_bytes or MOST_REMOTE_BYTES, sampling))
    return found


def _size_from(head: bytes, read: Read, file_bytes: int | None, sampling: Sampling) -> Sized:
    if not head:
        return Failure(kind=ErrorKind.IMAGE_EMPTY, message="the file is empty")
    if is_pdf(head):
        return WholeDocument(file_bytes)
    # Recognised here and not by `probe`, which looks at more than the size and takes three times as long.
    found: Stored | Failure | None
    if head.startswith(_JPEG):
        found = _jpeg(head, read)
    elif head.startswith(_PNG):
        found = _png(head)
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        found = _webp(head, read)
    elif head.startswith(b"GIF8"):
        found = _probed(head)
    else:
        return _other(head, read, file_bytes, sampling)
    if isinstance(found, Failure):
        return found
    if found is None or not found[0] or not found[1]:
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="its header gives no size")
    width, height, orientation = found
    return ImageSize(height, width, file_bytes) if orientation >= TURNED else ImageSize(width, height, file_bytes)


def _jpeg(head: bytes, read: Read) -> Stored | Failure | None:
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
        if marker in FRAMES:
            if coding := coding_not_read(marker, data[here + 4]):
                return coded_otherwise(coding, Format.JPEG)
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


def _other(head: bytes, read: Read, file_bytes: int | None, sampling: Sampling) -> ImageSize | Failure:
    """Formats that endpoints do not accept, and that are converted: by Pillow, and videos by PyAV."""
    kind = sniff(head)
    if kind is None and (video := video_format(head)) is not None and has_video_extra():
        return _video(video, read, file_bytes, sampling)
    part = part_of(read, kind)
    if isinstance(part, Failure):
        return part
    if part is not None:
        return _of_part(part, read, file_bytes)
    flaw = not_read(read, kind)
    if flaw is not None or kind is None:
        return flaw or Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="this is no image")
    try:
        width, height = _heic(read) if kind is Format.HEIC else _opened(kind, read, file_bytes)
    except Exception as error:  # noqa: BLE001 - Pillow's plugins raise whatever their parsers stumble over
        return (
            flaw_of_type(error, kind)
            or flaw_in_words(error, kind)
            or Failure(
                kind=ErrorKind.IMAGE_UNREADABLE, message=f"the {kind} has no readable header: {one_line(str(error))}"
            )
        )
    return ImageSize(width, height, file_bytes)


def _heic(read: Read) -> tuple[int, int]:
    facts = heif_facts(read, pictures=False)
    return facts.width, facts.height


def _opened(kind: Format, read: Read, file_bytes: int | None) -> tuple[int, int]:
    if kind is Format.TIFF and (page := first_page(read)) is not None:
        read = _beginning_with(with_first_page(read(0, HEAD_BYTES), page), read)
    with READERS[kind].plugin(io.BufferedReader(_Window(read, file_bytes or MOST_REMOTE_BYTES))) as image:
        # Pillow gives the size of a TIFF file upright.
        turned = kind in WITH_EXIF and image.getexif().get(_ORIENTATION, 1) in range(TURNED, 9)
        return (image.height, image.width) if turned else image.size


def _beginning_with(head: bytes, read: Read) -> Read:
    """`read` of a file whose first bytes are others."""

    def changed(at: int, count: int) -> bytes:
        own = head[at : at + count]
        return own + read(at + len(own), count - len(own)) if len(own) < count else own

    return changed


def _of_part(part: Part, read: Read, file_bytes: int | None) -> ImageSize | Failure:
    """The size of a picture inside the file, upright as the file states it."""
    found = size_from(
        read(part.offset, min(HEAD_BYTES, part.length)),
        lambda at, count: read(part.offset + at, max(0, min(count, part.length - at))),
        part.length,
    )
    if not isinstance(found, ImageSize):
        return found if isinstance(found, Failure) else Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="a PDF")
    if part.orientation is None:
        return found._replace(file_bytes=file_bytes)
    header = probe(read(part.offset, part.length))
    turned = part.orientation >= TURNED
    if header is None:
        return found._replace(file_bytes=file_bytes)
    width, height = (header.height, header.width) if turned else (header.width, header.height)
    return ImageSize(width, height, file_bytes)


def _video(kind: VideoFormat, read: Read, file_bytes: int | None, sampling: Sampling) -> ImageSize | Failure:
    from pipeline.images.video_frames import opened_header  # noqa: PLC0415 - needs an extra, and a tenth of a second

    header = opened_header(io.BufferedReader(_Window(read, file_bytes or MOST_REMOTE_BYTES)), kind, ImagesConfig())
    if isinstance(header, Failure):
        return header
    return ImageSize(*header.shown, file_bytes, sampling.count(header.frames, header.duration_s))


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
