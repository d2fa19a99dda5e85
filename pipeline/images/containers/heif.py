"""HEIF as phones write it (HEIC): the picture's size, its turns, and what its decoder will allocate, without a decoder.

Sources: ISO/IEC 23008-12 (items, properties, grids, HEVC items); ISO/IEC 14496-12, 8.11 (`meta`); ISO/IEC 14496-15,
8.3.3 (`hvcC`); ITU-T H.265, 7.3 (parameter sets).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pipeline.images.containers.boxes import boxes
from pipeline.images.containers.hevc import CodedPicture, coded_picture
from pipeline.images.containers.values import BrokenFileError, Read, UnsupportedFileError, ends_inside

_MOST_META_BYTES: Final = 8_000_000
_MOST_ITEMS: Final = 4_000
_MOST_NALS: Final = 20_000
_MOST_COVERING: Final = 4
_LEAST_COVERING: Final = 4_000_000
"""Pixels of all tiles, against those of the picture; a small picture may have tiles that reach far beyond it."""
_QUARTERS: Final = 4
_SPS: Final = 33
_MOST_PARAMETER_SETS: Final = (32, 35)
_LAST_PICTURE_NAL: Final = 31
_ALPHA: Final = b"alpha"


@dataclass(frozen=True, slots=True)
class HeifFacts:
    """What a HEIF file says of its primary picture."""

    width: int
    height: int
    """As it is shown: after its own turns (`irot`, `imir`) and crop (`clap`)."""
    canvas: tuple[int, int]
    """As it is coded."""
    tile: CodedPicture
    """The largest coded picture, as the parameter sets of its decoder state it."""
    has_alpha: bool = False


@dataclass(slots=True)
class _Meta:
    primary: int = 0
    types: dict[int, bytes] = field(default_factory=dict)
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Kind and body of each; the first has the number 1."""
    owned: dict[int, list[int]] = field(default_factory=dict)
    extents: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Offset and length in the file of the parts of each item."""
    references: list[tuple[bytes, int, tuple[int, ...]]] = field(default_factory=list)
    data: tuple[int, int] = (0, 0)
    """Where the box `idat` stands."""
    units: int = 0
    """Of coded pictures, as far as they were looked at."""


def heif_facts(read: Read, *, pictures: bool = True) -> HeifFacts:
    """Raises BrokenFileError where the file is broken, or coded in a way that is not read.

    `pictures`: look at the coded pictures too, for what they make the decoder allocate.
    """
    try:
        meta = _meta(read)
        return _facts(meta, read, pictures=pictures)
    except (struct.error, IndexError):
        raise ends_inside("its description (meta)") from None


def _facts(meta: _Meta, read: Read, *, pictures: bool) -> HeifFacts:
    kind = meta.types.get(meta.primary)
    if kind is None:
        raise BrokenFileError("it has no primary picture")
    if kind not in (b"hvc1", b"grid"):
        raise UnsupportedFileError(f"this HEIF file is coded as {kind!a}, and only HEVC is read; convert it to JPEG")
    canvas = _canvas(meta, meta.primary)
    alpha = [
        item for what, item, of in meta.references if what == b"auxl" and meta.primary in of and _is_alpha(meta, item)
    ]
    largest = _largest(meta, read, [meta.primary, *alpha]) if pictures else CodedPicture(*canvas, 0)
    width, height = _shown(meta, *canvas)
    return HeifFacts(width, height, canvas, largest, bool(alpha))


def _is_alpha(meta: _Meta, item: int) -> bool:
    return any(kind == b"auxC" and _ALPHA in body for kind, body in _own(meta, item))


def _canvas(meta: _Meta, item: int) -> tuple[int, int]:
    for kind, body in _own(meta, item):
        if kind == b"ispe":
            width, height = struct.unpack_from(">II", body, 4)
            if width and height:
                return width, height
    raise BrokenFileError("it does not state the size of its picture")


def _own(meta: _Meta, item: int) -> Iterator[tuple[bytes, bytes]]:
    for number in meta.owned.get(item, ()):
        if 1 <= number <= len(meta.properties):
            yield meta.properties[number - 1]


def _shown(meta: _Meta, width: int, height: int) -> tuple[int, int]:
    """After the transformations, in the order in which they are stated."""
    for kind, body in _own(meta, meta.primary):
        if kind == b"irot" and body[0] % _QUARTERS % 2:
            width, height = height, width
        elif kind == b"clap":
            wide, wide_under, high, high_under = struct.unpack_from(">IIII", body)
            if not wide_under or not high_under or wide > width * wide_under or high > height * high_under:
                raise BrokenFileError("it is cropped to more than it has")
            width, height = max(1, wide // wide_under), max(1, high // high_under)
    return width, height


def _largest(meta: _Meta, read: Read, items: list[int]) -> CodedPicture:
    """The widest, highest and deepest that the coded pictures of these items and of the tiles of grids are."""
    coded: list[int] = []
    for item in items:
        tiles = [of for what, owner, of in meta.references if what == b"dimg" and owner == item]
        coded += [tile for of in tiles for tile in of] if meta.types.get(item) == b"grid" else [item]
    if not coded or any(meta.types.get(item) != b"hvc1" for item in coded):
        raise UnsupportedFileError("this HEIF file has tiles that are not coded as HEVC, or none; convert it to JPEG")
    if len(coded) > _MOST_ITEMS:
        raise BrokenFileError(f"it has more than {_MOST_ITEMS:,} tiles")
    pictures = {item: _coded(meta, read, item) for item in dict.fromkeys(coded)}
    width, height = _canvas(meta, meta.primary)
    if sum(_pixels(pictures[item]) for item in coded) > _MOST_COVERING * width * height + _LEAST_COVERING:
        raise BrokenFileError("its tiles are much larger than its picture")
    return _larger(list(pictures.values()))


def _coded(meta: _Meta, read: Read, item: int) -> CodedPicture:
    configuration = next((body for kind, body in _own(meta, item) if kind == b"hvcC"), None)
    if configuration is None:
        raise BrokenFileError("its decoder has no configuration (hvcC)")
    found = [CodedPicture(*_canvas(meta, item), 0)]
    found += [coded_picture(nal) for kind, nal in _configured(configuration) if kind == _SPS]
    began = 0
    for kind, nal in _nals(meta, read, item, (configuration[21] & 3) + 1):
        if kind == _SPS:
            found.append(coded_picture(nal))
        began += kind <= _LAST_PICTURE_NAL and nal[2:3] >= b"\x80"
    if began > 1:
        raise BrokenFileError("a picture of it holds several pictures")
    return _larger(found)


def _larger(pictures: list[CodedPicture]) -> CodedPicture:
    largest = max(pictures, key=_pixels)
    return largest._replace(pixel_bytes=max(one.pixel_bytes for one in pictures))


def _pixels(picture: CodedPicture) -> int:
    return picture.width * picture.height


def _configured(body: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, bytes) of the parameter sets in `hvcC`."""
    at = 23
    for _ in range(body[22]):
        kind, count = body[at] & 0x3F, int.from_bytes(body[at + 1 : at + 3], "big")
        at += 3
        for _ in range(min(count, _MOST_NALS)):
            (length,) = struct.unpack_from(">H", body, at)
            yield kind, body[at + 2 : at + 2 + length]
            at += 2 + length


