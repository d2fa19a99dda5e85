"""The frames of a write-ahead log, each for itself: SQLite stops at the first damaged one, and drops all behind it.

Source: https://www.sqlite.org/fileformat2.html, section 4 (the WAL file format).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
_MAGIC = 0x377F0682
_DEFAULT_PAGE_BYTES = 4096
_BATCH = 1024


class Frame(NamedTuple):
    """One page as a transaction wrote it."""

    page: int
    at: int
    """Where its bytes begin in the file."""
    is_commit: bool
    is_current: bool
    """Whether it was written since the log began anew, and is not in the database yet."""
    is_sound: bool
    """Whether its checksum holds, the one before it taken for true."""


@dataclass(frozen=True, slots=True)
class WalFrames:
    """All whole frames of a log, in the order of the file."""

    page_bytes: int
    frames: tuple[Frame, ...]
    is_header_sound: bool

    @property
    def first_bad(self) -> int:
        """The first frame, from 0, that is damaged or older; how many there are where none is."""
        if not self.is_header_sound:
            return 0
        ends = (at for at, frame in enumerate(self.frames) if not (frame.is_current and frame.is_sound))
        return next(ends, len(self.frames))

    @property
    def readable(self) -> int:
        """How many frames SQLite reads: up to the last commit before a bad one."""
        return max((at + 1 for at, frame in enumerate(self.frames[: self.first_bad]) if frame.is_commit), default=0)

    @property
    def has_tail(self) -> bool:
        """Whether there are frames that SQLite does not read, and that are no older ones either."""
        return any(frame.is_current for frame in self.frames[self.readable :])

    @property
    def is_damaged(self) -> bool:
        """Whether commits that the disk had confirmed lie behind a frame that SQLite cannot read.

        One commit there may be a transaction that a power cut tore: its earlier frames never reached the disk.
        Two cannot: the first was on the disk before the second began.
        """
        return sum(frame.is_current and frame.is_commit for frame in self.frames[self.readable :]) > 1


def page_bytes_of(header: bytes) -> int:
    """The size of a page in a log's header; 0 where that cannot be."""
    size = int.from_bytes(header[8:12])
    return size if size in {1 << power for power in range(9, 17)} else 0


def read_frames(wal: bytes | memoryview, page_bytes: int = 0) -> WalFrames:
    """The frames of a log. `page_bytes` is the database's, where that is known."""
    header = bytes(wal[:HEADER_BYTES])
    size = page_bytes or page_bytes_of(header) or _DEFAULT_PAGE_BYTES
    stride = FRAME_HEADER_BYTES + size
    starts = range(HEADER_BYTES, len(wal) - stride + 1, stride)
    heads = [bytes(wal[at : at + FRAME_HEADER_BYTES]) for at in starts]
    big = (int.from_bytes(header[:4]) & 1) == 1
    is_header_sound = _is_header_sound(header, size, big=big)
    salts = header[16:24] if is_header_sound else _newest_salts([head[8:16] for head in heads])
    # The frames since the log began anew come first: one between them with other salts is damaged, and not older.
    current = max((at for at, head in enumerate(heads) if head[8:16] == salts), default=-1) + 1
    sound = _sound(wal, header, heads[:current], size, big=big)
    frames = tuple(
        Frame(
            page=int.from_bytes(head[:4]),
            at=at + FRAME_HEADER_BYTES,
            is_commit=any(head[4:8]),
            is_current=number < current,
            is_sound=number < current and sound[number] and head[8:16] == salts,
        )
        for number, (at, head) in enumerate(zip(starts, heads, strict=True))
    )
    return WalFrames(size, frames, is_header_sound)


def _is_header_sound(header: bytes, page_bytes: int, *, big: bool) -> bool:
    if len(header) < HEADER_BYTES or int.from_bytes(header[:4]) & ~1 != _MAGIC or page_bytes_of(header) != page_bytes:
        return False
    return _checksums(np.frombuffer(header[:24], _words(big=big))[None], np.zeros((1, 2), np.uint32)).tobytes() == (
        np.frombuffer(header[24:32], ">u4").astype(np.uint32).tobytes()
    )


def _newest_salts(salts: Sequence[bytes]) -> bytes:
    """Of a log without its header: those of its first frames, where two of them agree."""
    often = Counter(salts)
    return next((salt for salt in salts if often[salt] > 1), salts[0] if salts else b"")


def _sound(wal: bytes | memoryview, header: bytes, heads: Sequence[bytes], page_bytes: int, *, big: bool) -> list[bool]:
    """For each frame whether its checksum follows from the one that is stored before it."""
    stored = np.frombuffer(header[24:32] + b"".join(head[16:24] for head in heads), ">u4").astype(np.uint32)
    pairs = stored.reshape(-1, 2)
    stride = FRAME_HEADER_BYTES + page_bytes
    sound: list[bool] = []
    for start in range(0, len(heads), _BATCH):
        count = min(_BATCH, len(heads) - start)
        raw = np.frombuffer(wal, np.uint8, count * stride, HEADER_BYTES + start * stride).reshape(count, stride)
        summed = np.concatenate([raw[:, :8], raw[:, FRAME_HEADER_BYTES:]], axis=1).view(_words(big=big))
        found = _checksums(summed, pairs[start : start + count])
        sound += (found == pairs[start + 1 : start + count + 1]).all(axis=1).tolist()
    return sound


def _words(*, big: bool) -> np.dtype[np.uint32]:
    return np.dtype(">u4" if big else "<u4")


def _checksums(words: NDArray[np.uint32], seeds: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The checksum of each row of `words`, from its own seed, modulo 2**32.

    For each pair of words: s0 += first + s1; s1 += second + s0. That is linear in words and seed, so that the weight
    of each word is the same in every row.
    """
    weights, of_seed = _weights(words.shape[1])
    native = words.astype(np.uint32)
    found = np.empty((len(native), 2), np.uint32)
    for out in range(2):
        found[:, out] = (native * weights[out]).sum(axis=1, dtype=np.uint32)
        found[:, out] += (seeds * of_seed[out]).sum(axis=1, dtype=np.uint32)
    return found


def _weights(length: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """(2, length) and (2, 2): how much each word, and each half of the seed, counts in s0 and s1."""
    weights = np.zeros((2, length), np.uint32)
    # One step takes (s0, s1) to (s0 + s1, s0 + 2 * s1); what a word added goes through all steps behind it.
    step = ((1, 1), (1, 2))
    power = ((1, 0), (0, 1))
    for at in range(length - 2, -1, -2):
        first = (power[0][0] + power[0][1], power[1][0] + power[1][1])  # it adds to s0, and through it to s1
        for out in range(2):
            weights[out, at] = first[out] & 0xFFFFFFFF
            weights[out, at + 1] = power[out][1] & 0xFFFFFFFF
        power = _product(power, step)
    return weights, np.array([[value & 0xFFFFFFFF for value in row] for row in power], np.uint32)


Matrix = tuple[tuple[int, int], tuple[int, int]]


def _product(left: Matrix, right: Matrix) -> Matrix:
    (a, b), (c, d) = left
    (e, f), (g, h) = right
    mask = 0xFFFFFFFF
    return ((a * e + b * g) & mask, (a * f + b * h) & mask), ((c * e + d * g) & mask, (c * f + d * h) & mask)
