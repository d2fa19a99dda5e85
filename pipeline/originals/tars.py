"""The members of one tar by name."""

from collections.abc import Iterator
from functools import partial

from pipeline.files import SteadyFile
from pipeline.locations import EmbeddedImage, Location, TarMember
from pipeline.originals.names import NameIndex
from pipeline.sources.gunzip import GzipStream
from pipeline.sources.naming import shown
from pipeline.sources.tarfiles import DamagedError, PlainStream, Stream, members


class TarIndex:
    """Its headers are read once; what lies behind a damage is not in it."""

    def __init__(self, path: str) -> None:
        """Raises OSError, and DamagedError for what is no tar."""
        self._path = path
        self._steady = SteadyFile(path)
        self._packed = None if path.lower().endswith(".tar") else GzipStream(path)
        self._index = NameIndex()
        self._stretches: list[tuple[int, int]] = []
        stream: Stream = self._packed or PlainStream(self._steady.descriptor)
        try:
            for member in members(stream):
                self._index.add(shown(member.name), len(self._stretches))
                self._stretches.append((member.offset, member.size))
        except DamagedError:
            if not len(self._index):
                raise

    def named(self, name: str) -> Iterator[Location]:
        """The members of this name."""
        for number in self._index.of(shown(name)):
            offset, size = self._stretches[number]
            if self._packed is None:
                yield TarMember(name, self._path, offset, size, self._steady.version)
            else:
                yield EmbeddedImage(name, self._path, partial(_unpacked, self._packed, offset, size), size)


def _unpacked(stream: GzipStream, offset: int, size: int) -> bytes:
    try:
        return stream.read(offset, size)
    except DamagedError as error:
        raise ValueError(str(error)) from None
