"""PDFs written by hand: pages with text, boxes, rotations, form fields; damaged and hostile ones."""

import zlib
from collections.abc import Sequence

LETTER = (612, 792)


def assembled(objects: Sequence[bytes], trailer: bytes = b"") -> bytes:
    """A file of these objects; the first is the catalogue."""
    data, offsets = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % at for at in offsets)
    data += b"trailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, start)
    return bytes(data)


def pdf(
    pages: int = 6,
    *,
    size: tuple[float, float] = LETTER,
    page: bytes = b"",
    content: bytes | None = None,
    text: str = "page",
    trailer: bytes = b"",
) -> bytes:
    """A document of `pages` pages. Page N has N black bars at its top left, and `page` among its entries."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * number) for number in range(pages))
    box = b"/MediaBox[0 0 %g %g]" % size
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count %d/Kids[%s]%s>>" % (pages, kids, box),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number in range(1, pages + 1):
        drawn = content if content is not None else _bars(number, size, text)
        objects.append(
            b"<</Type/Page/Parent 2 0 R%s/Resources<</Font<</F 3 0 R>>>>/Contents %d 0 R>>" % (page, 3 + 2 * number)
        )
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(drawn), drawn))
    return assembled(objects, trailer)


def encrypted() -> bytes:
    """A document that opens with a password only."""
    entries = b"/Encrypt<</Filter/Standard/V 1/R 2/P -44/O<%s>/U<%s>>>/ID[<00><00>]" % (b"41" * 32, b"42" * 32)
    return pdf(2, trailer=entries)


def bomb(megabytes: int) -> bytes:
    """One page whose content is a stream that unpacks to this many megabytes of rectangles."""
    packed = zlib.compress(b"0 0 600 700 re f " * (megabytes * 1_000_000 // 17))
    stream = b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(packed), packed)
    return assembled(
        [
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Count 1/Kids[3 0 R]/MediaBox[0 0 612 792]>>",
            b"<</Type/Page/Parent 2 0 R/Contents 4 0 R>>",
            stream,
        ]
    )


def _bars(number: int, size: tuple[float, float], text: str) -> bytes:
    width, height = size
    bars = b"".join(
        b"%g %g %g %g re f " % (width * (0.05 + 0.1 * at), height * 0.9, width * 0.05, height * 0.08)
        for at in range(number)
    )
    return bars + b"BT /F 24 Tf 72 300 Td (%s %d) Tj ET" % (text.encode(), number)
