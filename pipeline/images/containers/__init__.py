"""What the bytes of an image file say without decoding them: kind, size, orientation, wholeness, metadata.

`probe` reads the facts from the first kilobytes, `inspect` walks a whole file, `stripped` leaves metadata out.
JPEG, PNG, GIF and WebP, which are the formats that endpoints accept, are read here; `sniff` names others.
"""

from pipeline.images.containers import gif, jpeg, png, webp
from pipeline.images.containers.sniff import describe, sniff
from pipeline.images.containers.values import BrokenFileError, Container, Facts, Format, Header, Walk, bounded

__all__ = ["Container", "Format", "Header", "describe", "inspect", "probe", "scan_count", "sniff", "stripped"]

_WALKS: dict[Format, Walk] = {
    Format.JPEG: jpeg.walk,
    Format.PNG: png.walk,
    Format.GIF: gif.walk,
    Format.WEBP: webp.walk,
}

_FEW_SCANS = 20
"""With so few marks in the file there is no need to find those that stand in metadata."""


def probe(head: bytes) -> Header | None:
    """The facts that `head`, the beginning of a file or all of it, holds; no checksum is computed.

    None where `head` ends before the size, or is none of the four formats. What stands behind the pixels
    (the orientation in a WebP file, a second GIF image) is only found where `head` reaches that far.
    """
    found = sniff(head)
    if found is None or found not in _WALKS:
        return None
    facts = Facts(format=found)
    try:
        for _ in bounded(_WALKS[found](head, facts, checked=False)):
            if facts.settled:
                break
    except BrokenFileError:
        pass
    return facts.header()


def inspect(data: bytes) -> Container | None:
    """Walk a whole file: every segment, chunk, block and checksum up to its end mark.

    None where it is none of the four formats or does not even hold its size.
    """
    found = sniff(data)
    if found is None or found not in _WALKS:
        return None
    facts = Facts(format=found)
    spans: list[tuple[int, int]] = []
    broken: BrokenFileError | None = None
    try:
        for start, end, kept in bounded(_WALKS[found](data, facts, checked=True)):
            if kept:
                _append(spans, start, end)
    except BrokenFileError as error:
        broken = error
    header = facts.header()
    if header is None:
        return None
    return Container(
        header=header,
        spans=tuple(spans),
        whole=broken is None,
        cut=broken is not None and broken.cut,
        why=str(broken) if broken else "",
    )


def stripped(data: bytes, container: Container) -> bytes:
    """`data` without metadata and without what follows its end mark; the pixels stay as they are coded.

    The same object where there is nothing to leave out. `container` is `inspect(data)` and must be whole.
    """
    if container.spans == ((0, len(data)),):
        return data
    kept = b"".join(data[start:end] for start, end in container.spans)
    return webp.mended(kept) if container.header.format is Format.WEBP else kept


def scan_count(data: bytes) -> int:
    """How many scans a JPEG file has; of one whose structure breaks, at most as many."""
    marked = data.count(jpeg.SCAN_MARKER)
    return marked if marked <= _FEW_SCANS else jpeg.scan_count(data)


def _append(spans: list[tuple[int, int]], start: int, end: int) -> None:
    if spans and spans[-1][1] == start:
        spans[-1] = (spans[-1][0], end)
    else:
        spans.append((start, end))
