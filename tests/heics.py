"""HEIC photographs for tests: PyAV's HEVC in a HEIF file that is written here, as phones write them.

Source: ISO/IEC 23008-12 (items, properties, grids); ISO/IEC 14496-15, 8.3.3 (`hvcC`).
"""

import struct
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from tests.videos import pyav

_PARAMETER_SETS = (32, 33, 34)
_OPTIONS = ("log-level=none", "keyint=1", "crf=4", "pools=none", "frame-threads=1", "range=full", "colormatrix=bt709")


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def hevc(image: Image.Image, chroma: str = "yuv444p") -> tuple[bytes, bytes]:
    """One picture as HEVC: its configuration (`hvcC`) and its coded units with lengths of four bytes."""
    return _coded(image.convert("RGB").tobytes(), image.size, chroma)


@cache
def _coded(pixels: bytes, size: tuple[int, int], chroma: str) -> tuple[bytes, bytes]:
    av: Any = pyav()
    context = av.CodecContext.create("libx265", "w")
    context.width, context.height, context.pix_fmt = *size, chroma
    context.time_base = Fraction(1)
    context.options = {
        "preset": "ultrafast",
        "x265-params": "log-level=none:keyint=1:crf=4:pools=none:frame-threads=1:range=full:colormatrix=bt709",
    }
    frame = av.VideoFrame.from_ndarray(np.frombuffer(pixels, np.uint8).reshape(size[1], size[0], 3), format="rgb24")
    # Full range and the matrix of BT.709, as the box colr says.
    frame = frame.reformat(format=chroma, dst_colorspace=1, dst_color_range=2)
    data = b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
    units = _units(data)
    sets = [unit for unit in units if unit[0] >> 1 & 0x3F in _PARAMETER_SETS]
    rest = [unit for unit in units if unit[0] >> 1 & 0x3F not in (*_PARAMETER_SETS, 39, 40)]
    form = 0xFD if "420" in chroma else 0xFF
    header = bytes([1, 3]) + bytes(10) + bytes([93, 0xF0, 0, 0xFC, form, 0xF8, 0xF8, 0, 0, 0x0F])
    arrays = b"".join(bytes([0x80 | unit[0] >> 1 & 0x3F, 0, 1]) + struct.pack(">H", len(unit)) + unit for unit in sets)
    return header + bytes([len(sets)]) + arrays, b"".join(struct.pack(">I", len(unit)) + unit for unit in rest)


def _units(data: bytes) -> list[bytes]:
    """The units of a stream with start codes."""
    parts = data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [part for part in parts if part]


def heic(
    image: Image.Image,
    *,
    turns: Sequence[bytes] = (),
    profile: bytes | None = None,
    exif: bytes | None = None,
    columns: int = 1,
    rows: int = 1,
    brand: bytes = b"heic",
    colour: bytes = b"",
    alpha: Image.Image | None = None,
    chroma: str = "yuv444p",
) -> bytes:
    """A whole file. `turns`: boxes `irot`, `imir`, `clap`; several columns or rows: a grid of tiles."""
    width, height = image.size[0] // columns, image.size[1] // rows
    boxes = [(x * width, y * height, (x + 1) * width, (y + 1) * height) for y in range(rows) for x in range(columns)]
    tiles = [hevc(image.crop(part), chroma) for part in boxes]
    is_grid = len(tiles) > 1
    items: list[tuple[int, bytes, bytes]] = [(2 + n, b"hvc1", data) for n, (_, data) in enumerate(tiles)]
    primary = 2
    if is_grid:
        primary = 1
        grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *image.size)
        items.insert(0, (1, b"grid", grid))
    properties = [full(b"ispe", 0, 0, struct.pack(">II", width, height)), box(b"hvcC", tiles[0][0])]
    properties += [full(b"ispe", 0, 0, struct.pack(">II", *image.size))]
    properties += [
        colour
        or (box(b"colr", b"prof", profile) if profile else box(b"colr", b"nclx", struct.pack(">HHHB", 1, 13, 1, 0x80)))
    ]
    properties += list(turns)
    owned = {item: ([1, 2, 4] if is_grid else [1, 2, 4, *range(5, 5 + len(turns))]) for item, kind, _ in items}
    if is_grid:
        owned[1] = [3, 4, *range(5, 5 + len(turns))]
    references = (
        [box(b"dimg", struct.pack(f">HH{len(tiles)}H", 1, len(tiles), *range(2, 2 + len(tiles))))] if is_grid else []
    )
    if exif is not None:
        items.append((900, b"Exif", struct.pack(">I", 0) + exif.removeprefix(b"Exif\0\0")))
        references.append(box(b"cdsc", struct.pack(">HHH", 900, 1, primary)))
    if alpha is not None:
        setup, data = hevc(alpha.convert("RGB"))
        items.append((901, b"hvc1", data))
        properties += [box(b"hvcC", setup), full(b"auxC", 0, 0, b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")]
        owned[901] = [3, len(properties) - 1, len(properties)]
        references.append(box(b"auxl", struct.pack(">HHH", 901, 1, primary)))
    return _file(brand, primary, items, properties, owned, references)


def _file(
    brand: bytes, primary: int, items: list[tuple[int, bytes, bytes]], properties: list[bytes],
    owned: dict[int, list[int]], references: list[bytes],
) -> bytes:  # fmt: skip
    names = [full(b"infe", 2, 0, struct.pack(">HH4s", item, 0, kind), b"\0") for item, kind, _ in items]
    owners = b"".join(struct.pack(">HB", item, len(own)) + bytes(own) for item, own in owned.items())

    def meta(start: int) -> bytes:
        at, places = start, b""
        for item, _, data in items:
            places += struct.pack(">HHHII", item, 0, 1, at, len(data))
            at += len(data)
        return full(
            b"meta", 0, 0,
            full(b"hdlr", 0, 0, bytes(4) + b"pict" + bytes(13)),
            full(b"pitm", 0, 0, struct.pack(">H", primary)),
            full(b"iloc", 0, 0, struct.pack(">BBH", 0x44, 0, len(items)), places),
            full(b"iinf", 0, 0, struct.pack(">H", len(names)), *names),
            full(b"iref", 0, 0, *references) if references else b"",
            box(b"iprp", box(b"ipco", *properties), full(b"ipma", 0, 0, struct.pack(">I", len(owned)), owners)),
        )  # fmt: skip

    start = box(b"ftyp", brand, bytes(4), b"mif1", brand)
    offset = len(start) + len(meta(0)) + 8
    return start + meta(offset) + box(b"mdat", *(data for _, _, data in items))


def turned(quarters: int) -> bytes:
    """`irot`: quarter turns against the clock."""
    return box(b"irot", bytes([quarters]))


def mirrored(axis: int) -> bytes:
    """`imir`: 0 swaps top and bottom, 1 left and right."""
    return box(b"imir", bytes([axis]))
