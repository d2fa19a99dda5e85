"""What a run says of its sources: what they pass over, and which of them take seconds to read."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from pipeline.engine.progress import bytes_text, counted
from pipeline.formatting import passed_words
from pipeline.run.job import Job
from pipeline.sources import Source, passed_over, source_name
from pipeline.sources.formats import format_of
from pipeline.store.outdir import STATUS_NAME

LONG_BYTES = 32 << 20
"""Of manifests: half a million rows of JSON Lines, which are read in three seconds."""


def say_reading(job: Job, say: Callable[[str], None]) -> None:
    """Why nothing else is shown for a while: manifests are read to their end before anything is sent."""
    paths = [Path(source) for source in job.sources if isinstance(source, str | os.PathLike)]
    sizes = {path: size for path in paths if (size := _text_bytes(path))}
    if (size := sum(sizes.values())) >= LONG_BYTES:
        name = source_name(*sizes) if len(sizes) == 1 else f"{len(sizes)} manifests"
        say(f"reads {name} to the end ({bytes_text(size)}) before anything is sent")


def _text_bytes(path: Path) -> int:
    """The size of a manifest of text, 0 of anything else: of a table only the ids are read, which takes a moment."""
    known = format_of(path.name)
    with suppress(OSError, ValueError):  # the source says why it cannot be read
        if known is not None and known.unit == "line" and path.is_file():
            return path.stat().st_size
    return 0


def passed_line(job: Job, source: Source, total: int | None) -> str | None:
    """`748 images; passed over: 212 .fits`; None where nothing is passed over. `total` is the run's, where known."""
    by_kind = passed_over(source)
    if not by_kind:
        return None
    is_whole = job.limit is None and job.chosen is None
    images = f"{counted(total, 'image')}; " if total is not None and is_whole else ""
    return f"{images}passed over: {passed_words(by_kind)}"


def say_passed(job: Job, source: Source, total: int | None, say: Callable[[str], None]) -> None:
    """Show the line, unless the latest run on OUT has passed over the same."""
    line = passed_line(job, source, total)
    if line is not None and not _was_said(job, passed_over(source)):
        say(line)


def _was_said(job: Job, by_kind: Mapping[str, int]) -> bool:
    with suppress(OSError, ValueError):
        latest = json.loads((job.out / STATUS_NAME).read_bytes())
        return isinstance(latest, dict) and latest.get("passed_over") == dict(by_kind)
    return False
