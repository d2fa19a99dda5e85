"""`sources.json` of an output directory: where the images of its rows are, for what reads them later, from anywhere.

Each source stands there once, with the runs that read it. A night that reads what the night before read adds its name.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from pipeline import files
from pipeline.locations import Origin
from pipeline.redaction.redactor import Redactor
from pipeline.store import outdir

_PATHS = ("folders", "roots", "files")
_URI = "file://"


def write_origins(out: Path, run_id: str, found: Sequence[Origin], redactor: Redactor) -> None:
    """Add the sources of a run. Raises OSError."""
    entries = _read(out)
    for origin in found:
        own = redactor.settings({**_as_json(origin), "out": _text(os.path.abspath(out))})  # noqa: PTH100 - links stay
        same = next((one for one in entries if {**one, "runs": None} == {**own, "runs": None}), None)
        runs = [] if same is None else [name for name in same["runs"] if name != run_id]
        entries = [one for one in entries if one is not same]
        entries.append({**own, "runs": [*runs, run_id]})
    outdir.write_atomic(out / outdir.SOURCES_NAME, orjson.dumps({"sources": entries}, option=orjson.OPT_INDENT_2))


def read_origins(out: Path) -> list[tuple[Origin, frozenset[str]]]:
    """Each source of an OUT with the runs that read it, the latest last; none where that was not recorded."""
    found = []
    for one in _read(out):
        paths = {key: _paths(one[key], out, one["out"]) for key in _PATHS}
        found.append((Origin(one["source"], address=one["address"], **paths), frozenset(one["runs"])))
    return found


def _read(out: Path) -> list[dict[str, Any]]:
    """The entries; none where they cannot be read, which costs no row."""
    lists: dict[str, Any] = {name: [] for name in ("runs", *_PATHS)}
    with suppress(OSError, ValueError, TypeError, KeyError):
        found = orjson.loads(files.read(out / outdir.SOURCES_NAME))["sources"]
        defaults = {"source": "", "address": None, "out": str(out), **lists}
        return [entry for one in found if isinstance(one, dict) and _is_whole(entry := {**defaults, **one})]
    return []


def _is_whole(one: dict[str, Any]) -> bool:
    """Whether an entry is as a run writes it: the file may have been edited."""
    lists = [each for key in (*_PATHS, "runs") if isinstance(each := one[key], list)]
    texts = [one["source"], one["out"], one["address"] or "", *chain.from_iterable(lists)]
    return len(lists) == len(_PATHS) + 1 and all(isinstance(text, str) for text in texts)


def _as_json(origin: Origin) -> dict[str, Any]:
    return {
        "source": origin.source,
        **{key: list(map(_text, getattr(origin, key))) for key in _PATHS},
        "address": origin.address,
    }


def _paths(noted: Sequence[str], out: Path, out_then: str) -> tuple[str, ...]:
    """As they were; where OUT has another path now, also as they lie beside it, should all have moved together."""
    then, now = _path(out_then), os.path.abspath(out)  # noqa: PTH100 - as above
    paths = [_path(text) for text in noted]
    moved = [os.path.normpath(os.path.join(now, os.path.relpath(path, then))) for path in paths if then != now]  # noqa: PTH118 - as above
    return tuple(dict.fromkeys((*paths, *moved)))


def _text(path: str) -> str:
    """A path as it is, or as an address where its bytes are no UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return Path(path).as_uri()
    return path


def _path(text: str) -> str:
    return os.fsdecode(unquote_to_bytes(text.removeprefix(_URI))) if text.startswith(_URI) else text
