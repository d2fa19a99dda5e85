"""Resizing: cykooz.resizer where it is there and works, else Pillow; both with a Lanczos filter."""

import importlib
import threading
from functools import cache
from typing import Any

from PIL import Image, ImageChops

Box = tuple[float, float, float, float]

_FAST_MODES = frozenset({"L", "RGB", "RGBA", "CMYK"})
_CHECK_SIZE, _CHECK_TARGET, _CHECK_LEVELS = (61, 47), (20, 15), 3


def scaled(image: Image.Image, size: tuple[int, int], box: Box | None = None) -> Image.Image:
    """`box` (all, if None) of `image` resized to `size`, in pixels. The modes are those of `colour.plain_mode`."""
    if box is None:
        if image.size == size:
            return image
        box = (0, 0, *image.size)
    if image.mode in _FAST_MODES and _fast_works():
        return _fast(image, size, box)
    return image.resize(size, Image.Resampling.LANCZOS, box=box)


_PER_THREAD = threading.local()


class _Resizer:
    """One thread's: it keeps buffers between calls and must not be shared."""

    def __init__(self) -> None:
        self.library = importlib.import_module("cykooz_resizer")
        self.resizer: Any = self.library.Resizer()
        self.lanczos: Any = self.library.ResizeAlg.convolution(self.library.FilterType.lanczos3)


def _resizer() -> _Resizer:
    mine: _Resizer | None = getattr(_PER_THREAD, "resizer", None)
    if mine is None:
        mine = _PER_THREAD.resizer = _Resizer()
    return mine


def _fast(image: Image.Image, size: tuple[int, int], box: Box) -> Image.Image:
    mine = _resizer()
    left, top, right, bottom = box
    options = mine.library.ResizeOptions(
        resize_alg=mine.lanczos, crop_box=mine.library.CropBox(left, top, right - left, bottom - top)
    )
    result = Image.new(image.mode, size)
    mine.resizer.resize_pil(image, result, options)
    return result


@cache
def _fast_works() -> bool:
    """cykooz.resizer reads Pillow's memory directly: another version of either may not fit. Asked once."""
    try:
        return all(_agrees(mode) for mode in sorted(_FAST_MODES))
    except Exception:  # noqa: BLE001 - whatever it stumbles over, Pillow's own filter does the work
        return False


def _agrees(mode: str) -> bool:
    ramps = (Image.linear_gradient("L"), Image.radial_gradient("L"), Image.linear_gradient("L").rotate(90))
    bands = [ramps[i % 3].resize(_CHECK_SIZE) for i in range(len(mode))]
    if mode == "RGBA":
        bands[3] = Image.new("L", _CHECK_SIZE, 255)
    sample = Image.merge(mode, bands)
    box: Box = (0, 0, 60.5, 47)
    expected = sample.resize(_CHECK_TARGET, Image.Resampling.LANCZOS, box=box)
    difference = ImageChops.difference(_fast(sample, _CHECK_TARGET, box), expected)
    return all(not any(band.histogram()[_CHECK_LEVELS + 1 :]) for band in difference.split())
