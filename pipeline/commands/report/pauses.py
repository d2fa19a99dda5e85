"""The pauses of a chart, from what runs have recorded."""

from pathlib import Path

from pipeline.commands.report.timeline import Pause
from pipeline.store.events import read_pauses


def pauses_of(out: Path) -> list[Pause]:
    """In the order of their beginnings."""
    return [
        Pause(one.began_at.timestamp(), one.ended_at.timestamp(), one.reason, one.endpoint, one.times, one.seconds)
        for one in read_pauses(out)
    ]
