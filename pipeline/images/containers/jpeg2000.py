"""JPEG 2000: what its code stream says of its samples, and the profile of the file around it. Source: ITU-T T.800."""

import re
import struct
from contextlib import suppress
from typing import Final, NamedTuple

from pipeline.images.containers.boxes import boxes
from pipeline.images.containers.values import BrokenFileError, Read

_SIZE_MARK: Final = b"\xff\x4f\xff\x51"
_SIZE_FIELDS: Final = struct.Struct(">HHIIIIIIIIH")
_MOST_COMPONENTS: Final = 16_384
_HEAD_BYTES: Final = 65_536
_PROFILE_BOX: Final = re.compile(rb"(....)colr\x02..", re.DOTALL)
_PILLOW_BITS, _TAKEN_FOR_EIGHT = 8, 9


class Samples(NamedTuple):
    """The SIZ segment (A.5.1), which a code stream begins with."""

    end: int
    """Where its next segment stands."""
    width: int
    height: int
    tile_width: int
    tile_height: int
    components: int
    bits: int
    """Of a sample of the deepest component."""


def samples_of(read: Read) -> Samples | None:
    """None where the file has no whole SIZ segment."""
    with suppress(BrokenFileError, struct.error):
        at = 0
        if read(0, 4) != _SIZE_MARK:
            at = next((body for kind, body, _ in boxes(read, 0, None) if kind == b"jp2c"), 0)
        if read(at, 4) != _SIZE_MARK:
            return None
        length, _, right, bottom, left, top, width, height, _, _, components = _SIZE_FIELDS.unpack(
            read(at + 4, _SIZE_FIELDS.size)
        )
        depths = read(at + 4 + _SIZE_FIELDS.size, 3 * min(components, _MOST_COMPONENTS))[::3]
        bits = max((1 + (depth & 127) for depth in depths), default=0)
        return Samples(at + 4 + length, right - left, bottom - top, width, height, components, bits)
    return None


def coding_not_read(read: Read) -> str | None:
    """How deep the samples are, where Pillow would round them so that white becomes black: all but those of grey."""
    samples = samples_of(read)
    if samples is None or samples.bits <= _PILLOW_BITS:
        return None
    is_read = samples.components == 1 and samples.bits != _TAKEN_FOR_EIGHT
    return None if is_read else f"{samples.bits} bits a sample"


def profile_of(data: bytes) -> bytes | None:
    """The ICC profile in the box `colr` (I.5.3.3), which Pillow does not give."""
    box = _PROFILE_BOX.search(data, 0, _HEAD_BYTES)
    return None if box is None else data[box.end() : box.start() + int.from_bytes(box[1], "big")]
