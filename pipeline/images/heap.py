"""Memory of large pictures goes back to the system as soon as they are gone.

The C library keeps what was freed for the thread that used it: of eight threads that decode pictures of 100 megapixels
one after the other, each would keep the 400 MB of its last one.
"""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Final

LARGE_BYTES: Final = 64 << 20
"""A smaller picture is decoded in less than a second, and giving its pages back, to take them anew, would show."""


def give_back(used_bytes: int) -> None:
    """After decoding that took this much. Does nothing where the C library is not glibc, as on macOS."""
    if used_bytes >= LARGE_BYTES:
        _trim()(0)


@cache
def _trim() -> Callable[[int], int]:
    with suppress(OSError, AttributeError, TypeError):
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return trim
    return int
