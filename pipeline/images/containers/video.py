"""What the bytes of a video file say without a decoder: whether it is one, is whole, and has no absurd tables.

Sources: ISO/IEC 14496-12, 4.2 and 8 (boxes); Apple, "QuickTime File Format"; RFC 8794 and RFC 9559 (Matroska).
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MOST_SAMPLES: Final = 2_000_000
"""Pictures and pieces of sound. A reader makes an entry of each in memory: of ten hours, these."""

_TOP_BOXES: Final = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
"""With these a QuickTime file may begin that has no `ftyp`."""
_IMAGE_BRANDS: Final = (b"avi", b"hei", b"hev", b"mif", b"msf")
_MEDIA_BOXES: Final = frozenset({b"mdat", b"free", b"skip", b"wide"})
_MOST_BOXES: Final = 1_000_000
_EBML: Final = b"\x1aE\xdf\xa3"
_SEGMENT: Final = b"\x18S\x80g"
_TABLE: Final = re.compile(rb"stsz|stz2|trun")
_COMPRESSED: Final = b"cmov"


class VideoFormat(StrEnum):
    """The containers that are read."""

    MP4 = "MP4"
    MATROSKA = "Matroska"


@dataclass(frozen=True, slots=True)
class VideoFlaw:
    """Why a file is not opened: in a few words, and whether it is because its data ends too early, or is too much."""

    why: str
    is_cut: bool = False
    is_too_large: bool = False


def video_format(data: bytes) -> VideoFormat | None:
    """The container of a video, by its first bytes; None for anything else, HEIC photographs included."""
    if data.startswith(_EBML):
        return VideoFormat.MATROSKA
    kind = data[4:8]
    if kind == b"ftyp":
        return None if data[8:12].startswith(_IMAGE_BRANDS) else VideoFormat.MP4
    return VideoFormat.MP4 if kind in _TOP_BOXES else None


def video_flaw(data: bytes, kind: VideoFormat) -> VideoFlaw | None:
    """What is wrong with the structure of a whole file. The pictures in it are not looked at."""
    return _matroska_flaw(data) if kind is VideoFormat.MATROSKA else _mp4_flaw(data)


def _mp4_flaw(data: bytes) -> VideoFlaw | None:
    samples, has_header = 0, False
    for number, (kind, start, end) in enumerate(_boxes(data)):
        if number > _MOST_BOXES:
            return VideoFlaw(f"it has more than {_MOST_BOXES:,} boxes", is_too_large=True)
        if end > len(data):
            return VideoFlaw(f"the data ends inside the box {kind.decode()!r}", is_cut=True)
        if kind in _MEDIA_BOXES:
            continue
        has_header = has_header or kind == b"moov"
        if kind == b"moov" and data.find(_COMPRESSED, start, min(end, start + 64)) >= 0:
            return VideoFlaw("its header is compressed, which only the oldest QuickTime files have")
        samples += _sample_count(data, start, end)
    if samples > MOST_SAMPLES:
        return VideoFlaw(
            f"it says that it has {samples:,} samples, more than the {MOST_SAMPLES:,} that are read", is_too_large=True
        )
    return None if has_header else VideoFlaw("the data ends before its header (moov)", is_cut=True)


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each box of a file; the last one may end behind the file. Ends at what is no box."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, at + 8)
        elif size == 0:
            size = len(data) - at
        if size < 8 or not kind.isascii() or not kind.strip().isalnum():  # noqa: PLR2004 - of its own size and kind
            return
        yield kind, at, at + size
        at += size


def _sample_count(data: bytes, start: int, end: int) -> int:
    """As the tables in this part of a file state it: sizes of samples (`stsz`) and runs of fragments (`trun`)."""
    total = 0
    for found in _TABLE.finditer(data, start, end):
        at = found.end() + (4 if found[0] == b"trun" else 8)
        total += int.from_bytes(data[at : at + 4], "big")
    return total


def _matroska_flaw(data: bytes) -> VideoFlaw | None:
    """The segment's own length, where it states one: what is recorded live does not."""
    at = data.find(_SEGMENT, 0, 4096)
    if at < 0:
        return VideoFlaw("it has no segment", is_cut=True)
    first = data[at + 4 : at + 5]
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    stated = int.from_bytes(data[at + 4 : at + 4 + length], "big") & ((1 << 7 * length) - 1)
    is_open = stated == (1 << 7 * length) - 1
    end = at + 4 + length + stated
    if is_open or end <= len(data):
        return None
    return VideoFlaw("the data ends inside its segment", is_cut=True)