def _nals(meta: _Meta, read: Read, item: int, length: int) -> Iterator[tuple[int, bytes]]:
    """(kind, first bytes) of the units of an item; of parameter sets all bytes."""
    for start, size in meta.extents.get(item, ()):
        at, end = start, start + size
        while at + length < end:
            meta.units += 1
            head = read(at, length + 3)
            if meta.units > _MOST_NALS:
                raise BrokenFileError(f"its pictures have more than {_MOST_NALS:,} parts")
            if len(head) < length + 1:
                raise ends_inside("a picture")
            unit, kind = int.from_bytes(head[:length], "big"), head[length] >> 1 & 0x3F
            yield kind, read(at + length, min(unit, 4096)) if kind in range(*_MOST_PARAMETER_SETS) else head[length:]
            at += length + unit


def _meta(read: Read) -> _Meta:
    found = _Meta()
    for kind, start, end in boxes(read, 0, None):
        if kind == b"meta":
            if end - start > _MOST_META_BYTES:
                raise BrokenFileError("its description (meta) is too long")
            body = read(start, end - start)
            if len(body) < end - start:
                raise ends_inside("its description (meta)")
            _read_meta(found, body, start)
            return found
    raise BrokenFileError("it describes no picture (it has no box meta)")


def _inside(body: bytes, start: int) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of the boxes in these bytes, from `start` on."""
    for kind, at, end in boxes(lambda begin, count: body[begin : begin + count], start, len(body)):
        yield kind, body[at:end]


def _read_meta(found: _Meta, body: bytes, offset: int) -> None:
    for kind, at, end in boxes(lambda begin, count: body[begin : begin + count], 4, len(body)):
        if kind == b"idat":
            found.data = offset + at, offset + end
    for kind, part in _inside(body, 4):
        match kind:
            case b"pitm":
                found.primary = _number(part, 4, 4 if part[0] else 2)
            case b"iinf":
                _read_items(found, part)
            case b"iprp":
                _read_properties(found, part)
            case b"iloc":
                _read_places(found, part)
            case b"iref":
                _read_references(found, part)


def _number(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise ends_inside("its description (meta)")
    return int.from_bytes(data[at : at + size], "big")


def _read_items(found: _Meta, body: bytes) -> None:
    for kind, entry in _inside(body, 6 if body[0] == 0 else 8):
        if kind == b"infe" and entry[0] in (2, 3) and len(found.types) < _MOST_ITEMS:
            size = 2 if entry[0] == 2 else 4  # noqa: PLR2004 - versions of the box
            if not _is_text(entry[6 + size :]):
                raise BrokenFileError(
                    "an item of it has no readable name"
                )  # the decoder's library would not survive it
            found.types[_number(entry, 4, size)] = entry[6 + size : 10 + size]


def _is_text(data: bytes) -> bool:
    """Kind, name and type of an item: UTF-8, and its kind ASCII."""
    try:
        return data[:4].isascii() and data.decode() is not None
    except UnicodeDecodeError:
        return False


def _read_properties(found: _Meta, body: bytes) -> None:
    for kind, part in _inside(body, 0):
        if kind == b"ipco":
            found.properties += _inside(part, 0)
        elif kind == b"ipma":
            _read_owners(found, part)


def _read_owners(found: _Meta, body: bytes) -> None:
    id_size, wide = 4 if body[0] else 2, body[3] & 1
    at = 8
    for _ in range(min(_number(body, 4, 4), _MOST_ITEMS)):
        item, count = _number(body, at, id_size), _number(body, at + id_size, 1)
        at += id_size + 1
        numbers = [_number(body, at + n * (1 + wide), 1 + wide) & (0x7FFF if wide else 0x7F) for n in range(count)]
        found.owned.setdefault(item, []).extend(numbers)
        at += count * (1 + wide)


def _read_references(found: _Meta, body: bytes) -> None:
    size = 4 if body[0] else 2
    for kind, part in _inside(body, 4):
        count = min(_number(part, size, 2), _MOST_ITEMS)
        items = tuple(_number(part, size + 2 + size * n, size) for n in range(count))
        found.references.append((kind, _number(part, 0, size), items))


def _read_places(found: _Meta, body: bytes) -> None:
    """`iloc` (ISO/IEC 14496-12, 8.11.3): offsets in the file, or in `idat`."""
    version = body[0]
    offset_size, length_size, base_size = body[4] >> 4, body[4] & 15, body[5] >> 4
    index_size = body[5] & 15 if version else 0
    id_size = 4 if version == 2 else 2  # noqa: PLR2004 - the version of the box
    at = 6 + id_size
    for _ in range(min(_number(body, 6, id_size), _MOST_ITEMS)):
        item = _number(body, at, id_size)
        at += id_size
        method = _number(body, at, 2) & 15 if version else 0
        at += (2 if version else 0) + 2
        base = _number(body, at, base_size) + (found.data[0] if method == 1 else 0)
        at += base_size
        parts = found.extents.setdefault(item, [])
        count = _number(body, at, 2)
        at += 2
        for _ in range(min(count, _MOST_ITEMS)):
            offset = _number(body, at + index_size, offset_size)
            parts.append((base + offset, _number(body, at + index_size + offset_size, length_size)))
            at += index_size + offset_size + length_size
