"""The pages of a PDF: their number, their sizes, their pixels. Needs the extra `pdf`."""

import hashlib
import os
import signal
import stat
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from pipeline.errors import ErrorKind
from pipeline.formatting import printable
from pipeline.locations import Document, InMemoryImage
from pipeline.pdf.process import PROCESSES, DeadError, Process
from pipeline.records import Failure

T = TypeVar("T")
OPENING_MB: Final = 512
"""Memory that opening a document may take beyond its bytes."""
CPU_S = 20
"""Of opening a document, and of a page."""
_TRIES: Final = 2
"""A process may end for another reason than the document, such as a system without memory."""


@dataclass(frozen=True, slots=True)
class Pdf:
    """A document as it is read: by its path, piece by piece, or from memory."""

    key: Hashable
    """Equal for equal documents: one that is open is not opened again."""
    path: str | None = None
    read: Callable[[], bytes] = bytes
    """Its bytes, where it has no path."""

    @classmethod
    def of(cls, document: Document) -> "Pdf | Failure":
        """A file as it is now, or what the calling program holds."""
        if isinstance(document, InMemoryImage):
            return cls(document, read=document.read)
        path = document.path
        try:
            found = os.stat(path)  # noqa: PTH116 - the path may be no UTF-8
        except (OSError, ValueError):
            return Failure(kind=ErrorKind.IMAGE_MISSING, message="no such file")
        if not stat.S_ISREG(found.st_mode):
            return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="not a file")
        if not found.st_size:
            return Failure(kind=ErrorKind.IMAGE_EMPTY, message="the file is empty")
        return cls((path, found.st_ino, found.st_size, found.st_mtime_ns), path)

    def data(self) -> bytes | Failure:
        """The bytes of a document in memory; none of a file."""
        try:
            return b"" if self.path is not None else self.read()
        except Exception as error:  # noqa: BLE001 - the caller's object may raise anything
            words = _line(f"{type(error).__name__}: {error}")
            return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=f"the document cannot be read: {words}")

    def sha256(self) -> str | Failure:
        """Of all bytes, in hexadecimal."""
        if self.path is None:
            data = self.data()
            return data if isinstance(data, Failure) else hashlib.sha256(data).hexdigest()
        try:
            with open(self.path, "rb") as file:  # noqa: PTH123 - the path may be no UTF-8
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=f"cannot be read: {error.strerror or error}")


class PageSize(NamedTuple):
    """One page as a viewer shows it: its rotation and its crop box count."""

    width_pt: float
    height_pt: float
    pages: int
    """Of its document."""


def page_count(pdf: Pdf) -> int | Failure:
    """The number of pages, or why the document cannot be opened."""
    return _asked(pdf, lambda process: process.pages)


def page_size(pdf: Pdf, page: int) -> PageSize | Failure:
    """The size of a page (from 1), without rendering it."""

    def ask(process: Process) -> PageSize | Failure:
        if page > process.pages:
            message = f"there is no page {page:,} now: the document ends with page {process.pages:,}"
            return Failure(kind=ErrorKind.IMAGE_MISSING, message=message)
        reply, _ = process.ask({"do": "size", "page": page, "cpu_s": CPU_S})
        if "error" in reply:
            return _failure(reply)
        width, height = reply["size"]
        return PageSize(float(width), float(height), process.pages)

    return _asked(pdf, ask)


def rendered_page(pdf: Pdf, page: int, size: tuple[int, int], memory_mb: int) -> bytes | Failure:
    """The pixels of a page (RGB, row by row) at this size, on white, with its annotations and form fields."""

    def ask(process: Process) -> bytes | Failure:
        bounds, wanted = {"memory_mb": memory_mb, "cpu_s": CPU_S}, size[0] * size[1] * 3
        reply, pixels = process.ask(
            {"do": "render", "page": page, "width": size[0], "height": size[1], **bounds}, most=wanted
        )
        if "error" in reply:
            return _failure(reply)
        if len(pixels) != wanted:
            raise ValueError("too few pixels")
        return pixels

    return _asked(pdf, ask)


def _asked(pdf: Pdf, ask: Callable[[Process], T | Failure]) -> T | Failure:
    """`ask` of a process that has the document open; once more of another one, where the first did not survive it."""
    ended_by = 0
    for _ in range(_TRIES):
        try:
            with PROCESSES.one(pdf.key) as process:
                return _opened(process, pdf) or ask(process)
        except DeadError as error:
            ended_by = error.signal
            if ended_by == signal.SIGPROF:
                break
        except (ValueError, TypeError, KeyError):
            ended_by = 0
    return _ended(ended_by)


def _opened(process: Process, pdf: Pdf) -> Failure | None:
    if process.holds == pdf.key:
        return None
    process.holds = None
    data = pdf.data()
    if isinstance(data, Failure):
        return data
    bounds = {"memory_mb": OPENING_MB, "cpu_s": CPU_S}
    reply, _ = process.ask({"do": "open", "path": pdf.path, **bounds}, data)
    if "error" in reply:
        return _failure(reply)
    process.holds, process.pages = pdf.key, max(1, int(reply["pages"]))
    return None


def _failure(reply: dict[str, Any]) -> Failure:
    if reply["error"] == "password":
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="the PDF is encrypted: it opens with a password only")
    if reply["error"] == "memory":
        message = "reading this PDF takes more memory than images.max_decoded_mb allows"
        return Failure(kind=ErrorKind.IMAGE_TOO_LARGE, message=message)
    words = _line(str(reply["message"]))
    return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message=f"this is no PDF, or a damaged one: {words}")


def _line(text: str) -> str:
    return printable(" ".join(text.split())[:200])


def _ended(ended_by: int) -> Failure:
    if ended_by == signal.SIGPROF:
        message = f"reading this PDF takes too long: a page has {CPU_S} seconds of CPU time"
        return Failure(kind=ErrorKind.IMAGE_TOO_LARGE, message=message)
    return Failure(
        kind=ErrorKind.IMAGE_UNREADABLE,
        message="the PDF cannot be read: its reader crashed, or took more memory than images.max_decoded_mb allows",
    )
