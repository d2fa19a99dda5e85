"""Pictures inside files that hold several: the preview of a RAW photograph, the largest picture of an icon.

What is found is a part of the file in a format that is read by itself, so that all that holds for such a file holds for
it. Sources: TIFF 6.0; Adobe, "DNG 1.7"; the directories of each maker as ExifTool's documentation names them; Apple's
ICNS and Microsoft's ICO, which are lists of pictures.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pipeline.images.containers.boxes import boxes
from pipeline.images.containers.raw_tiff import Preview, is_raw_tiff, previews
from pipeline.images.containers.values import BrokenFileError, Format, Header, Read, UnsupportedFileError, ends_inside

_HEAD_BYTES: Final = 65_536
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG2000: Final = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"\r\n\x87\n")
_MOST_ENTRIES: Final = 1_000
_MOST_DEPTH: Final = 8
_CR3_META: Final = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_CR3_PREVIEW: Final = bytes.fromhex("eaf42b5e1c984b88b9fbb7dc406e4d16")
_TREE: Final = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})


@dataclass(frozen=True, slots=True)
class Embedded:
    """A part of a file that is a picture by itself."""

    offset: int
    length: int
    orientation: int | None = None
    """EXIF's, where the file around it states one; None: as the part itself says."""


def embedded_in(read: Read, kind: Format | None, measure: Callable[[bytes], Header | None]) -> Embedded | None:
    """The picture to send of a RAW, ICNS or ICO file; None for any other, and where an icon is to be read as such.

    `measure` gives the size of a picture by its first bytes. Raises BrokenFileError where a RAW file has no preview.
    """
    try:
        if kind is Format.ICNS:
            return _of_icns(read, measure)
        if kind is Format.ICO:
            return _of_ico(read)
        if kind is Format.TIFF and not is_raw_tiff(read):
            return None
        return _raw_preview(read, measure) if kind in (Format.TIFF, Format.RAW) else None
    except (struct.error, IndexError, OverflowError):
        raise ends_inside("its directory") from None


def _raw_preview(read: Read, measure: Callable[[bytes], Header | None]) -> Embedded:
    found: list[tuple[int, Embedded]] = []
    for number, (offset, length, orientation) in enumerate(_previews(read)):
        if number > _MOST_ENTRIES:
            break
        header = measure(read(offset, min(length, _HEAD_BYTES)))
        if header is not None and header.format is Format.JPEG and header.common:
            found.append((header.width * header.height, Embedded(offset, length, orientation)))
    if not found:
        raise UnsupportedFileError("this RAW photograph has no preview that can be read; convert it to JPEG or TIFF")
    return max(found, key=lambda one: one[0])[1]


def _previews(read: Read) -> Iterator[Preview]:
    head = read(0, 128)
    if head.startswith(b"FUJIFILMCCD-RAW "):
        offset, length = struct.unpack_from(">II", head, 84)
        yield Preview(offset, length, None)
    elif head[4:8] == b"ftyp":
        yield from _of_cr3(read)
    else:
        yield from previews(read)


def _of_cr3(read: Read) -> Iterator[Preview]:
    """Canon's third format: boxes as in a video; the first track is the whole photograph as JPEG."""
    places: dict[bytes, int] = {}
    orientation: int | None = None
    for kind, at in _boxes_within(read, 0, None, 0):
        if kind == b"CMT1":
            orientation = next((one.orientation for one in previews(read, at, only_orientation=True)), None)
        elif kind in (b"stsz", b"co64", b"stco") and kind not in places:
            places[kind] = at
        elif kind == b"PRVW":
            (length,) = struct.unpack(">I", read(at + 12, 4))
            yield Preview(at + 16, length, orientation)
    offset = _first_offset(read, places)
    if offset is not None and b"stsz" in places:
        same, _, first = struct.unpack(">III", read(places[b"stsz"] + 4, 12))
        yield Preview(offset, same or first, orientation)


def _first_offset(read: Read, places: dict[bytes, int]) -> int | None:
    if b"co64" in places:
        return int(struct.unpack(">Q", read(places[b"co64"] + 8, 8))[0])
    return int(struct.unpack(">I", read(places[b"stco"] + 8, 4))[0]) if b"stco" in places else None


def _boxes_within(read: Read, at: int, end: int | None, depth: int) -> Iterator[tuple[bytes, int]]:
    """(kind, start of its body) of each box of a CR3 file and of those that hold others, up to a broken one."""
    if depth > _MOST_DEPTH:
        return
    with suppress(BrokenFileError):
        for kind, body, after in boxes(read, at, end):
            yield kind, body
            if kind in _TREE:
                yield from _boxes_within(read, body, after, depth + 1)
            elif kind == b"uuid":
                mark = read(body, 16)
                if mark in (_CR3_META, _CR3_PREVIEW):
                    yield from _boxes_within(read, body + (16 if mark == _CR3_META else 24), after, depth + 1)


def _of_icns(read: Read, measure: Callable[[bytes], Header | None]) -> Embedded | None:
    """The largest PNG or JPEG 2000 picture; None where there are only the small ones of the first version."""
    found: list[tuple[int, Embedded]] = []
    at, (size,) = 8, struct.unpack(">I", read(4, 4))
    for number in range(_MOST_ENTRIES + 1):
        head = read(at, 8)
        if at >= size or len(head) < 8:  # noqa: PLR2004 - kind and length
            break
        if number == _MOST_ENTRIES:
            raise BrokenFileError(f"it has more than {_MOST_ENTRIES:,} pictures")
        (length,) = struct.unpack_from(">I", head, 4)
        if length < 8:  # noqa: PLR2004 - its own eight bytes
            break
        start = read(at + 8, 64)
        if start.startswith((_PNG, *_JPEG2000)):
            found.append((_pixels(start, measure), Embedded(at + 8, length - 8)))
        at += length
    return max(found, key=lambda one: one[0])[1] if found else None


def _pixels(start: bytes, measure: Callable[[bytes], Header | None]) -> int:
    header = measure(start)
    if header is not None:
        return header.width * header.height
    at = start.find(b"ihdr")
    if at < 0 or at + 12 > len(start):
        return 1
    height, width = struct.unpack_from(">II", start, at + 4)
    return int(height * width)


def _of_ico(read: Read) -> Embedded | None:
    """The largest picture, where it is a PNG file."""
    entry = ico_entry(read)
    offset, length = struct.unpack_from("<II", entry, 8)[::-1]
    return Embedded(offset, length) if read(offset, 8) == _PNG else None


def ico_entry(read: Read) -> bytes:
    """The sixteen bytes that describe the largest picture of an icon or a cursor, of equal ones the deepest."""
    kind, count = struct.unpack("<HH", read(2, 4))
    entries = [read(6 + 16 * number, 16) for number in range(min(count, _MOST_ENTRIES))]
    whole = [entry for entry in entries if len(entry) == 16]  # noqa: PLR2004 - of one entry
    if not whole:
        raise ends_inside("its directory")
    return max(whole, key=lambda entry: ((entry[0] or 256) * (entry[1] or 256), entry[6] if kind == 1 else 0))
