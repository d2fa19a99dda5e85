"""What image decoders say on their own: nothing on the terminal, since what is wrong with an image is a value here.

Four ways lead there: Python's warnings, Python's logging where no program has set it up, and libtiff and FFmpeg, which
write to standard error by themselves. All are settings of the process; a program that has log handlers keeps what they
get.
"""

import ctypes
import logging
import warnings
from contextlib import suppress
from functools import cache

from PIL import _imaging

_TIFF_HANDLERS = ("TIFFSetErrorHandler", "TIFFSetErrorHandlerExt", "TIFFSetWarningHandler", "TIFFSetWarningHandlerExt")


def quiet_decoders() -> None:
    """Silence Pillow and libtiff in this process."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    _quiet_once()


@cache
def _quiet_once() -> None:
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    # A library is searched together with what it is linked to; where libtiff is built in, nothing is changed.
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        for name in _TIFF_HANDLERS:
            setter = getattr(library, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)


def quiet_ffmpeg() -> None:
    """Silence FFmpeg, unless the program has asked PyAV for its log. Needs the extra `video`."""
    import av.logging  # noqa: PLC0415 - of an extra, and a tenth of a second

    if av.logging.get_level() is None:
        av.logging.set_level(None)  # in place of FFmpeg's own, which a program may have restored
