"""Images inside of tars and tables, found by name. An index takes 16 bytes an image; of tars a few are kept."""

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
from pipeline.originals.names import NameIndex
from pipeline.originals.tables import Table, numbered_row
from pipeline.originals.tars import TarIndex
from pipeline.sources.several import MOST_IMAGES
from pipeline.sources.tarfiles import DamagedError

_IN_TAR: Final = re.compile(r"(.*?\.(?:tar|tar\.gz|tgz))/(.+)", re.IGNORECASE | re.DOTALL)
_KEPT: Final = 8
"""Rows come in the order of their files, and a page of a gallery shows a few."""
_UNREADABLE: Final = (OSError, ValueError, InputError, DamagedError, pa.ArrowException)

_FILE_BITS: Final = 44
"""Above them in a number: which file; below: the row and the place in it."""

Index = TarIndex | Table


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
        self._named: dict[tuple[str, ...], NameIndex] = {}
        self._lock, self._naming = Lock(), Lock()

    def in_tar(self, path: str) -> Iterator[Location]:
        """The members that a path names, should it be one into a tar."""
        found = in_tar(path)
        if found is not None and (index := self._index(found[0], TarIndex)) is not None:
            yield from index.named(found[1]) if isinstance(index, TarIndex) else ()

    def in_tables(self, paths: tuple[str, ...], name: str) -> Iterator[Location]:
        """The images of Parquet or Arrow files with this name: by the number of their row, or a name of their own."""
        file, row, place = numbered_row(name) or ("", 0, 0)
        if of_row := [path for path in paths if path.rpartition("/")[2] == file]:
            tables = (table for path in of_row if (table := self._table(path)) is not None)
            yield from (table.image(name, row, place) for table in tables)
            return
        for number in self._names(paths).of(name) if paths else ():
            at, row, place = _unpacked(number)
            if (table := self._table(paths[at])) is not None:
                yield table.image(name, row, place)

    def _table(self, path: str) -> Table | None:
        found = self._index(path, lambda path: Table(path, self._config))
        return found if isinstance(found, Table) else None

    def _names(self, paths: tuple[str, ...]) -> NameIndex:
        """Of all images in these files that have names: read once."""
        with self._naming:
            if paths not in self._named:
                found = NameIndex()
                for at, path in enumerate(paths):
                    if (table := self._table(path)) is not None:
                        with suppress(*_UNREADABLE):
                            for row, place, text in table.names():
                                found.add(text, (at << _FILE_BITS) | (row * MOST_IMAGES + place))
                self._named[paths] = found
            return self._named[paths]

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


def _unpacked(number: int) -> tuple[int, int, int]:
    """File, row and place."""
    return number >> _FILE_BITS, *divmod(number & ((1 << _FILE_BITS) - 1), MOST_IMAGES)
