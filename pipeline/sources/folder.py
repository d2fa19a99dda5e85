"""The images of a folder, or those that a glob selects."""

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.locations import ConfinedFile, LocalFile
from pipeline.records import ImageRecord
from pipeline.sources.base import check_ids
from pipeline.sources.braces import RECORD_SUFFIXES, files_example
from pipeline.sources.metadata import FolderMetadata, count_without_row, image_key
from pipeline.sources.naming import MEDIA_SUFFIXES, check_videos, identify, local_path, names_document, shown
from pipeline.sources.passed import WITHOUT_ROW, passed_words, tables_hint
from pipeline.sources.patterns import Everything, Pattern
from pipeline.sources.walk import Metadata, Walk, file_id_of, text_of

Found = TypeVar("Found")


class FolderSource:
    """The image files below `root`, in the byte order of their paths; hidden names and the output directory left out.

    A folder with metadata gives the rows of that file, in its order, in place of the files below it; a pass over it
    holds 16 bytes an image, to count those without a row.
    """

    is_manifest = False
    grouped_by = None

    def __init__(
        self,
        root: str,
        config: SourceConfig,
        *,
        name: str,
        pattern: Pattern | None = None,
        out: Path | None = None,
    ) -> None:
        self.name = name
        self.has_documents = self.has_several = False
        self.skipped = 0
        self.passed_over = Counter[str]()
        self.metadata_folders: set[str] = set()
        """Those that hold the metadata which the passes until now have read: its rows name images relative to them."""
        self._root = root or "."
        self._prefix = root if root.endswith("/") or not root else root + "/"
        self._pattern = Everything() if pattern is None else pattern
        self._is_glob = pattern is not None
        self._suffixes = config.extensions or MEDIA_SUFFIXES
        self._config = config
        self._out = out
        self._below = os.path.realpath(self._root) if config.confine else None

    @property
    def root(self) -> str:
        """The folder that holds all of the images."""
        return self._root

    @property
    def folder(self) -> str | None:
        """The folder all of whose images are read; None for a glob."""
        return None if self._is_glob else self._root

    def check(self) -> int | None:
        return check_ids([self])

    def ids(self) -> Iterator[str] | None:
        return self._pass(identify, lambda record: record.id)

    def records(self) -> Iterator[ImageRecord]:
        return self._pass(self._record, lambda record: record)

    def _record(self, path: str) -> ImageRecord:
        opens = self._prefix + path
        if self._below is not None:
            return ImageRecord(identify(path), (ConfinedFile(shown(opens), opens, self._below),))
        return ImageRecord(identify(path), (LocalFile(shown(opens), opens),))

    def _pass(self, of_path: Callable[[str], Found], of_row: Callable[[ImageRecord], Found]) -> Iterator[Found]:
        """Something of every image below the root, or of the row that names it; at the end all others are counted.

        Raises InputError where there is neither.
        """
        walk, root = self._walk(), os.fsencode(self._root)
        if walk.is_out(file_id_of(root)):
            raise InputError(f"{self.name}: the output directory is this very folder; name another with -o")
        covered, with_row = array("q"), array("q")
        is_empty = True
        for path, is_covered in walk.paths(root):
            is_empty = False
            if isinstance(path, Metadata):
                yield from map(of_row, self._rows(text_of(path.path), with_row))
                continue
            text = text_of(path)
            if is_covered:
                covered.append(image_key(self._prefix + text))
                continue
            check_videos((text,), self.name)
            self.has_documents = self.has_documents or names_document(text)
            yield of_path(text)
        if is_empty:
            raise InputError(self._nothing_found(walk))
        if without := count_without_row(covered, with_row):
            walk.passed.add(WITHOUT_ROW, without)
        self.passed_over = walk.passed.by_kind

    def place(self, record: ImageRecord) -> str:
        return repr(local_path(record.images[0]) or record.image)

    def _walk(self) -> Walk:
        self.skipped = 0
        reads_metadata = self._config.metadata and not self._is_glob
        by_suffix_only = self._config.extensions is not None
        return Walk(
            self._pattern, self._out, self._suffixes, opens_others=not by_suffix_only, reads_metadata=reads_metadata
        )

    def _rows(self, path: str, with_row: "array[int]") -> Iterator[ImageRecord]:
        found = FolderMetadata(self._prefix, path, self._config)
        self.metadata_folders.add(self._prefix + path.rpartition("/")[0])
        for record in found.records():
            with_row.extend(image_key(own) for image in record.images if (own := local_path(image)) is not None)
            yield record
        self.skipped += found.skipped
        self.has_several = self.has_several or found.has_several
        self.has_documents = self.has_documents or found.has_documents

    def _nothing_found(self, walk: Walk) -> str:
        found = "no image matches" if self._is_glob else "no images here"
        if not walk.files_seen and not self._is_glob:
            return f"{shown(self.name)}: {found}: the folder holds no files"
        tables = tables_hint(walk.passed.by_kind)
        tables += files_example(self._prefix, RECORD_SUFFIXES) if tables and not self._is_glob else ""
        others = f"{walk.files_seen:,} other file{' was' if walk.files_seen == 1 else 's were'} seen"
        kinds = f" ({passed_words(walk.passed.by_kind)})" if walk.passed.by_kind else ""
        return (
            f"{shown(self.name)}: {found}; {others}{kinds}. "
            f"Files count that end in {' '.join(self._suffixes)}, in any case, and are not hidden"
            f"{'' if self._config.extensions else '; others by their first bytes'}{tables}"
        )
