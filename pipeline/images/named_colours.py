"""Files that name their colours by number and have no profile (ITU-T H.273): Display P3 of phones, as an ICC profile.

HEIC and AVIF say it in the box `colr` (`nclx`), PNG in the chunk `cICP`. The profile is a matrix and a curve (ICC.1,
annex F); its colourants are Display P3's, adapted to D50.
"""

import re
import struct
from functools import cache
from typing import Final

from pipeline.images.containers import Format

_HEAD_BYTES: Final = 65_536
_BOX: Final = re.compile(rb"colrnclx(..)(..)", re.DOTALL)
_CHUNK: Final = re.compile(rb"\0\0\0\x04cICP(.)(.)", re.DOTALL)
_PATTERNS: Final = {Format.HEIC: _BOX, Format.AVIF: _BOX, Format.PNG: _CHUNK}
_DISPLAY_P3: Final = 12
_CURVES: Final = frozenset({1, 2, 6, 13})
"""Transfer functions that are taken for sRGB's: its own, those of television, and "unspecified"; none of HDR."""

_D50: Final = (0.9642, 1.0, 0.8249)
_COLOURANTS: Final = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
_GAMMA, _SLOPE, _OFFSET, _LINEAR, _BREAK = 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045


def named_profile(data: bytes, kind: Format) -> bytes | None:
    """The ICC profile of colours that a file names; None where they are sRGB's, or not known."""
    pattern = _PATTERNS.get(kind)
    found = pattern.search(data, 0, _HEAD_BYTES) if pattern is not None else None
    if found is None:
        return None
    primaries, transfer = (int.from_bytes(part, "big") for part in found.groups())
    return display_p3() if primaries == _DISPLAY_P3 and transfer in _CURVES else None


@cache
def display_p3() -> bytes:
    """The primaries of DCI-P3, the white of D65 and the curve of sRGB."""
    curve = (
        b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + b"".join(map(_fixed, (_GAMMA, _SLOPE, _OFFSET, _LINEAR, _BREAK)))
    )
    text = b"desc\0\0\0\0" + struct.pack(">I", 11) + b"Display P3\0" + bytes(79)
    tags = [(b"wtpt", _xyz(_D50)), (b"desc", text), (b"cprt", b"text\0\0\0\0none\0\0\0\0")]
    tags += [(name, _xyz(colourant)) for name, colourant in zip((b"rXYZ", b"gXYZ", b"bXYZ"), _COLOURANTS, strict=True)]
    tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, part in tags:
        table += name + struct.pack(">II", start + len(body), len(part))
        body += part + bytes(-len(part) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0") + b"".join(map(_fixed, _D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))
