"""How many pictures of an animation or of a file of several pages are sent; nothing is decoded."""

from pipeline.images.containers import Format, sniff
from pipeline.images.containers.animation import delays_of
from pipeline.images.containers.tiff import page_offsets
from pipeline.images.containers.values import Read
from pipeline.images.sampling import Sampling, Timeline


def frame_count(head: bytes, read: Read, file_bytes: int, sampling: Sampling) -> int:
    """`head` is the beginning of the file. All of it is read where it says that there may be several pictures."""
    kind = sniff(head)
    if kind is None or not _may_have_several(kind, head):
        return 1
    data = read(0, file_bytes)
    if kind is Format.TIFF:
        pages = len(page_offsets(data))
        return len(sampling.pages(pages)) if pages > 1 else 1
    delays = delays_of(data, kind)
    if len(delays.seconds) < 2:  # noqa: PLR2004 - one picture is no animation
        return 1
    timeline = Timeline.of(*delays)
    return len(sampling.chosen(timeline.starts, timeline.end))


def _may_have_several(kind: Format, head: bytes) -> bool:
    match kind:
        case Format.PNG:
            return b"acTL" in head
        case Format.WEBP:
            return head[12:16] == b"VP8X"
        case _:
            return kind in {Format.GIF, Format.TIFF}
