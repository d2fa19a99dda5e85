"""`data:` URLs (RFC 2397)."""

from urllib.parse import unquote_to_bytes

import pybase64

from pipeline.errors import ErrorKind
from pipeline.records import Failure


def decode_data_url(url: str) -> bytes | Failure:
    """The bytes in `data:[type][;base64],...` (RFC 2397)."""
    head, comma, payload = url.partition(",")
    if not comma:
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="the data: URL has no comma, so no content")
    try:
        data = unquote_to_bytes(payload) if "%" in payload else payload.encode()
        if head.lower().endswith(";base64"):
            data = b"".join(data.split())
            data = pybase64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except ValueError:
        return Failure(kind=ErrorKind.IMAGE_UNREADABLE, message="the data: URL is not valid base64")
    return data or Failure(kind=ErrorKind.IMAGE_EMPTY, message="the data: URL is empty")
