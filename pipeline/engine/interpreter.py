"""How Python itself is set while a run goes on, and set back when it is over."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_THRESHOLD: Final = 5_000
"""New objects before a search. Python's own 700 costs 5 % of a run at full speed, and frees next to nothing."""
_SWITCH_S: Final = 0.05
"""How long a thread may keep the interpreter while others wait for it. With Python's own 5 ms the loop is interrupted
for decoding threads that need it for microseconds, which costs 7 % of a run at full speed."""


@contextmanager
def rare_searches() -> Iterator[None]:
    """Search for garbage seldom, and not in what was there before: modules and settings, which stay.

    What the calling program has set counts as well: a larger threshold, or none.
    """
    first, *others = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(max(first, _THRESHOLD) if first else 0, *others)
    try:
        yield
    finally:
        gc.set_threshold(first, *others)
        gc.unfreeze()


@contextmanager
def rare_switches() -> Iterator[None]:
    """Let each thread keep the interpreter until it waits for something, nearly always."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(max(before_s, _SWITCH_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)
