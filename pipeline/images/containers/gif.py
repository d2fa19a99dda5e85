"""GIF, read from block to block. Source: CompuServe, "Graphics Interchange Format, Version 89a"."""

import struct
from collections.abc import Iterator

from pipeline.images.containers.values import BrokenFileError, Facts, ends_inside

IMAGE = 0x2C
_EXTENSION, _TRAILER = 0x21, 0x3B
_GRAPHIC_CONTROL = 0xF9
_SCREEN_BYTES, _DESCRIPTOR_BYTES = 13, 10
_MAX_SUB_BLOCKS = 1_100_000
"""Of 255 bytes, as encoders write them, these are more than the longest file that is read by default."""
_HAS_TABLE, _TABLE_SIZE, _HAS_TRANSPARENCY = 0x80, 0x07, 0x01


def walk(data: bytes, facts: Facts, *, checked: bool) -> Iterator[tuple[int, int, bool]]:  # noqa: ARG001 - GIF has no checksums
    """See `values.Walk`. The facts are settled at the second image."""
    if len(data) < _SCREEN_BYTES:
        raise ends_inside("the screen descriptor")
    facts.width, facts.height, flags = struct.unpack_from("<HHB", data, 6)
    at = _within(data, _SCREEN_BYTES + _table_bytes(flags), "the colour table")
    yield 0, at, True
    images = 0
    while True:
        block = data[_within(data, at + 1, "a block") - 1]
        if block == IMAGE:
            images += 1
            facts.animated = facts.settled = images > 1
            end, kept = _image(data, at, facts), True
        elif block == _EXTENSION:
            end, kept = _extension(data, at, facts)
        elif block == _TRAILER and images:
            yield at, at + 1, True
            return
        else:
            raise BrokenFileError("it has no image" if block == _TRAILER else f"block 0x{block:02X} is unknown")
        yield at, end, kept
        at = end


def _image(data: bytes, at: int, facts: Facts) -> int:
    """The end of the image at `at`."""
    data_at = _within(data, at + _DESCRIPTOR_BYTES, "an image descriptor")
    left, top, width, height, flags = struct.unpack_from("<HHHHB", data, at + 1)
    if (left, top, width, height) != (0, 0, facts.width, facts.height):
        # Part of the screen stays empty, or the image reaches beyond it; what is seen then depends on the reader.
        facts.common = False
    if not facts.animated:
        facts.width, facts.height = max(facts.width, left + width), max(facts.height, top + height)
    return _sub_blocks(data, data_at + _table_bytes(flags) + 1, facts)


def _extension(data: bytes, at: int, facts: Facts) -> tuple[int, bool]:
    """(end, whether the picture needs it); all but the graphic control holds comments, loops and the like."""
    _within(data, at + 4, "an extension")
    needed = data[at + 1] == _GRAPHIC_CONTROL
    if needed and data[at + 3] & _HAS_TRANSPARENCY:
        facts.alpha = True
    return _sub_blocks(data, at + 2, facts), needed


def _sub_blocks(data: bytes, at: int, facts: Facts) -> int:
    """The end of a chain of sub-blocks: each a length and as many bytes, the last one empty."""
    size = len(data)
    for count in range(_MAX_SUB_BLOCKS - facts.sub_blocks):
        if at >= size:
            raise ends_inside("a block")
        length = data[at]
        at += 1 + length
        if not length:
            facts.sub_blocks += count + 1
            return at
    raise BrokenFileError(f"it has more than {_MAX_SUB_BLOCKS:,} sub-blocks")


def _table_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & _TABLE_SIZE) + 1) if flags & _HAS_TABLE else 0


def _within(data: bytes, end: int, what: str) -> int:
    if end > len(data):
        raise ends_inside(what)
    return end
