"""What the sources of a run pass over, in one line."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress

from pipeline.engine.progress import counted
from pipeline.formatting import passed_words
from pipeline.run.job import Job
from pipeline.sources import Source, passed_over
from pipeline.store.outdir import STATUS_NAME


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
