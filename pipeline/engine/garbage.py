"""How often Python looks for garbage in cycles while a run goes on."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_THRESHOLD: Final = 5_000
"""New objects before a search. Python's own 700 costs 5 % of a run at full speed, and frees next to nothing."""


@contextmanager
def rare_searches() -> Iterator[None]:
    """Search seldom, and not in what was there before: modules and settings, which stay.

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
