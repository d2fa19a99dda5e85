"""A PDF of a request: the number of its pages, which is all that is said of it and billed."""

import re
from typing import Final

from pipeline.config.extras import has_pdf_extra
from pipeline.emulator.pixels import Look
from pipeline.pdf.pages import Pdf, page_count
from pipeline.pdf.structure import has_end, is_pdf
from pipeline.records import Failure

PAGE_TOKENS: Final = 1_000
"""Of each page: the emulator's own rule, for all models. No provider publishes one."""
_PAGE: Final = re.compile(rb"/Type\s*/Page\b")


class UnreadableDocumentError(Exception):
    """The bytes are no PDF, or a damaged or an encrypted one."""


def look_at_document(data: bytes, *, decode: bool = True) -> Look:
    """Count the pages: by a parser where one is installed, else by their markers. Raises UnreadableDocumentError."""
    if not is_pdf(data):
        raise UnreadableDocumentError("a file that is no PDF")
    if not has_end(data):
        raise UnreadableDocumentError("a PDF that is cut short")
    pages = max(1, len(_PAGE.findall(data)))
    if decode and has_pdf_extra():
        found = page_count(Pdf(object(), read=lambda: data))
        if isinstance(found, Failure):
            raise UnreadableDocumentError(f"a PDF that cannot be read ({found.message})")
        pages = found
    return Look(0, 0, f"A PDF of {'1 page' if pages == 1 else f'{pages:,} pages'}.", pages)
