"""The ids of `only=` that the source does not hold: an error where it can be read beforehand, else a note."""

from collections.abc import Iterator

from pipeline.errors import InputError
from pipeline.records import ImageRecord
from pipeline.run.job import Job
from pipeline.sources import Source, has_stream
from pipeline.sources.idlist import IdList, Unmatched

_A_BATCH = 1_000


def check_only(job: Job, source: Source) -> None:
    """Raise InputError where the source, which can be read twice, does not hold an id of `only=`."""
    if not isinstance(job.rerun.only, IdList) or has_stream(job.sources) or job.config.source.own_shard is not None:
        return  # of a shard, the others hold the rest of the list
    unmatched = Unmatched(job.rerun.only)
    unmatched.meet(record.id for record in source.records())
    if (words := unmatched.words()) is not None:
        raise InputError(f"{words}. Nothing was sent")


def unmatched_of_stream(job: Job) -> Unmatched | None:
    """What `watched` fills where the source can be read only once."""
    only, is_whole = job.rerun.only, job.config.source.own_shard is None
    return Unmatched(only) if isinstance(only, IdList) and is_whole and has_stream(job.sources) else None


def watched(records: Iterator[ImageRecord], unmatched: Unmatched) -> Iterator[ImageRecord]:
    """The records as they come; each is marked as met."""
    for record in records:
        unmatched.meet([record.id])
        yield record
