"""Numbers by name, for millions of names: a hash and the numbers, not the texts."""

from array import array
from collections.abc import Iterator

import numpy as np


class NameIndex:
    """Two names may share a hash: the numbers of both are given, and what they lead to is compared."""

    def __init__(self) -> None:
        self._hashes, self._numbers = array("q"), array("q")
        self._sorted: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
        self._order: np.ndarray[tuple[int], np.dtype[np.intp]] | None = None

    def add(self, name: str, number: int) -> None:
        """Before the first look."""
        self._hashes.append(hash(name))
        self._numbers.append(number)

    def __len__(self) -> int:
        return len(self._numbers)

    def of(self, name: str) -> Iterator[int]:
        """The numbers of a name, as they were added."""
        if self._sorted is None or self._order is None:
            hashes = np.array(self._hashes, dtype=np.int64)
            self._order = np.argsort(hashes, kind="stable")
            self._sorted = hashes[self._order]
        wanted = hash(name)
        first, last = (int(np.searchsorted(self._sorted, wanted, side)) for side in ("left", "right"))
        for at in range(first, last):
            yield self._numbers[int(self._order[at])]
