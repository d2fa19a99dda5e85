"""A file that holds its picture as another file (RAW, ICNS, ICO) -> that file."""

from typing import Final, NamedTuple

from pipeline.config.extras import HEIC_HINT, has_heic_extra
from pipeline.errors import ErrorKind
from pipeline.images.containers import Format, describe, jpeg2000, probe, tiff
from pipeline.images.containers.embedded import embedded_in
from pipeline.images.containers.values import BrokenFileError, Read, UnsupportedFileError
from pipeline.images.flaws import coded_otherwise
from pipeline.records import Failure

_DESCRIBED_BYTES: Final = 4096
_CODINGS: Final = {Format.TIFF: tiff.packing_not_read, Format.JPEG2000: jpeg2000.coding_not_read}


class Part(NamedTuple):
    """Where the picture's own file stands, and EXIF's orientation where the file around it states one."""

    offset: int
    length: int
    orientation: int | None


def part_of(read: Read, kind: Format | None) -> Part | Failure | None:
    """None where the file is the picture's own."""
    try:
        found = embedded_in(read, kind, probe)
    except UnsupportedFileError as error:
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message=str(error))
    except BrokenFileError as error:
        cut = ErrorKind.IMAGE_TRUNCATED if error.cut else ErrorKind.IMAGE_UNREADABLE
        return Failure(kind=cut, message=f"the {kind} cannot be read: {error}")
    return None if found is None else Part(found.offset, found.length, found.orientation)


def not_read(read: Read, kind: Format | None) -> Failure | None:
    """Why a file of this format and coding is not read on this machine; None where it is.

    How a JPEG is coded is in its `Header`.
    """
    if kind is Format.HEIC and not has_heic_extra():
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message=f"this is a HEIC photograph; {HEIC_HINT}")
    if kind is None:
        return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message=f"this is {describe(read(0, _DESCRIBED_BYTES))}")
    coding_not_read = _CODINGS.get(kind)
    coding = None if coding_not_read is None else coding_not_read(read)
    return None if coding is None else coded_otherwise(coding, kind)
