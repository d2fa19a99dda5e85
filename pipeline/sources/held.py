"""Images that the calling program holds: where each is, and its bytes when its turn comes."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from PIL import Image

from pipeline.locations import InMemoryImage, Location
from pipeline.pdf.structure import is_pdf
from pipeline.sources.items import encoded
from pipeline.sources.manifest import image_flaw
from pipeline.sources.naming import location_of

_PIXEL_BYTES: Final = 4
"""Of a pixel at most, in the modes that are sent."""


class HeldImages:
    """The images in the items of a sequence: paths, bytes, pictures of Pillow, and Hugging Face's `{"bytes", "path"}`.

    A picture is encoded when a record is prepared: one in flight holds none of its pixels.
    """

    def __init__(self, items: Any) -> None:  # noqa: ANN401 - any sequence
        self._items = items

    def locations(
        self, position: int, column: str | None, images: Sequence[object], *, is_list: bool
    ) -> tuple[Location, ...] | str:
        """Where the images of one item are, or what is wrong with the first that cannot be used."""
        found = []
        for number, image in enumerate(images):
            where = self._location(position, column, number if is_list else None, image)
            if isinstance(where, str):
                return where
            found.append(where)
        return tuple(found)

    def _location(self, position: int, column: str | None, number: int | None, image: object) -> Location | str:
        """`number` is the place of the image in a list."""
        if isinstance(image, Mapping):
            image = image.get("path") if image.get("bytes") is None else image["bytes"]
        if isinstance(image, Image.Image | bytes):
            size = len(image) if isinstance(image, bytes) else image.width * image.height * _PIXEL_BYTES
            name = str(position) if number is None else f"{position}/{number}"
            holds_pdf = isinstance(image, bytes) and is_pdf(image)
            return InMemoryImage(name, lambda: self._encoded(position, column, number), size, holds_pdf)
        text = os.fspath(image) if isinstance(image, os.PathLike) else image
        flaw = image_flaw(text)
        return location_of(text, "") if isinstance(text, str) and flaw is None else str(flaw)

    def _encoded(self, position: int, column: str | None, number: int | None) -> bytes:
        item = self._items[position]
        image = item if column is None else item[column]
        if number is not None:
            image = image[number]
        if isinstance(image, Mapping):
            image = image["image"] if "image" in image else image["bytes"]
        return image if isinstance(image, bytes) else encoded(image)
