"""Where the images of a manifest are: what its texts mean, by where the manifest itself comes from."""

import os
import posixpath
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from pipeline.config.extras import CLOUD_SCHEMES
from pipeline.errors import InputError
from pipeline.locations import ConfinedFile, ImageUrl, LocalFile, Location
from pipeline.sources.naming import location_of, public_address, scheme_of, shown

Locate = Callable[[str], Location]
"""From the text that names an image to its location."""
_AS_WRITTEN: Final = "/%~!$&'()*+,;=:@"
"""What a relative name keeps in an address, besides letters and digits: it is a path, and may be quoted already."""


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


def as_walked(prefix: str, *, confine: bool) -> Locate:
    """Of a walk through the folder `prefix`: each text is a path below it, whatever it looks like."""
    below = os.path.realpath(prefix or ".") if confine else None

    def locate(path: str) -> Location:
        opens = prefix + path
        return LocalFile(shown(opens), opens) if below is None else ConfinedFile(shown(opens), opens, below)

    return locate


def below_address(base: str) -> Locate:
    """Of a manifest at an address: relative names lie beside it, and no name is one of this machine's files.

    `base` is the user's own, and so is its host.
    """
    head, _, path = base.partition("#")[0].partition("?")[0].partition("://")[2].partition("/")
    scheme = str(scheme_of(base))
    folder = posixpath.dirname(path)

    def locate(image: str) -> Location:
        check_foreign(image, base)
        if scheme_of(image) is not None:
            return location_of(image, "")
        joined = posixpath.normpath(f"/{folder}/{image}").lstrip("/")
        key = joined if scheme in CLOUD_SCHEMES else quote(joined, safe=_AS_WRITTEN)
        return ImageUrl(shown(image), f"{scheme}://{head}/{key}", is_trusted=True)

    return locate


def check_foreign(image: str, manifest: str) -> None:
    """Raises InputError for a file of this machine in a manifest that comes from elsewhere, from this address."""
    if image.startswith("/") or scheme_of(image) == "file":
        raise InputError(
            f"{shown(public_address(manifest))}: {shown(image)!r} names a file of this machine, and the manifest comes "
            "from elsewhere; download the manifest and give its path, or name images by addresses, or relative to it"
        )
