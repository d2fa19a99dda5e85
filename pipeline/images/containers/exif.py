"""The one EXIF field that changes a picture. Sources: CIPA DC-008 (Exif 2.32), 4.6.4; TIFF 6.0, section 2."""

import struct

UPRIGHT = 1
_ORIENTATION = 0x0112
_SHORT, _LONG = 3, 4


def orientation(block: bytes) -> int:
    """1 to 8 from an EXIF block, with or without its `Exif` mark; 1 where it is absent or makes no sense."""
    try:
        value = _orientation(block.removeprefix(b"Exif\0\0"))
    except struct.error:
        return UPRIGHT
    return value if 1 <= value <= 8 else UPRIGHT  # noqa: PLR2004 - EXIF names eight orientations


def _orientation(tiff: bytes) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return UPRIGHT
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
    for at in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(f"{order}HH", tiff, at)
        if tag == _ORIENTATION and kind in (_SHORT, _LONG):
            value: int = struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", tiff, at + 8)[0]
            return value
    return UPRIGHT
