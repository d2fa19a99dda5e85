"""Pictures of originals, always made anew: no byte of a foreign file reaches the browser as it is."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, Literal

from pipeline.originals import Originals
from pipeline.pages.thumbnails import drawn, limits_of, no_picture, original_of
from pipeline.records import Failure

Size = Literal["small", "large"]
SIDES: Final[Mapping[Size, int]] = {"small": 480, "large": 1600}
"""The longer side in pixels."""
_QUALITY: Final = 80
_KEPT_BYTES: Final = 64 << 20
_MUCH_BYTES: Final = 64 << 20
"""Of the pictures that take more memory than this one is decoded at a time."""


class Pictures:
    """JPEG files of the images of one output directory. Threads may share it."""

    def __init__(self, out: Path) -> None:
        self._originals = Originals(out)
        self._config = limits_of(out)
        self._kept: OrderedDict[tuple[str, str, Size], bytes] = OrderedDict()
        self._kept_bytes = 0
        self._lock, self._much = threading.Lock(), threading.Lock()

    def picture(self, row: Mapping[str, Any], size: Size) -> bytes | str:
        """A JPEG file, or why there is none, in a sentence. Raises ResourceError where no file handle is left."""
        key = (row["image"] or "", row["sha256"] or "", size)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        data = original_of(row, self._originals)
        if isinstance(data, str):
            return data
        made = drawn(data, self._config, SIDES[size], _QUALITY, self._reserve)
        if isinstance(made, Failure):
            return no_picture(made)
        self._keep(key, made.data)
        return made.data

    def _reserve(self, needed: int) -> AbstractContextManager[object]:
        return self._much if needed > _MUCH_BYTES else nullcontext()

    def _keep(self, key: tuple[str, str, Size], data: bytes) -> None:
        with self._lock:
            self._kept_bytes += len(data) - len(self._kept.pop(key, b""))
            self._kept[key] = data
            while self._kept_bytes > _KEPT_BYTES:
                self._kept_bytes -= len(self._kept.popitem(last=False)[1])
