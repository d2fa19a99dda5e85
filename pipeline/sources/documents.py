"""PDFs among the images of a source, and a source whose records are their pages."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from pipeline.config.extras import PDF_HINT, has_pdf_extra
from pipeline.errors import InputError
from pipeline.files import CHANGED, SteadyFile, open_below
from pipeline.http.data_urls import decode_data_url
from pipeline.locations import (
    ConfinedFile,
    DataUrl,
    Document,
    DocumentPage,
    EmbeddedImage,
    ImageUrl,
    InMemoryImage,
    LocalFile,
    Location,
    TarMember,
)
from pipeline.pdf.pages import Pdf, page_count
from pipeline.records import Failure, ImageRecord
from pipeline.sources.naming import names_document, shown
from pipeline.sources.wrapped import WrappedSource


def is_document(location: Location) -> bool:
    """Whether a location names a PDF, or holds one."""
    if isinstance(location, InMemoryImage):
        return location.is_pdf
    if isinstance(location, DocumentPage):
        return False
    if isinstance(location, TarMember | EmbeddedImage):
        return names_document(location.name)
    return names_document(location.path if isinstance(location, LocalFile | ConfinedFile) else location.url)


class PagesSource(WrappedSource):
    """Another source with each page of a PDF as a record of its own, in order: `scan.pdf#page=1`.

    A document is opened when its turn comes, for the number of its pages. One that cannot be opened is one record,
    whose row says why.
    """

    @property
    def has_documents(self) -> bool:
        return False

    def records(self) -> Iterator[ImageRecord]:
        for record in self._source.records():
            if any(map(is_document, record.images)):
                yield from self._pages(record)
            else:
                yield record

    def _pages(self, record: ImageRecord) -> Iterator[ImageRecord]:
        place = f"{shown(self.name)}: {self._source.place(record)}"
        if not has_pdf_extra():
            raise InputError(f"{place} is a PDF; {PDF_HINT}, or send PDFs whole with `source.pdf=whole`")
        if len(record.images) > 1:
            raise InputError(
                f"{place}: a PDF among several images, where `source.pdf=pages` makes each page a record; "
                "give the PDF a row of its own"
            )
        document = _document(record.images[0])
        if document is None:
            raise InputError(
                f"{place}: pages of a PDF behind an address are not read; download it, or send PDFs whole with "
                "`source.pdf=whole`"
            )
        for page in range(1, _pages_in(document) + 1):
            fragment = f"#page={page}"
            where = DocumentPage(f"{record.image}{fragment}", document, page)
            yield replace(record, id=f"{record.id}{fragment}", images=(where,))


def _document(location: Location) -> Document | None:
    """The document as it is read here; None where it has to be fetched."""
    if isinstance(location, DataUrl):
        url = location.url
        return InMemoryImage(location.name, lambda: _decoded(url), len(url), is_pdf=True)
    if isinstance(location, TarMember):
        return InMemoryImage(location.name, partial(_member, location), location.size, is_pdf=True)
    if isinstance(location, EmbeddedImage):
        return InMemoryImage(location.name, location.read, 0, is_pdf=True)
    if isinstance(location, ConfinedFile):
        return InMemoryImage(location.name, lambda: _confined(location), location.held_bytes, is_pdf=True)
    return None if isinstance(location, ImageUrl | DocumentPage) else location


def _member(location: TarMember) -> bytes:
    """The bytes of a document in a tar. Raises OSError, and ValueError where the tar has changed."""
    file = SteadyFile(location.path)
    if location.version not in {None, file.version}:
        raise ValueError(CHANGED)
    return file.part(location.offset, location.size)


def _confined(location: ConfinedFile) -> bytes:
    """The bytes of a document that is opened as other confined files are: its pages are read by another process."""
    with os.fdopen(open_below(location.path, location.below), "rb") as file:
        return file.read()


def _decoded(url: str) -> bytes:
    found = decode_data_url(url)
    return b"" if isinstance(found, Failure) else found


def _pages_in(document: Document) -> int:
    """1 where it cannot be opened: the row of this page says why."""
    pdf = Pdf.of(document)
    found = pdf if isinstance(pdf, Failure) else page_count(pdf)
    return 1 if isinstance(found, Failure) else found
