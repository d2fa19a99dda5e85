"""Chooses the frames of a video, of an animation, or of a file with several pages."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import Protocol

_ROUNDING_S = 1e-6


class FrameSettings(Protocol):
    """The settings that this module reads: those of `[images]`."""

    @property
    def frames(self) -> int: ...
    @property
    def frame_interval_s(self) -> float | None: ...
    @property
    def page_dpi(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Sampling:
    """At most `frames`: evenly spaced, or one every `interval_s` from the beginning."""

    frames: int = 1
    interval_s: float | None = None
    page_dpi: int = 200
    """The resolution at which a page of a PDF counts as an image."""

    @classmethod
    def of(cls, config: FrameSettings) -> "Sampling":
        return cls(config.frames, config.frame_interval_s, config.page_dpi)

    def times(self, duration_s: float) -> list[float]:
        """Seconds from the beginning. Evenly spaced frames stand in the middle of equal parts; one in the middle."""
        if self.interval_s is None:
            return [duration_s * (2 * number + 1) / (2 * self.frames) for number in range(self.frames)]
        wanted = min(self.frames, max(1, ceil(duration_s / self.interval_s - _ROUNDING_S)))
        return [number * self.interval_s for number in range(wanted)]

    def chosen(self, starts: Sequence[float], end: float) -> list[int]:
        """The frames that are seen at these times, each once. `starts` are those of all frames, in order."""
        first = starts[0]
        seen = (bisect_right(starts, first + time + _ROUNDING_S) - 1 for time in self.times(end - first))
        return sorted({max(0, at) for at in seen})

    def pages(self, count: int) -> list[int]:
        """The pages of a document that are sent: one after the other takes as long, and `interval_s` does not count."""
        if self.frames == 1:
            return [0]
        return Sampling(self.frames).chosen(range(count), count)

    def count(self, frames: int | None, duration_s: float | None) -> int:
        """About the number of frames that a video gives, by its header alone."""
        wanted = self.frames if duration_s is None else len(self.times(duration_s))
        return wanted if not frames else min(wanted, frames)


ONE = Sampling()
"""As without any setting."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The frames of an animation: when each begins, and when the last one ends, in seconds."""

    starts: tuple[float, ...]
    end: float
    first: int = 0
    """The place of the first one among the pictures of the file."""

    @classmethod
    def of(cls, delays_s: Sequence[float], first: int = 0) -> "Timeline":
        ends = tuple(accumulate(delays_s))
        return cls((0.0, *ends[:-1]), ends[-1], first)


def time_fragment(time_s: float) -> str:
    """A time as W3C's "Media Fragments URI 1.0" writes it: `t=1.25`, in seconds, to the millisecond."""
    return f"t={time_s:.3f}".rstrip("0").rstrip(".")
