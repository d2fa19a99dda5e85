"""The ids that `only=` names: a file with one id a line, standard input, or an iterable."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import BinaryIO

import numpy as np

from pipeline.errors import InputError
from pipeline.sources.lines import opened, raw_lines, standard_input
from pipeline.sources.naming import identify, shown

IdsLike = str | os.PathLike[str] | Iterable[str]
"""A file, `-` for standard input, or ids."""
_BITS = 128
_NAMED = 3
_A_BATCH = 4_096


class IdList:
    """Ids that can be read any number of times. Of a file, none of them is held in memory."""

    def __init__(self, name: str, read: Callable[[], Iterator[str]], close: Callable[[], None] = lambda: None) -> None:
        self.name, self.close = name, close
        self._read = read
        self.digest = _digest(self)
        """Equal for the same ids, whatever their order."""

    @classmethod
    def of(cls, given: IdsLike) -> "IdList":
        """Raises InputError for a file that cannot be read, and for what is no id."""
        if isinstance(given, str | os.PathLike):
            path = os.fspath(given)
            return _of_standard_input() if path == "-" else cls(shown(path), lambda: _in_file(path))
        ids = [_checked(one) for one in given]
        return cls("the list", lambda: iter(ids))

    def __iter__(self) -> Iterator[str]:
        return self._read()


class Unmatched:
    """Which ids of a list no record had so far. Memory: 9 bytes an id."""

    def __init__(self, ids: IdList) -> None:
        self._ids = ids
        self._hashes = np.unique(np.frombuffer(_hashes64(ids), np.uint64))
        self._is_open = np.ones(len(self._hashes), bool)

    def meet(self, record_ids: Iterable[str]) -> None:
        """These records are in the source."""
        remaining = iter(record_ids)
        while batch := list(islice(remaining, _A_BATCH)):
            wanted = np.frombuffer(_hashes64(batch), np.uint64)
            places = np.searchsorted(self._hashes, wanted)
            inside = places < len(self._hashes)
            places, wanted = places[inside], wanted[inside]
            self._is_open[places[self._hashes[places] == wanted]] = False

    def words(self) -> str | None:
        """One line that names the first of them; None where the source holds all."""
        count = int(self._is_open.sum())
        if not count:
            return None
        still = set(self._hashes[self._is_open].tolist()) if count < _A_BATCH else None
        names = [repr(one) for one in islice(filter(lambda one: self._is_unmatched(one, still), self._ids), _NAMED)]
        more = ", ..." if count > len(names) else ""
        of = f"{count:,} of the {len(self._hashes):,} ids" if len(self._hashes) > 1 else "the one id"
        return f"`only=` {self._ids.name}: the source does not hold {of}: {', '.join(names)}{more}"

    def _is_unmatched(self, record_id: str, still: set[int] | None) -> bool:
        hashed = np.frombuffer(_hash64(record_id), np.uint64)[0]
        if still is not None:
            return int(hashed) in still
        return bool(self._is_open[np.searchsorted(self._hashes, hashed)])


def _of_standard_input() -> IdList:
    """A copy on the disk: standard input can be read only once."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the list
    try:
        with standard_input("", "") as file:
            shutil.copyfileobj(file, copy)
    except (AttributeError, OSError, ValueError) as error:  # closed
        raise InputError(f"`only=-`: standard input cannot be read ({error})") from None
    return IdList("standard input", lambda: _rewound(copy), copy.close)


def _rewound(file: BinaryIO) -> Iterator[str]:
    file.seek(0)
    return _ids(file, "standard input")


def _in_file(path: str) -> Iterator[str]:
    try:
        with opened(path, shown(path)) as file:
            yield from _ids(file, shown(path))
    except InputError as error:
        raise InputError(f"`only=` {error}") from None


def _ids(file: BinaryIO, name: str) -> Iterator[str]:
    for line in raw_lines(file, name):
        text = line.rstrip(b"\r\n")
        if text:
            yield identify(text.decode("utf-8", "surrogateescape"))


def _checked(one: object) -> str:
    if isinstance(one, str):
        return identify(one)
    if isinstance(one, int) and not isinstance(one, bool):
        return str(one)
    raise InputError(f"`only=` holds {one!r}, which is no id: write texts, or whole numbers")


def _hash64(record_id: str) -> bytes:
    return hashlib.blake2b(record_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _hashes64(ids: Iterable[str]) -> bytearray:
    joined = bytearray()
    for one in ids:
        joined += _hash64(one)
    return joined


def _digest(ids: Iterable[str]) -> str:
    total = count = 0
    for one in ids:
        hashed = hashlib.blake2b(one.encode("utf-8", "surrogatepass"), digest_size=_BITS // 8).digest()
        total, count = (total + int.from_bytes(hashed)) % (1 << _BITS), count + 1
    return f"{count}-{total:032x}"
