"""Where an export may be written: not into OUT, a source or a folder with other things."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson

from pipeline import files
from pipeline.errors import InputError
from pipeline.export.names import MARKER
from pipeline.export.rows import Rows
from pipeline.store.origins import read_origins

_ALSO: Final = frozenset({MARKER, ".DS_Store", ".gitignore", ".gitkeep"})


def check_dest(rows: Rows, dest: Path, *, is_folder: bool, has_images: bool) -> None:
    """Raises InputError where writing there would mix with what is not of this export."""
    real, out = dest.resolve(), rows.out.resolve()
    if out == real or out in real.parents:
        raise InputError(f"{dest} lies within the output directory {rows.out}; name a DEST elsewhere")
    if is_folder:
        if has_images:
            _check_no_source(rows, real, dest)
        return
    if dest.name == "-" or dest.is_symlink() or (dest.exists() and not (dest.is_file() or dest.is_dir())):
        raise InputError(f"{dest} is a link or no plain file, and an export takes the place of its DEST: name a file")
    if dest.is_dir():
        raise InputError(f"{dest} is a folder; this format writes one file: name it")


def _check_no_source(rows: Rows, real: Path, dest: Path) -> None:
    """Raises InputError where the next run would take the images of the export for new ones."""
    for origin, _ in read_origins(rows.out):
        for root in origin.roots:
            source = Path(os.path.realpath(root))
            if source == real or source in real.parents:
                raise InputError(
                    f"{dest} lies within the source {origin.source}: the next run would take its images for new ones; "
                    "name a DEST elsewhere, or `images=none`"
                )


def take_folder(dest: Path, to: str, out: Path) -> None:
    """Mark a folder as an export of this OUT, which another one of it may replace.

    Raises InputError where it holds anything else, and OSError.
    """
    marker, own = dest / MARKER, {"format": to, "out": os.path.abspath(out)}  # noqa: PTH100 - links stay
    try:
        held: Mapping[str, object] = orjson.loads(files.read(marker))
    except FileNotFoundError:
        held = own if not dest.exists() or not {entry.name for entry in dest.iterdir()} - _ALSO else {}
    except (OSError, ValueError):
        held = {}
    if {name: held.get(name) for name in own} != own:
        what = f"an export of {held['out']} as {held['format']}" if held.get("out") else "other files"
        raise InputError(f"{dest} holds {what}; name a new or an empty folder")
    dest.mkdir(parents=True, exist_ok=True)
    if not marker.exists():
        files.write_atomic(marker, orjson.dumps(own))
