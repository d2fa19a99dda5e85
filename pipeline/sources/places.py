"""Where the images of a manifest are: what its texts mean, by where the manifest itself comes from."""

import os
from collections.abc import Callable

from pipeline.locations import ConfinedFile, LocalFile, Location
from pipeline.sources.naming import location_of

Locate = Callable[[str], Location]
"""From the text that names an image to its location."""


def in_folder(prefix: str) -> Locate:
    """Relative paths begin in the folder of the manifest; absolute ones, `..` and links lead anywhere."""
    return lambda image: location_of(image, prefix)


def confined_to(prefix: str) -> Locate:
    """The same; a file outside the manifest's folder is not opened (`source.confine`)."""
    below = os.path.realpath(prefix or ".")

    def locate(image: str) -> Location:
        found = location_of(image, prefix)
        return ConfinedFile(found.name, found.path, below) if isinstance(found, LocalFile) else found

    return locate
