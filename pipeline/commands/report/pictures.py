"""Thumbnails of the rows that a page shows, made in a few threads and in bounded time."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any, Final

from pipeline.errors import ResourceError
from pipeline.images.prepare import warm_up
from pipeline.originals import Originals
from pipeline.pages.thumbnails import Thumbnail, limits_of, no_picture, original_of, thumbnail
from pipeline.records import Failure

MOST_SECONDS: Final = 30.0
"""Pictures that are not drawn by then are left out: a page is there in a minute whatever the images are."""
_THREADS: Final = 4
_SMALL_BYTES: Final = 64 << 20
"""Larger pictures are decoded one after the other."""

_TOO_LATE: Final = f"Not drawn: the pictures took longer than {MOST_SECONDS:g} s."

Picture = Thumbnail | str
"""A thumbnail, or why there is none."""
Drawn = Callable[[], Picture]


def pictures(out: Any, rows: Sequence[Mapping[str, Any]], seconds: float = MOST_SECONDS) -> list[Picture]:  # noqa: ANN401 - a path
    """The picture of each row."""
    originals, config, one_at_a_time = Originals(out), limits_of(out), Lock()

    @contextmanager
    def reserve(needed: int) -> Iterator[None]:
        if needed <= _SMALL_BYTES:
            yield
            return
        with one_at_a_time:
            yield

    def draw(row: Mapping[str, Any]) -> Picture:
        data = original_of(row, originals)
        if isinstance(data, str):
            return data
        made = thumbnail(data, config, reserve)
        return no_picture(made) if isinstance(made, Failure) else made

    warm_up()
    return _in_threads(rows, draw, monotonic() + seconds)


def _in_threads(
    rows: Sequence[Mapping[str, Any]], draw: Callable[[Mapping[str, Any]], Picture], until: float
) -> list[Picture]:
    """A thread that stands still in a decoder holds up neither the page nor the end of the process."""
    waiting: SimpleQueue[int] = SimpleQueue()
    done: SimpleQueue[tuple[int, Picture]] = SimpleQueue()
    for at in range(len(rows)):
        waiting.put(at)

    def work() -> None:
        while monotonic() < until:
            try:
                at = waiting.get_nowait()
            except Empty:
                return
            try:
                done.put((at, draw(rows[at])))
            except ResourceError as error:
                done.put((at, f"No picture: {error}"))

    for _ in range(min(_THREADS, (os.cpu_count() or 1) + 1, len(rows))):
        Thread(target=work, daemon=True).start()
    found: dict[int, Picture] = {}
    while len(found) < len(rows):
        try:
            at, picture = done.get(timeout=max(0.0, until - monotonic()))
        except Empty:
            break
        found[at] = picture
    return [found.get(at, _TOO_LATE) for at in range(len(rows))]
