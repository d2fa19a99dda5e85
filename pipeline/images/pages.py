"""One page of a PDF as an image: rendered at the size that the model looks at, and no larger."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from math import isfinite, sqrt
from typing import Final

from PIL import Image

from pipeline.config.images import ImagesConfig
from pipeline.images.encoding import MAX_JPEG_SIDE
from pipeline.images.locate import opened
from pipeline.images.prepare import BYTES_PER_MB, Reserve, sent_frame, too_high, too_large_to_decode
from pipeline.images.probe import ImageSize
from pipeline.locations import DocumentPage
from pipeline.pdf.pages import PageSize, Pdf, page_size, rendered_page
from pipeline.records import Failure, PreparedImage
from pipeline.tokens.presizing import Target

Size = tuple[int, int]
MOST_PIXELS: Final = 64_000_000
"""A page of any size counts as an image of at most this many: PDF allows boxes of five metres."""
_POINTS_PER_INCH: Final = 72
_PIXEL_BYTES: Final = 6
"""Of a rendered page: here, and where it was rendered."""


@dataclass(frozen=True, slots=True)
class _Page:
    """A page that can be rendered."""

    pdf: Pdf
    number: int
    box: PageSize
    source_bytes: int
    """The page's share of the document's bytes, so that all of its pages together have all of them."""
    stamp: int | None

    @classmethod
    def of(cls, page: DocumentPage, max_bytes: int) -> "_Page | Failure":
        with opened(page.document, max_bytes) as file:
            if isinstance(file, Failure):
                return file
            stamp, size = file.stamp, file.size_bytes
        pdf = Pdf.of(page.document)
        if isinstance(pdf, Failure):
            return pdf
        box = page_size(pdf, page.page)
        if isinstance(box, Failure):
            return box
        share = size * page.page // box.pages - size * (page.page - 1) // box.pages
        return cls(pdf, page.page, box, share, stamp)


def prepare_page(page: DocumentPage, rule: Target, config: ImagesConfig, reserve: Reserve) -> PreparedImage | Failure:
    """The page as it will be sent. What is wrong with it, or with its document, comes back as a Failure."""
    found = _Page.of(page, int(config.max_file_mb * BYTES_PER_MB))
    if isinstance(found, Failure):
        return found
    size = page_pixels(found.box, config.page_dpi)
    target = rule.target(*size)
    needed = target[0] * target[1] * _PIXEL_BYTES
    flaw = too_high(target) or too_large_to_decode(needed, target, "page", config)
    if flaw is not None:
        return flaw
    with reserve(needed):
        return _rendered(found, size, target, config)


def _rendered(page: _Page, size: Size, target: Size, config: ImagesConfig) -> PreparedImage | Failure:
    sha256 = DIGESTS.of(page.pdf)
    if isinstance(sha256, Failure):
        return sha256
    pixels = rendered_page(page.pdf, page.number, target, int(config.max_decoded_mb))
    if isinstance(pixels, Failure):
        return pixels
    picture = Image.frombuffer("RGB", target, pixels, "raw", "RGB", 0, 1)
    image = sent_frame(
        picture, config.quality, size=size, source_bytes=page.source_bytes, sha256=sha256, fragment="", frame=0
    )
    return replace(image, facts=replace(image.facts, stamp=page.stamp))


def size_of_page(page: DocumentPage, dpi: int) -> ImageSize | Failure:
    """The size that the page has as an image, from its box; nothing is rendered."""
    found = _Page.of(page, sys.maxsize)
    return found if isinstance(found, Failure) else ImageSize(*page_pixels(found.box, dpi), found.source_bytes)


def page_pixels(size: PageSize, dpi: int) -> Size:
    """A page as an image of this resolution; a huge one at a lower resolution."""
    sides = [side * dpi / _POINTS_PER_INCH if isfinite(side) and side > 0 else 1 for side in size[:2]]
    least = min(1, sqrt(MOST_PIXELS / (sides[0] * sides[1])), MAX_JPEG_SIDE / max(sides))
    width, height = (max(1, round(side * least)) for side in sides)
    return width, height


class _Digests:
    """The SHA-256 of the documents that were read last: their pages come one after the other."""

    _MOST = 16

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[Hashable, str] = OrderedDict()

    def of(self, pdf: Pdf) -> str | Failure:
        """In hexadecimal."""
        with self._lock:
            found = self._found.get(pdf.key) or pdf.sha256()
            if isinstance(found, str):
                self._found[pdf.key] = found
                if len(self._found) > self._MOST:
                    self._found.popitem(last=False)
            return found


DIGESTS: Final = _Digests()
