"""Image files: a folder, a glob, or a single one."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError
from pipeline.locations import LocalFile
from pipeline.records import ImageRecord
from pipeline.sources.base import check_ids
from pipeline.sources.braces import RECORD_SUFFIXES, files_hint
from pipeline.sources.naming import (
    MEDIA_SUFFIXES,
    check_videos,
    identify,
    location_of,
    names_document,
    public_image,
    scheme_of,
    shown,
)
from pipeline.sources.patterns import START, Everything, Pattern, State

_SUFFIXES = tuple(suffix.encode() for suffix in MEDIA_SUFFIXES)
_ENCODING = sys.getfilesystemencoding()

_FileId = tuple[int, int]


class FolderSource:
    """The image files below `root`, in the byte order of their paths.

    One folder's names are in memory at a time, and those of its parents that are still to come. Links are
    followed, loops survived, hidden names and the output directory left out.
    """

    skipped = 0
    is_manifest = False
    has_several = False
    grouped_by = None

    def __init__(self, root: str, *, name: str, pattern: Pattern | None = None, out: Path | None = None) -> None:
        self.name = name
        self._root = root or "."
        self._prefix = root if root.endswith("/") or not root else root + "/"
        self._pattern = Everything() if pattern is None else pattern
        self._is_glob = pattern is not None
        self._out = out
        self.has_documents = False

    def check(self) -> int | None:
        return check_ids([self])

    def ids(self) -> Iterator[str] | None:
        return (identify(path) for path in self._paths())

    def records(self) -> Iterator[ImageRecord]:
        prefix = self._prefix
        for path in self._paths():
            opens = prefix + path
            yield ImageRecord(identify(path), (LocalFile(shown(opens), opens),))

    def place(self, record: ImageRecord) -> str:
        image = record.images[0]
        return repr(image.path if isinstance(image, LocalFile) else image.name)

    def _paths(self) -> Iterator[str]:
        walk = _Walk(self._pattern, self._out)
        root = os.fsencode(self._root)
        if walk.is_out(_file_id(root)):
            raise InputError(f"{self.name}: the output directory is this very folder; name another with -o")
        empty = True
        for path in walk.paths(root):
            empty = False
            text = path.decode(_ENCODING, "surrogateescape")
            check_videos((text,), self.name)
            self.has_documents = self.has_documents or names_document(text)
            yield text
        if empty:
            raise InputError(self._nothing_found(walk.files_seen))

    def _nothing_found(self, files_seen: int) -> str:
        found = "no image matches" if self._is_glob else "no images here"
        if not files_seen and not self._is_glob:
            return f"{shown(self.name)}: {found}: the folder holds no files"
        hint = "" if self._is_glob else files_hint(self._root, RECORD_SUFFIXES)
        others = f"{files_seen:,} other file{' was' if files_seen == 1 else 's were'} seen"
        return (
            f"{shown(self.name)}: {found}; {others}{hint}. "
            f"Files count that end in {' '.join(MEDIA_SUFFIXES)}, in any case, and are not hidden"
        )


class ImageSource:
    """One image file or one address."""

    skipped = 0
    is_manifest = False
    has_several = False
    grouped_by = None

    def __init__(self, image: str) -> None:
        self.name = public_image(image)
        self.has_documents = names_document(image)
        self._image = image

    def check(self) -> int | None:
        check_videos((self._image,), "the source")
        return 1

    def ids(self) -> Iterator[str] | None:
        self.check()
        return (record.id for record in self.records())

    def records(self) -> Iterator[ImageRecord]:
        image = self._image
        named = image.rpartition("/")[2] if scheme_of(image) is None else public_image(image)
        yield ImageRecord(identify(named), (location_of(image, ""),))

    def place(self, record: ImageRecord) -> str:
        return repr(record.image)


@dataclass(slots=True)
class _Level:
    """A folder on the way down: its path below the root, its remaining names (last first), and its file id."""

    path: bytes
    names: list[bytes]
    state: State
    file_id: _FileId


class _Walk:
    """One pass over a tree, depth first, without recursion."""

    def __init__(self, pattern: Pattern, out: Path | None) -> None:
        self.files_seen = 0
        self._pattern = pattern
        self._out = None if out is None else os.fsencode(out)

    def paths(self, root: bytes) -> Iterator[bytes]:
        """Paths below `root`. Raises InputError at a folder that cannot be read."""
        below = root if root.endswith(b"/") else root + b"/"
        stack = [self._level(below, b"", START, _file_id(root))]
        while stack:
            level = stack[-1]
            if not level.names:
                stack.pop()
                continue
            name = level.names.pop()
            if not name.endswith(b"/"):
                yield level.path + name
                continue
            path = level.path + name
            file_id = _file_id(below + path)
            if self.is_out(file_id) or any(file_id == above.file_id for above in stack):
                continue
            state = self._pattern.descend(level.state, _text(name[:-1]))
            stack.append(self._level(below, path, state, file_id))

    def is_out(self, file_id: _FileId) -> bool:
        # Asked anew each time: the output directory may be made while the walk goes on.
        if self._out is None:
            return False
        try:
            stat = os.stat(self._out)  # noqa: PTH116 - walked in bytes
        except OSError:
            return False
        return file_id == (stat.st_dev, stat.st_ino)

    def _level(self, below: bytes, path: bytes, state: State, file_id: _FileId) -> _Level:
        names: list[bytes] = []
        try:
            with os.scandir(below + path) as entries:
                for entry in entries:
                    name = entry.name
                    if _is_folder(entry):
                        if self._pattern.descend(state, _text(name)):
                            # With its slash a folder sorts among the files as its paths do.
                            names.append(name + b"/")
                        continue
                    self.files_seen += 1
                    if name.lower().endswith(_SUFFIXES) and self._pattern.accepts(state, _text(name)):
                        names.append(name)
        except OSError as error:
            raise _unreadable(below + path, error) from None
        names.sort(reverse=True)
        return _Level(path, names, state, file_id)


def _is_folder(entry: "os.DirEntry[bytes]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # A link to itself; as a file it becomes a row that says so.


def _file_id(path: bytes) -> _FileId:
    try:
        stat = os.stat(path)  # noqa: PTH116 - walked in bytes
    except OSError as error:
        raise _unreadable(path, error) from None
    return stat.st_dev, stat.st_ino


def _text(name: bytes) -> str:
    return name.decode(_ENCODING, "surrogateescape")


def _unreadable(path: bytes, error: OSError) -> InputError:
    return InputError(
        f"{shown(_text(path))}: the folder cannot be read: {error.strerror or error}; "
        "change its permissions, or name the folders to read one by one"
    )
