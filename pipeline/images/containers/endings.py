"""Whether a file that no decoder takes has been cut off: it states more bytes than it has.

For formats whose structure `inspect` does not check. Sources: TIFF 6.0, section 2; BigTIFF; ISO/IEC 14496-12, 4.2;
ITU-T T.800, A.4.
"""

import struct
from contextlib import suppress
from typing import Final

from pipeline.images.containers.boxes import TO_THE_END, boxes
from pipeline.images.containers.tiff import layout
from pipeline.images.containers.values import BrokenFileError, Format

_STARTS, _SIZES = (273, 324), (279, 325)
"""Where strips or tiles stand, and how long they are."""
_LETTERS: Final = {3: "H", 4: "I", 16: "Q"}
_MOST_ENTRIES: Final = 1_000
_MOST_STRIPS: Final = 200_000
_END_OF_STREAM: Final = b"\xff\xd9"
_IN_BOXES: Final = (b"ftyp", b"jP  ")


def ends_early(data: bytes, kind: Format) -> bool:
    """Of a file that cannot be decoded."""
    if kind is Format.TIFF:
        try:
            return _tiff_needs(data) > len(data)
        except (struct.error, OverflowError):
            return True
    if data[4:8] in _IN_BOXES:
        end = 0
        with suppress(BrokenFileError, struct.error):
            for _, _, after in boxes(lambda at, count: data[at : at + count], 0, None):
                end = after
        if len(data) < end < TO_THE_END:
            return True
    return kind is Format.JPEG2000 and _END_OF_STREAM not in data[-64:]


def _tiff_needs(data: bytes) -> int:
    """Bytes up to the end of the last strip of the first page."""
    order, is_big = layout(data)
    head, word, step = ("Q", "Q", 20) if is_big else ("H", "I", 12)
    (at,) = struct.unpack_from(order + word, data, 8 if is_big else 4)
    (entries,) = struct.unpack_from(order + head, data, at)
    first, inline = at + struct.calcsize(order + head), step - 4 - struct.calcsize(word)
    end: int = first + entries * step
    found: dict[int, tuple[int, ...]] = {}
    for entry in range(first, first + min(entries, _MOST_ENTRIES) * step, step):
        tag, kind, count = struct.unpack_from(f"{order}HH{word}", data, entry)
        if tag in _STARTS + _SIZES and kind in _LETTERS and count <= _MOST_STRIPS:
            layout_of = f"{order}{count}{_LETTERS[kind]}"
            where = entry + step - inline
            if struct.calcsize(layout_of) > inline:
                (where,) = struct.unpack_from(order + word, data, where)
            found[tag] = struct.unpack_from(layout_of, data, where)
    for starts, sizes in zip(_STARTS, _SIZES, strict=True):
        end = max([end, *map(sum, zip(found.get(starts, ()), found.get(sizes, ()), strict=False))])
    return end
