"""A pause of a run as a value: which endpoint, why, from when until when."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Paused:
    """Sending to an endpoint paused: once, or several times in close succession."""

    endpoint: str
    reason: str
    began_at: datetime
    ended_at: datetime
    times: int
    seconds: float
    """In which nothing was sent."""
