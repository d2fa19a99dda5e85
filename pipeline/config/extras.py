"""The optional packages: whether they are installed, and how they are."""

from functools import cache
from importlib.util import find_spec

VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv")
"""Files in a folder that count as videos; manifests may name any file."""
VIDEO_HINT = 'reading videos needs a package more: pip install "vision-batch[video]"'
"""The way out where PyAV is missing."""


@cache
def has_video_extra() -> bool:
    """Whether PyAV, which reads videos, is installed. It is not imported."""
    return find_spec("av") is not None
