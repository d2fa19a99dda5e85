"""Images inside of tars and tables, found by name. An index of one file takes 32 bytes an image; a few are kept."""

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Lock
from typing import Final

import pyarrow as pa

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.files import Version, version_of
from pipeline.locations import Location
from pipeline.originals.tables import TableIndex
from pipeline.originals.tars import TarIndex
from pipeline.sources.tarfiles import DamagedError

_IN_TAR: Final = re.compile(r"(.*?\.(?:tar|tar\.gz|tgz))/(.+)", re.IGNORECASE | re.DOTALL)
_KEPT: Final = 8
"""Rows come in the order of their files, and a page of a gallery shows a few."""
_UNREADABLE: Final = (OSError, ValueError, InputError, DamagedError, pa.ArrowException)

Index = TarIndex | TableIndex


def in_tar(path: str) -> tuple[str, str] | None:
    """The tar and the member that a path names as `shards/0001.tar/a.jpg` does."""
    found = _IN_TAR.fullmatch(path)
    return None if found is None else (found[1], found[2])


class Containers:
    """The indexes of the files that were asked for last. Threads may share it."""

    def __init__(self, config: SourceConfig | None) -> None:
        """`config` says which column of tables holds the images."""
        self._config = config or SourceConfig()
        self._kept: OrderedDict[tuple[str, Version], Index | None] = OrderedDict()
        self._lock = Lock()

    def in_tar(self, path: str) -> Iterator[Location]:
        """The members that a path names, should it be one into a tar."""
        found = in_tar(path)
        if found is not None and (index := self._index(found[0], TarIndex)) is not None:
            yield from index.named(found[1])

    def in_table(self, path: str, name: str) -> Iterator[Location]:
        """The images of a Parquet or Arrow file with this name."""
        if (index := self._index(path, lambda path: TableIndex(path, self._config))) is not None:
            yield from index.named(name)

    def _index(self, path: str, make: Callable[[str], Index]) -> Index | None:
        """None where there is no such file, or it cannot be read. One that has changed is read again."""
        try:
            key = path, version_of(os.stat(path))  # noqa: PTH116 - the path may be no UTF-8
        except (OSError, ValueError):
            return None
        with self._lock:
            if key not in self._kept:
                made = None
                with suppress(*_UNREADABLE):
                    made = make(path)
                self._kept[key] = made
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]
