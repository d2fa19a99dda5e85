"""The images below a folder with metadata, and which of them no row names."""

import posixpath
from array import array
from typing import Final

import numpy as np

from pipeline.records import ImageRecord
from pipeline.sources.naming import local_path


class CoveredImages:
    """Counts what one pass finds below metadata; it holds 16 bytes an image."""

    def __init__(self) -> None:
        self._found: Final = array("q")
        self._named: Final = array("q")

    def find(self, path: str) -> None:
        self._found.append(_key(path))

    def name(self, record: ImageRecord) -> None:
        """The images of a row."""
        self._named.extend(_key(path) for image in record.images if (path := local_path(image)) is not None)

    def without_row(self) -> int:
        """How many of the images no row names."""
        return len(self._found) - int(np.isin(np.asarray(self._found), np.asarray(self._named)).sum())


def plain_path(path: str) -> str:
    """One spelling of a path for all: without `//`, `/./` and `/../`."""
    is_odd = "//" in path or "/." in path or path.startswith(".")
    return posixpath.normpath(path) if is_odd else path


def _key(path: str) -> int:
    """A number that two spellings of one path have in common."""
    return hash(plain_path(path))
