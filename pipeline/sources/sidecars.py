"""The text file beside an image (`a.jpg`, `a.txt`), as the column `sidecar`."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import orjson

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.files import OutsideError, open_below
from pipeline.locations import ConfinedFile
from pipeline.records import ImageRecord
from pipeline.sources.base import Checkable
from pipeline.sources.extras import to_json
from pipeline.sources.naming import local_path, shown
from pipeline.sources.passed import CAPTIONED
from pipeline.sources.wrapped import WrappedSource

COLUMN: Final = "sidecar"
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_MARKS: Final = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_BLANK_BYTES: Final = 256
"""A caption file that begins with as many blanks holds no caption."""


class SidecarSource(WrappedSource):
    """Another source whose records have the text beside their first image, where that is a file of this machine.

    With `reads` it is their column `sidecar`, unless the source has a column of this name. A record without such a
    file lacks the column.
    """

    def __init__(self, source: Checkable, config: SourceConfig, *, reads: bool) -> None:
        super().__init__(source)
        self._extension = config.sidecar_extension
        self._skips = config.skip_captioned
        self._reads = reads
        self._most_bytes = config.max_record_kb * 1024
        self._captioned = 0

    @property
    def is_manifest(self) -> bool:
        return super().is_manifest and not self._skips  # rows come and go with the files beside their images

    @property
    def passed_over(self) -> Counter[str]:
        return super().passed_over + Counter({CAPTIONED: self._captioned})

    def ids(self) -> Iterator[str] | None:
        known = self._source.ids()
        if known is None or not self._skips:
            return known
        return (record.id for record in self._missing())

    def records(self) -> Iterator[ImageRecord]:
        return map(self._with_text, self._missing()) if self._reads else self._missing()

    def _missing(self) -> Iterator[ImageRecord]:
        """The records without a caption, or all of them."""
        captioned = 0
        for record in self._source.records():
            path = self._beside(record) if self._skips else None
            if path is not None and _has_text(path, _below(record)):
                captioned += 1
            else:
                yield record
        self._captioned = captioned

    def _with_text(self, record: ImageRecord) -> ImageRecord:
        columns = {} if record.extra is None else orjson.loads(record.extra)
        path = self._beside(record)
        if path is None or COLUMN in columns:
            return record
        data = _read(path, self._most_bytes + 1, _below(record))
        if data is None:
            return record
        if len(data) > self._most_bytes:
            raise InputError(
                f"{shown(path)}: this text beside an image takes more than {self._most_bytes // 1024:,} KiB "
                "(`source.max_record_kb`); shorten it, or name another suffix with `source.sidecar_extension=SUFFIX`"
            )
        return replace(record, extra=to_json({**columns, COLUMN: _decoded(data, path)}))

    def _beside(self, record: ImageRecord) -> str | None:
        image = local_path(record.images[0])
        if image is None:
            return None
        path = os.path.splitext(image)[0] + self._extension  # noqa: PTH122 - of a text
        return None if path == image else path


def _below(record: ImageRecord) -> str | None:
    """The folder to which the first image, and so the text beside it, is confined."""
    image = record.images[0]
    return image.below if isinstance(image, ConfinedFile) else None


def _read(path: str, most_bytes: int, below: str | None = None) -> bytes | None:
    """The beginning of a file; None where there is none. Raises InputError where it cannot be read."""
    try:
        descriptor = os.open(path, _FLAGS) if below is None else open_below(path, below)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - never waits for a pipe
            return file.read(most_bytes) or b""
    except (FileNotFoundError, OutsideError):
        return None
    except OSError as error:
        raise InputError(
            f"{shown(path)}: the text beside an image cannot be read: {error.strerror or error}; change its "
            "permissions, or remove it"
        ) from None


def _decoded(data: bytes, path: str) -> str:
    """UTF-8, or what the first bytes say; else Windows-1252, in which older tools write."""
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    if "\0" in text:
        raise InputError(f"{shown(path)}: the file beside an image holds NUL bytes and is no text; rename or remove it")
    return text.strip()


def _has_text(path: str, below: str | None) -> bool:
    data = _read(path, _BLANK_BYTES, below)
    return bool(data and data.strip(b" \t\r\n\xef\xbb\xbf"))
