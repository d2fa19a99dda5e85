"""Patterns of files that a shell would expand, were they not quoted: `data-{000..099}.tar`, `{train,val}/*.tar`.

`train/*.tar` names files, as `train/*.jpg` does; here each of these files holds records.
"""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from pipeline.errors import InputError
from pipeline.sources.naming import shown
from pipeline.sources.patterns import split_glob

RECORD_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz", ".parquet", ".arrow")
"""Files that may hold images, and that a folder without images may consist of."""
MOST_FILES: Final = 100_000
_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_RANGE: Final = re.compile(r"(\d+)\.\.(\d+)(?:\.\.(\d+))?")


def has_braces(spec: str) -> bool:
    """Whether it holds `{a,b}` or `{0..9}`."""
    return _first(spec) is not None


def _first(text: str) -> re.Match[str] | None:
    """The first braces that stand for several texts."""
    return next((one for one in _BRACES.finditer(text) if "," in one[1] or _RANGE.fullmatch(one[1])), None)


def files_of(spec: str) -> tuple[str, list[str]]:
    """The folder that a pattern begins with (empty, or ending in `/`), and the files that match, below it, in order.

    Raises InputError where a file that it names is missing, or nothing matches.
    """
    below = _folder_before(spec)
    named = list(islice(expanded(spec[len(below) :]), MOST_FILES + 1))
    if len(named) > MOST_FILES:
        raise InputError(f"{shown(spec)}: the pattern names more than {MOST_FILES:,} files")
    matches = {one: _matches(below, one) for one in named}
    missing = [one for one, found in matches.items() if not found]
    if missing:
        also = f", and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        if len(named) == 1:
            raise InputError(f"{shown(spec)}: no file matches")
        raise InputError(
            f"{shown(spec)}: {len(missing):,} of the {len(named):,} that it names are missing: "
            f"{shown(below + missing[0])}{also}; get them, or name those that are there"
        )
    return below, list(dict.fromkeys(file for found in matches.values() for file in found))


def files_example(folder: str, suffixes: Iterable[str]) -> str:
    """How to name the files of a folder that hold records, for a message; empty where there are none."""
    try:
        names = [os.fsdecode(name) for name in sorted(os.listdir(os.fsencode(folder)))]  # noqa: PTH208 - as above
    except OSError:
        return ""
    for suffix in suffixes:
        found = [name for name in names if name.lower().endswith(suffix) and not name.startswith(".")]
        if found:
            below = folder if folder.endswith("/") or not folder else f"{folder}/"
            way = f"{below}{found[0]}" if len(found) == 1 else f"{below}*{suffix}"
            return f", as {shown(way)!r}"
    return ""


def _folder_before(spec: str) -> str:
    """The folder before the first wildcard or brace; empty, or ending in `/`."""
    found = _first(spec)
    head = spec if found is None else spec[: found.start()]
    split = split_glob(head)
    root = head[: head.rfind("/") + 1] if split is None else split[0]
    return root if root.endswith("/") or not root else root + "/"


def expanded(text: str) -> Iterator[str]:
    """Every text that the braces stand for, the last one varying fastest, as in a shell."""
    found = _first(text)
    if found is None:
        yield text
        return
    for choice in _choices(found[1]):
        yield from expanded(text[: found.start()] + choice + text[found.end() :])


def _choices(inside: str) -> Iterator[str]:
    bounds = _RANGE.fullmatch(inside)
    if bounds is None:
        yield from inside.split(",")
        return
    first, last, step = int(bounds[1]), int(bounds[2]), max(1, int(bounds[3] or 1))
    is_padded = any(len(text) > 1 and text.startswith("0") for text in bounds.groups()[:2])
    width = max(len(bounds[1]), len(bounds[2])) if is_padded else 0
    numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    yield from (f"{number:0{width}d}" for number in numbers)


def _matches(below: str, pattern: str) -> list[str]:
    if os.path.isfile(below + pattern) or not glob.has_magic(pattern):  # noqa: PTH113 - may be no UTF-8
        return [pattern] if os.path.lexists(below + pattern) else []
    found = glob.iglob(pattern, root_dir=below or None, recursive=True)  # noqa: PTH207 - below a folder as written
    files = list(islice((one for one in found if os.path.isfile(below + one)), MOST_FILES))  # noqa: PTH113
    return sorted(files, key=os.fsencode)
