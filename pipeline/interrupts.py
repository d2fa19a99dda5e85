"""Ctrl-C before a run has its own handlers: one line, exit code 130, at whatever it comes.

Imported before everything else, since the other imports take a second in which a traceback would be no answer.
"""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

COMMAND: Final = "vision-batch"


def watch_interrupts() -> None:
    """From here on Ctrl-C ends the process with one line; not where it is ignored, as under nohup."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)


def is_our_command() -> bool:
    """Whether this process is `vision-batch` or `python -m pipeline`, and not a program that imports the package."""
    words = sys.orig_argv
    as_module = "-m" in words and words[words.index("-m") + 1 :][:1] == ["pipeline"]
    return as_module or (bool(sys.argv) and Path(sys.argv[0]).name == COMMAND)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    """At once, without unwinding: an exception could be swallowed by whatever code the signal meets.

    Nothing is lost by it. What is committed is safe from any kill, and a run that has requests in flight has replaced
    this handler by its own.
    """
    try:
        os.write(2, f"{COMMAND}: interrupted\n".encode())
    finally:
        os._exit(128 + number)
