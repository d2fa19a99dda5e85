"""What a PDF shows without a parser: that it is one, and whether its end is there."""

from typing import Final

_BEGINNING: Final = b"%PDF-"
_JUNK_BYTES: Final = 1024
"""Before its beginning a file may have other bytes, as readers of PDF allow (ISO 32000-1, annex H)."""
_ENDINGS: Final = (b"%%EOF", b"startxref", b"trailer")


def is_pdf(data: bytes) -> bool:
    """Whether a file, or its first kilobyte, begins as a PDF does."""
    if data.startswith(_BEGINNING):
        return True
    # An image has its own first bytes: what stands behind them, such as a PDF in its metadata, is no beginning.
    return _BEGINNING in data[:_JUNK_BYTES] and data[:1] in b" \t\r\n\x00\xef"


def has_end(data: bytes) -> bool:
    """Whether a whole file has anything that stands at the end of a PDF: one that was cut short has none of it."""
    return any(data.rfind(ending) >= 0 for ending in _ENDINGS)
