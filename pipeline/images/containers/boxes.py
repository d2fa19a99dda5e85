"""Boxes: the parts that HEIF files and RAW photographs of Canon are made of (ISO/IEC 14496-12, 4.2)."""

import struct
from collections.abc import Iterator
from typing import Final

from pipeline.images.containers.values import BrokenFileError, Read

_MOST_BOXES: Final = 1_000
TO_THE_END: Final = 1 << 62
"""Stands for the end of a box that goes on to the end of the file."""


def boxes(read: Read, at: int, end: int | None) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start of its body, end) of each box from `at` on, up to `end` or the end of the file.

    Raises BrokenFileError for a box that reaches beyond `end`, or that has no room for its own size.
    """
    for _ in range(_MOST_BOXES):
        head = read(at, 16) if end is None else read(at, min(16, end - at))
        if len(head) < 8:  # noqa: PLR2004 - of its size and kind
            return
        size, kind = struct.unpack_from(">I4s", head)
        body = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", head, 8)
            body = at + 16
        elif size == 0:
            size = (end - at) if end is not None else TO_THE_END
        if size < body - at or (end is not None and at + size > end):
            raise BrokenFileError("a box is longer than the one that it is in")
        yield kind, body, at + size
        at += size
