"""Progress of looking at many images: a bar on a terminal, nothing anywhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Never

from tqdm import tqdm


@contextmanager
def counting(*, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """Gives what to call with (images so far, images in all, where that is known)."""
    bar: tqdm[Never] = tqdm(
        file=sys.stderr, unit="img", unit_scale=True, dynamic_ncols=True, leave=False, delay=0.5,
        disable=quiet or not sys.stderr.isatty(),
    )  # fmt: skip

    def show(seen: int, total: int | None) -> None:
        bar.total = total
        bar.update(seen - bar.n)

    with bar:
        yield show
