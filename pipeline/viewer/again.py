"""The list of ids that `run --only` takes, and the command that asks them again."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pipeline import files
from pipeline.store.again import run_words
from pipeline.store.outdir import check_folder
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
    words = [*run_words(out, is_rehearsal=is_rehearsal), "--only", str(path)]
    if len(named) == 1 < len(prompts):  # --only names records: with all their prompts
        quoted = named.pop().replace("'", "''")
        words += ["--retry-where", f"prompt_name = '{quoted}'"]
    return AskAgain(path, len(seen) - left_out, left_out, shlex.join(words))
