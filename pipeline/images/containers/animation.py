"""How long each picture of an animation is shown: GIF, WebP and animated PNG.

Sources: "Graphics Interchange Format, Version 89a", 23; RFC 9649, 2.7.1.2 (ANMF); W3C PNG (Third Edition), 11.3.6.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from pipeline.images.containers import gif, png, webp
from pipeline.images.containers.values import BrokenFileError, Facts, Format, Walk, bounded

_SHORTEST_S: Final = 0.01
"""Browsers show what is declared as this or less for as long as `_SHOWN_S`."""
_SHOWN_S: Final = 0.1


class Delays(NamedTuple):
    """Seconds that each picture is shown, in order."""

    seconds: tuple[float, ...]
    first: int = 0
    """1 where the file has a picture before those of the animation."""


def delays_of(data: bytes, kind: Format) -> Delays:
    """Of every picture of a file, up to its end or to where it breaks; empty for other formats than these three."""
    if kind not in _READERS:
        return Delays(())
    walk, read = _READERS[kind]
    found: list[float] = []
    first = 0
    with suppress(BrokenFileError, struct.error, IndexError):
        for seconds in read(data, bounded(walk(data, Facts(format=kind), checked=False))):
            if seconds is None:
                first = 1
            else:
                found.append(seconds if seconds > _SHORTEST_S else _SHOWN_S)
    return Delays(tuple(found), first)


def _of_gif(data: bytes, parts: Iterator[tuple[int, int, bool]]) -> Iterator[float | None]:
    delay = 0
    for start, _, _ in parts:
        if data[start : start + 2] == b"\x21\xf9":
            (delay,) = struct.unpack_from("<H", data, start + 4)
        elif start and data[start] == gif.IMAGE:
            yield delay / 100
            delay = 0


def _of_webp(data: bytes, parts: Iterator[tuple[int, int, bool]]) -> Iterator[float | None]:
    for start, _, _ in parts:
        if data[start : start + 4] == b"ANMF":
            yield int.from_bytes(data[start + 20 : start + 23], "little") / 1000


def _of_png(data: bytes, parts: Iterator[tuple[int, int, bool]]) -> Iterator[float | None]:
    """A picture before the first frame control is no part of the animation: None stands for it."""
    is_animated = controls = False
    for start, _, _ in parts:
        kind = data[start + 4 : start + 8]
        is_animated = is_animated or kind == b"acTL"
        if kind == b"fcTL":
            controls = True
            over, under = struct.unpack_from(">HH", data, start + 28)
            yield over / (under or 100)
        elif kind == b"IDAT" and is_animated and not controls:
            controls = True
            yield None


_READERS: Final[dict[Format, tuple[Walk, Callable[..., Iterator[float | None]]]]] = {
    Format.GIF: (gif.walk, _of_gif),
    Format.WEBP: (webp.walk, _of_webp),
    Format.PNG: (png.walk, _of_png),
}
