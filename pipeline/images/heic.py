"""HEIC photographs by libheif (the extra `heic`): what its decoder would allocate is known before it starts.

libheif turns and crops a picture itself, as its file says in its own boxes; EXIF's orientation is a copy of that for
programs that read no boxes, and is not applied again (ISO/IEC 23008-12, A.2.1).
"""

import importlib
from functools import cache
from typing import Any

from PIL import ImageFile

from pipeline.images.containers.heif import heif_facts


@cache
def _library() -> Any:  # noqa: ANN401 - it has no types, and may be missing
    """pi_heif, set up: thumbnails, depth maps and the like are left alone, and no threads are started."""
    library = importlib.import_module("pi_heif")
    options = library.options
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = options.DISABLE_SECURITY_LIMITS = False
    options.DECODE_THREADS = 1
    return library


class HeicImageFile(ImageFile.ImageFile):
    """The primary picture of a HEIC file, upright."""

    format = "HEIC"

    def _open(self) -> None:
        if self.fp is None:  # pragma: no cover - Pillow sets it
            raise SyntaxError("no file")
        data = self.fp.read()
        facts = heif_facts(lambda at, count: data[at : at + count])
        self._size, self._mode = (facts.width, facts.height), "RGBA" if facts.has_alpha else "RGB"
        self.facts = facts
        self._data = data
        self.tile = []

    def load(self) -> Any:  # noqa: ANN401 - Pillow's own value has no public type
        if self._data:
            file = _library().HeifFile(self._data, remove_stride=False)
            self._data = b""
            picture = file[file.primary_index]
            if picture.size != self._size:
                raise ValueError(f"its boxes say {self._size}, its decoder {picture.size}")
            if (profile := picture.info.get("icc_profile")) is not None:
                self.info["icc_profile"] = profile
            pixels = picture.data
            self._mode = picture.mode
            self.load_prepare()
            self.frombytes(pixels, "raw", (picture.mode, picture.stride))
        return super().load()
