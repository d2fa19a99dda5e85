"""The list of ids that `run --only` takes, and the command that asks them again."""

import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pipeline import files
from pipeline.locations import Origin
from pipeline.store.outdir import CONFIG_NAME, check_folder
from pipeline.store.reviews import REVIEWS_NAME, Key

_BREAKS: Final = frozenset("\r\n")


@dataclass(frozen=True, slots=True)
class AskAgain:
    """A list that was written."""

    path: Path
    ids: int
    left_out: int
    """Ids with a line break in them: a list cannot hold them."""
    command: str
    """To ask the same again, of a shell in this directory."""


def write_list(
    out: Path,
    keys: Iterable[Key],
    *,
    sources: Iterable[Origin],
    prompts: Sequence[str],
    is_rehearsal: bool,
    now: datetime,
) -> AskAgain:
    """Write the ids of these rows into `OUT/reviews/`. Raises ResourceError.

    `prompts`: all of OUT. `is_rehearsal`: whether the emulator has answered.
    """
    path = out / REVIEWS_NAME / f"ask-again-{now:%Y%m%dT%H%M%S}.txt"
    seen: set[str] = set()
    named: set[str] = set()
    left_out = 0
    with files.disk_errors(out):
        check_folder(path.parent)
        path.parent.mkdir(exist_ok=True)
        with files.replaced(path) as file:
            for record, prompt in keys:
                named.add(prompt)
                if _BREAKS.isdisjoint(record) and record not in seen:
                    file.write(f"{record}\n".encode())
                elif record not in seen:
                    left_out += 1
                seen.add(record)
    words = ["vision-batch", "run", *(dict.fromkeys(map(_from_here, sources)) or ["SOURCE"]), "-o", str(out)]
    words += ["-c", str(out / CONFIG_NAME)] if (out / CONFIG_NAME).is_file() else []
    words += ["--emulator"] if is_rehearsal else []
    words += ["--only", str(path)]
    if len(named) == 1 < len(prompts):  # --only names records: with all their prompts
        quoted = named.pop().replace("'", "''")
        words += ["--retry-where", f"prompt_name = '{quoted}'"]
    return AskAgain(path, len(seen) - left_out, left_out, shlex.join(words))


def _from_here(origin: Origin) -> str:
    """The source as it was typed, or where it is, if that is not found from this directory."""
    typed = origin.source
    folders = (os.path.join(folder, name) for folder in origin.folders for name in (typed, os.path.basename(typed)))  # noqa: PTH118, PTH119 - text, as all sources
    places = (typed, *origin.roots, *folders)
    return next((place for place in places if os.path.exists(place)), typed)  # noqa: PTH110 - as above
