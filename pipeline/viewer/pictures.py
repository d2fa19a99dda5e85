"""Pictures of originals, always made anew: no byte of a foreign file reaches the browser as it is."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, Literal

from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind, InputError
from pipeline.images.frames import prepare_images
from pipeline.originals import Original, Originals, State
from pipeline.records import Failure
from pipeline.store.opening import last_config
from pipeline.tokens.sizing import SizeRule

Size = Literal["small", "large"]
SIDES: Final[Mapping[Size, int]] = {"small": 480, "large": 1600}
"""The longer side in pixels."""
_QUALITY: Final = 80
_KEPT_BYTES: Final = 64 << 20
_NEVER_UNCHANGED_MB: Final = 1e-6
_MUCH_BYTES: Final = 64 << 20
"""Of the pictures that take more memory than this one is decoded at a time."""
_WHY: Final = {
    State.MISSING: "The image is not where the run read it.",
    State.CHANGED: "The image has changed since the run read it.",
    State.REMOTE: "The image is remote, and is not fetched.",
    State.UNREAD: "The run read no image for this row.",
}
_DANGEROUS: Final = frozenset({ErrorKind.DECODER_CRASHED.value})


class Pictures:
    """JPEG files of the images of one output directory. Threads may share it."""

    def __init__(self, out: Path) -> None:
        self._originals = Originals(out)
        self._config = _limits(out)
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
        if row["error_kind"] in _DANGEROUS:
            return "This image has crashed its decoder, and is not decoded here."
        found = self._made(self._originals.open(row), size)
        if isinstance(found, bytes):
            self._keep(key, found)
        return found

    def _made(self, original: Original, size: Size) -> bytes | str:
        if original.data is None:
            return _WHY.get(original.state, "There is no image.")
        config = self._config.model_copy(
            update={"quality": _QUALITY, "max_sent_mb": _NEVER_UNCHANGED_MB, "frames": 1, "truncated": "show"}
        )
        made = prepare_images(original.data, SizeRule(SIDES[size]), config, self._reserve)
        if isinstance(made, Failure):
            return f"The image cannot be shown: {made.message}."
        if made[0].is_document:
            return "This is a document, which was sent whole."
        return made[0].data

    def _reserve(self, needed: int) -> AbstractContextManager[object]:
        return self._much if needed > _MUCH_BYTES else nullcontext()

    def _keep(self, key: tuple[str, str, Size], data: bytes) -> None:
        with self._lock:
            self._kept_bytes += len(data) - len(self._kept.pop(key, b""))
            self._kept[key] = data
            while self._kept_bytes > _KEPT_BYTES:
                self._kept_bytes -= len(self._kept.popitem(last=False)[1])


def _limits(out: Path) -> ImagesConfig:
    """Those of the last run."""
    try:
        return last_config(out).images
    except InputError:
        return ImagesConfig()
