"""RAW photographs whose directories are TIFF's: which files they are, and where their previews stand.

Canon CR2, Nikon NEF, Sony ARW, Adobe DNG, Pentax PEF, Samsung SRW, Panasonic RW2, Olympus ORF. Sources: TIFF 6.0,
section 2; Adobe, "DNG 1.7"; CIPA DC-008 (EXIF).
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from pipeline.images.containers.values import Read

_MOST_DIRECTORIES: Final = 64
_MOST_ENTRIES: Final = 1_000
_MOST_VALUES: Final = 16
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1, 9: 4, 13: 4}
_COMPRESSION, _PHOTOMETRIC, _STRIPS, _ORIENTATION, _STRIP_BYTES = 259, 262, 273, 274, 279
_SUB_DIRECTORIES, _JPEG_AT, _JPEG_BYTES, _EXIF, _MAKER_NOTE, _DNG = 330, 513, 514, 34665, 37500, 50706
_PANASONIC_JPEG: Final = 46
_OLYMPUS_CAMERA, _OLYMPUS_PREVIEW_AT, _OLYMPUS_PREVIEW_BYTES = 0x2020, 0x0101, 0x0102
_SENSOR: Final = frozenset({32803, 34892})
"""Photometric interpretations: samples of a colour filter, and those of a sensor without one."""
_JPEG: Final = frozenset({6, 7})
_TURNS: Final = range(1, 9)

Tags = dict[int, tuple[int, ...]]


class Preview(NamedTuple):
    """A JPEG file inside the file, and the orientation that the file states."""

    offset: int
    length: int
    orientation: int | None


def is_raw_tiff(read: Read) -> bool:
    """Whether a file that begins as TIFF is a RAW photograph."""
    if read(8, 2) == b"CR":
        return True
    return any(_DNG in tags or set(tags.get(_PHOTOMETRIC, ())) & _SENSOR for tags, _ in _directories(read, 0))


def previews(read: Read, base: int = 0, *, only_orientation: bool = False) -> Iterator[Preview]:
    """Every JPEG that a directory names. `base` is where the TIFF structure begins."""
    orientation: int | None = None
    for number, (tags, data_base) in enumerate(_directories(read, base)):
        if not number:
            stated = tags.get(_ORIENTATION, (0,))[0]
            orientation = stated if stated in _TURNS else None
            if only_orientation:
                yield Preview(0, 0, orientation)
                return
        yield from (Preview(data_base + at, length, orientation) for at, length in _named(tags) if length)


def _named(tags: Tags) -> Iterator[tuple[int, int]]:
    if _JPEG_AT in tags and _JPEG_BYTES in tags:
        yield tags[_JPEG_AT][0], tags[_JPEG_BYTES][0]
    if len(tags.get(_STRIPS, ())) == 1 == len(tags.get(_STRIP_BYTES, ())) and set(tags.get(_COMPRESSION, ())) & _JPEG:
        yield tags[_STRIPS][0], tags[_STRIP_BYTES][0]
    if _OLYMPUS_PREVIEW_AT in tags and _OLYMPUS_PREVIEW_BYTES in tags:
        yield tags[_OLYMPUS_PREVIEW_AT][0], tags[_OLYMPUS_PREVIEW_BYTES][0]
    if _PANASONIC_JPEG in tags:
        yield tags[_PANASONIC_JPEG][0], tags[_PANASONIC_JPEG][1]


def _directories(read: Read, base: int) -> Iterator[tuple[Tags, int]]:
    """The tags of every directory that can be reached, the first of the file first, and what its offsets count from."""
    head = read(base, 8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8 or b"+" in head[2:4]:  # noqa: PLR2004 - the header; of 64 bits no camera writes
        return
    (first,) = struct.unpack_from(f"{order}I", head, 4)
    waiting, seen = [(base + first, base)], set[int]()
    while waiting and len(seen) < _MOST_DIRECTORIES:
        at, data_base = waiting.pop(0)
        if at in seen:
            continue
        seen.add(at)
        tags, following = _tags(read, at, order, data_base)
        yield tags, data_base
        inside = [*tags.get(_SUB_DIRECTORIES, ()), *tags.get(_EXIF, ()), *tags.get(_OLYMPUS_CAMERA, ()), following]
        waiting += [(data_base + one, data_base) for one in inside if one]
        if _MAKER_NOTE in tags:
            note = data_base + tags[_MAKER_NOTE][0]
            if read(note, 8) == b"OLYMPUS\0":
                waiting.append((note + 12, note))


def _tags(read: Read, at: int, order: str, base: int) -> tuple[Tags, int]:
    """The whole numbers of a directory, and where the next one is; of long data its place and its length."""
    count = int.from_bytes(read(at, 2), "little" if order == "<" else "big")
    if count > _MOST_ENTRIES:
        return {}, 0
    entries = read(at + 2, 12 * count + 4)
    tags: Tags = {}
    for start in range(0, min(12 * count, len(entries) - 11), 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", entries, start)
        if kind not in _SIZES or not values:
            continue
        if kind in (2, 7) or (kind == 1 and values > 4):  # noqa: PLR2004 - what fits into the entry
            tags[tag] = struct.unpack_from(f"{order}I", entries, start + 8)[0], values
            continue
        number, size = min(values, _MOST_VALUES), _SIZES[kind]
        body = entries[start + 8 : start + 12]
        if size * values > 4:  # noqa: PLR2004 - as above
            (offset,) = struct.unpack(f"{order}I", body)
            body = read(base + offset, size * number)
        letter = {1: "B", 2: "H", 4: "I"}[size]
        if len(body) >= size * number:
            tags[tag] = struct.unpack_from(f"{order}{number}{letter}", body)
            if values > number:
                tags[tag] += (0,)  # more than are listed
    if len(entries) < 12 * count + 4:
        return tags, 0
    return tags, int(struct.unpack_from(f"{order}I", entries, 12 * count)[0])
