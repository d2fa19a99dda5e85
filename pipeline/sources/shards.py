"""Shards: tars of a source, and where the images in them lie."""

import os
from functools import partial
from typing import Final, NamedTuple, Self

from pipeline.files import version_of
from pipeline.locations import EmbeddedImage, Location, TarMember
from pipeline.sources.gunzip import GzipStream
from pipeline.sources.naming import shown
from pipeline.sources.tarfiles import DamagedError, Member, PlainStream, Stream

TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz")


class Shard(NamedTuple):
    """One tar of a source."""

    path: str
    label: str
    """Its part of the ids: its name without `.tar`, behind the folders that the pattern has wildcards in."""
    name: str = ""
    """What people call it, where that is not its path."""
    held: object = None
    """What must live as long as its images are read: a temporary file."""

    @property
    def shown(self) -> str:
        """Its name in messages, and before those of its members."""
        return shown(self.name or self.path)


def label_of(path: str) -> str:
    """What a shard is called in ids: `train/00000.tar` is `train/00000`."""
    suffix = next((suffix for suffix in TAR_SUFFIXES if path.lower().endswith(suffix)), "")
    return path[: len(path) - len(suffix)]


class OpenShard:
    """A shard whose headers are being read."""

    def __init__(self, shard: Shard) -> None:
        """Raises OSError."""
        self.shard = shard
        self.is_packed = not shard.path.lower().endswith(".tar")
        self._descriptor = os.open(shard.path, os.O_RDONLY | os.O_CLOEXEC)
        self._version = version_of(os.fstat(self._descriptor))
        self.stream: Stream = GzipStream(shard.path) if self.is_packed else PlainStream(self._descriptor)
        # Images are read behind the headers: a position of its own.
        self._images = GzipStream(shard.path) if self.is_packed else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def location(self, member: Member) -> Location:
        path = self.shard.path
        name = f"{self.shard.shown}/{shown(member.name)}"
        if self._images is None:
            return TarMember(name, path, member.offset, member.size, self._version, self.shard.held)
        return EmbeddedImage(name, path, partial(_unpacked, self._images, member, self.shard.held), member.size)


def _unpacked(stream: Stream, member: Member, _held: object) -> bytes:
    try:
        return stream.read(member.offset, member.size)
    except DamagedError as error:
        raise ValueError(str(error)) from None
