"""What a reader's exception says of a file: its kind, and one line."""

import re

from PIL import Image

from pipeline.errors import ErrorKind
from pipeline.images.containers import Format
from pipeline.images.containers.values import BrokenFileError, UnsupportedFileError
from pipeline.images.opening import TooSlowError
from pipeline.records import Failure

_UNSUPPORTED = re.compile(
    r"unsupported|unimplemented|not supported|is not read|are not read|cannot handle|unknown pixel mode", re.IGNORECASE
)
"""How Pillow's readers say that a file may be whole."""
_ENDS = re.compile(r"truncated|not enough image data|buffer is not large enough|unexpected end of file", re.IGNORECASE)
"""How Pillow's readers, libavif and libheif say that there is too little of a file."""
_MOST_LETTERS = 200


def flaw_of_type(error: Exception, kind: Format) -> Failure | None:
    """Of errors whose type says all."""
    match error:
        case Image.DecompressionBombError():
            return Failure(kind=ErrorKind.IMAGE_BOMB, message=one_line_of(error))
        case TooSlowError():
            return Failure(kind=ErrorKind.IMAGE_TOO_LARGE, message=str(error))
        case UnsupportedFileError():
            return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message=str(error))
        case BrokenFileError(cut=True):
            return Failure(kind=ErrorKind.IMAGE_TRUNCATED, message=f"the {kind} is incomplete: {one_line_of(error)}")
        case MemoryError():
            return Failure(kind=ErrorKind.IMAGE_TOO_LARGE, message=f"there is not enough memory to decode this {kind}")
        case _:
            return None


def flaw_in_words(error: Exception, kind: Format) -> Failure | None:
    """Of errors whose text says that the file may be whole, and is not read."""
    if not isinstance(error, NotImplementedError) and not _UNSUPPORTED.search(str(error)):
        return None
    return coded_otherwise(one_line_of(error), kind)


def coded_otherwise(how: str, kind: Format) -> Failure:
    """Of files that may be whole."""
    what = f"this {kind} is coded in a way that is not read: {how}; convert it to PNG or JPEG"
    return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message=what)


def says_it_ends(error: Exception) -> bool:
    """Whether its text says that the data ends too early."""
    return _ENDS.search(str(error)) is not None


def one_line_of(error: Exception) -> str:
    """Its text without what no terminal shows, or its type where it has none."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(error))
    return " ".join(text.split())[:_MOST_LETTERS] or type(error).__name__
