"""The images of a folder, or those that a glob selects."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.records import ImageRecord
from pipeline.sources.base import check_ids, nothing_in
from pipeline.sources.empty import no_images
from pipeline.sources.metadata import FolderMetadata
from pipeline.sources.naming import check_videos, identify, local_path, names_document
from pipeline.sources.passed import WITHOUT_ROW
from pipeline.sources.patterns import Pattern
from pipeline.sources.places import as_walked
from pipeline.sources.walk import Metadata, Walk, file_id_of, text_of
from pipeline.sources.without_row import CoveredImages

Found = TypeVar("Found")


class FolderSource:
    """The image files below `root`, in the byte order of their paths; hidden names and the output directory left out.

    A folder with metadata gives the rows of that file, in its order, in place of the files below it.
    """

    is_manifest = False
    grouped_by = None

    def __init__(
        self, root: str, config: SourceConfig, *, name: str, pattern: Pattern | None = None, out: Path | None = None
    ) -> None:
        self.name = name
        self.has_documents = self.has_several = False
        self.skipped = 0
        self.passed_over = Counter[str]()
        self.metadata_folders: set[str] = set()
        """Those that hold the metadata which the passes until now have read: its rows name images relative to them."""
        self.root = root or "."
        """The folder that holds all of the images."""
        self.folder = self.root if pattern is None else None
        """The folder all of whose images are read; None for a glob."""
        self._prefix = root if root.endswith("/") or not root else root + "/"
        self._locate = as_walked(self._prefix, confine=config.confine)
        self._walk = partial(Walk, pattern, out, config)
        self._config = config

    def check(self) -> int | None:
        return check_ids([self])

    def ids(self) -> Iterator[str] | None:
        return self._pass(identify, lambda record: record.id)

    def records(self) -> Iterator[ImageRecord]:
        return self._pass(lambda path: ImageRecord(identify(path), (self._locate(path),)), lambda record: record)

    def _pass(self, of_path: Callable[[str], Found], of_row: Callable[[ImageRecord], Found]) -> Iterator[Found]:
        """Something of every image, or of the row that names it; all others are counted. Raises InputError for none."""
        walk, root, covered = self._walk(), os.fsencode(self.root), CoveredImages()
        self.skipped = 0
        if walk.is_out(file_id_of(root)):
            raise InputError(f"{self.name}: the output directory is this very folder; name another with -o")
        is_empty = True
        for path, is_covered in walk.paths(root):
            is_empty = False
            if isinstance(path, Metadata):
                yield from map(of_row, self._rows(text_of(path.path), covered))
                continue
            text = text_of(path)
            if is_covered:
                covered.find(self._prefix + text)
                continue
            check_videos((text,), self.name)
            self.has_documents = self.has_documents or names_document(text)
            yield of_path(text)
        if is_empty:
            raise nothing_in(no_images(self.name, self.folder and self._prefix, walk, self._config.extensions))
        if without := covered.without_row():
            walk.passed.add(WITHOUT_ROW, without)
        self.passed_over = walk.passed.by_kind

    def place(self, record: ImageRecord) -> str:
        return repr(local_path(record.images[0]) or record.image)

    def _rows(self, path: str, covered: CoveredImages) -> Iterator[ImageRecord]:
        found = FolderMetadata(self._prefix, path, self._config)
        self.metadata_folders.add(self._prefix + path.rpartition("/")[0])
        for record in found.records():
            covered.name(record)
            yield record
        self.skipped += found.skipped
        self.has_several = self.has_several or found.has_several
        self.has_documents = self.has_documents or found.has_documents
