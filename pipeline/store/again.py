"""The command that goes on with an output directory, or asks some of it again."""

import os
from pathlib import Path

from pipeline.locations import Origin
from pipeline.store.origins import read_origins
from pipeline.store.outdir import CONFIG_NAME


def run_words(out: Path, *, is_rehearsal: bool) -> list[str]:
    """Of a shell in this directory: the sources of OUT, its configuration, and the emulator where that answered."""
    sources = dict.fromkeys(_from_here(origin) for origin, _ in read_origins(out))
    words = ["vision-batch", "run", *(sources or ["SOURCE"]), "-o", str(out)]
    words += ["-c", str(out / CONFIG_NAME)] if (out / CONFIG_NAME).is_file() else []
    return [*words, *(["--emulator"] if is_rehearsal else [])]


def _from_here(origin: Origin) -> str:
    """The source as it was typed, or where it is, if that is not found from this directory."""
    typed = origin.source
    folders = (os.path.join(folder, name) for folder in origin.folders for name in (typed, os.path.basename(typed)))  # noqa: PTH118, PTH119 - text, as all sources
    places = (typed, *origin.roots, *folders)
    return next((place for place in places if os.path.exists(place)), typed)  # noqa: PTH110 - as above
