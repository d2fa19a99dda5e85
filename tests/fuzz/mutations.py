"""One whole file -> a damaged one, by a seeded generator: bits, blocks, lengths, sizes, and parts of the format."""

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Final

from tests.fuzz.seeds import SIZE

_NUMBERS: Final = (
    0,
    1,
    2,
    7,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)
_SIDES: Final = (0, 1, 3, 100, 1000, 4096, 16383, 20_000, 50_000, 65_500, 65_535, 100_000, 2**20, 2**31 - 1)
_FORMS: Final = ("<H", ">H", "<I", ">I", "B")

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], bytes | bytearray]


def _flips(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> bytearray:
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        data[_somewhere(rng, data)] ^= 1 << rng.randrange(8)
    return data


def _bytes(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    at, count = _somewhere(rng, data), rng.choice([1, 1, 2, 4, 32])
    data[at : at + count] = rng.randbytes(min(count, len(data) - at))
    return data


def _cut(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    return data[: rng.randrange(len(data))]


def _insert(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    at, count = _somewhere(rng, data), rng.choice([1, 2, 4, 100, 3000])
    what = rng.choice([bytes(count), b"\xff" * count, rng.randbytes(count), bytes(data[at : at + count])])
    data[at:at] = what
    return data


def _delete(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    at = _somewhere(rng, data)
    del data[at : at + rng.choice([1, 2, 4, 16, 300])]
    return data or bytearray(b"\0")


def _swap(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    a, b, c = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _number(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    """A number of interest in a field of any width: lengths, counts and offsets among them."""
    form = rng.choice(_FORMS)
    size = struct.calcsize(form)
    if len(data) > size:
        at = min(_somewhere(rng, data), len(data) - size)
        struct.pack_into(form, data, at, rng.choice(_NUMBERS) & (256**size - 1))
    return data


def _side(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    """Where the picture's width or height stands, another one."""
    form = rng.choice(_FORMS[:4])
    wanted = struct.pack(form, rng.choice((*SIZE, SIZE[0] - 1, SIZE[1] - 1, 64, 128, 32)))
    at = data.find(wanted)
    if at < 0:
        return _number(rng, data, ())
    struct.pack_into(form, data, at, rng.choice(_SIDES) & (256 ** len(wanted) - 1))
    return data


def _splice(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return bytes(data[: rng.randrange(len(data))]) + other[rng.randrange(len(other)) :]


def _parts(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> bytes:
    """Whole parts of the format are left out, doubled, moved, or taken from another file."""
    parts, strange = split(bytes(data)), split(rng.choice(others))
    for _ in range(rng.choice([1, 1, 2, 3])):
        at = rng.randrange(len(parts))
        match rng.randrange(4):
            case 0 if len(parts) > 1:
                del parts[at]
            case 1:
                parts.insert(at, parts[at])
            case 2:
                parts.insert(rng.randrange(len(parts)), parts.pop(at))
            case _:
                parts.insert(at, rng.choice(strange))
    return b"".join(parts)


MUTATIONS: Final[tuple[Mutation, ...]] = (
    _flips, _flips, _bytes, _cut, _insert, _delete, _swap, _number, _number, _side, _side, _splice, _parts, _parts,
)  # fmt: skip


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds with one to four damages; a PNG file mostly with checksums that hold."""
    data = rng.choice(seeds)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        data = bytes(rng.choice(MUTATIONS)(rng, bytearray(data), seeds)) or b"\0"
    return checksummed(data) if data.startswith(b"\x89PNG") and rng.random() < 0.8 else data


def _somewhere(rng: random.Random, data: bytearray) -> int:
    """Every second time in the headers, where a byte means most."""
    return rng.randrange(rng.choice([len(data), min(len(data), 200)]))


def split(data: bytes) -> list[bytes]:
    """The parts of a file: chunks, segments, boxes, blocks; what has none is cut into eight."""
    if data.startswith(b"\x89PNG"):
        return [data[:8], *_lengths(data, 8, ">I", 12)]
    if data.startswith(b"\xff\xd8"):
        return _segments(data)
    if data.startswith(b"RIFF"):
        return [data[:12], *_lengths(data, 12, "<4xI", 8)]
    if data[4:8] in (b"ftyp", b"jP  "):
        return _lengths(data, 0, ">I", 0)
    step = max(1, len(data) // 8)
    return [data[at : at + step] for at in range(0, len(data), step)] or [data]


def _lengths(data: bytes, at: int, form: str, more: int) -> list[bytes]:
    parts = []
    while at + 8 <= len(data):
        (size,) = struct.unpack_from(form, data, at)
        end = at + max(8, size + more + (size % 2 if form == "<4xI" else 0))
        parts.append(data[at:end])
        at = end
    return [*parts, data[at:]]


def _segments(data: bytes) -> list[bytes]:
    parts, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        parts.append(data[at:end])
        at = end
        if parts[-1][1:2] == b"\xda":
            break
    return [*parts, data[at:]]


def checksummed(data: bytes) -> bytes:
    """A PNG file whose chunks have the right checksums."""
    file = bytearray(data)
    at = 8
    while at + 12 <= len(file):
        end = at + 8 + int.from_bytes(file[at : at + 4], "big")
        if end + 4 > len(file):
            break
        file[end : end + 4] = zlib.crc32(memoryview(file)[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(file)
