"""The ways in which the name of an image, as a row has it, may be written as a path."""

import re
from collections.abc import Iterator

_PART = re.compile(r"#(?:page=\d+|t=[\d.]+)$")
"""A page of a document, or a moment of a video: what is read is the whole file."""
_BYTE = re.compile(r"\\x([0-9a-f]{2})")


def spellings(name: str) -> Iterator[str]:
    """As it is first; then without the part of a file that it names; then with bytes that are no UTF-8."""
    found = [name]
    if (whole := _PART.sub("", name)) != name:
        found.append(whole)
    for one in found:
        yield one
        raw = _BYTE.sub(lambda match: chr(0xDC00 + int(match[1], 16)), one)
        if raw != one:
            yield raw
