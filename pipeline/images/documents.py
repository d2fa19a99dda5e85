"""A PDF as a whole: read and checked as far as that is cheap, and sent as it is."""

import hashlib

from pipeline.config.extras import has_pdf_extra
from pipeline.config.images import ImagesConfig
from pipeline.errors import ErrorKind
from pipeline.images.prepare import BYTES_PER_MB, too_large_file
from pipeline.pdf.pages import Pdf, page_count
from pipeline.pdf.structure import has_end
from pipeline.records import PDF_TYPE, Failure, ImageFacts, PreparedImage

_NAME_LENGTH = 200


def prepare_document(data: bytes, config: ImagesConfig) -> PreparedImage | Failure:
    """The file to send and what is known of it; it has no pixels."""
    if len(data) > config.max_file_mb * BYTES_PER_MB:
        return too_large_file(len(data), config)
    if not has_end(data):
        return Failure(kind=ErrorKind.IMAGE_TRUNCATED, message="the PDF is incomplete: its end is missing")
    pages = page_count(Pdf(object(), read=lambda: data)) if has_pdf_extra() else None
    if isinstance(pages, Failure):
        return pages
    sha256 = hashlib.sha256(data).hexdigest()
    facts = ImageFacts(
        width=None, height=None, sent_width=None, sent_height=None,
        sent_bytes=len(data), source_bytes=len(data), sha256=sha256, pages=pages,
    )  # fmt: skip
    return PreparedImage(data=data, media_type=PDF_TYPE, sha256=sha256, facts=facts)


def document_name(name: str) -> str:
    """The name that is sent with a document: the last part of a path or an address without secrets."""
    path = name.partition("?")[0].partition("#")[0] if "://" in name else name
    last = path.rpartition("/")[2]
    if name.startswith("data:") or not last:
        last = "document"
    return last[-_NAME_LENGTH:] if last.lower().endswith(".pdf") else f"{last[:_NAME_LENGTH]}.pdf"
