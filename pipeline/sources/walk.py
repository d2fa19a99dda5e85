"""A walk through a tree of files: its images in the byte order of their paths, everything else counted."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.sources.naming import MEDIA_SUFFIXES, shown
from pipeline.sources.passed import (
    SPECIAL,
    UNREADABLE,
    WITHOUT_BYTES,
    WITHOUT_SUFFIX,
    PassedOver,
    flaw_of_file,
    is_no_image,
    suffix_of,
)
from pipeline.sources.patterns import START, Everything, Pattern, State

METADATA_NAMES: Final = (b"metadata.csv", b"metadata.jsonl", b"metadata.parquet")
_MEDIA: Final = tuple(suffix.encode() for suffix in MEDIA_SUFFIXES)
_ENCODING: Final = sys.getfilesystemencoding()

_FileId = tuple[int, int]


class Metadata(NamedTuple):
    """A file whose rows name the images of its folder and of those below it."""

    path: bytes


@dataclass(slots=True)
class _Level:
    """A folder on the way down: its path below the root, its remaining names (last first), and its file id."""

    path: bytes
    names: list[bytes]
    state: State
    file_id: _FileId
    doubtful: frozenset[bytes]
    """Names of files that only their first bytes show to be images."""
    metadata: bytes | None
    is_covered: bool
    """Whether this folder, or one above it, has metadata."""


class Walk:
    """One pass over a tree, depth first, without recursion.

    One folder's names are in memory at a time, and those of its parents that are still to come. Links are followed,
    loops survived, the output directory left out.
    """

    def __init__(self, pattern: Pattern | None, out: Path | None, config: SourceConfig) -> None:
        """Without a pattern everything counts, and metadata is read. Chosen extensions leave no other file to open."""
        self.files_seen = 0
        self.passed = PassedOver()
        self._pattern = pattern or Everything()
        self._out = None if out is None else os.fsencode(out)
        self._suffixes = tuple(suffix.encode() for suffix in config.extensions or MEDIA_SUFFIXES)
        self._opens_others = config.extensions is None
        self._reads_metadata = config.metadata and pattern is None

    def paths(self, root: bytes) -> Iterator[tuple[bytes | Metadata, bool]]:
        """Images and metadata below `root`, and whether metadata above decides about the image.

        Raises InputError at a folder that cannot be read.
        """
        below = root if root.endswith(b"/") else root + b"/"
        stack = [self._level(below, b"", START, file_id_of(root), is_covered=False)]
        while stack:
            level = stack[-1]
            prefix, names, doubtful, is_covered = level.path, level.names, level.doubtful, level.is_covered
            if level.metadata is not None:
                yield Metadata(prefix + level.metadata), False
                level.metadata = None
            while names:
                name = names.pop()
                path = prefix + name
                if name.endswith(b"/"):
                    stack += self._inside(stack, below, path, name)
                    break
                if not doubtful or name not in doubtful or self._is_image(below + path):
                    yield path, is_covered
            else:
                stack.pop()

    def _inside(self, stack: list[_Level], below: bytes, path: bytes, name: bytes) -> list[_Level]:
        """The folder at `path`, where it is neither the output directory nor one that the walk is in."""
        file_id = file_id_of(below + path)
        if self.is_out(file_id) or any(file_id == above.file_id for above in stack):
            return []
        level = stack[-1]
        state = self._pattern.descend(level.state, text_of(name[:-1]))
        return [self._level(below, path, state, file_id, is_covered=level.is_covered)]

    def is_out(self, file_id: _FileId) -> bool:
        # Asked anew each time: the output directory may be made while the walk goes on.
        if self._out is None:
            return False
        try:
            stat = os.stat(self._out)  # noqa: PTH116 - walked in bytes
        except OSError:
            return False
        return file_id == (stat.st_dev, stat.st_ino)

    def _level(self, below: bytes, path: bytes, state: State, file_id: _FileId, *, is_covered: bool) -> _Level:
        names: list[bytes] = []
        doubtful: list[bytes] = []
        metadata: list[bytes] = []
        not_chosen: list[bytes] = []
        try:
            with os.scandir(below + path) as entries:
                for entry in entries:
                    name = entry.name
                    if _is_folder(entry):
                        if self._pattern.descend(state, text_of(name)):
                            # With its slash a folder sorts among the files as its paths do.
                            names.append(name + b"/")
                        continue
                    self.files_seen += 1
                    if not self._pattern.accepts(state, text_of(name)):
                        continue
                    if name.lower().endswith(self._suffixes):
                        names.append(name)
                    elif not self._sets_aside(entry, metadata, not_chosen) and self._may_be_image(entry):
                        doubtful.append(name)
        except OSError as error:
            raise _unreadable(below + path, error) from None
        found = _only_one(metadata, below + path)
        is_covered = is_covered or found is not None
        names += doubtful
        if is_covered:  # rows count whatever the suffixes of their images
            names += not_chosen
        else:
            for name in not_chosen:
                self.passed.add(suffix_of(name) or WITHOUT_SUFFIX)
        names.sort(reverse=True)
        return _Level(path, names, state, file_id, frozenset(doubtful), found, is_covered)

    def _sets_aside(self, entry: "os.DirEntry[bytes]", metadata: list[bytes], not_chosen: list[bytes]) -> bool:
        """Whether a file is metadata, or an image that does not end as chosen and that a row may name all the same."""
        name = entry.name
        if not self._reads_metadata:
            return False
        if name in METADATA_NAMES and _is_file(entry):
            metadata.append(name)
            return True
        if name.lower().endswith(_MEDIA):
            not_chosen.append(name)
            return True
        return False

    def _may_be_image(self, entry: "os.DirEntry[bytes]") -> bool:
        """Whether a file with another suffix has to be opened; what is certainly no image is counted."""
        suffix = suffix_of(entry.name)
        if is_no_image(suffix) or not self._opens_others:
            self.passed.add(suffix or WITHOUT_SUFFIX)
        elif _is_file(entry):
            return True
        else:
            self.passed.add(suffix or (UNREADABLE if entry.is_symlink() else SPECIAL))
        return False

    def _is_image(self, path: bytes) -> bool:
        flaw = flaw_of_file(path)
        if flaw is not None:
            self.passed.add((suffix_of(path) or flaw) if flaw == WITHOUT_BYTES else flaw)
        return flaw is None


def file_id_of(path: bytes) -> _FileId:
    """What two paths of one folder have in common. Raises InputError where there is none, or no way to it."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - walked in bytes
    except OSError as error:
        raise _unreadable(path, error) from None
    return stat.st_dev, stat.st_ino


def text_of(name: bytes) -> str:
    return name.decode(_ENCODING, "surrogateescape")


def _is_folder(entry: "os.DirEntry[bytes]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # A link to itself; as a file it becomes a row that says so.


def _is_file(entry: "os.DirEntry[bytes]") -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _only_one(metadata: list[bytes], folder: bytes) -> bytes | None:
    if len(metadata) > 1:
        names = " and ".join(sorted(map(text_of, metadata)))
        raise InputError(
            f"{shown(text_of(folder))}: the folder holds {names}, and only one of them can count; "
            "remove the others, or name one as SOURCE"
        )
    return metadata[0] if metadata else None


def _unreadable(path: bytes, error: OSError) -> InputError:
    return InputError(
        f"{shown(text_of(path))}: the folder cannot be read: {error.strerror or error}; "
        "change its permissions, or name the folders to read one by one"
    )
