"""The names of files that an export makes: from ids, below DEST and nowhere else, no two alike."""

import os
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from pipeline.errors import InputError
from pipeline.sources.naming import MEDIA_SUFFIXES

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_MOST_BYTES: Final = 240
"""Of one name: 255 less what is added to it while it is written."""
_SHOWN: Final = 5
MARKER: Final = ".vision-batch-export.json"
"""The file in a DEST that says what was exported there, and how far."""


class UnsafeNameError(Exception):
    """Why an id cannot be a name below DEST."""


def below_dest(row_id: str, relative_to: str | None = None) -> str:
    """The path below DEST of a row: its id, without a scheme, and without what it is `relative_to`.

    Raises UnsafeNameError.
    """
    name, prefix = row_id, "" if relative_to is None else relative_to.rstrip("/") + "/"
    if not name.startswith(prefix):
        raise UnsafeNameError(f"it does not begin with {prefix!r}")
    name = name.removeprefix(prefix).lstrip("/") if prefix else _SCHEME.sub("", name, count=1)
    if name.startswith("/"):
        raise UnsafeNameError("it is absolute")
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise UnsafeNameError("it holds `..`")
    if not parts or "\0" in name:
        raise UnsafeNameError("it is no name of a file")
    if any(len(part.encode()) > _MOST_BYTES for part in parts):
        raise UnsafeNameError(f"it has a part of more than {_MOST_BYTES} bytes")
    if parts[0] == MARKER:
        raise UnsafeNameError("it is the name of the export's own file")
    return "/".join(parts)


def unsafe_words(row_id: str, error: UnsafeNameError) -> str:
    """Why an export with this row is refused."""
    return (
        f"the id {row_id!r} cannot be a name below DEST: {error}. Nothing was written. `relative_to=FOLDER` takes away "
        "what ids begin with; `where=` leaves rows out"
    )


def suffix_of(image: str) -> str:
    """The suffix of an image's name, with its dot; empty where it has none that is an image's."""
    path = image.partition("#")[0].partition("?")[0] if _SCHEME.match(image) else image
    suffix = os.path.splitext(path)[1]  # noqa: PTH122 - of texts
    return suffix if suffix.lower() in MEDIA_SUFFIXES else ""


def without_suffix(name: str, suffix: str) -> str:
    """A name without the suffix of its image, where it ends in it."""
    return name[: -len(suffix)] if suffix and name.lower().endswith(suffix.lower()) else name


Named = tuple[str, str]
"""The name of a file, and the id of its row."""


def check_names(each: Callable[[], Iterable[Named]], *, reserved: Iterable[str] = (), folds: bool = False) -> None:
    """Raises InputError where two rows would be one file, or a file of one is a folder of another.

    `each` makes a pass. With `folds` names that differ in case, or in the normal form of Unicode, are one. Memory: 8
    bytes a row.
    """
    fold = _folded if folds else str
    hashes, folders, before = array("q", (hash(fold(name)) for name in reserved)), set[int](), ""
    for name, _ in each():
        hashes.append(hash(fold(name)))
        folder = name.rpartition("/")[0]
        if folder != before:
            before = folder
            folders.update(hash(fold(one)) for one in _parents(folder))
    counts = _twice(hashes, folders)
    if not counts:
        return
    owners: dict[str, list[str]] = {fold(name): ["(the export's own file)"] for name in reserved}
    inside = set[str]()
    for name, row_id in each():
        if hash(fold(name)) in counts:
            owners.setdefault(fold(name), []).append(row_id)
        inside.update(fold(one) for one in _parents(name.rpartition("/")[0]) if hash(fold(one)) in counts)
    alike = [(name, ids) for name, ids in owners.items() if len(ids) > 1]
    if alike:
        raise InputError(*_alike_words(alike))
    if both := [ids[0] for name, ids in owners.items() if name in inside]:
        raise InputError(
            f"{both[0]!r} would be a file, and is a folder of other rows; export these apart (`where=`), or to a "
            "format that holds no files"
        )


def _alike_words(alike: list[tuple[str, list[str]]]) -> Iterator[str]:
    rows = sum(len(ids) for _, ids in alike)
    yield f"{rows:,} rows share {len(alike):,} names of files; nothing was written:"
    for name, ids in alike[:_SHOWN]:
        shown = ", ".join(map(repr, ids[:_SHOWN])) + (" and others" if len(ids) > _SHOWN else "")
        yield f"  {name}: {shown}"
    yield "Export them apart (`where=`), rename the images, or choose a format that holds no files (jsonl)"


def _parents(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _twice(hashes: "array[int]", folders: set[int]) -> set[int]:
    import numpy as np  # noqa: PLC0415 - a run does not need it here

    if not hashes:
        return set()
    values, counts = np.unique(np.frombuffer(hashes, np.int64), return_counts=True)
    found = set(values[counts > 1].tolist())
    both = np.intersect1d(values, np.fromiter(folders, np.int64, len(folders)))
    return found | set(both.tolist())
