"""What image decoders say on their own: nothing on the terminal, since what is wrong with an image is a value here.

Three ways lead there: Python's warnings, Python's logging where no program has set it up, and libtiff, which writes to
standard error by itself. All three are settings of the process; a program that has log handlers keeps what they get.
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
