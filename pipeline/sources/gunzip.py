"""A gzip file that can be read at any place, without being unpacked and in bounded memory.

Decoding starts again from the checkpoint before: a copy of the decoder's state, which takes some 50 KB. Checkpoints
lie further apart the longer the file is, so that their number is bounded.
"""

import os
import zlib
from bisect import bisect_right
from threading import Lock
from typing import Any, Final, NamedTuple

from pipeline.errors import InputError
from pipeline.files import SteadyFile
from pipeline.sources.naming import shown
from pipeline.sources.tarfiles import DamagedError

_READ_BYTES: Final = 1 << 14
_CHUNK_BYTES: Final = 1 << 18
_KEPT_BYTES: Final = 8 << 20
"""Unpacked bytes that are still at hand: threads ask for neighbouring members in any order."""
_FIRST_DISTANCE: Final = 16 << 20
_MOST_CHECKPOINTS: Final = 64
_MAGIC: Final = b"\x1f\x8b"
_GZIP: Final = 31
"""What zlib calls the format."""
_TAR_MAGIC_AT: Final = 257


def check_packing(path: str) -> None:
    """Raises InputError where a shard is packed by its first bytes and not by its name, or the other way round."""
    with open(path, "rb") as file:  # noqa: PTH123 - as everywhere here
        first = file.read(_TAR_MAGIC_AT + 5)
    is_packed, is_named_so = first.startswith(_MAGIC), not path.lower().endswith(".tar")
    if is_packed and not is_named_so:
        raise InputError(f"{shown(path)}: its name and its bytes disagree: they are gzip; rename it to end in .tar.gz")
    if is_named_so and not is_packed and first[_TAR_MAGIC_AT:] == b"ustar":
        raise InputError(f"{shown(path)}: its name and its bytes disagree: it is not packed; rename it to end in .tar")


class _Checkpoint(NamedTuple):
    at: int
    """Of the next unpacked byte."""
    packed: int
    """Of the next packed byte in the file."""
    decoder: Any
    """Its type has no name in the standard library."""


class GzipStream:
    """The bytes inside of a gzip file. One that consists of several parts is read as one. Threads may share it."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self.size: int | None = None
        self._steady = SteadyFile(path)
        self._file = self._steady.descriptor
        self._lock = Lock()
        self._decoder = zlib.decompressobj(_GZIP)
        self._packed = 0
        self._start, self._data = 0, bytearray()
        self._checkpoints = [_Checkpoint(0, 0, self._decoder.copy())]
        self._distance = _FIRST_DISTANCE

    def read(self, at: int, count: int) -> bytes:
        """These unpacked bytes, or fewer at the end. Raises DamagedError where the file is damaged before them."""
        with self._lock:
            if at < self._start:
                self._go_back(at)
            while self._start + len(self._data) < at + count and self._read_on():
                self._forget(at)
            try:
                self._steady.check()
            except ValueError as error:
                raise DamagedError(self._packed, str(error)) from None
            inside = at - self._start
            return bytes(self._data[inside : inside + count])

    def _go_back(self, at: int) -> None:
        before = self._checkpoints[bisect_right(self._checkpoints, at, key=lambda one: one.at) - 1]
        self._start, self._packed, self._decoder = before.at, before.packed, before.decoder.copy()
        self._data.clear()

    def _forget(self, wanted: int) -> None:
        """Unpacked bytes before those wanted, but for the last of them."""
        if len(self._data) > 2 * _KEPT_BYTES:
            passed = min(len(self._data) - _KEPT_BYTES, wanted - self._start)
            if passed > 0:
                del self._data[:passed]
                self._start += passed

    def _read_on(self) -> bool:
        """Unpack some more; False at the end."""
        end = self._start + len(self._data)
        if end == self.size:
            return False
        if end >= self._checkpoints[-1].at + self._distance:
            self._keep_checkpoint(end)
        try:
            chunk = self._unpacked()
        except zlib.error as error:
            raise DamagedError(end, f"the gzip data is damaged: {error}") from None
        if chunk is None:
            if not self._decoder.eof:
                raise DamagedError(end, "the gzip data is cut short")
            self.size = end
            return False
        self._data += chunk
        return True

    def _unpacked(self) -> bytes | None:
        if self._decoder.eof:
            rest = self._decoder.unused_data or self._take()
            while rest and not (rest := rest.lstrip(b"\0")):  # zeros fill a tape
                rest = self._take()
            if not rest:
                return None
            if rest[:2] != _MAGIC[: len(rest)]:
                raise zlib.error("other data follow it")
            self._decoder = zlib.decompressobj(_GZIP)
            return self._decoder.decompress(rest, _CHUNK_BYTES)
        packed = self._decoder.unconsumed_tail or self._take()
        return self._decoder.decompress(packed, _CHUNK_BYTES) if packed else None

    def _take(self) -> bytes:
        data = os.pread(self._file, _READ_BYTES, self._packed)
        self._packed += len(data)
        return data

    def _keep_checkpoint(self, at: int) -> None:
        self._checkpoints.append(_Checkpoint(at, self._packed, self._decoder.copy()))
        if len(self._checkpoints) > _MOST_CHECKPOINTS:
            del self._checkpoints[1::2]
            self._distance *= 2
