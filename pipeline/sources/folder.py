"""The images of a folder, or those that a glob selects."""

import os
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipeline.config.extras import has_video_extra
from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.locations import LocalFile
from pipeline.records import ImageRecord
from pipeline.sources.base import check_ids
from pipeline.sources.metadata import FolderMetadata, count_without_row, image_key
from pipeline.sources.naming import MEDIA_SUFFIXES, check_videos, identify, local_path, names_document, shown
from pipeline.sources.passed import WITHOUT_ROW, passed_words
from pipeline.sources.patterns import Everything, Pattern
from pipeline.sources.walk import Metadata, Walk, file_id_of, text_of


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
        self._root = root or "."
        self._prefix = root if root.endswith("/") or not root else root + "/"
        self._pattern = Everything() if pattern is None else pattern
        self._is_glob = pattern is not None
        self._suffixes = config.extensions or MEDIA_SUFFIXES
        self._config = config
        self._out = out

    @property
    def folder(self) -> str | None:
        """The folder all of whose images are read; None for a glob."""
        return None if self._is_glob else self._root

    def check(self) -> int | None:
        return check_ids([self])

    def ids(self) -> Iterator[str] | None:
        return (identify(found) if isinstance(found, str) else found.id for found in self._pass())

    def records(self) -> Iterator[ImageRecord]:
        return (self._record(found) if isinstance(found, str) else found for found in self._pass())

    def _record(self, path: str) -> ImageRecord:
        opens = self._prefix + path
        return ImageRecord(identify(path), (LocalFile(shown(opens), opens),))

    def _pass(self) -> Iterator[str | ImageRecord]:
        """Paths below the root, and the records of metadata; what is passed over is known at the end.

        Raises InputError where there is neither.
        """
        walk, root = self._walk(), os.fsencode(self._root)
        if walk.is_out(file_id_of(root)):
            raise InputError(f"{self.name}: the output directory is this very folder; name another with -o")
        covered, with_row, reads_videos = array("q"), array("q"), has_video_extra()
        is_empty = True
        for path, is_covered in walk.paths(root):
            is_empty = False
            if isinstance(path, Metadata):
                yield from self._rows(text_of(path.path), with_row)
                continue
            text = text_of(path)
            if is_covered:
                covered.append(image_key(self._prefix + text))
                continue
            if not reads_videos:
                check_videos((text,), self.name)
            self.has_documents = self.has_documents or names_document(text)
            yield text
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
        others = f"{walk.files_seen:,} other file{' was' if walk.files_seen == 1 else 's were'} seen"
        kinds = f" ({passed_words(walk.passed.by_kind)})" if walk.passed.by_kind else ""
        return (
            f"{shown(self.name)}: {found}; {others}{kinds}. "
            f"Files count that end in {' '.join(self._suffixes)}, in any case, and are not hidden"
        )
