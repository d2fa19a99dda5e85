"""Images beside what is exported: copied, or linked to."""

import errno
import hashlib
import os
from pathlib import Path
from typing import Any, Final

from pipeline import files
from pipeline.errors import InputError
from pipeline.export.names import below_dest, suffix_of, without_suffix
from pipeline.export.report import Reason
from pipeline.export.rows import Rows
from pipeline.export.tree import Tree
from pipeline.images.containers.sniff import sniff
from pipeline.images.containers.values import Format
from pipeline.originals import Originals, State

Row = dict[str, Any]

_REASONS: Final = {
    State.MISSING: Reason.IMAGE_MISSING,
    State.CHANGED: Reason.IMAGE_CHANGED,
    State.REMOTE: Reason.IMAGE_REMOTE,
    State.UNREAD: Reason.IMAGE_UNREAD,
}


def reason_of(state: State) -> Reason | None:
    """Why there is no image; None where there is one."""
    return _REASONS.get(state)


_SUFFIXES: Final = {Format.JPEG: ".jpg", Format.TIFF: ".tif", Format.JPEG2000: ".jp2"}


def image_suffix(name: str, data: bytes) -> str:
    """The suffix of an image's file: that of its name, or else what its first bytes say."""
    found = sniff(data)
    if found is None or suffix_of(name):
        return suffix_of(name)
    return _SUFFIXES.get(found) or (f".{found.value.lower()}" if found in _SIMPLE else "")


_SIMPLE: Final = {Format.PNG, Format.GIF, Format.WEBP, Format.BMP, Format.AVIF, Format.HEIC}


def image_name(row: Row, relative_to: str | None) -> str:
    """The name below DEST of a row's image, as far as it is known before it is read. Raises UnsafeNameError."""
    suffix = suffix_of(str(row["image"] or ""))
    return without_suffix(below_dest(str(row["id"]), relative_to), suffix) + suffix


class Placer:
    """Brings images below a DEST, as `images` of the options says."""

    def __init__(self, rows: Rows, tree: Tree) -> None:
        self.originals = Originals(rows.out)
        self._tree, self._relative_to = tree, rows.options.relative_to
        self._how = rows.options.images or "copy"

    def place(self, row: Row) -> str | Reason:
        """The name of the image below DEST, where it is now; or why it is not. Raises UnsafeNameError and OSError."""
        name = image_name(row, self._relative_to)
        if self._how == "none":
            return name
        if self._how == "copy" and _digest(self._tree.path(name)) == row["sha256"]:
            return name  # an earlier export has copied it
        found = self.originals.open(row)
        if found.data is None:
            return reason_of(found.state) or Reason.IMAGE_MISSING
        if not suffix_of(name):
            name += image_suffix(name, found.data)
        if self._how == "copy" or found.path is None:
            self._tree.write(name, found.data)
        else:
            _link(found.path, self._tree.path(name), is_hard=self._how == "hardlink")
        return name


def _digest(path: Path) -> str | None:
    """Of a plain file; None where there is none."""
    if files.is_odd(path):
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _link(source: str, path: Path, *, is_hard: bool) -> None:
    """Replace `path` by a link. Raises OSError, and InputError where the disks do not allow it."""
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.unlink(missing_ok=True)
    try:
        if is_hard:
            os.link(os.path.realpath(source), unfinished)
        else:
            os.symlink(os.path.abspath(source), unfinished)  # noqa: PTH100, PTH211 - the path may be no UTF-8
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise InputError(
            f"`images=hardlink`: {path.parent} and {source} are on different disks; use `images=copy` or "
            "`images=symlink`"
        ) from None
    unfinished.replace(path)
    unfinished.unlink(missing_ok=True)  # to rename one of two names of a file over the other does nothing
