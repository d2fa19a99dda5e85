"""What image decoders say on their own: nothing on the terminal, since what is wrong with an image is a value here.

Four ways lead there: Python's warnings, Python's logging where no program has set it up, and libtiff and FFmpeg, which
write to standard error by themselves. All are settings of the process; a program that has log handlers keeps what they
get. What Pillow and libtiff say of an image is noted for the thread that decodes it (`noted`).
"""

import ctypes
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from PIL import _imaging

_TIFF_HANDLERS = ("TIFFSetErrorHandler", "TIFFSetWarningHandler")
_TIFF_EXTENDED_HANDLERS = ("TIFFSetErrorHandlerExt", "TIFFSetWarningHandlerExt")
_MODULES = ("PIL.", "pi_heif")


class _Notes(threading.local):
    """Whether a decoder of this thread has complained since `noted` began."""

    said = False


_NOTES = _Notes()


class Noted:
    """What was said while a block ran."""

    any = False


@contextmanager
def noted() -> Iterator[Noted]:
    """Says at its end whether Pillow or libtiff complained in this thread. Needs `quiet_decoders`."""
    found, before, _NOTES.said = Noted(), _NOTES.said, False
    try:
        yield found
    finally:
        found.any, _NOTES.said = _NOTES.said, before


class _PillowModules:
    """Stands where a filter of warnings has the pattern of a module's name, and notes what it matches."""

    def match(self, module: str) -> bool:
        if not module.startswith(_MODULES):
            return False
        _NOTES.said = True
        return True


class _NotingHandler(logging.Handler):
    """Of Pillow's log: from warnings on it is noted, and goes nowhere."""

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - the text is Pillow's
        _NOTES.said = True


_FILTER: Any = ("ignore", None, Warning, _PillowModules(), 0)


def quiet_decoders() -> None:
    """Silence Pillow and libtiff in this process."""
    filters: list[Any] = warnings.filters  # type: ignore[assignment]  # a list, and the only way to give it a matcher
    if filters[:1] != [_FILTER]:
        filters[:] = [_FILTER, *(one for one in filters if one is not _FILTER)]
        warnings.filterwarnings("ignore", module="pipeline-has-no-such-module")  # tells the module of the change
        del filters[0]
    _quiet_once()


@cache
def _quiet_once() -> None:
    handler = _NotingHandler(logging.WARNING)
    logging.getLogger("PIL").addHandler(handler)
    # A library is searched together with what it is linked to; where libtiff is built in, nothing is changed.
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        for name in (*_TIFF_EXTENDED_HANDLERS, *_TIFF_HANDLERS):
            setter = getattr(library, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(ctypes.cast(_NOTE_TIFF, ctypes.c_void_p) if name in _TIFF_HANDLERS else None)


def _on_tiff(module: bytes | None, form: bytes | None, values: int | None) -> None:  # noqa: ARG001 - printf's arguments
    """Libtiff calls it in the thread that decodes."""
    _NOTES.said = True


_NOTE_TIFF = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)(_on_tiff)
"""Kept for as long as the process: libtiff holds its address."""


def quiet_ffmpeg() -> None:
    """Silence FFmpeg, unless the program has asked PyAV for its log. Needs the extra `video`."""
    import av.logging  # noqa: PLC0415 - of an extra, and a tenth of a second

    if av.logging.get_level() is None:
        av.logging.set_level(None)  # in place of FFmpeg's own, which a program may have restored
