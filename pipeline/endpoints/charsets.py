"""The body of a response in UTF-8, which JSON is in (RFC 8259, 8.1), also where a server writes it otherwise."""

import re
from collections.abc import Mapping
from typing import Final

_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_CHARSET: Final = re.compile(r"charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)


def in_utf8(body: bytes, headers: Mapping[str, str]) -> bytes:
    """A body that is valid UTF-8 is taken as it is: what the header says of the charset is often a server's default.

    `headers` are case-insensitive, or in lower case.
    """
    if body.startswith(_MARKS):
        charset = "utf-16"
    else:
        try:
            body.decode()
        except UnicodeDecodeError:
            named = _CHARSET.search(headers.get("content-type") or "")
            charset = "utf-8" if named is None else named[1]
        else:
            return body
    try:
        return body.decode(charset).encode()
    except (LookupError, ValueError):
        return body
